"""The draw function: any draw at random, tasks and templates in their shares, every row once an epoch."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction
from math import gcd, lcm, prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flantune.mixture.draw import COORDINATES, HAND, DrawFunction
from flantune.mixture.permutation import derived, key_of, permuted
from flantune.mixture.schedule import Phase
from flantune.mixture.tree import Rated, forest_of
from strategies import asked_in, mixtures, seeds, shares, weights

GOLDEN = Path(__file__).parent / "golden" / "draws.txt"
GOLDEN_NESTED = Path(__file__).parent / "golden" / "nested_draws.txt"
FIELDS = ("numbers", "tasks", "visits", "epochs", "rows", *COORDINATES)

FURTHEST = 3  # draws from an exact share; see test_tree.py


def table(draws, fields=FIELDS):
    """One line a draw: number, task, visit, epoch, row, template, options, shots."""
    return np.stack([getattr(draws, field) for field in fields], axis=1)


def mixed(name, rows, templates=(1,), options=(1,), shots=(1,)):
    """A task with ways to ask it, each by its weight."""
    return asked_in(name, rows, list(templates), list(options), list(shots))


def function_of(tasks, seed, amounts=None):
    """The draw function of tasks in the proportion of the amounts; in equal parts without."""
    rates = shares(amounts or [1] * len(tasks))
    return DrawFunction(tasks, Rated.of_tasks({t.name: rate for t, rate in zip(tasks, rates, strict=True)}), seed)


class Walk:
    """Draws one after another: a counter at each node of the tree, each epoch's rows as a list."""

    def __init__(self, tasks, mixture, seed):
        self.tasks, self.seed = tasks, seed
        self.tree = forest_of([(mixture, key_of(seed, "tasks"))], {t.name: i for i, t in enumerate(tasks)})
        self.visits = defaultdict(int)
        self.number = 0

    def descend(self):
        tree, node = self.tree, int(self.tree.roots[0])
        while node >= 0:
            n = self.visits[node]
            self.visits[node] += 1
            sent = [(m * tree.left_part[node] + tree.offset[node]) // tree.total[node] for m in (n, n + 1)]
            node = int(tree.left[node] if sent[1] > sent[0] else tree.right[node])
        return ~node

    def next(self):
        index = self.descend()
        task = self.tasks[index]
        visit = self.visits[task.name]
        self.visits[task.name] += 1
        epoch, place = divmod(visit, task.rows)
        row = self.order(task, task.rows, "rows", task.name, epoch)[place]
        ways = [self.choice(task, number, row, epoch) for number in range(len(COORDINATES))]
        self.number += 1
        return [self.number - 1, index, visit, epoch, row, *ways]

    def order(self, task, size, *key):
        return permuted(np.arange(size), size, key_of(self.seed, *key)).tolist()

    def places(self, task, number):
        """The place of each row for a coordinate: a permutation, the first epoch in hands of 16, the first epoch."""
        if number == 0:
            return self.order(task, task.rows, "templates", task.name)
        first = self.order(task, task.rows, "rows", task.name, 0)
        if number == 1:
            key = np.array([key_of(self.seed, "options", task.name)], dtype=np.uint64)
            dealt = []
            for hand, start in enumerate(range(0, task.rows, HAND)):
                size = min(HAND, task.rows - start)
                cards = permuted(np.arange(size), size, int(derived(key, np.array([hand]))[0]))
                dealt += [start + card for card in cards.tolist()]
            return [dealt[first.index(row)] for row in range(task.rows)]
        return [first.index(row) for row in range(task.rows)]

    def choice(self, task, number, row, epoch):
        """The choice of a coordinate, from the list of all choices in the order of visits."""
        ways = [task.template_weights, task.option_weights, task.shot_weights]
        periods = [int(sum(each) / gcd(*map(int, each))) for each in ways]
        before, period = prod(periods[:number]), periods[number]
        asked = self.places(task, number)[row] + epoch + epoch // lcm(before, period) % gcd(before, period)
        rates = {str(i): weight / sum(ways[number]) for i, weight in enumerate(ways[number])}
        key = key_of(self.seed, COORDINATES[number], task.name)
        tree = forest_of([(Rated.of_tasks(rates), key)], {name: int(name) for name in rates})
        return int(tree.visits(0, np.arange(asked + 1))[0][asked])


@settings(max_examples=20, deadline=None)
@given(mixtures(), seeds)
def test_draws_are_those_of_a_walk_that_counts_as_it_goes(mix, seed):
    walk = Walk(mix[0], mix[1], seed)
    assert table(DrawFunction(mix[0], mix[1], seed).draws(range(60))).tolist() == [walk.next() for _ in range(60)]


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds, st.lists(st.integers(0, 10**15), min_size=1, max_size=30))
def test_a_draw_alone_equals_the_draw_among_others(mix, seed, numbers):
    function = DrawFunction(mix[0], mix[1], seed)
    together = table(function.draws(numbers))
    for i, number in enumerate(numbers):
        assert table(function.draws([number])).tolist() == [together[i].tolist()]


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds, st.integers(0, 10**12), st.integers(1, 64))
def test_a_window_holds_its_draws_whoever_made_the_others(mix, seed, start, window):
    function = DrawFunction(mix[0], mix[1], seed)
    whole = table(function.draws(np.arange(start, start + 3 * window)))
    middle = table(DrawFunction(mix[0], mix[1], seed).draws(np.arange(start + window, start + 2 * window)))
    assert np.array_equal(middle, whole[window : 2 * window])


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds, st.integers(1, 250), st.integers(1, 250), weights)
def test_what_is_asked_otherwise_from_a_draw_on_is_as_if_it_had_been_so_all_along(mix, seed, first, second, ways):
    tasks, mixture = mix
    weighed = tuple(map(Fraction, ways))
    starts = sorted({first, second})
    stages = [
        tasks,
        [replace(task, template_weights=weighed) for task in tasks],
        [replace(task, shot_weights=(*weighed, Fraction(0))) for task in tasks],
    ]
    asked = list(zip(starts, stages[1:], strict=False))
    made = table(DrawFunction(tasks, mixture, seed, asked).draws(range(300)))
    for stage, start, end in zip(stages, [0, *starts], [*starts, 300], strict=False):
        assert np.array_equal(made[start:end], table(DrawFunction(stage, mixture, seed).draws(range(start, end))))


