"""A run that is killed anywhere and started again by the same command: nothing is missing, nothing comes twice."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from kills import (
    RESUMES,
    border_steps,
    chosen_moment,
    killed_again_and_again,
    rows_changed_again_and_again,
    steps_of,
    unlike,
    weights_of,
    write_t0_recipe,
)
from runs import write_recipe

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FLANTUNE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def arguments(folder):
    """Twelve steps, a checkpoint after every second one, epochs that end after draws 40 and 80."""
    recipe = write_recipe(folder)
    return [str(recipe), "training.draws=96", "training.rows_per_step=4", "training.precision=fp32"]


@pytest.fixture(scope="module")
def whole(folder, trials, arguments):
    """How often each kind of moment comes in a run that nobody kills."""
    ended = trials.run([*arguments, f"output={folder / 'whole'}"], compare=True)
    assert ended.codes == [0], ended.text
    return ended.moments


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 8))])
def test_a_run_killed_at_random_moments_ends_with_the_same_draws_weights_and_answers(
    folder, trials, arguments, whole, seed
):
    dice, run = random.Random(seed), folder / "run"
    moments = [chosen_moment(dice, whole) for _ in range(dice.randint(1, RESUMES))]
    told = killed_again_and_again(trials, arguments, run, moments, [1], compare=True)
    assert unlike(run, folder / "whole", answers=True) == [], told


@pytest.mark.parametrize(
    "ranks", [[2, 1], *(pytest.param(ranks, marks=pytest.mark.slow) for ranks in ([3, 2], [1, 4, 2, 1]))], ids=str
)
def test_a_killed_run_goes_on_with_the_same_draws_and_losses_on_another_number_of_ranks(
    folder, trials, arguments, whole, ranks
):
    run = folder / "elastic"
    moments = [("step", 4), ("step", 1), ("step", 2)][: len(ranks) - 1]
    told = killed_again_and_again(trials, arguments, run, moments, ranks)
    assert len(told) == len(ranks)
    assert unlike(run, folder / "whole", weights=False) == [], told


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_numbers_of_rows_a_step_that_change_again_and_again_leave_out_and_double_nothing(
    folder, trials, arguments, whole, seed
):
    run = folder / "changed"
    assert rows_changed_again_and_again(trials, arguments, run, random.Random(seed)) == []
    assert steps_of(run)[-1][1][1] == steps_of(folder / "whole")[-1][1][1]
    assert steps_of(run)[-1][2] == steps_of(folder / "whole")[-1][2]


@pytest.mark.slow
def test_a_run_killed_around_every_border_of_epochs_and_phases_keeps_its_draws(folder, trials, arguments, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
    phases = "mixture.phases=[{from_share: 0.45, rates: proportional, tasks: {words: {weight: 3}}}]"
    given = [*arguments, phases, "training.checkpoint_every=1"]
    whole, run = folder / "phases", folder / "around"
    assert trials.run([*given, f"output={whole}"]).codes == [0]
    borders = border_steps(given, whole)
    last = steps_of(whole)[-1][0] + 1
    steps = sorted({border + shift for border in borders for shift in (-1, 0, 1)} & set(range(1, last + 1)))
    assert len(steps) >= 6
    told = killed_again_and_again(trials, given, run, [("at", step) for step in steps], [1])
    assert len(told) == len(steps) + 1, told
    assert steps_of(run) == steps_of(whole)
    assert weights_of(run) == weights_of(whole)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "t0_train_50k").exists(), reason=f"no T0 files in {DATA}")
def test_the_t0_mixture_keeps_its_draws_through_kills_on_changing_numbers_of_ranks(folder, trials):
    dice, run = random.Random(1), folder / "t0"  # scripts/kill_runs.py kills more often
    recipe = write_t0_recipe(folder, REPOSITORY / "examples" / "t0", DATA)
    assert trials.run([str(recipe), f"output={folder / 't0-whole'}"]).codes == [0]
    moments = [dice.choice((("step", 1), ("save", dice.randrange(25, 60)))) for _ in range(4)]
    told = killed_again_and_again(trials, [str(recipe)], run, moments, [dice.choice((1, 2, 4)) for _ in moments] + [1])
    assert (run / "model").exists(), told
    assert steps_of(run) == steps_of(folder / "t0-whole"), told
