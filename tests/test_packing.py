"""Packing: every example once, within capacity, in as few rows as best-fit decreasing takes."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.mixture.packing import pack

lengths = st.lists(st.integers(0, 64), max_size=200)
capacities = st.integers(64, 200)


def best_fit_decreasing(lengths, capacity):
    """The same, as a textbook says it: look at every row for every example."""
    rows: list[list[int]] = []
    for example in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        left = [capacity - sum(lengths[i] for i in row) for row in rows]
        fitting = [r for r in range(len(rows)) if left[r] >= lengths[example]]
        if fitting:
            rows[min(fitting, key=lambda r: left[r])].append(example)
        else:
            rows.append([example])
    return rows


@given(lengths, capacities)
def test_every_example_stands_in_one_row_and_no_row_is_too_long(lengths, capacity):
    rows = pack(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= capacity for row in rows)
    assert all(rows)


@given(lengths, capacities)
def test_rows_are_those_of_plain_best_fit_decreasing(lengths, capacity):
    assert pack(lengths, capacity) == best_fit_decreasing(lengths, capacity)


@given(lengths, capacities)
def test_no_two_rows_would_fit_into_one(lengths, capacity):
    totals = sorted(sum(lengths[i] for i in row) for row in pack(lengths, capacity))
    assert len(totals) < 2 or totals[0] + totals[1] > capacity


@given(st.lists(st.lists(st.integers(1, 99), max_size=8), min_size=1, max_size=30))
def test_pieces_of_full_rows_take_at_most_two_ninths_more_rows(cuts):
    pieces = []
    for cut in cuts:  # each row of 100 tokens is cut at these places, so that as many rows are the fewest possible
        ends = sorted({0, 100, *cut})
        pieces += [end - begin for begin, end in itertools.pairwise(ends)]
    assert len(pack(pieces, 100)) <= math.floor(11 / 9 * len(cuts) + 1)


@given(lengths, capacities)
def test_packing_again_gives_the_same_rows(lengths, capacity):
    assert pack(lengths, capacity) == pack(list(lengths), capacity)


def test_nothing_packs_into_no_rows():
    assert pack([], 16) == []


def test_an_example_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match=r"^example 1 has 17 tokens; a row holds 16$"):
        pack([3, 17, 4], 16)