def shuffled(mixture, random):
    parts = [shuffled(part, random) if part.parts else part for part in mixture.parts]
    return Rated(mixture.name, mixture.rate, tuple(random.sample(parts, len(parts))))


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds, st.randoms(use_true_random=False))
def test_listing_tasks_and_mixtures_in_another_order_changes_no_draw(mix, seed, random):
    tasks, mixture = mix
    listed = random.sample(tasks, len(tasks))
    made = DrawFunction(tasks, mixture, seed).draws(range(200))
    other = DrawFunction(listed, shuffled(mixture, random), seed).draws(range(200))
    assert [tasks[i].name for i in made.tasks] == [listed[i].name for i in other.tasks]
    assert np.array_equal(table(made)[:, 2:], table(other)[:, 2:])


@settings(max_examples=30, deadline=None)
@given(mixtures(), seeds)
def test_every_row_comes_exactly_once_an_epoch(mix, seed):
    tasks, mixture = mix
    draws = DrawFunction(tasks, mixture, seed).draws(range(800))
    rows = defaultdict(list)
    for task, epoch, row in zip(draws.tasks.tolist(), draws.epochs.tolist(), draws.rows.tolist(), strict=True):
        rows[task, epoch].append(row)
    for (task, epoch), drawn in rows.items():
        assert len(set(drawn)) == len(drawn)
        if (task, epoch + 1) in rows:
            assert sorted(drawn) == list(range(tasks[task].rows))


def epochs_of(task, seed, epochs):
    """Templates, options and shots as (coordinate, epoch, row), over whole epochs of one task."""
    draws = function_of([task], seed).draws(range(epochs * task.rows))
    made = np.full((len(COORDINATES), epochs, task.rows), -1)
    made[:, draws.epochs, draws.rows] = table(draws, COORDINATES).T
    return made


