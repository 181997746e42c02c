"""The draw function: any draw at random, tasks and templates in their shares, every row once an epoch."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flantune.mixture.draw import DrawFunction, MixedTask, Split, split_tree, visits_of
from flantune.mixture.permutation import key_of, permuted
from strategies import many_amounts, mixtures, seeds, shares, template_weights

GOLDEN = Path(__file__).parent / "golden" / "draws.txt"
FIELDS = ("numbers", "tasks", "visits", "epochs", "rows", "templates")

# A child of the tree misses its share by at most 1 + (its part of its parent) x (what its parent misses), in a
# prefix and in a block alike. The tree divides so evenly that this sums to less than 3.
FURTHEST = 3


def table(draws):
    """One line a draw: number, task, visit, epoch, row, template."""
    return np.stack([getattr(draws, field) for field in FIELDS], axis=1)


def tree_of(amounts, seed=0):
    return split_tree(shares(amounts), [f"task{i}" for i in range(len(amounts))], key_of(seed, "tasks"))


class Walk:
    """Draws one after another: a counter at each node of the tree, each epoch's rows as a list."""

    def __init__(self, tasks, seed):
        self.tasks, self.seed = tasks, seed
        self.tree = split_tree([t.rate for t in tasks], [t.name for t in tasks], key_of(seed, "tasks"))
        self.visits = defaultdict(int)
        self.number = 0

    def descend(self, node):
        while isinstance(node, Split):
            n = self.visits[node]
            self.visits[node] += 1
            sent = [(m * node.left_part + node.offset) // node.total for m in (n, n + 1)]
            node = node.left if sent[1] > sent[0] else node.right
        return node.index

    def next(self):
        index = self.descend(self.tree)
        task = self.tasks[index]
        visit = self.visits[task.name]
        self.visits[task.name] += 1
        epoch, place = divmod(visit, task.rows)
        row = int(permuted(np.arange(task.rows), task.rows, key_of(self.seed, "rows", task.name, epoch))[place])
        key = key_of(self.seed, "templates", task.name)
        asked = int(permuted(np.arange(task.rows), task.rows, key)[row]) + epoch
        weights = task.template_weights
        (template,) = visits_of(split_tree(weights, [str(i) for i in range(len(weights))], key), np.array([asked]))[0]
        self.number += 1
        return [self.number - 1, index, visit, epoch, row, int(template)]


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds)
def test_draws_are_those_of_a_walk_that_counts_as_it_goes(tasks, seed):
    walk = Walk(tasks, seed)
    assert table(DrawFunction(tasks, seed).draws(range(80))).tolist() == [walk.next() for _ in range(80)]


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds, st.lists(st.integers(0, 10**15), min_size=1, max_size=30))
def test_a_draw_alone_equals_the_draw_among_others(tasks, seed, numbers):
    function = DrawFunction(tasks, seed)
    together = table(function.draws(numbers))
    for i, number in enumerate(numbers):
        assert table(function.draws([number])).tolist() == [together[i].tolist()]


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds, st.integers(0, 10**12), st.integers(1, 64))
def test_a_window_holds_its_draws_whoever_made_the_others(tasks, seed, start, window):
    function = DrawFunction(tasks, seed)
    whole = table(function.draws(np.arange(start, start + 3 * window)))
    middle = table(DrawFunction(tasks, seed).draws(np.arange(start + window, start + 2 * window)))
    assert np.array_equal(middle, whole[window : 2 * window])


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds, st.randoms(use_true_random=False))
def test_listing_the_tasks_in_another_order_changes_no_draw(tasks, seed, random):
    listed = random.sample(tasks, len(tasks))
    made, other = (DrawFunction(order, seed).draws(range(200)) for order in (tasks, listed))
    assert [tasks[i].name for i in made.tasks] == [listed[i].name for i in other.tasks]
    assert np.array_equal(table(made)[:, 2:], table(other)[:, 2:])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10) | st.integers(1, 10**6), min_size=1, max_size=20) | many_amounts, seeds)
@example([1] * 7 + [1000] * 7, 0)
@example([2**i for i in range(20)], 0)
def test_every_task_is_within_3_draws_of_its_share_in_every_prefix_and_block(amounts, seed):
    members = visits_of(tree_of(amounts, seed), np.arange(3000))[0]
    drawn = np.cumsum(members[None] == np.arange(len(amounts))[:, None], axis=1)
    exact = np.arange(1, 3001)[None] * (np.array(amounts) / sum(amounts))[:, None]
    missed = np.pad(drawn - exact, ((0, 0), (1, 0)))  # by prefix; a block misses the difference of two of them
    assert np.ptp(missed, axis=1).max() < FURTHEST


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20) | many_amounts, seeds, st.integers(0, 10**15))
def test_every_task_is_within_3_draws_of_its_share_after_up_to_10_to_the_15_draws(amounts, seed, start):
    numbers = np.arange(start, start + 200)
    members, visits = visits_of(tree_of(amounts, seed), numbers)
    for number, member, visit in zip(numbers.tolist(), members.tolist(), visits.tolist(), strict=True):
        assert abs(visit - number * Fraction(amounts[member], sum(amounts))) < FURTHEST


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(10**17, 10**24), min_size=2, max_size=6), seeds, st.integers(0, 10**15))
@example([2**63 - 1, 2**62, 2**62 + 1], 0, 0)
def test_shares_with_huge_denominators_stay_exact(amounts, seed, number):
    tree = tree_of(amounts, seed)
    node, n = tree, number
    while isinstance(node, Split):
        before, after = ((m * node.left_part + node.offset) // node.total for m in (n, n + 1))
        node, n = (node.left, before) if after > before else (node.right, n - before)
    assert [int(found[0]) for found in visits_of(tree, np.array([number]))] == [node.index, n]


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds)
def test_every_row_comes_exactly_once_an_epoch(tasks, seed):
    draws = DrawFunction(tasks, seed).draws(range(800))
    rows = defaultdict(list)
    for task, epoch, row in zip(draws.tasks.tolist(), draws.epochs.tolist(), draws.rows.tolist(), strict=True):
        rows[task, epoch].append(row)
    for (task, epoch), drawn in rows.items():
        assert len(set(drawn)) == len(drawn)
        if (task, epoch + 1) in rows:
            assert sorted(drawn) == list(range(tasks[task].rows))


