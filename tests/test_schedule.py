"""The schedule: phases of a run, tasks that have come as often as they may, and rows that go on across borders."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.draw import DrawFunction, MixedTask
from flantune.mixture.schedule import Phase
from flantune.mixture.tree import Rated
from strategies import few_amounts, flat, many_amounts, mixtures, nested, seeds, shares

ONE = (Fraction(1),)
FURTHEST = 3  # draws from an exact share, in every stretch; see test_tree.py


def equal(*names):
    return Rated.of_tasks({name: Fraction(1, len(names)) for name in names})


def limited(tasks, epochs):
    """The tasks, each with at most so many epochs."""
    return [
        MixedTask(task.name, task.rows, task.template_weights, max_epochs=most)
        for task, most in zip(tasks, epochs, strict=True)
    ]


@st.composite
def phased(draw):
    """Tasks, and two to four phases with other rates of them or of some of them."""
    rows = draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    tasks = [MixedTask(f"task{i}", size, ONE * 2) for i, size in enumerate(rows)]
    starts = [0, *sorted(draw(st.sets(st.integers(1, 400), min_size=1, max_size=3)))]
    phases = []
    for start in starts:
        present = draw(st.sets(st.integers(0, len(rows) - 1), min_size=1))
        amounts = draw(st.lists(st.integers(1, 99), min_size=len(present), max_size=len(present)))
        names = [f"task{i}" for i in sorted(present)]
        phases.append(Phase(start, Rated.of_tasks(dict(zip(names, shares(amounts), strict=True)))))
    return tasks, phases


@settings(max_examples=40, deadline=None)
@given(phased(), seeds)
def test_visits_go_on_across_the_borders_of_phases(given_phases, seed):
    tasks, phases = given_phases
    draws = DrawFunction(tasks, phases, seed).draws(range(600))
    for task in range(len(tasks)):
        here = draws.tasks == task
        assert draws.visits[here].tolist() == list(range(here.sum()))
        rows = draws.rows[here]
        for start in range(0, len(rows) - tasks[task].rows + 1, tasks[task].rows):
            assert sorted(rows[start : start + tasks[task].rows]) == list(range(tasks[task].rows))


@settings(max_examples=40, deadline=None)
@given(phased(), seeds)
def test_within_a_phase_every_task_is_within_3_draws_of_its_share(given_phases, seed):
    tasks, phases = given_phases
    drawn = DrawFunction(tasks, phases, seed).draws(range(600)).tasks
    for phase, end in zip(phases, [*(each.start for each in phases[1:]), 600], strict=True):
        exact = phase.mixture.tasks()
        for number, task in enumerate(tasks):
            here = np.cumsum(drawn[phase.start : end] == number)
            wanted = np.arange(1, len(here) + 1) * float(exact.get(task.name, 0))
            assert abs(here - wanted).max(initial=0) < FURTHEST


@settings(max_examples=40, deadline=None)
@given(phased(), seeds, st.lists(st.integers(0, 600), min_size=1, max_size=20))
def test_any_draw_alone_and_any_count_is_that_of_the_run(given_phases, seed, numbers):
    tasks, phases = given_phases
    run = DrawFunction(tasks, phases, seed).draws(range(601))
    for number in numbers:
        alone = DrawFunction(tasks, phases, seed)
        found = alone.draws([number])
        assert (found.tasks[0], found.rows[0]) == (run.tasks[number], run.rows[number])
        assert alone.schedule.counts(number).tolist() == np.bincount(run.tasks[:number], minlength=len(tasks)).tolist()


@settings(max_examples=40, deadline=None)
@given(mixtures(), seeds, st.data())
def test_a_task_comes_no_more_than_its_max_epochs_and_the_others_get_its_draws(given_mixture, seed, data):
    tasks, mixture = given_mixture
    epochs = data.draw(st.lists(st.none() | st.fractions(1, 3), min_size=len(tasks), max_size=len(tasks)))
    tasks = limited(tasks, [*epochs[1:], None])  # one goes on for ever
    drawn = DrawFunction(tasks, mixture, seed).draws(range(500))
    counts = np.bincount(drawn.tasks, minlength=len(tasks)).tolist()
    assert sum(counts) == 500
    for task, count in zip(tasks, counts, strict=True):
        most = task.most_draws
        assert most is None or count <= most
    plain = np.bincount(DrawFunction(limited(tasks, [None] * len(tasks)), mixture, seed).draws(range(500)).tasks)
    if all(t.most_draws is None or n <= t.most_draws for t, n in zip(tasks, plain.tolist(), strict=False)):
        assert counts[: len(plain)] == plain.tolist()


@settings(max_examples=40, deadline=None)
@given(st.builds(flat, few_amounts | many_amounts), seeds, st.integers(1, 40))
@example(flat([1000] * 32 + [1] * 200), 0, 12)  # its tree becomes uneven when the first has gone
def test_between_two_ends_every_task_is_within_3_draws_of_its_share(mixture, seed, rows):
    tasks = [MixedTask(name, rows + i % 5, ONE, max_epochs=Fraction(1)) for i, name in enumerate(mixture.tasks())]
    function = DrawFunction(tasks, mixture, seed)
    draws = min(500, sum(task.rows for task in tasks))
    drawn = function.draws(range(draws)).tasks
    for stretch in function.schedule.upto(draws):
        ended = {task.name for task, n in zip(tasks, stretch.before.tolist(), strict=True) if n == task.rows}
        left = mixture.without(ended).tasks()
        shares = np.array([float(left.get(task.name, 0)) for task in tasks])
        here = drawn[stretch.start : stretch.end]
        counts = np.cumsum(here[None] == np.arange(len(tasks))[:, None], axis=1)
        missed = np.pad(counts - np.arange(1, len(here) + 1) * shares[:, None], ((0, 0), (1, 0)))
        assert np.ptp(missed, axis=1).max(initial=0) < FURTHEST


def test_the_draws_of_a_task_that_has_ended_go_to_the_others_of_its_mixture():
    inner = Rated("in", Fraction(1, 2), equal("a", "b").parts)
    mixture = Rated("", Fraction(1), (inner, Rated("c", Fraction(1, 2))))
    tasks = [MixedTask("a", 10, ONE, max_epochs=Fraction(2)), MixedTask("b", 50, ONE), MixedTask("c", 50, ONE)]
    function = DrawFunction(tasks, mixture, 0)
    (last,) = function.schedule.exhausted(1000).values()
    drawn = function.draws(range(1000)).tasks
    assert (drawn[last], (drawn == 0).sum(), (drawn[: last + 1] == 0).sum()) == (0, 20, 20)
    after = Counter(drawn[last + 1 :].tolist())
    assert abs(after[1] - after[2]) <= 1
    assert 75 < last < 85  # a quarter of the draws are a's


def test_a_mixture_inside_that_has_ended_leaves_its_draws_to_what_is_beside_it():
    inner = Rated("in", Fraction(1, 2), equal("a", "b").parts)
    mixture = Rated("", Fraction(1), (inner, Rated("c", Fraction(1, 2))))
    tasks = [MixedTask(name, 10, ONE, max_epochs=Fraction(1)) for name in "ab"] + [MixedTask("c", 50, ONE)]
    drawn = DrawFunction(tasks, mixture, 0).draws(range(200)).tasks
    assert np.bincount(drawn).tolist() == [10, 10, 180]
    assert (drawn[45:] == 2).all()


def test_where_all_tasks_have_ended_it_is_told_how_many_draws_there_are():
    tasks = [MixedTask("a", 10, ONE, max_epochs=Fraction(3, 2)), MixedTask("b", 7, ONE, max_epochs=Fraction(1))]
    function = DrawFunction(tasks, equal("a", "b"), 0)
    assert np.bincount(function.draws(range(22)).tasks).tolist() == [15, 7]
    with pytest.raises(FlantuneError) as told:
        function.draws([22])
    assert str(told.value) == (
        "from draw 22 on no task is left to draw from: each has come max_epochs times; "
        "ask for fewer draws or raise max_epochs"
    )


@settings(max_examples=20, deadline=None)
@given(nested(), seeds)
def test_when_all_tasks_end_each_has_come_exactly_as_often_as_it_may(mixture, seed):
    tasks = [MixedTask(name, 3 + i % 4, ONE, max_epochs=Fraction(2)) for i, name in enumerate(mixture.tasks())]
    most = [task.rows * 2 for task in tasks]
    drawn = DrawFunction(tasks, mixture, seed).draws(range(sum(most)))
    assert np.bincount(drawn.tasks).tolist() == most
    for task in range(len(tasks)):
        assert sorted(drawn.rows[drawn.tasks == task].tolist()) == sorted([*range(tasks[task].rows)] * 2)


@pytest.mark.parametrize("border", [299, 300, 301])
def test_a_window_around_the_border_of_a_phase_is_that_of_the_run(border):
    tasks = [MixedTask(name, 20, ONE) for name in "ab"]
    phases = [Phase(0, equal("a", "b")), Phase(300, flat_named(9, 1))]
    run = DrawFunction(tasks, phases, 0).draws(range(border + 50))
    window = DrawFunction(tasks, phases, 0).draws(range(border - 50, border + 50))
    assert np.array_equal(window.rows, run.rows[-100:])
    assert np.array_equal(window.visits, run.visits[-100:])


def flat_named(*amounts):
    return Rated.of_tasks(dict(zip("ab", shares(list(amounts)), strict=True)))


def test_many_tasks_that_end_one_after_the_other_are_each_told_with_their_last_draw():
    tasks = [MixedTask(f"task{i}", 10 + i, ONE, max_epochs=Fraction(1)) for i in range(60)]
    function = DrawFunction(tasks, flat([1] * 60), 0)
    total = sum(task.rows for task in tasks)
    assert function.schedule.counts(total).tolist() == [task.rows for task in tasks]
    drawn = function.draws(range(total)).tasks
    for name, number in function.schedule.exhausted(total).items():
        assert tasks[drawn[number]].name == name
        assert name not in {tasks[task].name for task in drawn[number + 1 :]}
