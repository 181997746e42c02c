"""The templates of a task: the phrasings of its kind with the row's fields in their places."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flantune.tasks.init.answers import FOLLOWS, free_name
from flantune.tasks.init.columns import Column, span_keys
from flantune.tasks.init.expressions import printed
from flantune.tasks.init.phrasings import OWN_WORDS, filled, phrasings
from flantune.tasks.init.printing import labelled, shown, together, value
from flantune.tasks.init.scoring import MOST_SHOWN, shows_options
from flantune.tasks.init.sketch import Sketch
from flantune.tasks.init.view import Proposal
from flantune.tasks.init.wording import label_of, language_name, noun_of, programming_name
from flantune.tasks.jinja import literal

MOST_TYPES = 30  # of spans, in a prompt
LONGEST_INVERTED = 300  # words that can be asked for, given a label or a summary
CHAT_WEIGHT = 8  # of the template with the model's own roles, beside those that write a conversation down
COMPUTED = {"input": ("facts", "input_text"), "history": ("so_far", "history_text"), "record": ("record", "facts")}


def asked(sketch: Sketch) -> tuple[list[dict[str, Any]], dict[str, str], str]:
    """The templates of a task as its file states them, the computed fields that they need, and its description."""
    places, fields = _places(sketch)
    phrased = phrasings()[OWN_WORDS if sketch.words else _asked_as(sketch.proposal)]
    answer = sketch.answer
    made: list[dict[str, Any]] = [
        {"name": name, "text": filled(text, places)} for name, text in phrased.straight.items()
    ]
    if answer.target == FOLLOWS:
        turns = {"history": "history", "target": "target"}
        made.insert(0, {"name": "chat", "weight": CHAT_WEIGHT, "conversation": turns})
    if answer.worked is not None:
        worked = phrased.worked.items()
        made += [{"name": name, "answer": answer.pattern, "text": filled(text, places)} for name, text in worked]
    if not sketch.words and _can_be_inverted(sketch):
        inverted = phrased.inverted.items()
        made += [{"name": name, "inverted": True, "text": filled(text, places)} for name, text in inverted]
    for name, text in phrased.held_out.items():
        pattern = {"answer": answer.pattern} if "[worked]" in text and answer.worked is not None else {}
        made.append({"name": name, "held_out": True, **pattern, "text": filled(text, places)})
    return made, fields, sketch.words or filled(phrasings()[sketch.kind].about, places)


def _asked_as(proposal: Proposal) -> str:
    if proposal.kind == "multiple_choice" and not proposal.given:
        return "multiple_choice_alone"
    return "yes_no_context" if proposal.kind == "yes_no" and "context" in proposal.given else proposal.kind


def _places(sketch: Sketch) -> tuple[dict[str, str], dict[str, str]]:
    """What stands in each place of a phrasing, and the computed fields that keep it readable."""
    given, names = sketch.proposal.given, sketch.names
    places = {role: together(columns, names) for role, columns in given.items() if role != "turns"}
    if sketch.kind == "math" and "context" in places:
        places["question"] = f"{places['context']} {places['question']}"
    if "instruction" in given and "input" in given:
        places["instruction"] += _optional(sketch, given["input"][0])
    if "record" in given:
        places["record"] = "\n".join(labelled(column, names) for column in given["record"])
    if sketch.kind == "conversation":
        places["history"] = sketch.answer.history
    if sketch.words and "input" not in places:
        places["input"] = "\n".join(places[role] for role in given)
    fields: dict[str, str] = {}
    for role, text in places.items():
        if ("{%" in text and role != "instruction") or text.count("{{") > 3 or "(" in text:
            name = free_name(sketch.view, *COMPUTED.get(role, (f"{role}_text",)))
            fields[name], places[role] = text, printed(name)
    return {**places, **_words(sketch)}, fields


def _optional(sketch: Sketch, column: Column) -> str:
    """An input that is blank or missing in some rows."""
    name = value(column, sketch.names)
    always = all(str(column.path[0]) in row for row in sketch.view.rows)
    condition = name if always else f"{name} is defined and {name}"
    return f"{{% if {condition} %}}\n\n{shown(column, sketch.names)}{{% endif %}}"


def _words(sketch: Sketch) -> dict[str, str]:
    """What stands for the places that are words."""
    target, named = sketch.target, sketch.view.named
    main = sketch.given[-1] if sketch.given else target
    numbers = [f"{number:g}" for number in sorted(target.numbers or [0.0])]
    steps = list(sketch.choices) or numbers
    words = {
        "noun": noun_of(main, named=named),
        "label": label_of(target, sketch.kind, sketch.choices, named=named),
        "low": steps[0],
        "high": steps[-1],
        "types": _types(sketch) if sketch.kind == "extraction" else "",
        "words": sketch.words or "",
        "source_language": _language(sketch, main),
        "target_language": _language(sketch, target),
    }
    inner = sketch.answer.target.removeprefix("{{ ").removesuffix(" }}")
    return {
        **{name: literal(text) for name, text in words.items()},
        "options": _options(sketch),
        "target": sketch.answer.target,
        "worked": sketch.answer.worked or sketch.answer.target,
        "has_target": f"{{% if {inner} != 'none' %}}",
        "else": "{% else %}",
        "end": "{% endif %}",
    }


def _options(sketch: Sketch) -> str:
    """The list of answers; of labels of which several may be right, in words, since no one of them is the answer."""
    if not shows_options(sketch):
        return ""
    return literal(f"Labels: {', '.join(sketch.choices)}.") if sketch.kind == "multi_label" else "{{ options }}"


def _language(sketch: Sketch, column: Column) -> str:
    if sketch.kind not in ("translation", "code_translation"):
        return ""
    called = language_name if sketch.kind == "translation" else programming_name
    return called(column, named=sketch.view.named)


def _types(sketch: Sketch) -> str:
    """The types of spans that there are, the commonest first."""
    counts = Counter(kind for each in sketch.target.filled for kind in _types_in(each, sketch.target))
    listed = [kind for kind, _ in counts.most_common()]
    return ", ".join(listed) if len(listed) <= MOST_TYPES else ", ".join(listed[:20]) + " and others"


def _types_in(given: Any, target: Column) -> list[str]:
    if target.nature == "tags":
        tags = [str(tag) for tag in (given if isinstance(given, list) else str(given).split())]
        return [tag[2:] for tag in tags if tag[1:2] in ("-", "_")]
    keys = span_keys([item for item in given if isinstance(item, dict)])
    return [str(item[keys[0]]) for item in given] if keys else []


def _can_be_inverted(sketch: Sketch) -> bool:
    """What was given can be asked for: one text, not too long to be made up."""
    places = ("input", "question", "second")
    wanted = [column for role in places for column in sketch.proposal.given.get(role, ())]
    alone = len(wanted) == 1 or sketch.kind == "math"
    writable = all(
        column.nature in ("text", "code", "structure") and column.words <= LONGEST_INVERTED for column in wanted
    )
    return alone and writable and len(sketch.choices) <= MOST_SHOWN
