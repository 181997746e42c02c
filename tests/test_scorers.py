"""Closed tasks by both scorers: the same numbers as by each alone, the gap where it is asked for, nothing elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import flantune as api
from flantune import FlantuneError, Recipe
from flantune.assessment import compared_models, evaluated, recomputed, resampling
from flantune.evaluation.compare import scores
from flantune.tasks import load_task
from runs import LEARNING, command, write_recipe, write_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compared run whose closed task asks for both scorers, and its recipe."""
    folder = tmp_path_factory.mktemp("scorers")
    write_recipe(folder)
    verdict = folder / "verdict.yaml"
    verdict.write_text(verdict.read_text().replace("max_new_tokens", "both_scorers: true\nmax_new_tokens"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        run = api.train(Recipe.load(folder / "recipe.yaml", [*LEARNING, f"output={folder / 'run'}"]))
        api.compare(run)
        yield folder


def entries(folder):
    return {e["task"]: e for e in json.loads((folder / "run" / "comparison.json").read_text())["tasks"] if e["main"]}


def test_only_the_task_that_asks_shows_the_gap_and_its_verdict_is_by_its_own_scorer(folder):
    found = entries(folder)
    assert {name: "scorers" in entry for name, entry in found.items()} == {
        "words": False, "verdict": True, "other": False
    }  # fmt: skip
    both = found["verdict"]["scorers"]
    for side in ("base", "tuned"):
        assert both[side]["choices"] == found["verdict"][side]
        assert both[side]["gap"] == pytest.approx(both[side]["generation"] - both[side]["choices"])
        assert both[side]["gap_ci"][0] <= both[side]["gap"] <= both[side]["gap_ci"][1]
    # Of an untrained model of random weights no written answer is one of the choices.
    assert both["base"]["invalid"] == found["verdict"]["rows"]
    assert both["base"]["generation"] == 0 < both["base"]["choices"]


def test_each_scorer_gives_what_it_gives_alone(folder, tmp_path):
    task = folder / "verdict.yaml"
    (tmp_path / "verdict.yaml").write_text(
        task.read_text().replace("evaluate_by: choices", "evaluate_by: generation").replace("both_scorers: true\n", "")
    )
    for split in ("train", "test"):
        shutil.copy(folder / f"verdict-{split}.jsonl", tmp_path)
    (tmp_path / "recipe.yaml").write_text(
        f"model: {folder / 'tiny'}\ntasks: [verdict.yaml]\ntraining: {{precision: fp32}}\n"
        "evaluation: {rows: 12, resamples: 199}\n"
    )
    side = evaluated(Recipe.load(tmp_path / "recipe.yaml"), str(folder / "run" / "model"), tmp_path / "out")
    (alone,) = scores(side, resampling(side.settings))
    assert alone["score"] == entries(folder)["verdict"]["scorers"]["tuned"]["generation"]
    assert "scorers" not in alone
    recipe = Recipe.load(tmp_path / "recipe.yaml", ["evaluation.both_scorers=true"])
    side = evaluated(recipe, str(folder / "run" / "model"), tmp_path / "both")
    (both,) = scores(side, resampling(side.settings))
    wanted = entries(folder)["verdict"]["scorers"]["tuned"]
    assert {key: both["scorers"]["model"][key] for key in ("generation", "choices", "gap")} == {
        key: wanted[key] for key in ("generation", "choices", "gap")
    }
    assert both["score"] == wanted["generation"]


def test_its_numbers_follow_from_the_files_and_stand_in_table_and_report(folder, capsys, monkeypatch):
    run = folder / "run"
    assert recomputed(run) == json.loads((run / "comparison.json").read_text())
    code, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", run)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[:2] for line in lines if line[:1] == ["by"]] == [["by", "generation"], ["by", "choices"]]
    assert sum(line[:1] == ["gap"] for line in lines) == 1
    assert (run / "report.html").read_text(encoding="utf-8").count("gap of scorers") == 1
    code, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", run / "evaluation" / "tuned")
    assert "gap" in out


def test_answers_by_both_are_not_compared_with_answers_by_one(folder, tmp_path):
    copy = Path(shutil.copytree(folder / "run" / "evaluation" / "tuned", tmp_path / "copy"))
    settings = json.loads((copy / "settings.json").read_text())
    settings["tasks"][1]["decoding"].pop("both_scorers")
    (copy / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(FlantuneError, match=r'"decoding.both_scorers" of task verdict differs'):
        compared_models([str(folder / "run"), str(copy)], out=tmp_path / "out")


def test_both_scorers_need_choices(tmp_path):
    path = write_task(tmp_path, "words")
    path.write_text(path.read_text().replace("max_new_tokens", "both_scorers: true\nmax_new_tokens"))
    with pytest.raises(FlantuneError) as refusal:
        load_task(path)
    assert str(refusal.value) == f"{path}:9: both_scorers: true needs `answer_choices`; list the possible answers"
