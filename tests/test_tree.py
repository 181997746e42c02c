"""Trees of exact splits: shares at every prefix, any visit at random, there and back, and subtrees that stay."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flantune.mixture.permutation import key_of
from flantune.mixture.tree import Climb, Rated, forest_of
from strategies import flat, many_amounts, nested, seeds

# A child of the tree misses its share by at most 1 + (its part of its parent) x (what its parent misses), in a
# prefix and in a block alike. The tree divides so evenly that this sums to less than 3; each mixture inside another
# can add what its own top misses, for a task that is most of it.
FURTHEST = 3
amounts_of_any_size = st.lists(st.integers(1, 10) | st.integers(1, 10**6), min_size=1, max_size=20) | many_amounts


def numbered(mixture):
    return {name: number for number, name in enumerate(mixture.tasks())}


def planted(mixture, seed=0):
    return forest_of([(mixture, key_of(seed, "tasks"))], numbered(mixture))


def exact(mixture):
    return list(mixture.tasks().values())


@settings(max_examples=40, deadline=None)
@given(st.builds(flat, amounts_of_any_size), seeds)
@example(flat([1] * 7 + [1000] * 7), 0)
@example(flat([2**i for i in range(20)]), 0)
def test_every_task_is_within_3_draws_of_its_share_in_every_prefix_and_block(mixture, seed):
    members = planted(mixture, seed).visits(0, np.arange(3000))[0]
    drawn = np.cumsum(members[None] == np.arange(len(mixture.parts))[:, None], axis=1)
    wanted = np.arange(1, 3001)[None] * np.array(list(map(float, exact(mixture))))[:, None]
    missed = np.pad(drawn - wanted, ((0, 0), (1, 0)))  # by prefix; a block misses the difference of two of them
    assert np.ptp(missed, axis=1).max() < FURTHEST


@settings(max_examples=40, deadline=None)
@given(st.builds(flat, amounts_of_any_size), seeds, st.integers(0, 10**15))
def test_every_task_is_within_3_draws_of_its_share_after_up_to_10_to_the_15_draws(mixture, seed, start):
    numbers = np.arange(start, start + 200)
    members, visits = planted(mixture, seed).visits(0, numbers)
    shares = exact(mixture)
    for number, member, visit in zip(numbers.tolist(), members.tolist(), visits.tolist(), strict=True):
        assert abs(visit - number * shares[member]) < FURTHEST


@settings(max_examples=40, deadline=None)
@given(nested(), seeds, st.integers(0, 10**15))
def test_every_task_of_nested_mixtures_is_within_3_draws_a_level_of_its_share(mixture, seed, number):
    tree, shares = planted(mixture, seed), exact(mixture)
    counts = tree.counts(number, len(shares)).tolist()
    assert all(abs(count - number * share) < 3 * FURTHEST for count, share in zip(counts, shares, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(10**17, 10**24), min_size=2, max_size=6), seeds, st.integers(0, 10**15))
@example([2**63 - 1, 2**62, 2**62 + 1], 0, 0)
@example([2**30, 2**30 + 1], 0, 10**15)
def test_shares_with_huge_denominators_stay_exact(amounts, seed, number):
    tree = planted(flat(amounts), seed)
    node, n = int(tree.roots[0]), number
    while node >= 0:
        part, total, offset = (int(each[node]) for each in (tree.left_part, tree.total, tree.offset))
        before, after = ((m * part + offset) // total for m in (n, n + 1))
        node, n = (int(tree.left[node]), before) if after > before else (int(tree.right[node]), n - before)
    assert [int(found[0]) for found in tree.visits(0, np.array([number]))] == [~node, n]


mixtures = st.builds(flat, amounts_of_any_size) | nested()


@settings(max_examples=40, deadline=None)
@given(mixtures, seeds, st.integers(0, 3000))
def test_counts_are_those_of_a_walk(mixture, seed, number):
    tree, tasks = planted(mixture, seed), len(mixture.tasks())
    walked = np.bincount(tree.visits(0, np.arange(number))[0], minlength=tasks)
    assert tree.counts(number, tasks).tolist() == walked.tolist()


@settings(max_examples=40, deadline=None)
@given(mixtures | st.builds(flat, st.lists(st.integers(10**17, 10**24), min_size=2, max_size=6)), seeds)
@example(flat([1]), 0)
def test_the_way_back_leads_from_a_visit_of_a_task_to_its_draw(mixture, seed):
    tree, tasks = planted(mixture, seed), len(mixture.tasks())
    for start in (0, 10**9, 10**15):
        numbers = np.arange(start, start + 300)
        members, visits = tree.visits(0, numbers)
        assert np.array_equal(Climb(tree, tasks).numbers(members, visits), numbers)


@settings(max_examples=40, deadline=None)
@given(st.lists(nested(1), min_size=1, max_size=4), seeds, st.integers(0, 10**12))
def test_trees_of_a_forest_are_those_that_stand_alone(mixtures, seed, start):
    numbers = {name: number for mixture in mixtures for name, number in numbered(mixture).items()}
    keys = [key_of(seed, i) for i in range(len(mixtures))]
    forest = forest_of(zip(mixtures, keys, strict=True), numbers)
    trees = np.arange(60) % len(mixtures)
    together = forest.visits(trees, np.arange(start, start + 60))
    for i, (mixture, key) in enumerate(zip(mixtures, keys, strict=True)):
        alone = forest_of([(mixture, key)], numbers).visits(0, np.arange(start, start + 60))
        assert np.array_equal(np.array(together)[:, trees == i], np.array(alone)[:, trees == i])


def inside(tree, name, among, draws):
    """The tasks of one mixture and their visit numbers, in the order in which they are drawn."""
    members, visits = tree.visits(0, np.arange(draws))
    chosen = [i for i, task in enumerate(among) if task.startswith(name)]
    here = np.isin(members, chosen)
    return [(among[member], visit) for member, visit in zip(members[here].tolist(), visits[here].tolist(), strict=True)]


@settings(max_examples=40, deadline=None)
@given(nested(1, "a/"), nested(1, "b/"), nested(1, "b/"), st.integers(1, 9), st.integers(1, 9), seeds)
def test_what_is_in_one_mixture_does_not_reorder_another(kept, one, other, share, other_share, seed):
    orders = []
    for beside, part in ((one, share), (other, other_share)):
        rate = Fraction(part, 10)
        whole = Rated("", Fraction(1), (Rated("a", rate, kept.parts), Rated("b", 1 - rate, beside.parts)))
        orders.append(inside(planted(whole, seed), "a/", list(whole.tasks()), 600))
    common = min(map(len, orders))
    assert orders[0][:common] == orders[1][:common]


def test_a_task_that_has_gone_leaves_its_draws_to_the_others_of_its_mixture():
    inner = Rated.of_tasks({"a": Fraction(1, 2), "b": Fraction(1, 3), "c": Fraction(1, 6)})
    mixture = Rated("", Fraction(1), (Rated("in", Fraction(2, 5), inner.parts), Rated("d", Fraction(3, 5))))
    inner_left, outer_left = (mixture.without(names) for names in ({"a"}, {"a", "b", "c"}))
    assert inner_left is not None
    assert outer_left is not None
    assert inner_left.tasks() == {"b": Fraction(4, 15), "c": Fraction(2, 15), "d": Fraction(3, 5)}
    assert outer_left.tasks() == {"d": 1}
    assert mixture.without(set()) == mixture
    assert mixture.without({"a", "b", "c", "d"}) is None


@given(nested())
def test_the_shares_of_the_tasks_of_nested_mixtures_sum_to_one(mixture):
    assert sum(mixture.tasks().values()) == 1
