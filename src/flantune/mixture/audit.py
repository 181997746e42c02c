"""The audit: what evaluation rows and training rows have in common, told in the plan or left out of training."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flantune import cache
from flantune.errors import FlantuneError
from flantune.files import digest, write_text
from flantune.mixture.contamination import Match, Overlap, overlaps
from flantune.mixture.duplicates import Repeats, repeats
from flantune.mixture.row_text import ShownFields, TaskTexts, Texts
from flantune.mixture.window import Member
from flantune.tasks.sources import Row
from flantune.tasks.task import Task

FORMAT = 1  # raise it when the same rows give another result
SHOWN_WORDS = 60  # of the words in common
MANY_REPEATS = 0.05  # of a task's rows, from which on a person is told


@dataclass(frozen=True)
class Evaluated:
    """The rows that a task is evaluated on.

    Attributes:
        task: The task.
        ids: How predictions name each row.
        rows: The rows.
        places: Where each stands.
    """

    task: Task
    ids: Sequence[str]
    rows: Sequence[Row]
    places: Sequence[str]


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        members: The members, without the rows that are left out.
        told: For the plan: `contamination` and `duplicates` (None: not looked for), `flagged` (task to ids of
            evaluation rows), `left_out`.
        warnings: What a careful colleague would point at.
    """

    members: tuple[Member, ...]
    told: dict[str, Any]
    warnings: list[str]


def audit(
    members: Sequence[Member],
    evaluated: Sequence[Evaluated],
    folder: Path,
    *,
    decontaminate: Literal["report", "drop", "skip"] = "report",
    duplicates: Literal["keep", "drop", "skip"] = "keep",
) -> Audit:
    """Looks for evaluation rows in training rows, and for training rows that repeat others.

    Args:
        members: Trained tasks with their rows.
        evaluated: What the models will be asked.
        folder: Where results are kept, by the content of all rows.
        decontaminate: Whether training rows with text of evaluation rows are left out (drop), told of, or not
            looked for (skip).
        duplicates: Whether rows that repeat an earlier one are left out (drop), counted, or not looked for (skip).
    Raises:
        FlantuneError: A task would have no training rows left.
    """
    found = _overlaps(members, evaluated, folder) if decontaminate != "skip" else []
    clean = members
    if decontaminate == "drop":
        rows = _by_task((overlap.trained, overlap.training_rows) for overlap in found)
        clean = _without(members, rows, "hold text of evaluation rows", "ledger.decontaminate: report")
    repeated = _repeats(clean, folder) if duplicates != "skip" else []
    kept = clean
    if duplicates == "drop":
        rows = _by_task((each.task, (*each.exact, *each.near)) for each in repeated)
        kept = _without(clean, rows, "repeat other rows", "ledger.duplicates: keep")
    told = {
        "contamination": [_overlap_told(it, members, evaluated) for it in found] if decontaminate != "skip" else None,
        "flagged": _flagged(found, evaluated) if decontaminate == "report" else {},
        "duplicates": [_repeats_told(each, clean) for each in repeated] if duplicates != "skip" else None,
        "left_out": _left_out(members, clean, kept),
    }
    warnings = [
        *(_leak_warnings(found, evaluated) if decontaminate == "report" else ()),
        *(_repeat_warnings(repeated, clean) if duplicates == "keep" else ()),
    ]
    return Audit(tuple(kept), told, warnings)


def _flagged(found: Sequence[Overlap], evaluated: Sequence[Evaluated]) -> dict[str, list[str]]:
    """By task the ids of the evaluation rows that have text in common with training rows, in their order."""
    rows = _by_task((overlap.evaluated, overlap.evaluation_rows) for overlap in found)
    return {
        it.task.name: list(dict.fromkeys(it.ids[row] for row in sorted(rows[it.task.name])))
        for it in evaluated
        if it.task.name in rows
    }


def _by_task(pairs: Iterable[tuple[str, Sequence[int]]]) -> dict[str, set[int]]:
    rows = defaultdict[str, set[int]](set)
    for task, numbers in pairs:
        rows[task].update(numbers)
    return dict(rows)


def _without(members: Sequence[Member], rows: Mapping[str, set[int]], why: str, remedy: str) -> list[Member]:
    """The members without some of their rows.

    Raises:
        FlantuneError: None of a task's rows is left.
    """
    kept = []
    for member in members:
        gone = rows.get(member.task.name, ())
        left = np.setdiff1d(np.arange(len(member.rows)), np.array(sorted(gone), np.int64))
        if not len(left):
            raise FlantuneError(
                f"task {member.task.name} has no training rows left: all {len(member.rows)} {why}; remove the task, or "
                f"set {remedy}",
                member.task.place("source"),
            )
        kept.append(replace(member, rows=member.rows.chosen(left)) if gone else member)
    return kept


