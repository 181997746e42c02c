"""Packing: examples of different lengths into rows of a fixed capacity, none cut, none lost."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

SPARE = 1.06  # target positions over their mean share: with none to spare, rows are full of targets before inputs


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: the longest first, each into the row that it fills best.

    Args:
        lengths: Tokens of each example, each at most `capacity`.
        capacity: Tokens a row holds.
    Returns:
        Rows of example numbers, in the order in which rows were opened. Every example stands in exactly one row.
    Raises:
        ValueError: An example is longer than a row.

    At most 11/9 of the fewest rows possible, plus one (Johnson 1973); O(n log n) searches.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for example in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[example]
        if length > capacity:
            raise ValueError(f"example {example} has {length} tokens; a row holds {capacity}")
        fit = bisect.bisect_left(room, (length, -1))
        if fit == len(room):
            rows.append([])
            left, row = capacity, len(rows) - 1
        else:
            left, row = room.pop(fit)
        rows[row].append(example)
        bisect.insort(room, (left - length, row))
    return rows


def pack_pairs(
    inputs: Sequence[int], targets: Sequence[int], input_capacity: int, target_capacity: int
) -> list[list[int]]:
    """Rows of two capacities: the largest example opens a row, then comes whichever keeps it filled most and evenly.

    Args:
        inputs: Input tokens of each example.
        targets: Target tokens of each example.
        input_capacity: Input tokens a row holds.
        target_capacity: Target tokens a row holds.
    Returns:
        Rows of example numbers, in the order in which rows were opened. Every example stands in exactly one row.
    Raises:
        ValueError: An example is longer than a row.

    Vector packing row by row (Panigrahy et al. 2011, "Heuristics for vector bin packing"), with a score of our own:
    the part of the row that an example fills, on both sides, less 0.7 of how unevenly it leaves them filled.
    """
    # In units of 1 / (input_capacity * target_capacity): integers, so that all machines choose alike.
    sizes = np.array([inputs, targets], np.int64).reshape(2, -1) * np.array([[target_capacity], [input_capacity]])
    whole = input_capacity * target_capacity
    if (longer := np.flatnonzero((sizes > whole).any(axis=0))).size:
        example = int(longer[0])
        raise ValueError(
            f"example {example} has {inputs[example]} input and {targets[example]} target tokens; "
            f"a row holds {input_capacity} and {target_capacity}"
        )
    waiting = np.argsort(-sizes.max(axis=0), kind="stable")
    rows = []
    while len(waiting):
        chosen = _filled(sizes[:, waiting], whole)
        rows.append(waiting[chosen].tolist())
        waiting = np.delete(waiting, chosen)
    return rows


def _filled(sizes: np.ndarray, whole: int) -> list[int]:
    """Numbers of the examples of one row: the first one, and what is put beside it."""
    gains, room = 10 * sizes.sum(axis=0), whole - sizes[:, 0]
    chosen, free = [0], np.ones(sizes.shape[1], bool)
    free[0] = False
    while True:
        left = room[:, None] - sizes
        fitting = free & (left >= 0).all(axis=0)
        if not fitting.any():
            return chosen
        scores = np.where(fitting, gains - 7 * np.abs(left[0] - left[1]), np.iinfo(np.int64).min)
        best = int(scores.argmax())
        chosen.append(best)
        free[best], room = False, left[:, best]


def fitting_target_capacity(inputs: Sequence[int], targets: Sequence[int], input_capacity: int) -> int:
    """The target capacity beside which rows fill best: a little over the targets' share, and no less than the longest.

    Args:
        inputs: Input tokens of examples as they are mixed; those of all draws have the same mean, more or less.
        targets: Their target tokens.
        input_capacity: Input tokens a row holds.
    """
    share = sum(targets) / max(1, sum(inputs))
    return max(1, round(SPARE * share * input_capacity), *targets)
