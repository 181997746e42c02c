"""The base behind solved examples: the same rows, exemplars of the training split, a column beside the comparison."""

from __future__ import annotations

import json

import pytest

import flantune as api
from flantune import Recipe
from flantune.assessment import compared_models, evaluated, recomputed, resampling
from flantune.evaluation.compare import scores
from runs import command, rows_of, write_recipe, write_task

COUNT = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compared run with the baseline; one task shows no exemplars, one is measured without answers."""
    folder = tmp_path_factory.mktemp("few_shot")
    write_recipe(folder)
    write_task(folder, "words", metrics="[rouge1, perplexity]")
    other = folder / "other.yaml"
    other.write_text(other.read_text().replace("  - name: ", "  - few_shot: false\n    name: "))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        changes = ["training.draws=128", "training.precision=fp32", f"evaluation.few_shot_baseline={COUNT}"]
        run = api.train(Recipe.load(folder / "recipe.yaml", [*changes, f"output={folder / 'run'}"]))
        api.compare(run)
        yield folder


def entries(folder):
    return {(e["task"], e["metric"]): e for e in json.loads((folder / "run" / "comparison.json").read_text())["tasks"]}


def test_each_question_is_asked_again_behind_rows_of_the_training_split_alone(folder):
    train, test = ({row["text"] for row in rows_of(folder / f"words-{split}.jsonl")} for split in ("train", "test"))
    rows = rows_of(folder / "run" / "evaluation" / "base" / "words.jsonl")
    for row in rows:
        few = row["few_shot"]
        assert few["exemplars"] == COUNT
        assert row["exemplars"] == 0
        text = next(text for text in test if text in row["prompt"])
        assert few["prompt"].count(text) == 1
        assert sum(few["prompt"].count(other) for other in test) == 1
        assert len([other for other in train if f"{other}\n" in few["prompt"] or f"{other}?" in few["prompt"]]) == COUNT
    tuned = rows_of(folder / "run" / "evaluation" / "tuned" / "words.jsonl")
    assert not any("few_shot" in row for row in tuned)


def test_the_baseline_is_what_the_base_scores_with_exemplars_in_the_comparison(folder, tmp_path):
    recipe = Recipe.load(folder / "recipe.yaml", ["training.precision=fp32", f"evaluation.exemplars={COUNT}"])
    side = evaluated(recipe, str(folder / "tiny"), tmp_path)
    alone = {(each["task"], each["metric"]): each["score"] for each in scores(side, resampling(side.settings))}
    found = entries(folder)
    for key in (("words", "rouge1"), ("words", "perplexity"), ("verdict", "accuracy")):
        assert found[key]["baselines"]["few_shot"] == pytest.approx(alone[key])
        assert found[key]["baselines"]["few_shot"] != found[key]["base"] or key[1] != "perplexity"
    assert set(found["words", "rouge1"]["baselines"]) == {"majority", "copy", "few_shot"}


def test_a_task_that_shows_no_exemplars_has_no_such_baseline(folder):
    assert set(entries(folder)["other", "rouge1"]["baselines"]) == {"majority", "copy"}


def test_its_numbers_follow_from_the_files_and_stand_in_table_and_report(folder, capsys, monkeypatch):
    run = folder / "run"
    assert recomputed(run) == json.loads((run / "comparison.json").read_text())
    code, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", run)
    assert code == 0
    assert out.count("base, few-shot") == 2
    assert "<small>few-shot</small>" in (run / "report.html").read_text(encoding="utf-8")


def test_only_the_first_of_several_models_is_asked_so_and_by_default_none_is(folder, tmp_path):
    recipe = Recipe.load(folder / "recipe.yaml", ["training.precision=fp32", "evaluation.few_shot_baseline=1"])
    made = compared_models([str(folder / "tiny"), str(folder / "run" / "model")], recipe=recipe, out=tmp_path)
    assert "few_shot" in made[0]["tasks"][0]["baselines"]
    assert "few_shot" in rows_of(tmp_path / "1-tiny" / "words.jsonl")[0]
    assert "few_shot" not in rows_of(tmp_path / "2-model" / "words.jsonl")[0]
    assert Recipe.load(folder / "recipe.yaml").evaluation.few_shot_baseline == 0


def test_as_many_exemplars_are_shown_as_fit_the_model(folder, tmp_path):
    for path in (folder / "tiny").iterdir():
        (tmp_path / "short").mkdir(exist_ok=True)
        (tmp_path / "short" / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    config["max_position_embeddings"] = 150
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    recipe = Recipe.load(folder / "recipe.yaml", ["training.precision=fp32", "evaluation.few_shot_baseline=8"])
    evaluated(recipe, str(tmp_path / "short"), tmp_path / "out", baseline=True)
    shown = [row["few_shot"]["exemplars"] for row in rows_of(tmp_path / "out" / "words.jsonl")]
    assert 0 < max(shown) < 8
