"""The shape of a mixture: which tasks and mixtures it is made of, by what rules, and the exact rates that follow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

from flantune.errors import FlantuneError, nearest
from flantune.mixture.rates import Rule, Unit, as_written, counted_rows, rounded, task_rates
from flantune.mixture.tree import Rated


@dataclass(frozen=True)
class TaskPart:
    """A task as part of a mixture.

    Attributes:
        name: The task's name.
        rows: Number of training rows.
        share: Fixed share of the mixture that it is part of.
        weight: Factor on what the rule of the mixture around it gives.
        cap: Instead of the mixture's.
        floor: Instead of the mixture's.
        lengths: Mean length of an example in the units that are asked for; any positive number for `examples`.
    """

    name: str
    rows: int
    share: float | None = None
    weight: float = 1.0
    cap: int | None = None
    floor: int | None = None
    lengths: Mapping[Unit, Fraction] = field(default_factory=dict)


@dataclass(frozen=True)
class MixturePart:
    """A mixture, by itself or as part of another.

    Attributes:
        name: Told apart from all other mixtures and tasks.
        parts: Tasks and mixtures in it.
        share: Fixed share of the mixture that it is part of.
        weight: Factor on what the rule of the mixture around it gives.
        rates: Rule by which it divides its own draws; see `task_rates`.
        cap: A task in it counts as at most this many rows.
        floor: A task in it counts as at least this many rows.
        temperature: For `temperature`.
        share_of: What shares, weights and rates in it are shares of; None for that of the mixture around it.
    """

    name: str
    parts: tuple[TaskPart | MixturePart, ...]
    share: float | None = None
    weight: float = 1.0
    rates: Rule = "proportional"
    cap: int | None = None
    floor: int | None = None
    temperature: float = 1.0
    share_of: Unit | None = None


Part = TaskPart | MixturePart
ROUNDING = Fraction(1, 10**9)  # by which shares written in decimal may miss 1
Change = Mapping[str, Any]


def filled(mixture: MixturePart, parts: Sequence[tuple[str, Part]]) -> MixturePart:
    """A mixture with its parts in it.

    Args:
        mixture: Without parts.
        parts: Tasks, and mixtures without parts, at any depth; each after the name of the mixture around it.
    """
    inside = defaultdict[str, list[Part]](list)
    for around, part in parts:
        inside[around].append(part)

    def full(part: Part) -> Part:
        return part if isinstance(part, TaskPart) else replace(part, parts=tuple(map(full, inside[part.name])))

    return replace(mixture, parts=tuple(map(full, inside[mixture.name])))


@dataclass(frozen=True)
class _Part:
    """A part with its exact rates inside, the rows it counts as, and the mean length of its examples."""

    rated: Rated
    size: int
    lengths: Mapping[Unit, Fraction]


def rated(mixture: MixturePart) -> Rated:
    """The exact rates of a mixture.

    A task counts as max(min(rows, cap), floor) rows, a mixture as the sum of those in it.

    Raises:
        FlantuneError: The fixed shares of a mixture leave nothing for its other parts.
    """
    return _mixed(mixture, "examples").rated


def _mixed(mixture: MixturePart, around: Unit) -> _Part:
    unit = mixture.share_of or around
    parts = [_mixed(part, unit) if isinstance(part, MixturePart) else _task(part, mixture) for part in mixture.parts]
    rates = task_rates(
        [part.size for part in parts],
        mixture.rates,
        temperature=mixture.temperature,
        weights=[part.weight for part in mixture.parts],
        shares=[part.share for part in mixture.parts],
        lengths=None if unit == "examples" else [part.lengths[unit] for part in parts],
    )
    made = [Rated(part.rated.name, rate, part.rated.parts) for part, rate in zip(parts, rates, strict=True)]
    units = set.intersection(*(set(part.lengths) for part in parts))
    lengths = {
        each: rounded(sum((rate * part.lengths[each] for part, rate in zip(parts, rates, strict=True)), Fraction(0)))
        for each in units
    }
    return _Part(Rated(mixture.name, Fraction(1), tuple(made)), sum(part.size for part in parts), lengths)


def _task(task: TaskPart, mixture: MixturePart) -> _Part:
    """What is said of the task itself goes before what is said of all tasks of the mixture."""
    cap = task.cap if task.cap is not None else mixture.cap
    floor = task.floor
    if floor is None and mixture.floor is not None:
        floor = mixture.floor if task.cap is None else min(mixture.floor, task.cap)
    lengths = {unit: rounded(length) for unit, length in task.lengths.items()}
    return _Part(Rated(task.name, Fraction(1)), counted_rows(task.rows, cap, floor), lengths)


def changed(mixture: MixturePart, changes: Mapping[str, Change]) -> MixturePart:
    """A mixture with other values for some of its parts, for a phase of a run.

    Args:
        mixture: As the run begins.
        changes: By name of a task or mixture, the top one too: fields with their new values. A share of 0 takes a
            part out.
    Raises:
        FlantuneError: A name that is no part of the mixture, a field that such a part does not have, or nothing left.
    """
    unknown = sorted(changes.keys() - {mixture.name} - set(_names(mixture)))
    if unknown:
        raise FlantuneError(f'no task or mixture "{unknown[0]}" to change; {nearest(unknown[0], _names(mixture))}')
    return _changed_inside(mixture, changes)


def _changed_inside(mixture: MixturePart, changes: Mapping[str, Change]) -> MixturePart:
    made = replace(mixture, **_checked(mixture, changes.get(mixture.name, {})))
    kept = [inner for inner in made.parts if changes.get(inner.name, {}).get("share") != 0]
    if not kept:
        raise FlantuneError(f"{_told(made)} has no task left; give one of them a share above 0")
    parts = tuple(_changed(inner, changes) for inner in kept)
    fixed = [as_written(inner.share) for inner in parts if inner.share is not None]
    if len(fixed) == len(parts) and abs(sum(fixed) - 1) > ROUNDING:
        raise FlantuneError(
            f"each part of {_told(made)} has a fixed share and they sum to {float(sum(fixed)):g}, not 1; "
            "change the shares of the others too"
        )
    return replace(made, parts=parts)


def _changed(part: Part, changes: Mapping[str, Change]) -> Part:
    if isinstance(part, MixturePart):
        return _changed_inside(part, changes)
    return replace(part, **_checked(part, changes.get(part.name, {})))


def _checked(part: Part, change: Change) -> Change:
    known = [each.name for each in fields(part) if each.name not in ("name", "rows", "lengths", "parts")]
    for key in change:
        if key not in known:
            raise FlantuneError(f'{_told(part)} has no "{key}"; {nearest(key, known)}')
    if "weight" in change and change.get("share", part.share) is not None:
        raise FlantuneError(f"{_told(part)} has a fixed share, beside which its weight does nothing; change the share")
    return change


def _told(part: Part) -> str:
    if isinstance(part, TaskPart):
        return f"task {part.name}"
    return f"mixture {part.name}" if part.name else "the mixture"


def _names(mixture: MixturePart) -> list[str]:
    return [part.name for part in parts_of(mixture)]


def parts_of(mixture: MixturePart) -> Sequence[Part]:
    """All tasks and mixtures in it, at any depth, each mixture before what is in it."""
    found = list[Part]()
    for part in mixture.parts:
        found += [part, *parts_of(part)] if isinstance(part, MixturePart) else [part]
    return found
