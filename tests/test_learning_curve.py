"""The power law of error over rows: exact curves come back, and its intervals hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.evaluation.learning_curve import Line, change, line, noise, predicted

SIZES = (500, 1000, 2000, 4000)


@given(st.floats(0.5, 90), st.floats(-1, 0.2), st.integers(100, 10_000))
def test_an_exact_power_law_is_found_again_and_foretold_without_doubt(first, exponent, start):
    rows = [start * factor for factor in (1, 2, 4)]
    errors = [first * (n / start) ** exponent for n in rows]
    found = line(rows, errors, [0.1 * error for error in errors])
    assert found is not None
    assert found.slope == pytest.approx(exponent, abs=1e-9)
    expected = first * 8**exponent
    assert predicted(found, 8 * start, noise([found])) == pytest.approx((expected,) * 3, rel=1e-6)


@pytest.mark.parametrize(("errors", "sds"), [([5, 4], [1, 1]), ([5, 0, 3], [1, 1, 1]), ([5, 4, 3], [1, 0, 1])])
def test_what_has_no_logarithm_or_too_few_runs_has_no_line(errors, sds):
    assert line([100, 200, 400][: len(errors)], errors, sds) is None


def fitted(rows, errors, sds) -> Line:
    found = line(rows, errors, sds)
    assert found is not None
    return found


def simulated(dice, *, runs, tasks=4):
    """True (first error, exponent) of each task, and its measured errors: runs differ by 1.7 times the rows' noise."""
    truths = [(dice.uniform(20, 80), dice.uniform(-0.5, -0.05)) for _ in range(tasks)]
    sds = dice.uniform(0.02, 0.08, tasks)
    return truths, [
        (
            [first * (n / SIZES[0]) ** b * np.exp(1.7 * sd * dice.standard_normal()) for n in SIZES[:runs]],
            [first * (n / SIZES[0]) ** b * sd for n in SIZES[:runs]],
        )
        for (first, b), sd in zip(truths, sds, strict=True)
    ]


def test_intervals_of_a_larger_run_hold_it_as_often_as_they_say():
    dice, held = np.random.default_rng(0), []
    for _ in range(1000):
        _, measured = simulated(dice, runs=4)
        lines = [fitted(SIZES[:3], errors[:3], sds[:3]) for errors, sds in measured]
        by = noise(lines)
        for found, (errors, _) in zip(lines, measured, strict=True):
            _, low, high = predicted(found, SIZES[3], by)
            held.append(low <= errors[3] <= high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_intervals_of_what_more_rows_bring_hold_it_as_often_as_they_say():
    dice, held = np.random.default_rng(1), []
    for number in range(1000):
        truths, measured = simulated(dice, runs=4)
        lines = [fitted(SIZES, errors, sds) for errors, sds in measured]
        by = noise(lines)
        for found, (first, b) in zip(lines, truths, strict=True):
            true = first * (5000 / SIZES[0]) ** b - first * (4000 / SIZES[0]) ** b
            middle, low, high = change(found, 4000, 1000, by, number)
            assert low <= middle <= high
            held.append(low <= true <= high)
    assert 0.92 <= np.mean(held) <= 0.98
