"""Error rates of verdicts and intervals on simulated test sets whose truth is known."""

from __future__ import annotations

import importlib.util
from math import sqrt
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "calibrate_verdicts.py"
SIMULATIONS = 2000
MOST_FALSE = 0.065  # .05 and three standard errors of 2,000 simulations


@pytest.fixture(scope="module")
def calibration():
    spec = importlib.util.spec_from_file_location("calibrate_verdicts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 50])
@pytest.mark.parametrize("kind", ["right or wrong", "continuous", "groups of rows", "corpus BLEU"])
def test_equal_models_get_a_verdict_in_one_of_twenty_and_intervals_hold_the_truth(calibration, kind, n):
    false, covered = calibration.cell(kind, n, simulations=SIMULATIONS, resamples=399)
    assert false <= MOST_FALSE
    if n >= 50:
        assert 0.93 <= covered <= 0.97


@pytest.mark.slow
def test_holms_correction_keeps_twenty_tasks_together_at_the_level_of_one(calibration):
    corrected, plain = calibration.suites(20, 20, simulations=150, resamples=199)
    assert corrected <= 0.05 + 3 * sqrt(0.05 * 0.95 / 150)
    assert plain >= 0.3  # what the correction is for


@pytest.mark.slow
def test_the_interval_of_an_average_over_tasks_of_unlike_size_holds_the_truth(calibration):
    covered = calibration.average_coverage((50, 100, 200), simulations=500, resamples=399)
    assert 0.95 - 3 * sqrt(0.05 * 0.95 / 500) <= covered <= 0.97 + 3 * sqrt(0.03 * 0.97 / 500)
