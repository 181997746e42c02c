"""Metrics of a user's own: where they are found, what their table says, what goes wrong with them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flantune as api
from flantune import FlantuneError, Recipe
from flantune.assessment import compared_models, recomputed
from flantune.evaluation.metrics import metric, metrics_of
from flantune.evaluation.scale import on_one_scale
from flantune.tasks import load_task
from runs import command, write_recipe, write_task

ROOT = Path(__file__).parent.parent
EXAMPLE = re.compile(r"<!-- house_style.py -->\n```python\n(.*?)```", re.DOTALL)


def example():
    """The metric that docs/evaluation.md shows."""
    found = EXAMPLE.search((ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8"))
    assert found is not None
    return found.group(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe with the documented metric beside it, and its tasks in a folder below."""
    folder = tmp_path_factory.mktemp("own")
    write_recipe(folder)
    (folder / "house_style.py").write_text(example())
    write_task(folder / "tasks", "styled", metrics='["house_style:sentence_words", exact_match]')
    (folder / "styled.yaml").write_text(
        "allow_code: true\nmodel: tiny\ntasks: [tasks/styled.yaml]\n"
        "training: {draws: 64, learning_rate: 1e-2, precision: fp32, rows_per_step: 2, rows_at_once: 2}\n"
        "mixture: {capacity: 256}\nevaluation: {rows: 12, resamples: 199}\n"
    )
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A compared run; nothing of it lies in the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        run = api.train(Recipe.load(folder / "styled.yaml", [f"output={folder / 'run'}"]))
        api.compare(run)
    return run


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_the_documented_metric_is_found_beside_the_recipe_and_stands_in_the_table(run):
    entry = json.loads((run / "comparison.json").read_text())["tasks"][0]
    assert (entry["metric"], entry["unit"], entry["higher_is_better"]) == ("house_style:sentence_words", "words", False)
    assert re.fullmatch(r"v1\|house_style\.py:[0-9a-f]{8}", entry["signature"])
    rows = rows_of(run / "evaluation" / "base" / "styled.jsonl")
    namespace = {}
    exec(example(), namespace)
    said = [namespace["sentence_words"](row["prediction"], row["references"], {}) for row in rows]
    assert entry["base"] == pytest.approx(sum(said) / len(said))
    assert [row["scores"]["house_style:sentence_words"] for row in rows] == pytest.approx(said)
    assert entry["verdict"] in ("better", "worse", "no difference shown")


