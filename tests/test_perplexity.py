"""Perplexity of targets: the library's own loss, of any batch; in comparisons, files and without any answer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import flantune as api
from flantune import FlantuneError, Recipe
from flantune.assessment import compared_models, recomputed
from flantune.evaluation.likelihood import target_losses
from flantune.evaluation.metrics import metric
from flantune.evaluation.statistics import paired_difference
from flantune.models.load import load_model
from runs import LEARNING, rows_of, write_recipe, write_task
from tiny import TEXT, save_tiny_bart, save_tiny_model, save_tiny_t5

ROOT = Path(__file__).parent.parent
TARGETS = [text.split()[-1 - i % 3] * (1 + i % 2) for i, text in enumerate(TEXT)]
MAKERS = {"decoder": save_tiny_model, "t5": save_tiny_t5, "bart": save_tiny_bart}


@pytest.fixture(scope="module", params=MAKERS)
def loaded(request, tmp_path_factory):
    folder = MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    return load_model(str(folder), precision="fp32", answering=True), folder


def test_the_loss_of_a_target_is_the_librarys_own(loaded):
    ours, folder = loaded
    kind = transformers.AutoModelForSeq2SeqLM if ours.format.paired else transformers.AutoModelForCausalLM
    plain = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    head = len(ours.format.target_head)
    for (loss, tokens), given, wanted in zip(
        target_losses(ours, TEXT, TARGETS, batch_tokens=10_000), TEXT, TARGETS, strict=True
    ):
        prompt, target = ours.format.prompt_ids(given), ours.format.target_ids(wanted)
        labels = [-100] * head + target[head:]
        with torch.no_grad():
            if ours.format.paired:
                start = plain.config.decoder_start_token_id
                decoder = torch.tensor([[start, *target[:-1]]])
                mean = plain(
                    input_ids=torch.tensor([prompt]), decoder_input_ids=decoder, labels=torch.tensor([labels])
                ).loss
            else:
                labels = [-100] * len(prompt) + target
                mean = plain(input_ids=torch.tensor([[*prompt, *target]]), labels=torch.tensor([labels])).loss
        assert tokens == len(target) - head
        assert loss == pytest.approx(float(mean) * tokens, rel=1e-4)


def test_the_loss_does_not_depend_on_the_batch(loaded):
    model, _ = loaded
    alone, together = (target_losses(model, TEXT, TARGETS, batch_tokens=tokens) for tokens in (1, 10_000))
    assert [n for _, n in alone] == [n for _, n in together]
    assert [loss for loss, _ in alone] == pytest.approx([loss for loss, _ in together], rel=1e-4)


def test_the_corpus_value_weighs_tokens_not_rows_and_swapping_sides_negates_the_difference():
    by, rng = metric("perplexity"), np.random.default_rng(5)
    tokens = rng.integers(1, 40, 30).astype(float)
    base, tuned = (np.stack([tokens * rng.uniform(*ends, 30), tokens], axis=1) for ends in ((2, 3), (1, 2)))
    found = paired_difference(base, tuned, by.score, resamples=999, seed=1)
    assert found.base == pytest.approx(math.exp(base[:, 0].sum() / tokens.sum()))
    assert found.base != pytest.approx(np.exp(base[:, 0] / tokens).mean(), rel=1e-3)
    assert found.high < 0
    assert found.p < 0.01
    assert paired_difference(tuned, base, by.score, resamples=999, seed=1).difference == -found.difference


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("perplexity")
    write_recipe(folder)
    write_task(folder, "words", metrics="[perplexity, rouge1]")
    write_task(folder, "other", metrics="[perplexity]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        run = api.train(Recipe.load(folder / "recipe.yaml", [*LEARNING, f"output={folder / 'run'}"]))
        api.compare(run)
        yield run


def test_base_and_tuned_are_measured_on_the_same_tokens_and_training_lowers_it(run):
    entries = {(e["task"], e["metric"]): e for e in json.loads((run / "comparison.json").read_text())["tasks"]}
    found = entries["words", "perplexity"]
    sides = [rows_of(run / "evaluation" / side / "words.jsonl") for side in ("base", "tuned")]
    measured = [np.array([row["measured"]["perplexity"] for row in rows]) for rows in sides]
    assert (measured[0][:, 1] == measured[1][:, 1]).all()
    wanted = [math.exp(s.sum(0)[0] / s.sum(0)[1]) for s in measured]
    assert [found["base"], found["tuned"]] == pytest.approx(wanted, rel=1e-12)
    assert found["tuned"] < found["base"]
    assert found["verdict"] == "better"
    assert found["baselines"] == {"majority": None, "copy": None}
    assert not found["higher_is_better"]


def test_its_numbers_follow_from_the_files(run):
    assert recomputed(run) == json.loads((run / "comparison.json").read_text())
    script = ROOT / "scripts" / "recompute_comparison.py"
    made = subprocess.run([sys.executable, script, run], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout
    assert "same near words perplexity" in made.stdout


def test_a_model_is_not_asked_to_answer_where_only_the_right_answer_is_measured(run):
    rows = rows_of(run / "evaluation" / "tuned" / "other.jsonl")
    assert {row["prediction"] for row in rows} == {""}
    assert all(row["scores"]["perplexity"] > 1 for row in rows)
    settings = json.loads((run / "evaluation" / "tuned" / "settings.json").read_text())
    assert {told["task"]: told["decoding"]["evaluate_by"] for told in settings["tasks"]} == {
        "words": "generation",
        "verdict": "choices",
        "other": "target",
    }


def test_perplexities_of_other_tokens_are_not_compared(run, tmp_path):
    for name in ("settings.json", "words.jsonl", "verdict.jsonl", "other.jsonl", "_plain_text.jsonl"):
        (tmp_path / name).write_bytes((run / "evaluation" / "tuned" / name).read_bytes())
    rows = rows_of(tmp_path / "other.jsonl")
    rows[2]["measured"]["perplexity"][1] += 1
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(FlantuneError, match=r'"target tokens" \(of perplexity\) of row \S+ of task other'):
        compared_models([str(run), str(tmp_path)], out=tmp_path / "out")
