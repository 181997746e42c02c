"""Keyed hashes and permutations: every number once, any number at random, the same on every machine."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.mixture.permutation import AT_ONCE, ROUNDS, derived, key_of, permuted, unpermuted

MASK = 2**64 - 1
keys = st.integers(0, MASK)
parts = st.lists(st.integers(0, 20) | st.text(max_size=3), max_size=4)


def mixed(value):
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)


def permuted_alone(position, size, key):
    """π(position) with Python's integers, one at a time."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right = position >> half, position % 2**half
        for i in range(1, ROUNDS + 1):
            round_key = mixed(key ^ (i * 0x9E3779B97F4A7C15 & MASK))
            left, right = right, left ^ (mixed(right ^ round_key) % 2**half)
        position = left << half | right
        if position < size:
            return position


@settings(deadline=None)
@given(st.integers(1, 5000), keys)
def test_every_number_comes_exactly_once(size, key):
    assert np.array_equal(np.sort(permuted(np.arange(size), size, key)), np.arange(size))


@settings(deadline=None)
@given(st.integers(1, 2**50), keys, st.lists(st.integers(0, 2**50), min_size=1, max_size=20))
def test_many_at_once_equal_one_at_a_time(size, key, numbers):
    positions = np.array([number % size for number in numbers])
    assert permuted(positions, size, key).tolist() == [permuted_alone(int(p), size, key) for p in positions]


@settings(deadline=None)
@given(st.integers(1, 2**50), keys, st.lists(st.integers(0, 2**50), min_size=1, max_size=20))
def test_the_way_back_leads_to_the_position(size, key, numbers):
    positions = np.array([number % size for number in numbers])
    assert np.array_equal(unpermuted(permuted(positions, size, key), size, key), positions)


@given(keys, st.integers(0, 2**40))
def test_keys_that_are_derived_from_a_key_and_different_numbers_differ(key, number):
    # By chance two of 2**64 keys meet in one of 10**17 examples.
    made = derived(np.array([key, key, key ^ 1], dtype=np.uint64), np.array([number, number + 1, number]))
    assert len(set(made.tolist())) == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2**50), keys, st.integers(0, 2**50)), max_size=20))
def test_permutations_of_different_sizes_and_keys_go_together(given_numbers):
    sizes, many_keys, numbers = (np.array([each[i] for each in given_numbers], dtype=np.uint64) for i in range(3))
    positions = (numbers % sizes).astype(np.int64) if len(numbers) else np.empty(0, dtype=np.int64)
    together = permuted(positions, sizes.astype(np.int64), many_keys)
    alone = [permuted_alone(int(p), size, key) for p, (size, key, _) in zip(positions, given_numbers, strict=True)]
    assert together.tolist() == alone


def test_more_positions_than_are_permuted_at_once_are_permuted_alike():
    positions = np.arange(3 * AT_ONCE // 2) % 5000
    once = permuted(np.arange(5000), 5000, 7)
    assert np.array_equal(permuted(positions, 5000, 7), once[positions])
    assert np.array_equal(permuted(positions, np.full(len(positions), 5000), 7), once[positions])


@given(keys)
def test_the_shape_is_kept(key):
    positions = np.arange(12).reshape(3, 4)
    assert np.array_equal(permuted(positions, 12, key), permuted(positions.ravel(), 12, key).reshape(3, 4))
    assert permuted(np.empty(0, dtype=np.int64), 12, key).shape == (0,)


def test_seed_task_and_epoch_each_give_another_permutation():
    made = {
        tuple(permuted(np.arange(30), 30, key_of(seed, "rows", task, epoch)).tolist())
        for seed, task, epoch in itertools.product(range(6), ["mails", "reviews", "intent"], range(6))
    }
    assert len(made) == 6 * 3 * 6


def test_seed_0_epoch_1_differs_from_seed_1_epoch_0():
    assert key_of(0, "rows", "mails", 1) != key_of(1, "rows", "mails", 0)


@given(parts, parts)
def test_different_tuples_have_different_keys(one, other):
    # By chance two of 2**64 keys meet in one of 10**17 examples: with tuples glued together they would meet at once.
    assert (key_of(*one) == key_of(*other)) == (one == other)


def test_tuples_that_look_alike_when_glued_together_have_different_keys():
    alike = [(1, 23), (12, 3), (123,), ("1", 23), ("1,23",), ("12", "3"), ("", "123"), ([1, 23],)]
    assert len({key_of(*parts) for parts in alike}) == len(alike)


def test_a_key_is_the_hash_of_the_tuple_as_json():
    text = json.dumps([0, "tâche", 7], separators=(",", ":"))
    assert key_of(0, "tâche", 7) == int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_permutation_of_a_few_numbers_occurs(size):
    seen = Counter(tuple(permuted(np.arange(size), size, key_of("few", i)).tolist()) for i in range(2000))
    assert len(seen) == {2: 2, 3: 6, 4: 24}[size]


@pytest.mark.parametrize("size", [9, 16, 40])
def test_each_number_stands_first_about_equally_often(size):
    keys = 300 * size
    seen = np.bincount([permuted(np.array([0]), size, key_of("first", i))[0] for i in range(keys)], minlength=size)
    # 300 expected with a standard deviation of 17; of 40 numbers the furthest lies about 2.3 of them away.
    assert abs(seen - 300).max() < 5 * 300**0.5


def test_keys_and_permutations_are_those_of_the_first_release():
    key = key_of(0, "rows", "mails", 0)
    assert key == 9781270322788651855
    assert permuted(np.arange(10), 10, key).tolist() == [9, 2, 1, 5, 6, 3, 0, 4, 7, 8]
    assert permuted(np.arange(17), 17, key).tolist() == [6, 10, 7, 13, 16, 3, 8, 12, 5, 2, 15, 4, 11, 14, 1, 0, 9]
    assert permuted(np.array([0, 1, 10**12]), 10**15, key).tolist() == [
        274175031171860,
        813621513828906,
        357979512416618,
    ]
