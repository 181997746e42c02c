"""A run that is killed, stopped or damaged, and what becomes of it: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runs import flantune, write_recipe

# A listener of this process sends itself the signal after a step: the same moment every time, no waiting.
DRIVER = """
import os, signal, sys
from pathlib import Path
from flantune import pipeline
from flantune.cli.train import train as command
from flantune.recipe import load_recipe
from flantune.progress import Silent

class Stopper(Silent):
    steps = 0
    training = False
    def phase(self, title, total, done=0):
        self.training = title == "training"
    def advance(self, units, note=""):
        if self.training:
            self.steps += units
            if self.steps == int(sys.argv[2]):
                os.kill(os.getpid(), getattr(signal, sys.argv[3]))

try:
    pipeline.train(load_recipe(Path(sys.argv[1]), sys.argv[4:]), listener=Stopper())
except pipeline.Interrupted as stopped:
    print(stopped)
    sys.exit(stopped.exit_code)
"""


def stopped_at(step: int, by: str, recipe: Path, cache: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(recipe), str(step), by, *overrides],
        env={**os.environ, "FLANTUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def weights(run: Path) -> bytes:
    return next((run / "model").glob("*.safetensors")).read_bytes()


def trained(recipe: Path, cache: Path, *arguments: str) -> None:
    made = flantune("train", recipe, "--no-compare", *arguments, cache=cache)
    assert made.returncode == 0, made.stderr


def losses(run: Path) -> list[tuple[int, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        pytest.param(["training.precision=fp32"], marks=pytest.mark.slow),
        pytest.param(["adapter.method=lora", "adapter.rank=4", "adapter.dropout=0.1"], marks=pytest.mark.slow),
        pytest.param(["training.compile=true"], marks=pytest.mark.slow),
    ],
    ids=["bf16", "fp32", "lora with dropout", "compiled"],
)
def test_a_killed_run_that_is_resumed_ends_with_the_same_weights_bit_for_bit(tmp_path, overrides):
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    trained(recipe, cache, f"output={tmp_path / 'whole'}", *overrides)
    killed = stopped_at(5, "SIGKILL", recipe, cache, f"output={tmp_path / 'killed'}", *overrides)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    assert (tmp_path / "killed" / "checkpoints" / "step-4").exists()
    resumed = flantune("train", "--resume", tmp_path / "killed", "--no-compare", cache=cache)
    assert resumed.returncode == 0, resumed.stderr
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert (tmp_path / "killed" / "mixture.json").read_bytes() == (tmp_path / "whole" / "mixture.json").read_bytes()
    assert not (tmp_path / "killed" / "checkpoints").exists()


def test_a_run_killed_before_its_first_checkpoint_starts_again_when_resumed(tmp_path):
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    trained(recipe, cache, f"output={tmp_path / 'whole'}")
    assert stopped_at(1, "SIGKILL", recipe, cache).returncode == -signal.SIGKILL
    resumed = flantune("train", "--resume", tmp_path / "run", "--no-compare", cache=cache)
    assert resumed.returncode == 0, resumed.stderr
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize("by", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_run_that_is_asked_to_stop_saves_a_checkpoint_and_says_how_to_go_on(tmp_path, by):
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    trained(recipe, cache, f"output={tmp_path / 'whole'}")
    stopped = stopped_at(3, by, recipe, cache, "training.checkpoint_every=0")
    assert stopped.returncode == 128 + getattr(signal, by)
    assert stopped.stdout == f"stopped by {by}; go on with: flantune train --resume {tmp_path / 'run'}\n"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-3"]
    resumed = flantune("train", "--resume", tmp_path / "run", "--no-compare", cache=cache)
    assert resumed.returncode == 0, resumed.stderr
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_damaged_checkpoint_is_refused_and_nothing_is_changed(tmp_path):
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    stopped_at(3, "SIGINT", recipe, cache)
    state = tmp_path / "run" / "checkpoints" / "step-3" / "state.safetensors"
    damaged = bytearray(state.read_bytes())
    damaged[-1] ^= 1
    state.write_bytes(damaged)
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    refused = flantune("train", "--resume", tmp_path / "run", cache=cache)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        f"error: {state.parent}: the checkpoint is damaged; delete it to go on from the one before"
    )
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    recipe, cache = write_recipe(tmp_path), tmp_path / "cache"
    stopped_at(3, "SIGINT", recipe, cache)
    rows = tmp_path / "words-train.jsonl"
    rows.write_text(rows.read_text().replace("amber", "umber"))
    refused = flantune("train", "--resume", tmp_path / "run", cache=cache)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'run' / 'checkpoints' / 'step-3'}: the data, templates or tokenizer have changed since "
        "this checkpoint; start a new run"
    )