@settings(max_examples=50, deadline=None)
@given(weights, weights, weights, st.integers(1, 60), seeds)
def test_templates_options_and_shots_keep_their_shares_within_an_epoch_and_for_each_row(
    templates, options, shots, rows, seed
):
    made = epochs_of(mixed("mails", rows, templates, options, shots), seed, 12)
    for chosen, ways in zip(made, (templates, options, shots), strict=True):
        for way, share in enumerate(shares(ways)):
            assert abs((chosen == way).sum(axis=1) - float(rows * share)).max() < FURTHEST
            # Over its epochs a coordinate steps one further at the end of each round: two runs of visits meet.
            assert abs((chosen == way).sum(axis=0) - float(12 * share)).max() < 2 * FURTHEST


@settings(max_examples=30, deadline=None)
@given(weights, weights, st.integers(1, 600), seeds)
def test_options_and_shots_keep_their_shares_at_every_prefix_of_the_first_epoch(options, shots, rows, seed):
    draws = function_of([mixed("mails", rows, [1], options, shots)], seed).draws(range(rows))
    # Options are shuffled within 16 draws: at most half of those stand before they would.
    for chosen, ways, most in ((draws.options, options, FURTHEST + HAND / 4), (draws.shots, shots, FURTHEST)):
        for way, share in enumerate(shares(ways)):
            assert abs(np.cumsum(chosen == way) - np.arange(1, rows + 1) * float(share)).max() < most


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 20), st.integers(1, 60), seeds)
def test_a_row_meets_another_of_equal_templates_in_the_next_epoch(count, rows, seed):
    templates, _, _ = epochs_of(mixed("mails", rows, [1] * count), seed, 2 * count)
    assert (templates[1:] != templates[:-1]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), seeds)
def test_in_as_many_epochs_as_equal_templates_a_row_meets_each_once(count, seed):
    templates, _, _ = epochs_of(mixed("mails", 30, [1] * count), seed, count)
    assert (np.sort(templates, axis=0) == np.arange(count)[:, None]).all()


def combined(made, ways):
    """One number for each template with its options and shots, and the share that it should have."""
    numbers = (made[0] * len(ways[1]) + made[1]) * len(ways[2]) + made[2]
    return numbers, [float(t * o * s) for t in shares(ways[0]) for o in shares(ways[1]) for s in shares(ways[2])]


few_ways = st.sampled_from([[1], [1, 1], [1, 2], [1, 1, 1], [3, 1]])


@settings(max_examples=25, deadline=None)
@given(st.lists(few_ways, min_size=3, max_size=3), seeds)
@example([[1, 1], [1, 1], [1, 1]], 0)
def test_over_the_rounds_of_all_coordinates_a_row_meets_every_combination_in_its_share(ways, seed):
    epochs = prod(map(sum, ways))
    numbers, parts = combined(epochs_of(mixed("mails", 3, *ways), seed, epochs), ways)
    for number, share in enumerate(parts):
        assert ((numbers == number).sum(axis=0) == round(epochs * share)).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ways", [[[1] * 2] * 3, [[1] * 10, [9, *[1] * 9], [1, 1]], [[3, 7], [3, 7], [3, 7]]])
def test_within_an_epoch_templates_options_and_shots_meet_as_if_shuffled_apart(ways, seed):
    rows = 20_000
    numbers, parts = combined(epochs_of(mixed("mails", rows, *ways), seed, 1), ways)
    counts = np.bincount(numbers[0], minlength=len(parts))
    # The count of a combination has a standard deviation below the root of what is expected.
    assert (abs(counts - rows * np.array(parts)) < 5 * (rows * np.array(parts)) ** 0.5).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("period", [2, 3, 5])
@pytest.mark.parametrize("coordinate", range(3))
def test_a_pattern_in_the_file_is_no_pattern_of_the_coordinates(seed, period, coordinate):
    chosen = epochs_of(mixed("mails", 600, *[[1] * period] * 3), seed, 1)[coordinate, 0]
    met = Counter(zip((np.arange(600) % period).tolist(), chosen.tolist(), strict=True))
    expected = 600 / period**2
    # The count of a cell has a standard deviation below the root of what is expected.
    assert len(met) == period**2
    assert all(abs(count - expected) < 5 * expected**0.5 for count in met.values())


