"""Where a run is in its order: besides weights and moments, all there is to resume."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flantune.mixture.window import PackedRow


@dataclass(frozen=True)
class Position:
    """What was trained on so far.

    Attributes:
        step: Optimizer updates done.
        row: Packed rows consumed, which is the number of the next one. A step may get another number of rows when a
            run is resumed, so the row decides, and not the step.
        draws: Hash of all draws consumed, chained row by row: equal for equal rows, however they were cut into steps.
    """

    step: int = 0
    row: int = 0
    draws: str = ""

    def after(self, rows: Sequence[PackedRow]) -> Position:
        """The position after one more step over these rows."""
        draws = self.draws
        for row in rows:
            draws = _chained(draws, row)
        return Position(self.step + 1, self.row + len(rows), draws)


START = Position()


def _chained(before: str, row: PackedRow) -> str:
    said = np.array([(s.draw, s.task, s.row, s.template) for s in row], dtype="<i8")
    return hashlib.blake2b(before.encode() + said.tobytes(), digest_size=16).hexdigest()
