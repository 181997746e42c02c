"""A tree that loses tasks: what is left has its exact share at every draw, and mixtures beside it their order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.mixture.permutation import key_of
from flantune.mixture.pruned import PrunedTree
from flantune.mixture.tree import Rated, forest_of
from strategies import flat, many_amounts, nested, seeds

FRESH = 3  # draws from an exact share, which a tree of one mixture never allows when it is new; see test_tree.py
amounts_of_any_size = st.lists(st.integers(1, 10) | st.integers(1, 10**6), min_size=1, max_size=20) | many_amounts
mixtures = st.builds(flat, amounts_of_any_size) | nested()


def numbered(mixture):
    return {name: number for number, name in enumerate(mixture.tasks())}


def pruned(mixture, gone, seed=0):
    """The tree after these tasks were taken out, one after the other."""
    tree = PrunedTree(mixture, key_of(seed, "tasks"), numbered(mixture))
    for name in gone:
        tree.take(numbered(mixture)[name])
    return tree


@st.composite
def thinned(draw):
    """A mixture, and some of its tasks in the order in which they go."""
    mixture = draw(mixtures)
    order = draw(st.permutations(list(mixture.tasks())))
    return mixture, order[: draw(st.integers(0, len(order) - 1))]


@settings(max_examples=30, deadline=None)
@given(thinned(), seeds)
def test_what_is_left_has_its_exact_share_and_what_has_gone_no_draw(given_mixture, seed):
    mixture, gone = given_mixture
    tree = pruned(mixture, gone, seed)
    left = mixture.without(set(gone))
    assert left is not None
    shares = [left.tasks().get(name, Fraction(0)) for name in mixture.tasks()]
    members = tree.forest().visits(0, np.arange(1500))[0]
    drawn = np.cumsum(members[None] == np.arange(len(shares))[:, None], axis=1)
    missed = np.pad(drawn - np.arange(1, 1501) * np.array(shares, float)[:, None], ((0, 0), (1, 0)))
    assert np.ptp(missed, axis=1).max() <= tree.furthest() + 1e-9
    for number in (10**9, 10**15):
        counts = tree.forest().counts(number, len(shares)).tolist()
        assert sum(counts) == number
        assert all(abs(n - number * share) <= tree.furthest() for n, share in zip(counts, shares, strict=True))
        assert all(share or not n for n, share in zip(counts, shares, strict=True))


@settings(max_examples=40, deadline=None)
@given(mixtures, seeds)
def test_a_tree_that_has_lost_nothing_is_the_mixture_s(mixture, seed):
    made = pruned(mixture, [], seed).forest()
    planted = forest_of([(mixture, key_of(seed, "tasks"))], numbered(mixture))
    for field in ("roots", "left", "right", "left_part", "total", "offset"):
        assert np.array_equal(getattr(made, field), getattr(planted, field))


@settings(max_examples=60, deadline=None)
@given(st.builds(flat, amounts_of_any_size), seeds)
def test_a_new_tree_of_one_mixture_allows_less_than_3_draws(mixture, seed):
    assert pruned(mixture, [], seed).furthest() < FRESH


@settings(max_examples=40, deadline=None)
@given(thinned(), seeds)
def test_the_order_in_which_tasks_go_does_not_matter(given_mixture, seed):
    mixture, gone = given_mixture
    there, back = (pruned(mixture, names, seed).forest().visits(0, np.arange(300)) for names in (gone, gone[::-1]))
    assert np.array_equal(there, back)


@settings(max_examples=40, deadline=None)
@given(nested(1, "a/"), nested(1, "b/"), seeds, st.data())
def test_a_task_that_goes_does_not_reorder_another_mixture(one, other, seed, data):
    parts = (Rated("a", Fraction(1, 3), one.parts), Rated("b", Fraction(2, 3), other.parts))
    whole = Rated("", Fraction(1), parts)
    names = list(other.tasks())
    gone = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names) - 1))
    before, after = (pruned(whole, each, seed).forest().visits(0, np.arange(400))[0] for each in ([], gone))
    kept = np.arange(len(one.tasks()))
    assert before[np.isin(before, kept)].tolist() == after[np.isin(after, kept)].tolist()


def test_a_tree_that_has_become_uneven_says_so():
    tree = pruned(flat([1000] * 32 + [1] * 200), [])
    assert tree.furthest() < FRESH
    tree.take(1)
    assert tree.furthest() > FRESH  # beside a task of 1000 only tasks of 1 are left, on several levels


@pytest.mark.parametrize("gone", [["a"], ["a", "b"]])
def test_the_last_task_of_a_mixture_inside_leaves_its_draws_to_what_is_beside_it(gone):
    inner = Rated.of_tasks({"a": Fraction(1, 2), "b": Fraction(1, 2)})
    mixture = Rated("", Fraction(1), (Rated("in", Fraction(2, 5), inner.parts), Rated("c", Fraction(3, 5))))
    counts = pruned(mixture, gone).forest().counts(1000, 3).tolist()
    assert counts == ([0, 400, 600] if gone == ["a"] else [0, 0, 1000])
