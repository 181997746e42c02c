"""What is compared of runs on several ranks, and ranks that torchrun itself starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kills import steps_of

# Sums over ranks are grouped otherwise than sums over micro-batches: rounding of float32, and no more.
LOSS, WEIGHT = 1e-5, 1e-5


def column(run: Path, name: str) -> list[float]:
    """A value of each step."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[name] for line in lines]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Of the run's model or adapter."""
    (file,) = (run / "model").glob("*.safetensors")
    return load_file(file)


def assert_alike(run: Path, other: Path) -> None:
    """The same draws, and to rounding the same losses, gradient norms and weights."""
    assert steps_of(run) == steps_of(other)
    for name in ("loss", "gradient_norm"):
        assert column(run, name) == pytest.approx(column(other, name), rel=LOSS), name
    assert column(run, "learning_rate") == column(other, "learning_rate")
    found, expected = weights_of(run), weights_of(other)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert found[name].dtype == weight.dtype, name
        assert torch.allclose(found[name], weight, rtol=0, atol=WEIGHT), name


SIGNALLED = """
import os, signal
import flantune.training.loop as loop
from flantune.cli import main

steps = loop.train

def signalled_after_its_second_step(*arguments, **options):
    for result in steps(*arguments, **options):
        if os.environ["RANK"] == "1" and result.after.step == 2:
            os.kill(os.{whom}(), signal.{by})
        yield result

loop.train = signalled_after_its_second_step
main()
"""


def under_torchrun(
    folder: Path, by: str, arguments: list[str], *options: str, whom: str = "getpid"
) -> subprocess.CompletedProcess[str]:
    """Two ranks, of which rank 1 sends a signal after its second step, to itself or to its parent, the launcher."""
    script = folder / f"{by}-{whom}.py"
    script.write_text(SIGNALLED.replace("{by}", by).replace("{whom}", whom), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    return subprocess.run(
        [*launcher, str(script), "train", *arguments, "--no-compare"],
        env={**os.environ, "FLANTUNE_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "CI": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,  # 60 s from the loss on, and what it takes to start
    )
