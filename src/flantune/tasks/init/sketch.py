"""What is known about a task once all its rows were looked at: what its scoring and its phrasings are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flantune.tasks.init.answers import Answer
from flantune.tasks.init.columns import Column
from flantune.tasks.init.printing import Names, path_in
from flantune.tasks.init.view import Proposal, View
from flantune.tasks.jinja import render_text
from flantune.tasks.sources import Row

ROWS_PRINTED = 400


@dataclass(frozen=True)
class Sketch:
    """A task before it is written.

    Attributes:
        proposal: Its kind and columns.
        view: The rows as the proposal sees them.
        names: Names for columns without one.
        answer: How the target is taken from a row.
        choices: The closed set of answers, in order; empty where there is none.
        words: The request, where a person or the file states it in words.
        printed: Targets of some rows as a template prints them.
        worked: The same with the way to the answer, where there is one.
    """

    proposal: Proposal
    view: View
    names: Names
    answer: Answer
    choices: Sequence[str] = ()
    words: str | None = None
    printed: Sequence[str] = field(default=(), repr=False)
    worked: Sequence[str] = field(default=(), repr=False)

    @property
    def kind(self) -> str:
        """As the phrasings name it."""
        return self.proposal.kind

    @property
    def target(self) -> Column:
        """What is asked for."""
        return self.proposal.target

    @property
    def given(self) -> list[Column]:
        """What is given, in the order in which it stands in a prompt."""
        return [column for columns in self.proposal.given.values() for column in columns]

    def called(self, column: Column) -> str:
        """A column's name as it is written."""
        return ".".join(part for part in path_in(column, self.names) if isinstance(part, str))


def printed(text: str, fields: Mapping[str, str], rows: Sequence[Row]) -> list[str]:
    """What a Jinja text prints for some of the rows, after the computed fields."""
    return [_printed(text, fields, row) for row in rows[:: max(1, len(rows) // ROWS_PRINTED)]]


def _printed(text: str, fields: Mapping[str, str], row: Row) -> str:
    values = dict(row)
    for name, made in fields.items():
        values[name] = render_text(made, values, name)
    return render_text(text, values, "the target").strip()
