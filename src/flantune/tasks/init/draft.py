"""From a decision to a task file's keys and templates, after one look at all rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from flantune.errors import FlantuneError
from flantune.tasks.init.answers import answer_of
from flantune.tasks.init.asking import asked
from flantune.tasks.init.codes import are_codes, meanings
from flantune.tasks.init.columns import Column
from flantune.tasks.init.expressions import Path, expression
from flantune.tasks.init.kinds import Decision
from flantune.tasks.init.phrasings import phrasings
from flantune.tasks.init.printing import Names, path_in
from flantune.tasks.init.scoring import LABELS, PERHAPS_CLOSED, are_compared, closed_set, metrics, shows_options, tokens
from flantune.tasks.init.sides import Group
from flantune.tasks.init.sketch import Sketch, printed
from flantune.tasks.init.survey import Survey, survey
from flantune.tasks.init.tidy import changed
from flantune.tasks.init.view import Proposal, View, quoted
from flantune.tasks.sources import Row, SourceChoice, read_split

FRACTIONS = {"train": 0.8, "test": 0.2}
LETTERED = 26  # options that can be lettered
MANY_ORIGINS = 3
ROLE_NAMES = {  # how a column without a name of its own is called, by what it is for
    "input": "text",
    "question": "question",
    "context": "context",
    "first": "first",
    "second": "second",
    "instruction": "instruction",
}
TARGET_NAMES = {
    "summarization": "summary",
    "title": "title",
    "keyphrases": "keyphrases",
    "rating": "rating",
    "translation": "translation",
    "code": "code",
    "sql": "query",
    "data_to_text": "description",
    "question_answering": "answer",
    "reading": "answer",
    "math": "answer",
    "reasoning": "answer",
    "yes_no": "answer",
    "multiple_choice": "answer",
    "instruction": "response",
    "correction": "corrected",
    "simplification": "simplified",
    "sentence_splitting": "sentences",
    "paraphrasing": "paraphrase",
    "rewriting": "rewritten",
    "number": "number",
    "similarity": "similarity",
}


@dataclass(frozen=True)
class Draft:
    """A task as it will be written.

    Attributes:
        name: Of the task and its file.
        kind: As the phrasings name it.
        keys: Keys of the task file but for the templates, in order.
        templates: Each as the task file states it.
        given: Names of the columns that are given.
        target: Name of the column that is asked for.
        rows: Rows by split.
        longest: Characters of a long example.
        why: Decisions in plain words.
        guesses: What could be otherwise, and how to say so.
    """

    name: str
    kind: str
    keys: Mapping[str, Any]
    templates: Sequence[Mapping[str, Any]]
    given: tuple[str, ...]
    target: str
    rows: Mapping[str, int]
    longest: int
    why: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()


def draft(group: Group, decision: Decision, words: str | None, told: Mapping[str, str]) -> Draft:
    """The task of a decision.

    Args:
        group: The files.
        decision: What they are taken for.
        words: The request in words of a person's own.
        told: What numbers of classes stand for, where a person said it.
    Raises:
        FlantuneError: Rows that cannot be read, or too few to divide.
    """
    proposal, view = decision.proposal, decision.view
    codes, coded = meanings(proposal, view, group.names, told) if are_codes(proposal) else ({}, "")
    names = _header(proposal, view)
    answer = answer_of(proposal, view, names, group.numbered(str(proposal.target.path[0])))
    source = _source(decision.source, [*answer.transforms, *_mapping(proposal, codes)], names)
    sketch = Sketch(proposal, view, names, answer, words=words or _stated_words(group, proposal))
    seen = survey(source, _needed(sketch), answer.found if proposal.kind in (*LABELS, *PERHAPS_CLOSED) else None)
    rows = [row for row in _as_read(view, source) if not seen.lacks(row)]
    sketch = replace(
        sketch,
        choices=closed_set(proposal, view, seen.answers),
        printed=printed(answer.target, answer.fields, rows),
        worked=printed(answer.worked, answer.fields, rows) if answer.worked else (),
    )
    source, counts = _divided(source, seen)
    templates, fields, about = asked(sketch)
    why = [*group.notes, *proposal.why, coded, _left_out(seen)]
    guesses = [_unknown_codes(proposal.target)] if are_codes(proposal) and not codes else []
    return Draft(
        group.name,
        proposal.kind,
        _keys(group, sketch, source, {**answer.fields, **fields}, about),
        templates,
        tuple(map(sketch.called, sketch.given)),
        sketch.called(sketch.target),
        counts,
        _longest(sketch),
        tuple(filter(None, why)),
        tuple(guesses),
    )


def _header(proposal: Proposal, view: View) -> dict[str, str]:
    """Names for the columns of a file without a header, by what they are for."""
    if view.named:
        return {}
    wanted = [(proposal.target, TARGET_NAMES.get(proposal.kind, "label"))]
    for role, columns in proposal.given.items():
        main = columns[-1]
        wanted += [
            (column, "title" if column is not main and role == "input" else ROLE_NAMES.get(role, "text"))
            for column in reversed(columns)
        ]
    wanted += [(proposal.reason, "explanation")] if proposal.reason is not None else []
    named: dict[str, str] = {}
    for column, name in wanted:
        if re.fullmatch(r"column_\d+", str(column.path[0])) and column.path[0] not in named:
            named[str(column.path[0])] = name if name not in named.values() else f"{name}_{len(named) + 1}"
    return named


def _stated_words(group: Group, proposal: Proposal) -> str | None:
    """What the file says beside its rows, where the rows hold one input and one output."""
    return (
        next(iter(group.form.words.values()), None)
        if set(proposal.given) <= {"input", "instruction", "question"}
        else None
    )


# --- the source -------------------------------------------------------------------------------------------------


def _source(given: Mapping[str, Any], more: Sequence[Mapping[str, Any]], names: Names) -> dict[str, Any]:
    """The source as the task file states it, but for what depends on all rows."""
    source = {key: each for key, each in given.items() if key != "transforms"}
    if "header" in source:
        source["header"] = [names.get(name, name) for name in source["header"]]
    transforms = [_renamed(each, names) for each in [*given.get("transforms", ()), *more]]
    return {**source, **({"transforms": transforms} if transforms else {})}


def _renamed(transform: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """A transform with the names that are written."""
    ((key, chosen),) = transform.items()
    if isinstance(chosen, str) and key in ("explode", "unescape"):
        return {key: names.get(chosen, chosen)}
    if isinstance(chosen, Mapping) and "field" in chosen:
        return {key: {**chosen, "field": names.get(str(chosen["field"]), chosen["field"])}}
    return {key: chosen}


def _mapping(proposal: Proposal, codes: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"map": {"field": proposal.target.path[0], "values": dict(codes)}}] if codes else []


def _as_read(view: View, source: Mapping[str, Any]) -> list[Row]:
    """The rows of the sample as the source will give them: with the transforms that the view has not had."""
    left = list(source.get("transforms", ()))[len(view.transforms) :]
    renamed = [{_new_name(name, source): inner for name, inner in row.items()} for row in view.rows]
    return changed(renamed, left)


def _new_name(name: str, source: Mapping[str, Any]) -> str:
    number = re.fullmatch(r"column_(\d+)", name)
    header = source.get("header")
    return header[int(number[1]) - 1] if number and header else name


def _needed(sketch: Sketch) -> list[Path]:
    """What must stand in every row: the answer, and what is given but for the input of an instruction."""
    optional = sketch.proposal.given.get("input", ()) if "instruction" in sketch.proposal.given else ()
    loose = "record" in sketch.proposal.given
    given = [c for c in sketch.given if c not in optional and c.nature not in ("turns", "items") and not loose]
    return list(dict.fromkeys([*sketch.answer.needed, *(path_in(column, sketch.names) for column in given)]))


def _divided(source: dict[str, Any], seen: Survey) -> tuple[dict[str, Any], dict[str, int]]:
    """The source with its condition and its splits, and the rows of each split.

    Raises:
        FlantuneError: Nothing left in some split.
    """
    condition = _condition(seen)
    stated = {**source, **({"where": condition} if condition else {})}
    if list(source["splits"]) == ["all"]:
        stated["fractions"] = dict(FRACTIONS)
    choice = SourceChoice.model_validate(stated)
    counts = {
        split: len(read_split(choice, split, FilePath(), {})) for split in stated.get("fractions", source["splits"])
    }
    if not all(counts.values()):
        told = " and ".join(f"{count} to {split}" for split, count in counts.items())
        by = " by the hash of each," if "fractions" in stated else ""
        raise FlantuneError(f"too few rows:{by} {told}; both need some, so add rows", paths_of(source["splits"])[0])
    return stated, counts


def _condition(seen: Survey) -> str:
    """A condition over the row that holds where nothing needed is blank."""
    parts: dict[str, None] = {}
    for path in seen.blank:
        defined = [f"{path[0]} is defined"] if seen.lacking[path] and str(path[0]).isidentifier() else []
        outer = [expression(path[:end]) for end in range(1, len(path))]
        inner = expression(path)
        said = f"({inner} is number or {inner} | trim)" if len(path) == 1 else inner
        parts |= dict.fromkeys([*defined, *outer, f"{inner} is not none", said])
    return " and ".join(parts)


def _left_out(seen: Survey) -> str:
    blank = ", ".join(f'{times} without "{path[0]}"' for path, times in seen.blank.items())
    return f"rows that lack something are left out ({blank})" if blank else ""


def _unknown_codes(target: Column) -> str:
    kinds = ", ".join(sorted(target.counts, key=float)[:8])
    return f"what {kinds} of {quoted(target)} mean is not known; name them by a transform `map`"


# --- the keys ---------------------------------------------------------------------------------------------------


def _keys(
    group: Group, sketch: Sketch, source: Mapping[str, Any], fields: Mapping[str, str], about: str
) -> dict[str, Any]:
    """All keys of the task file but for the templates."""
    spoken = sketch.given[0].language if sketch.given else None
    choices = sketch.answer.choices or (list(sketch.choices) if sketch.kind != "multi_label" else None)
    lettered = bool(choices) and shows_options(sketch) and len(sketch.choices) > LETTERED
    gives_way = max((c for c in sketch.given if _can_give_way(c)), key=lambda c: c.words, default=None)
    keys = {
        "name": group.name,
        "description": about,
        "cluster": phrasings()[sketch.kind].cluster,
        "origins": _origins(group),
        "language": spoken,
        "source": source,
        "fields": dict(fields),
        "answer_choices": choices,
        "options": {"styles": ["commas", "semicolons", "or", "slashes"]} if lettered else None,
        "evaluate_by": "choices" if are_compared(sketch) else "generation",
        "max_new_tokens": tokens(sketch),
        "metrics": metrics(sketch),
        "references": list(sketch.answer.references),
        "shorten": path_in(gives_way, sketch.names)[0] if gives_way is not None else None,
    }
    return {key: each for key, each in keys.items() if each}


def _origins(group: Group) -> list[str]:
    """The files' names where they are few, else the name of all."""
    names = list(dict.fromkeys(FilePath(text).name for text in paths_of(group.source["splits"])))
    return names if len(names) <= MANY_ORIGINS else [group.name]


def paths_of(splits: Mapping[str, Any]) -> list[str]:
    """All paths of a source's splits."""
    values = [each for files in splits.values() for each in (files.values() if isinstance(files, dict) else [files])]
    return list(dict.fromkeys(str(text) for each in values for text in (each if isinstance(each, list) else [each])))


def _can_give_way(column: Column) -> bool:
    """A text of the row itself, from whose end something can be taken."""
    texts = all(isinstance(each, str) for each in column.filled)
    return len(column.path) == 1 and texts and column.nature in ("text", "code", "structure")


def _longest(sketch: Sketch) -> int:
    """Characters of an example that 95 of 100 do not exceed."""
    lengths = [
        sum(len(str(column.values[row] or "")) for column in sketch.given) for row in range(len(sketch.view.rows))
    ]
    answers = sorted(map(len, sketch.printed)) or [0]
    return sorted(lengths)[int(0.95 * (len(lengths) - 1))] + answers[int(0.95 * (len(answers) - 1))]
