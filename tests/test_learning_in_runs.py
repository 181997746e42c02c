"""What a recipe says about learning reaches the run, and each choice survives a stop bit for bit."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flantune import pipeline
from flantune.progress import Interrupted, Silent
from flantune.recipe import load_recipe
from runs import write_recipe


def _installed(package: str, *overrides: str):
    missing = importlib.util.find_spec(package) is None
    return pytest.param(overrides, marks=[pytest.mark.slow, pytest.mark.skipif(missing, reason=f"needs {package}")])


CHOICES = [
    (
        *("training.optimizer=muon", "training.weight_decay=0.1", "training.pull=0.05", "training.average=0.8"),
        *("training.loss={per: task, label_smoothing: 0.1, z_loss: 1e-4}", "training.schedule=warmup_stable_decay"),
        "training.activation_checkpointing=true",
    ),
    ("training.optimizer=adafactor", "training.master_weights=false", "training.schedule=inverse_square_root"),
    *(
        pytest.param((f"adapter.method={method}", "adapter.dropout=0.1"), marks=pytest.mark.slow)
        for method in ("rslora", "dora")
    ),
    pytest.param(("adapter.method=ia3",), marks=pytest.mark.slow),
    _installed("schedulefree", "training.optimizer=schedule_free", "training.schedule=constant"),
    _installed("torchao", "training.optimizer=adamw_8bit"),
]


class Stopper(Silent):
    """Sends this process SIGINT after some steps, as a person at the terminal would."""

    def __init__(self, after: int) -> None:
        self.left, self.training = after, False

    def phase(self, title: str, total: int, done: int = 0) -> None:
        self.training = title == "training"

    def advance(self, units: int, note: str = "") -> None:
        if self.training:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path, threads = write_recipe(tmp_path), torch.get_num_threads()
    torch.set_num_threads(1)  # tiny matrices: more threads only wait for each other
    yield lambda name, *overrides: load_recipe(path, [f"output={tmp_path / name}", *overrides])
    torch.set_num_threads(threads)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(next((run / "model").glob("*.safetensors")))


def steps(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("overrides", CHOICES, ids=" ".join)
def test_a_run_that_is_stopped_and_goes_on_ends_with_the_same_weights_bit_for_bit(recipe, overrides):
    whole = pipeline.train(recipe("whole", *overrides))
    stopped = recipe("stopped", *overrides)
    with pytest.raises(Interrupted):
        pipeline.train(stopped, listener=Stopper(after=5))
    run = pipeline.train(stopped, resume=Path(stopped.output))
    expected, found = weights(whole), weights(run)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [step["loss"] for step in steps(run)] == [step["loss"] for step in steps(whole)]


@pytest.mark.parametrize(
    "override",
    [
        "training.loss.per=token",
        "training.loss.label_smoothing=0.2",
        "training.loss.z_loss=0.01",
        "training.average=0.5",
        "training.pull=5",
        "training.master_weights=false",
        "training.schedule=cosine",
        "adapter={method: rslora, rank: 4}",
    ],
)
def test_each_key_changes_the_model_that_comes_out(recipe, override):
    same_kind = ["adapter={method: lora, rank: 4}"] if override.startswith("adapter") else []
    plain = weights(pipeline.train(recipe("plain", *same_kind)))
    other = weights(pipeline.train(recipe("other", override)))
    assert plain.keys() == other.keys()
    assert any(not torch.equal(plain[name], other[name]) for name in plain)


def test_activations_computed_again_change_nothing(recipe):
    plain = weights(pipeline.train(recipe("plain")))
    again = weights(pipeline.train(recipe("again", "training.activation_checkpointing=true")))
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_the_averaged_model_is_what_is_saved_and_lies_between_its_steps(recipe):
    # With one step a run, the average is that step's weights.
    one = weights(pipeline.train(recipe("one", "training.draws=2")))
    averaged = weights(pipeline.train(recipe("averaged", "training.draws=2", "training.average=0.9")))
    assert all(torch.equal(one[name], averaged[name]) for name in one)