def _left_out(members: Sequence[Member], clean: Sequence[Member], kept: Sequence[Member]) -> list[dict[str, Any]]:
    """Of each task that lost rows, how many and why."""
    sizes = [[len(it.rows) for it in stages] for stages in zip(members, clean, kept, strict=True)]
    return [
        {"task": member.task.name, "rows": all_, "overlapping": all_ - clean_, "duplicates": clean_ - kept_}
        for member, (all_, clean_, kept_) in zip(members, sizes, strict=True)
        if kept_ < all_
    ]


# What is found, kept in the cache: to look again takes as long as the rows are many


def _overlaps(members: Sequence[Member], evaluated: Sequence[Evaluated], folder: Path) -> list[Overlap]:
    training = _training_texts(members)
    shown = [ShownFields.of(it.task, it.task.templates) for it in evaluated]
    asked = [TaskTexts(it.task.name, Texts(it.rows, fields)) for it, fields in zip(evaluated, shown, strict=True)]
    of_rows = [[it.task.name, list(it.rows), *_names(fields)] for it, fields in zip(evaluated, shown, strict=True)]
    key = digest(FORMAT, "overlaps", [_identity(member) for member in members], of_rows)
    made = _kept(folder / f"{key}.json", lambda: overlaps(training, asked))
    return [Overlap(**{**it, "shown": tuple(Match(**match) for match in it["shown"])}) for it in made]  # type: ignore[arg-type]


def _repeats(members: Sequence[Member], folder: Path) -> list[Repeats]:
    key = digest(FORMAT, "repeats", [_identity(member) for member in members])
    return [Repeats(**it) for it in _kept(folder / f"{key}.json", lambda: repeats(_training_texts(members)))]


def _training_texts(members: Sequence[Member]) -> list[TaskTexts]:
    return [TaskTexts(member.task.name, Texts(member.rows, _shown(member))) for member in members]


def _shown(member: Member) -> ShownFields:
    return ShownFields.of(member.task, member.task.training_templates)


def _identity(member: Member) -> list[Any]:
    return [member.task.name, member.rows.digest, *_names(_shown(member))]


def _names(fields: ShownFields) -> list[list[str]]:
    return [sorted(fields.question), sorted(fields.answer)]


def _kept(path: Path, make: Callable[[], Sequence[Any]]) -> list[dict[str, Any]]:
    if path.exists():
        cache.used(path)
        return json.loads(path.read_text(encoding="utf-8"))
    made = [asdict(each) for each in make()]
    write_text(path, json.dumps(made))
    cache.added(path)
    return made


# What is told


def _overlap_told(overlap: Overlap, members: Sequence[Member], evaluated: Sequence[Evaluated]) -> dict[str, Any]:
    trained = next(member for member in members if member.task.name == overlap.trained)
    asked = next(it for it in evaluated if it.task.name == overlap.evaluated)
    return {
        "trained": overlap.trained,
        "evaluated": overlap.evaluated,
        "evaluation_rows": len(overlap.evaluation_rows),
        "of": len(asked.rows),
        "training_rows": len(overlap.training_rows),
        "shown": [
            {
                "row": asked.ids[match.evaluation_row],
                "place": asked.places[match.evaluation_row],
                "training_place": trained.rows.place(match.training_row),
                "kind": match.kind,
                "words": len(match.text.split()),
                "text": _beginning(match.text),
            }
            for match in overlap.shown
        ],
    }


def _beginning(text: str) -> str:
    words = text.split()
    return " ".join(words[:SHOWN_WORDS]) + (" ..." if len(words) > SHOWN_WORDS else "")


def _repeats_told(found: Repeats, members: Sequence[Member]) -> dict[str, Any]:
    rows = {member.task.name: member.rows for member in members}
    return {
        "task": found.task,
        "of": found.of,
        "exact": len(found.exact),
        "near": len(found.near),
        "shown": [
            {"place": rows[found.task].place(row), "repeats": rows[found.of].place(first)} for row, first in found.shown
        ],
    }


def _leak_warnings(found: Sequence[Overlap], evaluated: Sequence[Evaluated]) -> Iterator[str]:
    rows = _by_task((overlap.evaluated, overlap.evaluation_rows) for overlap in found)
    for it in evaluated:
        owners = [overlap.trained for overlap in found if overlap.evaluated == it.task.name]
        if owners:
            yield (
                f"{it.task.name}: {len(rows[it.task.name])} of {len(it.rows)} evaluation rows have text in common with "
                f"training rows of {', '.join(owners)}; see which, and leave these training rows out with "
                "ledger.decontaminate: drop"
            )


def _repeat_warnings(found: Sequence[Repeats], members: Sequence[Member]) -> Iterator[str]:
    for member in members:
        ours = [each for each in found if each.task == member.task.name]
        count = sum(len(each.exact) + len(each.near) for each in ours)
        if count >= MANY_REPEATS * len(member.rows):
            yield (
                f"{member.task.name}: {count} of {len(member.rows)} training rows repeat rows of "
                f"{', '.join(each.of for each in ours)}; leave them out with ledger.duplicates: drop"
            )
