"""A T5 and a BART through the whole of a run, as a decoder goes: plan, training, comparison, report, chat."""

from __future__ import annotations

import json
import shutil

import pytest

from runs import flantune, write_recipe
from tiny import save_tiny_bart, save_tiny_t5


@pytest.fixture(scope="module", params=[save_tiny_t5, save_tiny_bart], ids=["t5", "bart"])
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("model")
    write_recipe(made)
    shutil.rmtree(made / "tiny")
    request.param(made / "tiny")
    return made


@pytest.fixture(scope="module")
def run(folder):
    done = flantune("train", folder / "recipe.yaml", cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_its_rows_have_two_capacities_and_the_plan_says_how_full_both_are(run):
    plan = json.loads((run / "plan.json").read_text())
    assert plan["capacity"] == 128
    assert 0 < plan["target_capacity"] < 128
    assert 0 < plan["input_fill"] <= 1
    assert 0 < plan["target_fill"] <= 1


def test_it_learns(run):
    losses = [line["loss"] for line in lines(run / "metrics.jsonl")]
    assert len(losses) > 3
    assert losses[-1] < losses[0]


def test_base_and_tuned_answer_the_same_rows_and_are_compared(run):
    comparison = json.loads((run / "comparison.json").read_text())
    assert {entry["task"] for entry in comparison["tasks"]} == {"words", "verdict", "other"}
    for task in ("words", "verdict", "other"):
        base, tuned = (lines(run / "evaluation" / side / f"{task}.jsonl") for side in ("base", "tuned"))
        assert [row["prompt"] for row in base] == [row["prompt"] for row in tuned]
    assert (run / "report.html").stat().st_size > 10_000
    assert (run / "model" / "README.md").exists()


def test_the_library_alone_loads_its_model(run):
    import torch
    import transformers

    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(run / "model")
    assert model.generate(torch.tensor([[5, 6, 1]]), max_new_tokens=3).shape[0] == 1


def test_it_answers_in_a_chat_beside_its_base(run, folder):
    said = flantune(
        "chat", run, "--base", "--max-new-tokens", "4", cache=folder / "cache", input="amber birch\n/quit\n"
    )
    assert said.returncode == 0, said.stderr
    assert [line.split(":")[0] for line in said.stdout.splitlines()] == ["tuned", "base"]


def test_an_adapter_of_it_is_trained_and_compared(folder):
    out = folder / "adapter"
    done = flantune("train", folder / "recipe.yaml", "adapter.method=dora", f"output={out}", cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    assert (out / "model" / "adapter_model.safetensors").exists()
    assert (out / "report.html").exists()


def test_a_target_capacity_of_the_recipe_is_kept_to(folder):
    done = flantune("plan", folder / "recipe.yaml", "mixture.target_capacity=40", "--json", cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["target_capacity"] == 40
