"""What a run writes of its steps, read with the tools that it is for; nothing is there twice after a kill."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from flantune.run_log import tagged
from flantune.trainer_state import MOST, TrainerState
from kills import killed_again_and_again
from test_validation import validated_recipe

TIMES = ("seconds", "tokens_per_second", "memory_gb", "eval_runtime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def recipe(folder):
    return validated_recipe(folder)


@pytest.fixture(scope="module")
def whole(folder, trials, recipe):
    ended = trials.run([recipe, "validation.every=3", "validation.rows=4", f"output={folder / 'whole'}"])
    assert ended.codes == [0], ended.text
    return folder / "whole", ended.moments


def steps(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def validations(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]


def lasting(state: dict) -> dict:
    """What is the same whenever a run is repeated, but for its folder and for how long it took."""
    history = [{k: v for k, v in each.items() if k not in TIMES} for each in state["log_history"]]
    return {**state, "log_history": history, "best_model_checkpoint": None}


def test_the_trainer_state_is_read_by_transformers_and_says_what_the_other_files_say(whole):
    from transformers import TrainerState as Theirs

    run, _ = whole
    state = Theirs.load_from_json(str(run / "trainer_state.json"))
    log, found = steps(run), validations(run)
    training = [each for each in state.log_history if "loss" in each]
    assert [(each["step"], each["loss"]) for each in training] == [(line["step"] + 1, line["loss"]) for line in log]
    assert [each["grad_norm"] for each in training] == [line["gradient_norm"] for line in log]
    evaluations = [each for each in state.log_history if "eval_loss" in each]
    assert [(each["step"], each["eval_loss"]) for each in evaluations] == [(it["step"], it["loss"]) for it in found]
    assert [each["eval_words_rouge1"] for each in evaluations] == [it["scores"]["words"]["rouge1"] for it in found]
    assert [each["step"] for each in state.log_history] == sorted(each["step"] for each in state.log_history)
    plan = json.loads((run / "plan.json").read_text())
    assert (state.global_step, state.max_steps) == (len(log), plan["steps"])
    assert state.num_input_tokens_seen == plan["tokens"]
    assert state.epoch == pytest.approx(plan["draws"] / sum(task["rows"] for task in plan["tasks"]))
    best = max(found, key=lambda line: (line["value"], -line["step"]))
    assert (state.best_metric, state.best_global_step) == (best["value"], best["step"])
    assert state.best_model_checkpoint == str(run / "model")
    assert state.total_flos == pytest.approx(1e12 * sum(line["tflop"] for line in log))


@pytest.mark.parametrize("seed", range(3))
def test_after_kills_no_line_is_missing_or_there_twice(tmp_path, trials, recipe, whole, seed):
    run, moments = whole
    dice, killed = random.Random(seed), tmp_path / "run"
    chosen = [(kind, dice.randrange(moments[kind])) for kind in dice.choices(["step", "save", "validated", "end"], k=3)]
    asked = [recipe, "validation.every=3", "validation.rows=4"]
    told = killed_again_and_again(trials, asked, killed, chosen, [1])
    assert (killed / "model").exists(), told
    states = [json.loads((each / "trainer_state.json").read_text()) for each in (killed, run)]
    assert lasting(states[0]) == lasting(states[1])
    lines = [[{k: v for k, v in line.items() if k not in TIMES} for line in steps(each)] for each in (killed, run)]
    assert lines[0] == lines[1]


def test_a_long_run_has_entries_that_are_means_of_several_steps(tmp_path, recipe):
    from flantune.recipe import load_recipe

    state = TrainerState(tmp_path, load_recipe(recipe), 4 * MOST)
    assert state.logging_steps == 4
    for step in range(4 * 10):
        common = {"gradient_norm": 1.0, "learning_rate": float(step), "epoch": step / 10, "tokens": 5, "tflop": 0.5}
        state.add_step({"step": step, "loss": float(step), "loss_by_task": {f"t{step % 2}": float(step)}, **common})
    state.write()
    read = json.loads((tmp_path / "trainer_state.json").read_text())
    assert [each["step"] for each in read["log_history"]] == list(range(4, 41, 4))
    first = read["log_history"][0]
    assert (first["loss"], first["loss/t0"], first["loss/t1"]) == (1.5, 1.0, 2.0)
    assert (first["learning_rate"], first["epoch"]) == (3.0, 0.3)
    assert (read["num_input_tokens_seen"], read["total_flos"]) == (200, 2e13)


def test_names_are_grouped_for_trackers():
    assert tagged({"loss": 1.0, "loss/a": 2.0, "eval_average": 3.0, "eval_a_rouge1": 4.0}) == {
        "train/loss": 1.0,
        "train/loss/a": 2.0,
        "eval/average": 3.0,
        "eval/a_rouge1": 4.0,
    }


def test_an_explosion_ends_the_run_with_its_draws_and_keeps_a_checkpoint_from_before(tmp_path, trials, recipe):
    run = tmp_path / "run"
    # The rate climbs all along: something is learned first, and then thrown away.
    asked = [recipe, "training.draws=600", "training.learning_rate=20", "training.warmup=0.9"]
    ended = trials.run([*asked, "training.precision=fp32", "training.checkpoint_every=1", f"output={run}"])
    assert ended.codes == [2], ended.text
    first = len(steps(run)) - 8
    told = ended.text.splitlines()[-1]
    assert re.match(rf"error: the loss explodes from step {first} on \(draws [\d, .]+\): for 8 steps in a row", told)
    assert told.endswith(
        "it was more than three times what is usual for their tasks; start a new run with a lower "
        "training.learning_rate, or go on all the same with training.stop_when_exploding=false"
    )
    kept = [int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir()]
    assert max(kept) == first
    assert len(kept) == 2
    trials.run(["training.stop_when_exploding=false"], resume=run, kill=("at", first + 12))
    assert len(steps(run)) == first + 12
