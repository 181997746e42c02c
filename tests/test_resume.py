"""A run that is killed, stopped or damaged, and what becomes of it: real processes, real signals."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from kills import steps_of, weights_of
from runs import flantune, write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


def balanced_recipe(folder: Path) -> str:
    """A recipe that nothing is to be said of."""
    path = write_recipe(folder)
    path.write_text(path.read_text().replace("training: {", "training: {loss: {per: example}, "))
    return str(path)


@pytest.fixture(scope="module")
def recipe(folder):
    return balanced_recipe(folder)


@pytest.fixture(scope="module")
def whole(folder, trials, recipe):
    """A run that nobody stopped."""
    assert trials.run([recipe, f"output={folder / 'whole'}"]).codes == [0]
    return folder / "whole"


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def losses(run: Path) -> list[tuple[int, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def saved(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def assert_the_same(run: Path, whole: Path) -> None:
    """Bit for bit, in all that a run leaves."""
    assert weights_of(run) == weights_of(whole)
    assert losses(run) == losses(whole)
    assert steps_of(run) == steps_of(whole)
    assert (run / "mixture.json").read_bytes() == (whole / "mixture.json").read_bytes()
    assert not (run / "checkpoints").exists()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.precision=fp32"],
        pytest.param(["training.master_weights=false"], marks=pytest.mark.slow),
        pytest.param(["training.average=0.9"], marks=pytest.mark.slow),
        pytest.param(["training.optimizer=muon"], marks=pytest.mark.slow),
    ],
    ids=["bf16", "fp32", "stochastic rounding", "average", "muon"],
)
def test_a_killed_run_that_is_resumed_ends_with_the_same_weights_bit_for_bit(run, trials, recipe, overrides):
    whole = run.parent / "whole"
    assert trials.run([recipe, f"output={whole}", *overrides]).codes == [0]
    killed = trials.run([recipe, f"output={run}", *overrides], kill=("at", 5))
    assert killed.codes == [-signal.SIGKILL]
    assert not (run / "model").exists()
    assert trials.run(resume=run).codes == [0]
    assert_the_same(run, whole)


def test_dropout_goes_on_where_it_was(run, trials, recipe):
    lora = ["adapter.method=lora", "adapter.rank=4", "adapter.dropout=0.3"]
    whole = run.parent / "whole"
    assert trials.run([recipe, f"output={whole}", *lora]).codes == [0]
    trials.run([recipe, f"output={run}", *lora], kill=("at", 5))
    assert trials.run(resume=run).codes == [0]
    assert losses(run) == losses(whole)
    assert (run / "model" / "adapter_model.safetensors").read_bytes() == (
        whole / "model" / "adapter_model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_a_compiled_run_that_is_resumed_ends_with_the_same_weights_bit_for_bit(run, trials, recipe):
    compiled = "training.compile=true"
    cache, whole = run.parent / "cache", run.parent / "whole"
    assert flantune("train", recipe, "--no-compare", compiled, f"output={whole}", cache=cache).returncode == 0
    trials.run([recipe, f"output={run}", compiled], kill=("at", 5))
    assert flantune("train", "--resume", run, "--no-compare", cache=cache).returncode == 0
    assert_the_same(run, whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again_when_resumed(run, trials, recipe, whole):
    assert trials.run([recipe, f"output={run}"], kill=("at", 1)).codes == [-signal.SIGKILL]
    assert trials.run(resume=run).codes == [0]
    assert_the_same(run, whole)


@pytest.mark.parametrize("by", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_run_that_is_asked_to_stop_saves_a_checkpoint_and_says_how_to_go_on(run, trials, recipe, whole, by):
    stopped = trials.run([recipe, f"output={run}", "training.checkpoint_every=0"], kill=("at", 2), by=by)
    assert stopped.codes == [128 + signal.Signals[by]]
    assert stopped.text == f"stopped by {by}; go on with: flantune train --resume {run}"
    assert saved(run) == ["step-3"]
    assert trials.run(resume=run).codes == [0]
    assert_the_same(run, whole)


def test_more_signals_while_a_run_saves_change_nothing(run, trials, recipe, whole):
    stopped = trials.run([recipe, f"output={run}"], kill=("at", 3), by="SIGUSR1 SIGTERM SIGTERM SIGUSR1")
    assert (stopped.codes, stopped.text) == (
        [128 + signal.SIGUSR1],
        f"stopped by SIGUSR1; go on with: flantune train --resume {run}",
    )
    assert saved(run)[-1] == "step-4"
    assert trials.run(resume=run).codes == [0]
    assert_the_same(run, whole)


def test_a_signal_before_training_leaves_at_once_and_the_same_command_starts_again(run, trials, recipe, whole):
    fresh = [recipe, f"output={run}", "seed=1"]
    stopped = trials.run(fresh, kill=("order", 0), by="SIGTERM SIGUSR1")
    assert (stopped.codes, stopped.text) == ([143], "stopped by SIGTERM; nothing was trained yet; start again")
    assert not run.exists()
    assert trials.run(fresh).codes == [0]


@pytest.mark.parametrize("at", [0, 1])
def test_a_signal_while_the_order_is_written_leaves_what_can_be_gone_on_with(run, trials, recipe, at):
    whole, fresh = run.parent / "whole", [recipe, "mixture.window=8", f"seed={7 + at}"]
    stopped = trials.run([*fresh, f"output={run}"], kill=("order", at), by="SIGTERM")
    assert stopped.codes == [143]
    assert trials.run([*fresh, f"output={run}"], resume="auto").codes == [0]
    assert trials.run([*fresh, f"output={whole}"]).codes == [0]
    assert_the_same(run, whole)


def test_a_signal_while_the_model_is_saved_waits_until_it_is(run, trials, recipe, whole):
    never = "training.checkpoint_every=0"  # all would be lost otherwise
    counted = trials.run([recipe, f"output={run}", never])
    shutil.rmtree(run)
    middle = counted.moments["end"] // 2
    stopped = trials.run([recipe, f"output={run}", never], kill=("end", middle), by="SIGTERM")
    assert (stopped.codes, stopped.text) == ([143], f"stopped by SIGTERM; go on with: flantune train --resume {run}")
    assert_the_same(run, whole)
    assert trials.run(resume=run).text == f"{run} is trained already"


@pytest.mark.parametrize("by", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_during_the_comparison_leaves_at_once_and_the_run_goes_on_there(run, trials, recipe, whole, by):
    trials.forget_answers()
    stopped = trials.run([recipe, f"output={run}"], kill=("evaluation", 3), by=by, compare=True)
    assert stopped.codes == [128 + signal.Signals[by]]
    assert stopped.text == f"stopped by {by}; go on with: flantune train --resume {run}"
    assert not (run / "comparison.json").exists()
    assert trials.run(resume=run, compare=True).codes == [0]
    assert (run / "comparison.json").exists()
    assert_the_same(run, whole)


def test_a_signal_in_the_last_step_leaves_a_run_that_ends_when_it_is_resumed(run, trials, recipe, whole):
    before_last = losses(whole)[-1][0]
    assert trials.run([recipe, f"output={run}"], kill=("at", before_last), by="SIGUSR1").codes == [138]
    assert not (run / "model").exists()
    assert trials.run(resume=run).codes == [0]
    assert_the_same(run, whole)


def test_one_command_begins_a_run_goes_on_with_it_and_leaves_it_when_it_is_done(run, folder, recipe, whole):
    command = ("train", recipe, f"output={run}", "--resume", "auto", "--no-compare")
    made = [flantune(*command, cache=folder / "cache") for _ in range(2)]
    assert [each.returncode for each in made] == [0, 0]
    assert made[1].stderr == f"{run} is trained already\n"
    assert_the_same(run, whole)


# --- damage


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_takes_over(run, trials, recipe, whole):
    trials.run([recipe, f"output={run}", "training.keep_checkpoints=2"], kill=("at", 4), by="SIGTERM")
    assert saved(run) == ["step-4", "step-5"]
    damage(run / "checkpoints" / "step-5" / "state.safetensors")
    resumed = trials.run(resume=run)
    warning = f"warning: {run / 'checkpoints' / 'step-5'}: the checkpoint is damaged; going on from the one before"
    assert (resumed.codes, resumed.text) == ([0], warning)
    assert_the_same(run, whole)


def test_where_no_checkpoint_is_whole_the_run_is_refused_and_nothing_is_changed(run, trials, recipe):
    trials.run([recipe, f"output={run}", "training.checkpoint_every=0"], kill=("at", 2), by="SIGTERM")
    damage(run / "checkpoints" / "step-3" / "state.safetensors")
    before = sorted(path.name for path in run.rglob("*"))
    refused = trials.run(resume=run)
    remedy = "if the disk failed for a moment, start again; else delete this folder to train from the start"
    assert refused.codes == [2]
    assert refused.text == f"error: {run / 'checkpoints'}: no checkpoint can be read as it was written; {remedy}"
    assert sorted(path.name for path in run.rglob("*")) == before


def test_a_checkpoint_of_other_data_is_refused(run, trials):
    trials.run([balanced_recipe(run.parent)], kill=("at", 2), by="SIGTERM")
    rows = run.parent / "words-train.jsonl"
    rows.write_text(rows.read_text().replace("amber", "umber"))
    refused = trials.run(resume=run)
    why = "the data, templates or tokenizer have changed since this checkpoint; start a new run"
    assert (refused.codes, refused.text) == ([2], f"error: {run / 'checkpoints' / 'step-3'}: {why}")


def test_a_value_that_would_change_what_a_step_computes_is_refused_for_a_run_that_goes_on(run, trials, recipe):
    trials.run([recipe, f"output={run}"], kill=("at", 2), by="SIGTERM")
    refused = trials.run(["training.learning_rate=1e-4"], resume=run)
    why = "the recipe has changed since this checkpoint; start a new run"
    assert (refused.codes, refused.text) == ([2], f"error: {run / 'checkpoints' / 'step-3'}: {why}")


def test_a_recipe_and_a_run_are_not_taken_together(run, trials, recipe):
    refused = trials.run([recipe], resume=run)
    assert (refused.codes, refused.text) == ([2], "error: train: give a recipe, or --resume RUN, and not both")


def test_a_loss_that_is_not_finite_stops_the_run_with_its_draws_and_keeps_the_checkpoint(run, trials, recipe):
    too_fast = ["training.learning_rate=1e38", "training.precision=fp32", "training.max_gradient_norm=1e30"]
    stopped = trials.run([recipe, f"output={run}", *too_fast, "training.checkpoint_every=1"])
    assert stopped.codes == [2]
    steps = len(losses(run))
    draws = r"\(draws \d+(, \d+)*(, \.\.\.)?\)"
    assert re.fullmatch(
        rf"error: (the loss is not finite at step {steps} {draws}|step {steps} {draws}: the gradient is not finite)"
        "; lower training.learning_rate",
        stopped.text.splitlines()[-1],
    )
    assert saved(run) == [f"step-{steps}"]
