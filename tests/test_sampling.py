"""Sampled answers: drawn by the model's probabilities, whatever the batch; repeats of a row are one observation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune import FlantuneError, Recipe
from flantune import pipeline as api
from flantune.assessment import compared_models, evaluated, recomputed, resampling
from flantune.evaluation.compare import scores
from flantune.evaluation.generate import generate
from flantune.evaluation.sampling import Sampler
from flantune.mixture.permutation import key_of
from flantune.models.load import load_model
from runs import rows_of, write_recipe
from tiny import save_tiny_model, save_tiny_t5

ROOT = Path(__file__).parent.parent
PROMPTS = [f"Rate {'very ' * (i % 7)}well number {i * 37 % 101}, from {i} to 5" for i in range(12)]
KEYS = [key_of("test", number) for number in range(len(PROMPTS))]
HOT = Sampler(1.5, 0.95, KEYS)


@pytest.fixture(scope="module", params=[save_tiny_model, save_tiny_t5])
def loaded(request, tmp_path_factory):
    return load_model(str(request.param(tmp_path_factory.mktemp("tiny"))), precision="fp32", answering=True)


def texts(loaded, sampler, *, batch_tokens=8192, prompts=PROMPTS):
    ids = [loaded.format.prompt_ids(text) for text in prompts]
    return [a.text for a in generate(loaded, ids, max_new_tokens=10, batch_tokens=batch_tokens, sampler=sampler)]


def test_tokens_come_as_often_as_the_softmax_says():
    from scipy.stats import chisquare

    logits, drawn = torch.tensor([[2.0, 0.0, 1.0, -1.0, 1.0]]), 20_000
    sampler = Sampler(0.8, 1.0, [key_of("softmax", n) for n in range(drawn)])
    found = sampler.tokens(logits.expand(drawn, -1), range(drawn), 1).bincount(minlength=5).numpy()
    assert chisquare(found, (logits[0].double() / 0.8).softmax(-1).numpy() * drawn).pvalue > 0.001


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 9999), top_p=st.floats(0.05, 0.99))
def test_what_can_be_drawn_is_the_librarys_nucleus(seed, top_p):
    from transformers import TopPLogitsWarper

    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed)) * 2
    kept = set(torch.isfinite(TopPLogitsWarper(top_p)(None, logits))[0].nonzero()[:, 0].tolist())
    sampler = Sampler(1.0, top_p, [key_of(seed, n) for n in range(3000)])
    found = set(sampler.tokens(logits.expand(3000, -1), range(3000), 1).tolist())
    assert found <= kept
    assert {int(logits.argmax())} <= found


def test_answers_do_not_depend_on_the_batch_nor_on_the_order(loaded):
    one = texts(loaded, HOT, batch_tokens=1)
    assert texts(loaded, HOT, batch_tokens=150) == one
    assert texts(loaded, HOT, batch_tokens=100_000) == one
    order = np.random.default_rng(3).permutation(len(PROMPTS)).tolist()
    turned = Sampler(1.5, 0.95, [KEYS[i] for i in order])
    assert texts(loaded, turned, prompts=[PROMPTS[i] for i in order]) == [one[i] for i in order]


def test_another_key_is_another_answer_and_no_heat_is_the_greedy_one(loaded):
    other = Sampler(1.5, 0.95, [key + 1 for key in KEYS])
    assert sum(a != b for a, b in zip(texts(loaded, HOT), texts(loaded, other), strict=True)) > len(PROMPTS) / 2
    assert texts(loaded, Sampler(1e-4, 1.0, KEYS)) == texts(loaded, None)
    assert texts(loaded, Sampler(1.0, 1e-9, KEYS)) == texts(loaded, None)


# --- in an evaluation -------------------------------------------------------------------------------------------

DRAWN = ["evaluation.sampling.temperature=1.3", "evaluation.sampling.repeats=3", "training.precision=fp32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampling")
    write_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        changes = [*DRAWN, "training.draws=128", "training.learning_rate=1e-2", f"output={folder / 'run'}"]
        run = api.train(Recipe.load(folder / "recipe.yaml", changes))
        api.compare(run)
        yield folder


def test_each_row_is_answered_several_times_and_counts_once(folder):
    entries = {e["task"]: e for e in json.loads((folder / "run" / "comparison.json").read_text())["tasks"]}
    assert {name: (entry["n"], entry["rows"]) for name, entry in entries.items()} == {
        "words": (12, 36), "verdict": (12, 12), "other": (12, 36)
    }  # fmt: skip
    rows = rows_of(folder / "run" / "evaluation" / "base" / "words.jsonl")
    assert [row["repeat"] for row in rows] == [0, 1, 2] * 12
    assert len({row["prediction"] for row in rows}) > 24
    assert "repeat" not in rows_of(folder / "run" / "evaluation" / "base" / "verdict.jsonl")[0]
    settings = json.loads((folder / "run" / "evaluation" / "base" / "settings.json").read_text())
    decoding = {told["task"]: told["decoding"] for told in settings["tasks"]}
    assert decoding["words"]["method"] == "sampling"
    assert (decoding["words"]["temperature"], decoding["words"]["repeats"], decoding["words"]["seed"]) == (1.3, 3, 0)
    assert decoding["verdict"]["method"] == "greedy"


def test_its_numbers_follow_from_the_files(folder):
    assert recomputed(folder / "run") == json.loads((folder / "run" / "comparison.json").read_text())
    script = ROOT / "scripts" / "recompute_comparison.py"
    made = subprocess.run([sys.executable, script, folder / "run"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout


def test_the_same_is_sampled_again_without_the_cache_and_a_model_against_itself_differs_nowhere(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "another"))
    recipe = Recipe.load(folder / "recipe.yaml", [*DRAWN, "evaluation.batch_tokens=64"])
    side = evaluated(recipe, str(folder / "tiny"), tmp_path / "again")
    kept = rows_of(folder / "run" / "evaluation" / "base" / "words.jsonl")
    assert [row["prediction"] for row in side.tasks[0].rows] == [row["prediction"] for row in kept]
    assert {each["task"]: each["n"] for each in scores(side, resampling(side.settings))}["words"] == 12
    made = compared_models([str(tmp_path / "again")] * 2, out=tmp_path / "out")[0]
    assert {entry["difference"] for entry in made["tasks"]} == {0.0}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("evaluation.sampling.seed=7", "seed"),
        ("evaluation.sampling.temperature=0.7", "temperature"),
        ("evaluation.sampling=null", "method"),
    ],
)
def test_answers_sampled_otherwise_are_other_answers_and_are_not_compared(folder, tmp_path, change, field):
    recipe = Recipe.load(folder / "recipe.yaml", [*DRAWN, change])
    side = evaluated(recipe, str(folder / "tiny"), tmp_path / "other")
    kept = rows_of(folder / "run" / "evaluation" / "base" / "words.jsonl")
    assert [row["prediction"] for row in side.tasks[0].rows] != [row["prediction"] for row in kept]
    with pytest.raises(FlantuneError, match=r'"decoding\.\w+" of task words differs') as refusal:
        compared_models([str(folder / "run" / "evaluation" / "base"), str(tmp_path / "other")], out=tmp_path / "out")
    assert f'"decoding.{field}"' in str(refusal.value)
