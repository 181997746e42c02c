"""The measured estimate of time and memory in a plan."""

from __future__ import annotations

import json

import pytest
import torch

from flantune.quickstart import RECIPE
from flantune.settings import cache_folder
from flantune.training.probe import MOST, Measured
from runs import command, flantune, write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("probed")
    write_recipe(made)
    return made


@pytest.fixture
def planned(folder, capsys, monkeypatch):
    """Runs `flantune plan` on the small recipe, with a cache of its own."""
    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "cache"))

    def run(*arguments):
        code, out, err = command(capsys, monkeypatch, "plan", folder / "recipe.yaml", *arguments)
        assert code == 0, err
        return out

    return run


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_probe_adds_an_estimate_and_leaves_everything_else_as_it_was(planned, folder):
    plain = json.loads(planned("--json"))
    before = files(folder)
    probed = json.loads(planned("--json", "--probe"))
    assert files(folder) == before  # model, cache, no run
    estimate = probed.pop("estimate")
    assert probed == plain
    assert estimate["device"] == f"CPU, {torch.get_num_threads()} threads"
    assert estimate["measured_steps"] == min(MOST, plain["steps"] - 1)
    assert 0 < estimate["measured_tokens"] < plain["tokens"]
    assert estimate["seconds"] == estimate["setup_seconds"] + estimate["steps_seconds"]
    assert estimate["tokens_per_second"] == pytest.approx(plain["tokens"] / estimate["steps_seconds"])
    assert 0.1 < estimate["memory_gb"] < 64


def test_the_table_tells_the_estimate_in_a_sentence(planned):
    said = " ".join(planned("--probe").split())
    assert "training takes about" in said
    assert f"GB, without evaluation (CPU, {torch.get_num_threads()} threads; measured on" in said


def test_time_is_that_of_tokens_and_of_updates():
    measured = Measured(3, 3000, tokens_per_second=100.0, update_seconds=0.5, state_bytes=0)
    assert measured.seconds(tokens=10_000, steps=20) == 10_000 / 100 + 20 * 0.5


def test_steps_of_many_micro_batches_are_measured_with_few(planned):
    probed = json.loads(planned("--json", "--probe", "training.rows_per_step=1000"))
    assert probed["steps"] == 1
    assert 1 < probed["estimate"]["measured_steps"] < probed["packed_rows"]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [["training.rows_per_step=2"]])
def test_a_short_quickstart_takes_about_as_long_as_its_plan_says(changes, tmp_path):
    """Far wider than the 20 % that an idle machine keeps: others work on this one too, and on one at a time."""
    recipe = [RECIPE, "training.draws=150", "mixture.capacity=512", "training.compile=false", *changes]
    cache = cache_folder()
    planned = flantune("plan", *recipe, "--probe", "--json", cache=cache)
    assert planned.returncode == 0, planned.stderr
    estimate = json.loads(planned.stdout)["estimate"]
    trained = flantune("train", *recipe, f"output={tmp_path / 'run'}", "--no-compare", cache=cache)
    assert trained.returncode == 0, trained.stderr
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 0.2 < sum(step["seconds"] for step in steps) / estimate["steps_seconds"] < 5
    assert 0.7 < steps[-1]["memory_gb"] / estimate["memory_gb"] < 1.4
