"""An explosion of the loss is noticed, and noise, new tasks, phases and hard examples are none."""

from __future__ import annotations

import math
import random

import pytest

from flantune.training.divergence import STEPS, Divergence


def lines(losses: list[dict[str, float]]) -> list[dict]:
    return [{"step": n, "rows": [2 * n, 2 * n + 2], "loss_by_task": each} for n, each in enumerate(losses)]


def stopped(losses: list[dict[str, float]]) -> int | None:
    """The step after which the run would be stopped."""
    divergence = Divergence()
    return next((line["step"] for line in lines(losses) if divergence.exploded(line)), None)


def noisy(seed: int, steps: int, *, spread: float = 0.8) -> list[dict[str, float]]:
    """Losses of five tasks that learn: log-normal around levels of 0.05 to 2 nats, a few of the tasks in each step."""
    dice = random.Random(seed)
    levels = {"a": 0.05, "b": 0.3, "c": 0.9, "d": 1.5, "e": 2.0}
    return [
        {
            task: level * (0.3 + 3 * math.exp(-step / 60)) * math.exp(dice.gauss(0, spread))
            for task, level in levels.items()
            if dice.random() < 0.4
        }
        for step in range(steps)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_noisy_run_that_learns_never_stops(seed):
    assert stopped(noisy(seed, 3000)) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("after", [100, 300])
def test_a_loss_that_jumps_and_stays_stops_the_run_within_a_few_steps(seed, after):
    calm = noisy(seed, after, spread=0.3)
    wild = [{"a": 6.0, "c": 8.0, "e": 9.0}] * 50
    assert stopped([*calm, *wild]) == after + STEPS - 1


def test_the_first_suspect_step_is_named():
    divergence = Divergence()
    for line in lines([*noisy(1, 100, spread=0.2), *[{"b": 9.0, "d": 9.0}] * STEPS]):
        divergence.exploded(line)
    assert (divergence.suspects, divergence.since) == (STEPS, (100, 200))


def test_a_loss_that_climbs_slowly_stops_the_run_though_its_running_mean_climbs_with_it():
    dice = random.Random(3)
    climbing = [{"a": (0.5 + step / 200) * math.exp(dice.gauss(0, 0.1))} for step in range(1000)]
    assert stopped([{"a": 0.5}] * 60 + climbing) is not None


def test_single_steps_however_high_do_not_stop_a_run():
    losses = noisy(2, 1000)
    for step in range(100, 1000, STEPS):
        losses[step : step + STEPS - 2] = [{"a": 50.0, "e": 50.0}] * (STEPS - 2)
        losses[step + STEPS - 2 : step + STEPS] = [{"e": 0.7}] * 2
    assert stopped(losses) is None


def test_a_phase_of_new_tasks_with_higher_losses_is_no_explosion():
    easy = [{"easy": 0.02}] * 200
    assert stopped([*easy, *[{"hard": 9.0}] * 200]) is None
    assert stopped([*easy, *[{"easy": 0.03, "hard": 9.0}] * 200]) is None


def test_a_short_run_has_no_level_to_compare_with():
    assert stopped([{"a": 0.5}] * 5 + [{"a": 9.0}] * 4) is None
