"""Comparisons from kept files: any models, what is refused, numbers computed again, sample logs."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flantune as api
from flantune import FlantuneError, Recipe
from flantune.assessment import compared_models, evaluated, recomputed
from flantune.evaluation.metrics import metric
from runs import LEARNING, command, rows_of, write_recipe, write_task

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "recompute_comparison.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("comparing")


@pytest.fixture(scope="module", autouse=True)
def _cache(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="module")
def run(folder):
    """A compared run that learned a little: base and tuned answer some rows alike and others not."""
    write_recipe(folder)
    run = api.train(Recipe.load(folder / "recipe.yaml", LEARNING))
    api.compare(run)
    return run


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run whose files may be changed."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# --- numbers from files -------------------------------------------------------------------------------------


def test_a_comparison_is_computed_again_from_the_kept_answers_alone(copy, capsys, monkeypatch):
    shutil.rmtree(copy / "model")
    assert recomputed(copy) == json.loads((copy / "comparison.json").read_text())
    code, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", copy)
    assert code == 0
    assert "the same as the kept answers" in out


def test_a_number_that_the_answers_do_not_give_is_an_error_that_names_it(copy, capsys, monkeypatch):
    comparison = json.loads((copy / "comparison.json").read_text())
    comparison["tasks"][0]["tuned"] += 0.1
    (copy / "comparison.json").write_text(json.dumps(comparison))
    code, _, err = command(capsys, monkeypatch, "evaluate", "--recompute", copy)
    assert code == 2
    assert err.startswith(f"error: {copy}/comparison.json: tasks.words.rouge1.tuned is ")
    assert err.endswith(f"from the kept answers; write it again: flantune compare {copy}\n")


def test_a_script_without_any_of_our_code_gives_the_same_numbers(run):
    script = ROOT / "scripts" / "recompute_comparison.py"
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    assert "import flantune" not in text
    assert "from flantune" not in text
    made = subprocess.run([sys.executable, script, run], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")
    comparison = json.loads((run / "comparison.json").read_text())
    lost = comparison["forgetting"]
    entries = [*comparison["tasks"], *lost["drift"], {"task": "_plain_text", **lost["plain_text"]}]
    assert [line.split()[:4] for line in made.stdout.splitlines()] == [
        ["same", "near", entry["task"], entry["metric"]] for entry in entries
    ]
    assert any(entry["difference"] for entry in entries)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), name=st.sampled_from(["rouge1", "bleu", "chrf", "macro_f1", "accuracy"]))
def test_the_script_scores_as_the_metrics_do(data, name):
    choices = ["birch tree", "cedar", "delta"] if name in ("macro_f1", "accuracy") else None
    words = st.lists(st.sampled_from(["oak", "elm", "ash.", "Fir"]), min_size=1).map(" ".join)
    texts = st.sampled_from(choices) if choices else words
    answers = st.lists(st.tuples(texts | st.just("none of it"), texts), min_size=1, max_size=8)
    rows = [{"prediction": said, "references": [wanted], "choices": choices} for said, wanted in data.draw(answers)]
    ours = metric(name)
    sums = np.sum([ours.statistics(row["prediction"], row["references"], None, choices) for row in rows], axis=0)
    values, score = SCRIPT["statistics"](name, rows)
    with np.errstate(invalid="ignore"):
        assert score(values.sum(axis=0)) == pytest.approx(float(ours.score(sums)), rel=1e-9)


def test_the_script_sees_a_changed_answer(copy):
    path = copy / "evaluation" / "tuned" / "words.jsonl"
    rows = rows_of(path)
    rows[0]["prediction"] = rows[0]["references"][0] + " and more"
    write_rows(path, rows)
    script = ROOT / "scripts" / "recompute_comparison.py"
    made = subprocess.run([sys.executable, script, copy], capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "DIFFERS" in made.stdout


def test_scores_of_kept_answers_are_printed_without_a_model(run, capsys, monkeypatch):
    folder = run / "evaluation" / "tuned"
    code, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", folder, "--json")
    entries = {(e["task"], e["metric"]): e["tuned"] for e in json.loads((run / "comparison.json").read_text())["tasks"]}
    assert code == 0
    assert {(e["task"], e["metric"]): e["score"] for e in json.loads(out)["tasks"]} == entries


# --- any models ---------------------------------------------------------------------------------------------


def test_three_models_are_each_compared_with_the_first_under_one_correction(run, folder, tmp_path):
    made = compared_models([str(folder / "tiny"), str(run), str(folder / "tiny")], out=tmp_path)
    assert [each["tuned"]["model"] for each in made] == [str(run / "model"), str(folder / "tiny")]
    own = json.loads((run / "comparison.json").read_text())
    for ours, theirs in zip(made[0]["tasks"], own["tasks"], strict=True):
        assert {key: ours[key] for key in ("base", "tuned", "ci", "p", "n")} == {
            key: theirs[key] for key in ("base", "tuned", "ci", "p", "n")
        }
        assert ours["p_adjusted"] >= theirs["p_adjusted"]
    assert {entry["verdict"] for entry in made[1]["tasks"]} == {"no difference shown"}
    assert made[0]["judged"]["tests"] == 2 * own["judged"]["tests"]
    assert json.loads((tmp_path / "comparisons.json").read_text()) == made


def test_runs_are_compared_by_their_kept_answers_without_their_models(run, copy, tmp_path):
    shutil.rmtree(copy / "model")
    made = compared_models([str(run), str(copy)], tasks=["words"], out=tmp_path / "out")
    assert [(e["task"], e["difference"]) for e in made[0]["tasks"]] == [("words", 0.0)] * 2


def test_a_recipe_gives_all_models_the_same_rows(run, folder, tmp_path, capsys, monkeypatch):
    write_task(folder, "third", metrics="[exact_match]")
    other = folder / "other-recipe.yaml"
    other.write_text("model: tiny\ntasks: [third.yaml]\nevaluation: {rows: 9, resamples: 99}\n")
    monkeypatch.chdir(tmp_path)
    models = (run, folder / "tiny")
    code, out, _ = command(capsys, monkeypatch, "compare", *models, "--recipe", other, "--json")
    assert code == 0
    assert [(e["task"], e["n"]) for e in json.loads(out)[0]["tasks"]] == [("third", 9)]
    assert (tmp_path / "comparison" / "2-tiny" / "third.jsonl").exists()


def test_a_model_against_itself_gets_no_verdict_on_twenty_tasks(folder, tmp_path):
    names = [f"task{number}" for number in range(20)]
    for number, name in enumerate(names):
        write_task(tmp_path, name, choices=number % 2 == 0, metrics="[accuracy]" if number % 2 == 0 else "[bleu]")
    tasks = ", ".join(f"{name}.yaml" for name in names)
    (tmp_path / "recipe.yaml").write_text(
        f"model: {folder / 'tiny'}\ntasks: [{tasks}]\ntraining: {{precision: fp32}}\n"
        "evaluation: {rows: 12, resamples: 199}\n"
    )
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    sides = []
    for place in ("cache", "another"):  # the second time nothing is found in the cache
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FLANTUNE_CACHE", str(tmp_path / place))
            evaluated(recipe, str(folder / "tiny"), tmp_path / place / "answers")
            sides.append(str(tmp_path / place / "answers"))
    made = compared_models(sides, out=tmp_path / "out")[0]
    assert len(made["tasks"]) == 20
    assert {entry["verdict"] for entry in made["tasks"]} == {"no difference shown"}
    assert {entry["difference"] for entry in made["tasks"]} == {0.0}


def test_the_command_fails_with_three_where_something_is_worse(tmp_path, capsys, monkeypatch):
    row = {"prompt": "?", "references": ["yes"], "template": "t", "template_kind": "seen", "exemplars": 0}
    row |= {"finished": True, "choice_scores": None, "copied": [0, 1]}
    decoding = {"evaluate_by": "generation", "max_new_tokens": 4}
    told = {"task": "t", "cluster": "c", "group": "unseen", "metrics": ["exact_match"], "decoding": decoding}
    for name, said in (("good", "yes"), ("bad", "no")):
        (tmp_path / name).mkdir()
        settings = {"model": name, "resamples": 99, "margin": None, "seed": 0, "tasks": [told]}
        (tmp_path / name / "settings.json").write_text(json.dumps(settings))
        write_rows(tmp_path / name / "t.jsonl", [{**row, "row": str(i), "prediction": said} for i in range(30)])
    good, bad, out = tmp_path / "good", tmp_path / "bad", ("--out", tmp_path / "out")
    assert command(capsys, monkeypatch, "compare", good, bad, "--fail-if", "worse", *out)[0] == 3
    assert command(capsys, monkeypatch, "compare", bad, good, "--fail-if", "worse", *out)[0] == 0
    assert command(capsys, monkeypatch, "compare", good, bad, *out)[0] == 0


# --- what is refused ----------------------------------------------------------------------------------------


def change_settings(folder, change):
    settings = json.loads((folder / "settings.json").read_text())
    change(settings)
    (folder / "settings.json").write_text(json.dumps(settings))


def change_row(folder, change):
    rows = rows_of(folder / "words.jsonl")
    change(rows)
    write_rows(folder / "words.jsonl", rows)


REFUSED = {
    "prompt": (change_row, lambda rows: rows[0].update(prompt="another"), '"prompt" of row'),
    "references": (change_row, lambda rows: rows[3].update(references=["x"]), '"references" of row'),
    "a row less": (change_row, lambda rows: rows.pop(), '"rows" of task words'),
    "a row twice": (change_row, lambda rows: rows.append(rows[0]), '"rows" of task words'),
    "precision": (change_settings, lambda s: s.update(precision="bfloat16"), '"precision"'),
    "system": (change_settings, lambda s: s.update(system="Be kind."), '"system"'),
    "tasks": (change_settings, lambda s: s["tasks"].pop(), '"tasks"'),
    "length": (
        change_settings,
        lambda s: s["tasks"][0]["decoding"].update(max_new_tokens=7),
        '"decoding.max_new_tokens" of task words',
    ),
    "metrics": (change_settings, lambda s: s["tasks"][0].update(metrics=["chrf"]), '"metrics" of task words'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_differs_is_refused_by_its_name(run, copy, tmp_path, name):
    change, how, field = REFUSED[name]
    change(copy / "evaluation" / "tuned", how)
    with pytest.raises(FlantuneError) as refusal:
        compared_models([str(run), str(copy)], out=tmp_path / "out")
    assert f"cannot be compared: {field}" in str(refusal.value)
    assert str(refusal.value).endswith("evaluate both on the rows of one recipe with --recipe")


def test_rows_in_another_order_are_joined_by_what_they_ask(run, copy, tmp_path):
    change_row(copy / "evaluation" / "tuned", lambda rows: rows.reverse())
    made = compared_models([str(run), str(copy)], out=tmp_path / "out")[0]
    assert {entry["difference"] for entry in made["tasks"]} == {0.0}
    assert {tuple(entry["ci"]) for entry in made["tasks"]} == {(0.0, 0.0)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smollm2-135m-instruct", "other"], "nothing says what to ask smollm2-135m-instruct; name a recipe with"),
        (["RUN", "--recipe", "r.yaml"], "--recipe and --task are for several models; name another one"),
        (["RUN", "RUN", "--task", "wrods"], 'has no answers on task "wrods" (words, verdict, other)'),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    given = [str(run) if each == "RUN" else each for each in arguments]
    code, _, err = command(capsys, monkeypatch, "compare", *given)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


# --- sample logs --------------------------------------------------------------------------------------------


def test_sample_logs_have_the_keys_of_lm_eval_and_our_scores(run, tmp_path, capsys, monkeypatch):
    code, _, _ = command(capsys, monkeypatch, "evaluate", "--recompute", run, "--samples", tmp_path)
    assert code == 0
    kept = rows_of(run / "evaluation" / "tuned" / "verdict.jsonl")
    logged = rows_of(tmp_path / "tuned" / "samples_verdict.jsonl")
    keys = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "accuracy"}
    for row, sample in zip(kept, logged, strict=True):
        assert sample.keys() == keys | {"doc_hash", "prompt_hash", "target_hash"}
        assert sample["accuracy"] == row["scores"]["accuracy"]
        assert sample["prompt_hash"] == hashlib.sha256(row["prompt"].encode()).hexdigest()
        assert [each["arg_1"] for each in sample["arguments"].values()] == ["yes", "no"]
        assert [each[0][1] for each in sample["resps"]].count(True) == 1
    words = rows_of(tmp_path / "base" / "samples_words.jsonl")
    assert words[0]["arguments"]["gen_args_0"]["arg_1"]["max_gen_toks"] == 6
