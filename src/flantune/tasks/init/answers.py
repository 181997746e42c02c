"""What is asked for: how the target is taken from a row, what counts as right, and what leads to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flantune.tasks.foreign.conversations import ROLE_OF
from flantune.tasks.init.columns import SPAN_ENDS, SPAN_STARTS, Column, exchanged, joined_by, said, span_keys
from flantune.tasks.init.expressions import Path, expression, printed
from flantune.tasks.init.open import final_mark
from flantune.tasks.init.printing import Names, path_in, shown, shown_turns, value
from flantune.tasks.init.view import Proposal, View

MOST_REFERENCES = 5
BETWEEN_PHRASES = "; "
FOLLOWS = "{{ target }}"  # the turn that the transform `conversation` gives


@dataclass(frozen=True)
class Answer:
    """How the target of a task is taken from its rows.

    Attributes:
        target: Jinja that prints it.
        transforms: What the source does for it.
        fields: Computed fields of the task.
        choices: Jinja of the row's own choices, joined by `|||`.
        references: Jinja of each right answer, where there may be several.
        worked: Jinja that prints the way to the answer and then the answer.
        pattern: How the answer is found in what `worked` prints.
        needed: Values that must not be blank.
        found: Gives the printed answer of a row, to know them all; None where it is never one of a few.
        history: Jinja that prints what was said before, in a conversation.
    """

    target: str
    transforms: tuple[Mapping[str, Any], ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    choices: str | None = None
    references: tuple[str, ...] = ()
    worked: str | None = None
    pattern: str | None = None
    needed: tuple[Path, ...] = ()
    found: Path | None = None
    history: str = ""


def answer_of(proposal: Proposal, view: View, names: Names, numbered: Sequence[str] = ()) -> Answer:
    """The answer that a proposal asks for.

    Args:
        proposal: What is asked for.
        view: The rows.
        names: Names for columns without one.
        numbered: Fields with several right answers, in splits that have not the target's field itself.
    """
    if numbered and len(proposal.target.path) == 1:
        return _elsewhere_numbered(proposal, view, names, numbered)
    special = _SPECIAL.get(proposal.kind)
    if special is not None:
        return special(proposal, view, names)
    path = path_in(proposal.target, names)
    answer = Answer(shown(proposal.target, names), needed=(path,), found=path)
    return replace(answer, references=_references(proposal, view, names))


def _elsewhere_numbered(proposal: Proposal, view: View, names: Names, numbered: Sequence[str]) -> Answer:
    name, own = free_name(view, "answer", "right_answer"), value(proposal.target, names)
    several = [expression((other,)) for other in numbered]
    fields = {name: f"{{{{ {own} if {own} is defined else {several[0]} }}}}"}
    more = (f"{{{{ {other} if {other} is defined else '' }}}}" for other in several[1:MOST_REFERENCES])
    return Answer(printed(name), fields=fields, references=(printed(name), *more))


def free_name(view: View, *wanted: str) -> str:
    """The first of some names that no field has."""
    taken = {str(column.path[0]) for column in view.columns}
    return next(name for name in (*wanted, *(f"{wanted[0]}_{n}" for n in range(2, 99))) if name not in taken)


def _references(proposal: Proposal, view: View, names: Names) -> tuple[str, ...]:
    """All right answers of a row, where a column lists them."""
    listed = next(iter(proposal.also), None) or _list_around(proposal.target, view)
    if listed is None:
        return ()
    sizes = sorted(len(each) for each in listed.items)
    most = min(sizes[int(0.95 * (len(sizes) - 1))] if sizes else 1, MOST_REFERENCES)
    inner, key = (
        value(listed, names),
        list(proposal.target.path[len(listed.path) + 1 :]) if proposal.target.path[0] == listed.path[0] else [],
    )
    if most < 2:
        return ()

    def item(number: int) -> str:
        return inner + f"[{number}]" + "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in key)

    first = [] if proposal.target.path[0] == listed.path[0] else [shown(proposal.target, names)]
    more = (f"{{{{ {item(number)} if {inner} | length > {number} else '' }}}}" for number in range(not first, most))
    return (*(first or [printed(item(0))]), *more)


def _list_around(target: Column, view: View) -> Column | None:
    """The list that a target is in the first item of."""
    if 0 not in target.path:
        return None
    return next((column for column in view.columns if column.path == target.path[: target.path.index(0)]), None)


def _multiple_choice(proposal: Proposal, view: View, names: Names) -> Answer:
    path = path_in(proposal.target, names)
    told = expression(path)
    listed = len(proposal.choices) == 1
    inner = (
        value(proposal.choices[0], names)
        if listed
        else f"[{', '.join(value(column, names) for column in proposal.choices)}]"
    )
    items = "{{ " + f"{inner} | join(' ||| ')" + " }}"
    index = {
        "index": f"{told} | int",
        "number": f"({told} | int) - 1",
        "letter": f"'ABCDEFGHIJ'.index(({told} | string | trim('(). ') | upper))",
    }.get(proposal.key)
    needed = (path, *(path_in(column, names) for column in proposal.choices))
    if index is None:
        return Answer(shown(proposal.target, names), choices=items, needed=needed)
    name = free_name(view, "answer", "right_answer")
    return Answer(printed(name), fields={name: f"{{{{ ({inner})[{index}] }}}}"}, choices=items, needed=needed)


def _extraction(proposal: Proposal, view: View, names: Names) -> Answer:
    name = free_name(view, "answer", "found")
    words = next(iter(proposal.given.values()))[0]
    made = _from_tags if proposal.target.nature == "tags" else _from_spans
    return Answer(printed(name), fields={name: made(proposal.target, words, names)})


def _from_spans(target: Column, words: Column, names: Names) -> str:
    objects = [item for each in target.items for item in each if isinstance(item, dict)]
    keys = span_keys(objects)
    assert keys is not None, "spans have a type"
    kind, text = keys
    if text is not None:
        said_text = f"span[{text!r}]"
    else:
        begin, end = (next(key for key in keys if key in objects[0]) for keys in (SPAN_STARTS, SPAN_ENDS))
        stop = f"span[{end!r}]" if end != "length" else f"span[{begin!r}] + span['length']"
        said_text = f"{value(words, names)}[span[{begin!r}]:{stop}]"
    line = f"{{{{ span[{kind!r}] }}}}: {{{{ {said_text} | string | replace('\\n', ' ') }}}}"
    between = "{% if not loop.last %}{{ '\\n' }}{% endif %}"
    return f"{{% for span in {value(target, names)} %}}{line}{between}{{% else %}}none{{% endfor %}}"


def _from_tags(target: Column, words: Column, names: Names) -> str:
    """Tags of BIO, IO or BIOES: a span goes on where I or E of its type follows."""
    tags, tokens = (f"{value(c, names)}" if c.items else f"{value(c, names)}.split()" for c in (target, words))
    return (
        f"{{%- set words = {tokens} -%}}{{%- set ns = namespace(lines='', kind='') -%}}"
        f"{{%- for tag in {tags} -%}}{{%- set kind = tag[2:] -%}}"
        "{%- if kind and kind == ns.kind and tag[0] in 'IE' -%}"
        "{%- set ns.lines = ns.lines ~ ' ' ~ words[loop.index0] -%}"
        "{%- elif kind -%}"
        "{%- set ns.lines = ns.lines ~ ('\\n' if ns.lines else '') ~ kind ~ ': ' ~ words[loop.index0] -%}"
        "{%- endif -%}{%- set ns.kind = kind -%}{%- endfor -%}{{ ns.lines or 'none' }}"
    )


def _listed(proposal: Proposal, view: View, names: Names) -> Answer:
    """Labels or phrases, one after the other."""
    between = BETWEEN_PHRASES if proposal.kind == "keyphrases" else ", "
    target, path = proposal.target, path_in(proposal.target, names)
    if target.items:
        return Answer(f"{{{{ {value(target, names)} | join({between!r}) }}}}", needed=(path,), found=path)
    mark = joined_by(target) if proposal.kind == "multi_label" else None
    if mark is None:
        return Answer(shown(target, names), needed=(path,))
    split = {"split": {"field": path[0], "by": mark}}
    return Answer(f"{{{{ {value(target, names)} | map('trim') | join(', ') }}}}", (split,), needed=(path,), found=path)


def _reasoning(proposal: Proposal, view: View, names: Names) -> Answer:
    path = path_in(proposal.target, names)
    if proposal.reason is not None:
        worked = f"{shown(proposal.reason, names)} The answer is {shown(proposal.target, names)}."
        needed = (path, path_in(proposal.reason, names))
        return Answer(
            shown(proposal.target, names),
            worked=worked,
            pattern=r"[Tt]he answer is (.+?)\.?$",
            needed=needed,
            found=path,
        )
    mark = final_mark(proposal.target)
    assert mark is not None, "a worked answer ends in a number behind a mark"
    name, pattern = free_name(view, "final_answer"), re.escape(mark).replace("\\ ", " ").replace("\\#", "#") + "(.*)"
    keep = {"filter": f"{mark!r} in {expression((path[0],))}"}
    split = {"regex": {"field": path[0], "pattern": pattern, "into": name}}
    return Answer(printed(name), (keep, split), worked=shown(proposal.target, names), pattern=pattern, needed=(path,))


KNOWN_ROLES = {("role", "content"), ("from", "value")}
SAID_BEFORE = "{% for role, text in history %}{{ role | capitalize }}: {{ text }}\n{% endfor %}"


def _conversation(proposal: Proposal, view: View, names: Names) -> Answer:
    turns = proposal.target
    if turns.nature == "items":
        return _exchange(turns, view, names)
    keys = said([item for each in turns.items for item in each])
    assert keys is not None, "turns have a role and a text"
    if keys in KNOWN_ROLES and _roles_known(turns, keys[0]):
        return _known_conversation(turns, keys[0], view, names)
    inner, name = value(turns, names), free_name(view, "answer", "next_turn")
    fields = {name: f"{{{{ ({inner} | last)[{keys[1]!r}] }}}}"}
    history = shown_turns(turns, f"{inner}[:-1]")
    return Answer(printed(name), ({"filter": f"{inner} | length > 1"},), fields, history=history)


def _known_conversation(turns: Column, key: str, view: View, names: Names) -> Answer:
    """Turns in roles that chat templates know: each answer of the assistant is a target where it gives several."""
    answers = sum(_is_assistant(item[key]) for each in turns.items for item in each) / len(turns.items)
    stated: dict[str, Any] = {"field": path_in(turns, names)[0], "targets": "all" if answers > 1.5 else "last"}
    filled = {column.path for column in view.columns if column.share > 0.05}
    stated |= {name: name for name in ("system", "tools") if (name,) in filled}
    return Answer(FOLLOWS, ({"conversation": stated},), history=SAID_BEFORE)


def _roles_known(turns: Column, key: str) -> bool:
    return all(isinstance(item.get(key), str) and item[key].lower() in ROLE_OF for each in turns.items for item in each)


def _is_assistant(role: str) -> bool:
    return ROLE_OF[role.lower()] == "assistant"


def _exchange(turns: Column, view: View, names: Names) -> Answer:
    """The last answer of the side that answers, after all that was said."""
    found = exchanged([item for each in turns.items for item in each])
    assert found is not None, "turns hold both sides"
    asks, answers = found
    inner, name = value(turns, names), free_name(view, "answer", "next_turn")
    keys = next(list(item) for each in turns.items for item in each if {asks[0], answers[0]} <= item.keys())
    sides = [(asks, "User"), (answers, "System")]
    loop = "".join(_side(path, word) for path, word in sorted(sides, key=lambda side: keys.index(side[0][0])))
    last = expression(("turn", *answers)).removeprefix("turn")
    keep = {"filter": f"{inner} | length > 1 and ({inner} | last)[{answers[0]!r}] is defined"}
    history = f"{{% for turn in {inner}[:-1] %}}{loop}{{% endfor %}}"
    return Answer(printed(name), (keep,), {name: f"{{{{ ({inner} | last){last} }}}}"}, history=history)


def _side(path: Path, word: str) -> str:
    text = printed(expression(("turn", *path)))
    return f"{{% if turn[{path[0]!r}] is defined %}}{word}: {text}\n{{% endif %}}"


_SPECIAL: dict[str, Callable[[Proposal, View, Names], Answer]] = {
    "multiple_choice": _multiple_choice,
    "extraction": _extraction,
    "keyphrases": _listed,
    "multi_label": _listed,
    "reasoning": _reasoning,
    "conversation": _conversation,
}