def test_another_seed_gives_other_draws():
    tasks = [mixed(name, 50, [1] * 3, [1] * 2, [1] * 4) for name in ("mails", "reviews")]
    first, second = (function_of(tasks, seed).draws(range(100)) for seed in (0, 1))
    for field in ("rows", *COORDINATES):
        assert not np.array_equal(getattr(first, field), getattr(second, field))


def test_the_rows_of_an_epoch_tell_nothing_about_those_of_the_next():
    first, second = function_of([mixed("mails", 1000)], 0).draws(range(2000)).rows.reshape(2, 1000)
    # Of two shuffled lists of a thousand about one number stands at the same place.
    assert (first == second).sum() < 8
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_no_draws_are_no_draws():
    assert len(table(function_of([mixed("mails", 5)], 0).draws([]))) == 0


def golden_text():
    """A mixture that a person can follow: its first 64 draws, and a hash of the first 100,000."""
    ways = {"mails": [1], "reviews": [1, 1, 1], "sums": [3, 1]}
    rows = {"mails": 4, "reviews": 12, "sums": 8}
    tasks = [mixed(name, rows[name], ways[name]) for name in rows]
    draws = function_of(tasks, 0, list(rows.values())).draws(range(100_000))
    lines = ["draw  task     epoch  row  template"]
    for number, task, _, epoch, row, template in table(draws, FIELDS[:6])[:64].tolist():
        lines.append(f"{number:>4}  {tasks[task].name:<7}  {epoch:>5}  {row:>3}  {template:>8}")
    digest = hashlib.blake2b(table(draws, FIELDS[:6]).astype("<i8").tobytes(), digest_size=16).hexdigest()
    return "\n".join(lines) + f"\nblake2b of the first 100,000: {digest}\n"


def golden_nested_text():
    """Mixtures inside, every coordinate, a task that ends and a phase: 64 draws around the border, and a hash."""
    inner = Rated("talk", Fraction(2, 5), Rated.of_tasks({"mails": Fraction(1, 3), "chats": Fraction(2, 3)}).parts)
    whole = Rated("", Fraction(1), (inner, Rated("sums", Fraction(3, 5))))
    tasks = [
        mixed("mails", 4, [1], [1, 1], [1, 1]),
        mixed("chats", 12, [1, 1, 1], [2, 1], [3, 1]),
        replace(mixed("sums", 8, [3, 1], [1], [1, 2, 1]), max_epochs=Fraction(9)),
    ]
    later = Rated.of_tasks({task.name: Fraction(1, 3) for task in tasks})
    function = DrawFunction(tasks, [Phase(0, whole), Phase(100, later)], seed=0)
    lines = ["draw  task   epoch  row  template  options  shots"]
    for number, task, _, epoch, row, template, options, shots in table(function.draws(range(76, 140))).tolist():
        ways = f"{template:>8}  {options:>7}  {shots:>5}"
        lines.append(f"{number:>4}  {tasks[task].name:<5}  {epoch:>5}  {row:>3}  {ways}")
    drawn = table(function.draws(range(100_000))).astype("<i8")
    digest = hashlib.blake2b(drawn.tobytes(), digest_size=16).hexdigest()
    return "\n".join(lines) + f"\nblake2b of the first 100,000: {digest}\n"


@pytest.mark.parametrize(("made", "golden"), [(golden_text, GOLDEN), (golden_nested_text, GOLDEN_NESTED)])
def test_draws_are_those_of_the_golden_file(made, golden, tmp_path):
    path = tmp_path / golden.name
    path.write_text(made(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == golden.read_text(encoding="utf-8"), (
        f"every cached order is another now: if that is meant, raise FORMAT in order.py and copy {path} to {golden}"
    )


@pytest.mark.parametrize("hash_seed", ["0", "1", "2"])
def test_draws_do_not_depend_on_how_python_hashes(hash_seed):
    code = "import test_draw; print(test_draw.golden_nested_text(), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parent)}
    made = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert made.stdout == GOLDEN_NESTED.read_text(encoding="utf-8")
