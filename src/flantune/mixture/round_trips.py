"""Whether a tokenizer can write what the tasks ask for: targets, and what comes back from their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from flantune.mixture.permutation import key_of, permuted
from flantune.mixture.window import Member
from flantune.tasks.task import Asked

TARGETS = 64  # of a task
IN_ALL = 4096  # of many tasks, fewer of each


class Writer(Protocol):
    """A tokenizer, for answers."""

    def target_ids(self, text: str) -> list[int]:
        """Ids of an answer and its end token."""

    def text(self, ids: list[int]) -> str:
        """An answer's text, control tokens left out."""


def round_trips(members: Sequence[Member], writer: Writer) -> list[list[tuple[str, str]]]:
    """Some targets of each task, each with what comes back from its tokens; the same ones each time."""
    most = min(TARGETS, max(1, IN_ALL // len(members)))
    return [
        [(target, writer.text(writer.target_ids(target))) for target in _targets(member, most)] for member in members
    ]


def _targets(member: Member, most: int) -> list[str]:
    """Targets of rows all over the task, under its templates in turn; rows that do not render are told elsewhere."""
    task, rows = member.task, member.rows
    chosen = permuted(np.arange(min(most, len(rows))), len(rows), key_of(0, "round trips", task.name)).tolist()
    asked = [
        Asked(
            task.training_templates[i % len(task.training_templates)],
            rows[row],
            rows.place(row),
            task.evaluation_style,
        )
        for i, row in enumerate(chosen)
    ]
    return [made[1] for made in task.render_all(asked) if isinstance(made, tuple)]
