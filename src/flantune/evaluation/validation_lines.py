"""What validations decide: functions of the lines of `validation.jsonl` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Line = dict[str, Any]


def best_line(lines: Sequence[Line]) -> Line | None:
    """The first of the validations that none is better than; None where there is none."""
    known = [line for line in lines if line["value"] is not None]
    return max(known, key=lambda line: (line["value"], -line["step"]), default=None)


def exhausted(lines: Sequence[Line], patience: int | None) -> bool:
    """Whether the last `patience` validations were no better than one before them."""
    if patience is None or len(lines) <= patience:
        return False
    best = best_line(lines)
    return best is None or best in lines[:-patience]