def epochs_of(task, seed, epochs):
    """Templates as (epoch, row), over whole epochs of one task."""
    draws = DrawFunction([task], seed).draws(range(epochs * task.rows))
    templates = np.full((epochs, task.rows), -1)
    templates[draws.epochs, draws.rows] = draws.templates
    return templates


@settings(max_examples=50, deadline=None)
@given(template_weights, st.integers(1, 60), seeds)
def test_templates_keep_their_shares_within_an_epoch_and_for_each_row(weights, rows, seed):
    templates = epochs_of(MixedTask("mails", rows, Fraction(1), tuple(map(Fraction, weights))), seed, 12)
    for template, share in enumerate(shares(weights)):
        assert abs((templates == template).sum(axis=1) - float(rows * share)).max() < FURTHEST
        assert abs((templates == template).sum(axis=0) - float(12 * share)).max() < FURTHEST


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 20), st.integers(1, 60), seeds)
def test_a_row_meets_another_of_equal_templates_in_the_next_epoch(count, rows, seed):
    templates = epochs_of(MixedTask("mails", rows, Fraction(1), (Fraction(1),) * count), seed, 2 * count)
    assert (templates[1:] != templates[:-1]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), seeds)
def test_in_as_many_epochs_as_equal_templates_a_row_meets_each_once(count, seed):
    templates = epochs_of(MixedTask("mails", 30, Fraction(1), (Fraction(1),) * count), seed, count)
    assert (np.sort(templates, axis=0) == np.arange(count)[:, None]).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("period", [2, 3, 5])
def test_a_pattern_in_the_file_is_no_pattern_of_the_templates(seed, period):
    templates = epochs_of(MixedTask("mails", 600, Fraction(1), (Fraction(1),) * period), seed, 1)[0]
    met = Counter(zip((np.arange(600) % period).tolist(), templates.tolist(), strict=True))
    expected = 600 / period**2
    # The count of a cell has a standard deviation below the root of what is expected.
    assert len(met) == period**2
    assert all(abs(count - expected) < 5 * expected**0.5 for count in met.values())


def test_another_seed_gives_other_draws():
    tasks = [MixedTask(name, 50, Fraction(1, 2), (Fraction(1),) * 3) for name in ("mails", "reviews")]
    first, second = (DrawFunction(tasks, seed).draws(range(100)) for seed in (0, 1))
    assert not np.array_equal(first.rows, second.rows)
    assert not np.array_equal(first.templates, second.templates)


def test_the_rows_of_an_epoch_tell_nothing_about_those_of_the_next():
    task = MixedTask("mails", 1000, Fraction(1), (Fraction(1),))
    first, second = DrawFunction([task], 0).draws(range(2000)).rows.reshape(2, 1000)
    # Of two shuffled lists of a thousand about one number stands at the same place.
    assert (first == second).sum() < 8
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_no_draws_are_no_draws():
    assert len(table(DrawFunction([MixedTask("mails", 5, Fraction(1), (Fraction(1),))], 0).draws([]))) == 0


def golden_text():
    """A mixture that a person can follow: its first 64 draws, and a hash of the first 100,000."""
    weights = {"mails": (1,), "reviews": (1, 1, 1), "sums": (3, 1)}
    rows = {"mails": 4, "reviews": 12, "sums": 8}
    tasks = [
        MixedTask(name, rows[name], Fraction(rows[name], 24), tuple(map(Fraction, weights[name]))) for name in rows
    ]
    draws = DrawFunction(tasks, seed=0).draws(range(100_000))
    lines = ["draw  task     epoch  row  template"]
    for number, task, _, epoch, row, template in table(draws)[:64].tolist():
        lines.append(f"{number:>4}  {tasks[task].name:<7}  {epoch:>5}  {row:>3}  {template:>8}")
    digest = hashlib.blake2b(table(draws).astype("<i8").tobytes(), digest_size=16).hexdigest()
    return "\n".join(lines) + f"\nblake2b of the first 100,000: {digest}\n"


def test_draws_are_those_of_the_golden_file(tmp_path):
    made = tmp_path / "draws.txt"
    made.write_text(golden_text(), encoding="utf-8")
    assert made.read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8"), (
        f"every cached order is another now: if that is meant, raise FORMAT in order.py and copy {made} to {GOLDEN}"
    )
