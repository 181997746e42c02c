"""Packing: examples of different lengths into rows of a fixed capacity, none cut, none lost."""

from __future__ import annotations

import bisect
from collections.abc import Sequence


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
