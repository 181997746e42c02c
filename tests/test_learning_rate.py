"""The learning rate at each share of a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.training.schedule import KINDS, Schedule

inside = st.floats(1e-6, 1 - 1e-6)
made = st.builds(Schedule, st.sampled_from(sorted(KINDS)), st.floats(1e-8, 10), st.floats(1e-3, 0.5), st.floats(0, 0.5))


@given(made, inside)
def test_the_learning_rate_is_above_zero_and_at_most_its_peak(schedule, progress):
    assert 0 < schedule(progress) <= schedule.peak * (1 + 1e-12)


@given(made, inside, inside)
def test_the_learning_rate_rises_during_warm_up_and_never_after_it(schedule, one, other):
    first, second = sorted((one, other))
    assume(first < second)
    if second < schedule.warmup:
        assert schedule(first) < schedule(second)
    if first >= schedule.warmup:
        assert schedule(first) >= schedule(second)


@given(made)
def test_the_learning_rate_has_no_jump(schedule):
    # None of the shapes is steeper than 1 / warmup, but for the square root where a cooldown begins.
    width = 1e-9
    for border in (schedule.warmup, 1 - schedule.cooldown):
        if width < border < 1 - width:
            change = abs(schedule(border + width) - schedule(border - width))
            fall = math.sqrt(2 * width / schedule.cooldown) if schedule.cooldown else 0.0
            assert change <= schedule.peak * (2 * width / schedule.warmup + fall + 1e-9)


@pytest.mark.parametrize(
    ("kind", "values"),
    {
        "constant": [0.5, 1, 1, 1],
        "linear": [0.5, 1, 0.5, 0.25],
        "cosine": [0.5, 1, 0.5, 0.5 - math.sqrt(2) / 4],
        "inverse_square_root": [0.5, 1, math.sqrt(1 / 3), math.sqrt(0.2 / 0.8)],
        "warmup_stable_decay": [0.5, 1, 1, 1 - math.sqrt(0.5)],
    }.items(),
)
def test_each_kind_has_the_values_of_its_formula(kind, values):
    schedule = Schedule(kind, 1.0, 0.2, 0.4)
    assert [schedule(p) for p in (0.1, 0.2, 0.6, 0.8)] == pytest.approx(values)


def test_without_warm_up_and_cooldown_a_run_begins_and_ends_at_the_peak():
    assert Schedule("linear", 1.0, 0.0)(0.25) == 0.75
    assert Schedule("warmup_stable_decay", 1.0, 0.0, 0.0)(1 - 1e-9) == 1.0


def test_the_learning_rate_at_an_example_does_not_depend_on_the_number_of_steps():
    schedule = Schedule("cosine", 3e-4, 0.05)
    few, many = [[(step + 0.5) / steps for step in range(steps)] for steps in (9, 27)]
    assert [schedule(p) for p in few] == pytest.approx([schedule(p) for p in many[1::3]])


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    with pytest.raises(FlantuneError) as told:
        Schedule("cosin", 1.0, 0.1)
    assert str(told.value) == (
        'unknown schedule "cosin"; did you mean "cosine"? '
        "(constant, cosine, inverse_square_root, linear, warmup_stable_decay)"
    )
