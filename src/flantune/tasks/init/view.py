"""A view: a sample of rows seen as columns, and what a task could make of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flantune.tasks.init.columns import Column, Nature, columns_of
from flantune.tasks.init.names import suggests
from flantune.tasks.init.relations import Relation, foretells
from flantune.tasks.sources import Row


class View:
    """Rows as columns.

    Args:
        rows: The sample.
        transforms: What the source does to its rows before they look like this.
        named: Whether the columns' names come from the file; made-up ones suggest nothing.
        told: Whether the file says in words, beside the rows, what is asked.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        transforms: Sequence[Mapping[str, Any]] = (),
        *,
        named: bool = True,
        told: bool = False,
    ) -> None:
        self.rows, self.transforms, self.named, self.told = rows, tuple(transforms), named, told
        self.prompted = any("triple" in transform for transform in transforms)
        self.columns = columns_of(rows)
        self._relations: dict[tuple[Column, Column], Relation] = {}
        self._foretold: dict[tuple[Column, Column], float] = {}

    def of(self, *natures: Nature) -> list[Column]:
        """The columns of some natures, empty ones left out."""
        return [column for column in self.columns if column.nature in natures]

    def column(self, name: str) -> Column | None:
        """The column of a name, a row's own field before one inside it."""
        found = [column for column in self.columns if name in (column.name, str(column.path[0]))]
        return min(found, key=lambda column: len(column.path), default=None)

    @cached_property
    def prose(self) -> list[Column]:
        """Columns of texts, longest first."""
        return sorted((column for column in self.columns if column.is_prose), key=lambda column: -column.words)

    def suggests(self, column: Column, *roles: str) -> float:
        """How much a column's name suggests one of some roles, 0 to 1."""
        return max((suggests(column.name, role) for role in roles), default=0.0) if self.named else 0.0

    def relation(self, source: Column, target: Column) -> Relation:
        """What a column's texts have to do with another's."""
        key = (source, target)
        if key not in self._relations:
            self._relations[key] = Relation(source, target)
        return self._relations[key]

    def foretells(self, text: Column, label: Column) -> float:
        """How well the words of a text foretell a label, 0 to 1."""
        key = (text, label)
        if key not in self._foretold:
            both = [(str(a), str(b)) for a, b in zip(text.values, label.values, strict=True) if a and b is not None]
            self._foretold[key] = foretells([a for a, _ in both], [b for _, b in both])
        return self._foretold[key]


@dataclass(frozen=True)
class Proposal:
    """What a view could be: a kind of task, what is given, what is asked for.

    Attributes:
        kind: As `--kind` and the phrasings name it.
        given: Placeholder of the phrasings, such as `input` or `question`, to the columns that fill it.
        target: What is asked for.
        score: The evidence, in points; 5 is a clear case.
        why: Why this kind, this input, this target: one line each.
        choices: Columns that hold the choices of a row, or one that lists them.
        key: How the target tells the right choice: its "index" from 0, "number" from 1, "letter" or the "text".
        also: Columns with more right answers.
        reason: A column that explains the target.
    """

    kind: str
    given: Mapping[str, tuple[Column, ...]]
    target: Column
    score: float
    why: tuple[str, ...] = ()
    choices: tuple[Column, ...] = ()
    key: str = "text"
    also: tuple[Column, ...] = ()
    reason: Column | None = None

    @property
    def columns(self) -> list[Column]:
        """All columns that it uses."""
        extra = [self.reason] if self.reason is not None else []
        return [
            *(column for columns in self.given.values() for column in columns),
            self.target,
            *self.choices,
            *self.also,
            *extra,
        ]


@dataclass
class Evidence:
    """Points for and against a proposal, with what they rest on."""

    points: float = 0.0
    why: list[str] = field(default_factory=list)

    def add(self, points: float, because: str = "") -> None:
        """Points count; a reason is told where they are in favour."""
        if math.isfinite(points):
            self.points += points
        if because and points > 0:
            self.why.append(because)


def quoted(*columns: Column) -> str:
    """Columns' names as reasons write them."""
    return " and ".join(f'"{column.name}"' for column in columns)
