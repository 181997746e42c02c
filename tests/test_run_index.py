"""The index of runs of words: it finds what a plain search finds, where it begins, and in which rows it stands."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flantune.mixture.run_index import Lists, RunIndex, changes, distinct
from flantune.mixture.words import words_of

texts = st.lists(st.sampled_from("aab"), max_size=12).map(" ".join)
numbered = st.lists(st.tuples(st.integers(0, 4), texts), max_size=8).map(sorted)


def plainly(given, shortest, longest):
    """Each run that counts with the rows in which it stands."""
    found: dict[tuple[str, ...], set[int]] = {}
    for row, text in given:
        words = words_of(text)
        n = min(longest, len(words))
        for i in range(len(words) - n + 1) if n >= shortest else ():
            found.setdefault(tuple(words[i : i + n]), set()).add(row)
    return found


@given(numbered, texts, st.integers(1, 4), st.integers(0, 4))
def test_the_runs_of_a_text_are_found_where_they_begin_with_their_rows(given_texts, text, shortest, more):
    index = RunIndex(given_texts, shortest=shortest, longest=shortest + more)
    known = plainly(given_texts, shortest, shortest + more)
    assert index.count == len(known)
    words = words_of(text)
    places, runs = index.find(words)
    found = [index.rows.of_keys(np.array([run]))[0].tolist() for run in runs]
    assert sorted(zip(places.tolist(), found, strict=True)) == sorted(
        (i, sorted(known[tuple(words[i : i + n])]))
        for i in range(len(words))
        for n in range(shortest, min(shortest + more, len(words) - i) + 1)
        if tuple(words[i : i + n]) in known
    )


@given(numbered)
def test_every_run_of_every_text_is_found_in_that_text_with_its_row(given_texts):
    index = RunIndex(given_texts, shortest=2, longest=4)
    for row, text in given_texts:
        words = words_of(text)
        runs = index.find(words)[1]
        standing = [row in index.rows.of_keys(np.array([run]))[0] for run in runs]
        assert sum(standing) >= (max(1, len(words) - 3) if len(words) >= 2 else 0)


def test_an_index_of_nothing_finds_nothing():
    index = RunIndex([], shortest=8, longest=13)
    assert index.count == 0
    assert [part.tolist() for part in index.find(["a"] * 20)] == [[], []]
    assert [part.tolist() for part in RunIndex([(0, "a b c")], shortest=2, longest=3).find([])] == [[], []]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9))), st.lists(st.integers(0, 6)))
def test_lists_give_the_items_of_each_key_in_order(pairs, keys):
    pairs.sort(key=lambda pair: pair[0])
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    lists = Lists.of(left, right, 7)
    items, owners = lists.of_keys(np.array(keys, np.int64))
    assert [(keys[owner], item) for owner, item in zip(owners.tolist(), items.tolist(), strict=True)] == [
        pair for key in keys for pair in pairs if pair[0] == key
    ]
    assert list(zip(*(part.tolist() for part in lists.pairs()), strict=True)) == pairs


@given(st.lists(st.integers(-5, 5)))
def test_distinct_numbers_are_sorted_and_changes_mark_each_first(numbers):
    array = np.array(numbers, np.int64)
    assert distinct(array).tolist() == sorted(set(numbers))
    assert changes(array).tolist() == [i == 0 or numbers[i] != numbers[i - 1] for i in range(len(numbers))]