def test_its_numbers_follow_from_the_kept_files_without_its_code(run, folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    (folder / "house_style.py").rename(folder / "gone.py")
    try:
        assert recomputed(run) == json.loads((run / "comparison.json").read_text())
    finally:
        (folder / "gone.py").rename(folder / "house_style.py")
    script = ROOT / "scripts" / "recompute_comparison.py"
    made = subprocess.run([sys.executable, script, run], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout
    assert "same near styled house_style:sentence_words" in made.stdout


def test_scores_by_two_versions_of_it_are_not_compared(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run / "evaluation" / "tuned", other)
    settings = json.loads((other / "settings.json").read_text())
    settings["tasks"][0]["told"]["house_style:sentence_words"]["signature"] = "v2"
    (other / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(FlantuneError, match='metric "house_style:sentence_words" of task styled differs'):
        compared_models([str(run), str(other)], out=tmp_path / "out")


def test_a_resolved_recipe_names_the_folder_of_its_code_from_anywhere(run, folder):
    assert Recipe.load(run / "recipe.yaml").code_folder == str(folder)
    assert Recipe.load(folder / "recipe.yaml").code_folder is None


# --- an installed package --------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that brings metrics, one of them under a name of flantune's."""
    about = tmp_path / "site" / "house_rules-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: house-rules\nVersion: 1.2\n")
    lines = ("terse = house_rules_a:terse", "broken = house_rules_a:none", "bleu = house_rules_a:terse")
    (about / "entry_points.txt").write_text("\n".join(("[flantune.metrics]", *lines)) + "\n")
    (tmp_path / "site" / "house_rules_a.py").write_text(
        'def terse(prediction, references, row):\n    return 100 / (1 + len(prediction))\n\n\nterse.unit = "0-100"\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path


def test_a_metric_of_an_installed_package_goes_by_its_name_and_needs_no_leave(package):
    write_task(package, "short", metrics="[terse]")
    (found,) = metrics_of(load_task(package / "short.yaml"))
    assert (found.name, found.unit, found.signature) == ("terse", "0-100", "house-rules:1.2")
    assert found.score(found.statistics("abc", ["x"], None, None)) == 25
    assert "sacrebleu" not in metric("bleu").signature
    assert metric("bleu").signature.startswith("case:mixed")


def test_an_installed_metric_that_cannot_be_loaded_or_is_misspelt_is_one_line(package):
    with pytest.raises(FlantuneError, match=r'^metric "broken" cannot import house_rules_a:none: AttributeError: '):
        metric("broken")
    with pytest.raises(FlantuneError, match=r'^unknown metric "tersse"; did you mean "terse"\? '):
        metric("tersse")


# --- mistakes --------------------------------------------------------------------------------------------------

MODULE = """\
LIMIT = 3
def fails(prediction, references, row):
    return len(prediction) / (len(references) - 1)
def text(prediction, references, row):
    return "good"
def nothing(prediction, references, row):
    return None
def infinite(prediction, references, row):
    return float("inf")
def two(prediction, references):
    return 1
def beyond(prediction, references, row):
    return 101
beyond.unit = "0-100"
"""
MISTAKES = {
    "a:b:c": 'metric "a:b:c" is not of the form module:function',
    "mine:": 'metric "mine:" is not of the form module:function',
    "mein:text": 'metric "mein:text": no mein.py in {folder}, and no installed module of that name',
    "mine:txt": 'metric "mine:txt": mine has no "txt"; did you mean "text"? (beyond, fails, infinite, nothing, text, '
    "two)",
    "mine:LIMIT": 'metric "mine:LIMIT" is int, and no function of (prediction, references, row)',
    "mine:two": 'metric "mine:two" must be a function of (prediction, references, row), and takes (prediction, '
    "references)",
    "torn:text": 'metric "torn:text" cannot import torn: ZeroDivisionError: division by zero',
    "lacking:text": "metric \"lacking:text\" cannot import lacking: ModuleNotFoundError: No module named 'not_there'",
    "mine:fails": 'metric "mine:fails" fails at mine.py:3: ZeroDivisionError: division by zero (row 0)',
    "mine:text": "metric \"mine:text\" returns 'good'; a finite number is wanted (row 0)",
    "mine:nothing": 'metric "mine:nothing" returns None; a finite number is wanted (row 0)',
    "mine:infinite": 'metric "mine:infinite" returns inf; a finite number is wanted (row 0)',
    "mine:beyond": 'metric "mine:beyond" returns 101, which is off its scale of 0-100 (row 0)',
}


@pytest.fixture
def mistaken(tmp_path, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    write_recipe(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "torn.py").write_text("1 / 0\n")
    (tmp_path / "lacking.py").write_text("import not_there\n")
    return tmp_path


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_it_is_one_line_before_anything_is_trained(mistaken, capsys, monkeypatch, name):
    write_task(mistaken, "words", metrics=f'["{name}"]')
    monkeypatch.chdir(mistaken)
    code, out, err = command(capsys, monkeypatch, "plan", "recipe.yaml", "allow_code=true")
    assert (code, out) == (2, "")
    assert err == f"error: {mistaken}/words.yaml:10: metrics: {MISTAKES[name].format(folder=mistaken)}\n"


@pytest.mark.parametrize("arguments", [("plan", "recipe.yaml"), ("tasks", "lint", "words.yaml")])
def test_code_of_a_task_runs_only_with_leave(mistaken, capsys, monkeypatch, arguments):
    write_task(mistaken, "words", metrics='["torn:text"]')
    monkeypatch.chdir(mistaken)
    code, _, err = command(capsys, monkeypatch, *arguments)
    assert code == 2
    assert 'metric "torn:text" runs code; say `allow_code: true` in the recipe if you trust it' in err


def test_it_gets_a_row_of_its_own_and_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text("def cut(row):\n    row['text'] = ''\n    return 1\n")
    (tmp_path / "mine.py").write_text(
        "from beside import cut\ndef it(prediction, references, row):\n    return cut(row)\n"
    )
    write_task(tmp_path, "words", metrics='["mine:it"]')
    (found,) = metrics_of(load_task(tmp_path / "words.yaml", allow_code=True))
    row = {"text": "kept"}
    assert found.statistics("", [""], row, None).tolist() == [1, 1]
    assert row == {"text": "kept"}


@pytest.mark.parametrize("higher", [True, False])
def test_on_the_one_scale_a_score_of_any_sign_keeps_its_order(tmp_path, higher):
    (tmp_path / "mine.py").write_text(
        f"def it(prediction, references, row):\n    return 1\nit.higher_is_better = {higher}\n"
    )
    write_task(tmp_path, "words", metrics='["mine:it"]')
    (by,) = metrics_of(load_task(tmp_path / "words.yaml", allow_code=True))
    scaled = [on_one_scale(score, by, 1.0) for score in (-1e6, -2.0, 0.0, 0.5, 1e6)]
    assert scaled == sorted(scaled, reverse=not higher)
    assert min(scaled) >= 0
    assert max(scaled) <= 100
