"""Packing: every example once, within capacity, in as few rows as best-fit decreasing takes."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.mixture.packing import SPARE, fitting_target_capacity, pack, pack_pairs

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


# Rows of two capacities

pairs = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 20)), max_size=120)


def every_row_for_the_next_example(pairs, input_capacity, target_capacity):
    """The same, as its description says it: fractions, and a look at every waiting example for every place."""
    sizes = [(Fraction(i, input_capacity), Fraction(t, target_capacity)) for i, t in pairs]
    waiting = sorted(range(len(pairs)), key=lambda e: (-max(sizes[e]), e))
    rows = []
    while waiting:
        row = [waiting.pop(0)]
        while True:
            left = [1 - sum(sizes[e][side] for e in row) for side in (0, 1)]
            fitting = [e for e in waiting if all(size <= room for size, room in zip(sizes[e], left, strict=True))]
            if not fitting:
                break

            def score(e, left=left):
                return sum(sizes[e]) - Fraction(7, 10) * abs((left[0] - sizes[e][0]) - (left[1] - sizes[e][1]))

            row.append(max(fitting, key=score))  # the first of the best
            waiting.remove(row[-1])
        rows.append(row)
    return rows


def packed_pairs(pairs, *capacities):
    return pack_pairs([i for i, _ in pairs], [t for _, t in pairs], *capacities)


@given(pairs, capacities, st.integers(20, 60))
def test_every_pair_stands_in_one_row_and_no_row_is_too_long_on_either_side(pairs, input_capacity, target_capacity):
    rows = packed_pairs(pairs, input_capacity, target_capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(pairs)))
    assert all(sum(pairs[i][0] for i in row) <= input_capacity for row in rows)
    assert all(sum(pairs[i][1] for i in row) <= target_capacity for row in rows)


@given(pairs, capacities, st.integers(20, 60))
def test_rows_of_pairs_are_those_of_the_plain_description(pairs, input_capacity, target_capacity):
    made = packed_pairs(pairs, input_capacity, target_capacity)
    assert made == every_row_for_the_next_example(pairs, input_capacity, target_capacity)


@given(pairs, capacities, st.integers(20, 60))
def test_no_example_of_a_later_row_fits_into_an_earlier_one(pairs, input_capacity, target_capacity):
    rows = packed_pairs(pairs, input_capacity, target_capacity)
    for number, row in enumerate(rows):
        inputs, targets = (sum(pairs[i][side] for i in row) for side in (0, 1))
        later = [pairs[i] for other in rows[number + 1 :] for i in other]
        assert not any(inputs + i <= input_capacity and targets + t <= target_capacity for i, t in later)


@pytest.mark.parametrize("pair", [(17, 1), (1, 9)])
def test_a_pair_longer_than_a_row_is_refused(pair):
    told = f"^example 1 has {pair[0]} input and {pair[1]} target tokens; a row holds 16 and 8$"
    with pytest.raises(ValueError, match=told):
        packed_pairs([(3, 3), pair], 16, 8)


def test_no_pairs_pack_into_no_rows():
    assert pack_pairs([], [], 16, 8) == []


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 99)), min_size=1), st.integers(500, 4096))
def test_the_target_capacity_holds_each_target_and_little_more_than_the_targets_share(pairs, capacity):
    inputs, targets = zip(*pairs, strict=True)
    chosen = fitting_target_capacity(inputs, targets, capacity)
    assert chosen == max(max(targets), round(SPARE * (sum(targets) / sum(inputs)) * capacity))


def test_summaries_fill_rows_on_both_sides():
    """Lengths like those of dialogues and their summaries: long tails, and a target that grows with its input."""
    dice = np.random.default_rng(0)
    inputs = np.clip(dice.lognormal(5.15, 0.6, 2048), 20, 1000).astype(int).tolist()
    targets = np.clip(np.power(inputs, 0.6) * dice.lognormal(0.3, 0.4, 2048), 5, 140).astype(int).tolist()
    capacity = fitting_target_capacity(inputs, targets, 1024)
    windows = range(0, 2048, 512)
    rows = sum(len(pack_pairs(inputs[w : w + 512], targets[w : w + 512], 1024, capacity)) for w in windows)
    assert sum(inputs) / rows / 1024 > 0.97
    assert sum(targets) / rows / capacity > 0.88
