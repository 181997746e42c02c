"""Studies: which runs they consist of, what their answers show, and that a stopped one goes on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from itertools import product

import numpy as np
import pytest

from browser import open_browser, violations
from flantune.errors import FlantuneError
from flantune.evaluation.compare import Resampling
from flantune.evaluation.records import Side, TaskAnswers
from flantune.recipe import load_recipe
from flantune.reporting.formats import interval
from flantune.reporting.study_page import write_study_report
from flantune.study_curves import data_result
from flantune.study_plan import data_runs, method_runs, seed_runs, transfer_runs
from flantune.study_results import answer, transfer_result
from flantune.study_seeds import effect, seeds_result
from runs import flantune, write_recipe
from warm import warm_python


def three_tasks(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("tasks: [a.yaml, {task: b.yaml, cap: 9}, c.yaml]\n", encoding="utf-8")
    return load_recipe(path)


def test_a_transfer_study_has_all_tasks_each_alone_and_all_but_each_with_one_budget(tmp_path):
    runs = transfer_runs(three_tasks(tmp_path), ["a", "b", "c"], 50)
    assert {run.name: run.tasks for run in runs} == {
        "all": ("a", "b", "c"),
        **{"alone-1": ("a",), "alone-2": ("b",), "alone-3": ("c",)},
        **{"without-1": ("b", "c"), "without-2": ("a", "c"), "without-3": ("a", "b")},
    }
    assert all("training.draws=50" in run.overrides for run in runs)


def test_the_overrides_of_a_transfer_run_keep_what_the_recipe_says_of_its_tasks(tmp_path):
    recipe = three_tasks(tmp_path)
    for run in transfer_runs(recipe, ["a", "b", "c"], 50):
        made = load_recipe(tmp_path / "recipe.yaml", list(run.overrides))
        assert made.tasks == tuple(
            choice for name, choice in zip("abc", recipe.tasks, strict=True) if name in run.tasks
        )


def test_of_two_tasks_all_but_one_is_not_trained_twice(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("tasks: [a.yaml, b.yaml]\n", encoding="utf-8")
    assert [run.name for run in transfer_runs(load_recipe(path), ["a", "b"], 5)] == ["all", "alone-1", "alone-2"]


def test_clusters_are_left_out_whole_and_each_task_is_trained_alone(tmp_path):
    recipe = three_tasks(tmp_path)
    runs = transfer_runs(recipe, ["a", "b", "c"], 50, ["first", "second", "first"])
    assert {run.name: (run.tasks, run.without) for run in runs} == {
        "all": (("a", "b", "c"), None),
        **{"alone-1": (("a",), None), "alone-2": (("b",), "first"), "alone-3": (("c",), None)},
        "without-2": (("a", "c"), "second"),
    }
    with pytest.raises(FlantuneError, match='all tasks are of the cluster "one"'):
        transfer_runs(recipe, ["a", "b", "c"], 50, ["one", "one", "one"])


@pytest.mark.parametrize("tasks", ["[a.yaml]", "[{task: a.yaml, share: 0.5}, b.yaml]"])
def test_tasks_that_cannot_be_left_out_are_refused(tmp_path, tasks):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"tasks: {tasks}\n", encoding="utf-8")
    with pytest.raises(FlantuneError, match="tasks"):
        transfer_runs(load_recipe(path), ["a", "b"], 5)


@pytest.mark.parametrize(
    "methods",
    [
        "full",
        "full,full",
        "full,lorra",
        "full,lora@",
        "full,lora@fast",
        "full,lora@-1",
        "full,lora@0",
        "lora@1,lora@1.0",
    ],
)
def test_methods_are_at_least_two_known_and_different_ones(methods):
    with pytest.raises(FlantuneError, match="--methods"):
        method_runs(methods.split(","), ["a"], 5)


def test_a_method_may_have_a_learning_rate_of_its_own():
    runs = {run.name: run.overrides for run in method_runs(["full", "lora", "lora@1e-3"], ["a"], 5)}
    assert runs["full"] == ("adapter.method=none", "training.draws=5")
    assert runs["lora"] == ("adapter.method=lora", "training.draws=5")
    assert runs["lora@1e-3"] == ("adapter.method=lora", "training.learning_rate=0.001", "training.draws=5")


def test_a_study_of_data_takes_parts_of_the_rows_also_of_tasks_in_mixtures(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("tasks: [a.yaml, {mixture: m, tasks: [b.yaml, {task: c.yaml, cap: 9}]}]\n", encoding="utf-8")
    recipe, rows = load_recipe(path), {"a": 80, "b": 160, "c": 17}
    runs = data_runs(recipe, rows, 50)
    assert [run.name for run in runs] == ["1-of-8", "1-of-4", "1-of-2", "all"]
    assert [run.rows for run in runs] == [(10, 20, 2), (20, 40, 4), (40, 80, 8), (80, 160, 17)]
    first, mixture = load_recipe(path, list(runs[1].overrides)).model_dump()["tasks"]
    assert (first["train_rows"], mixture["tasks"][1]["train_rows"]) == (20, 4)
    assert mixture["tasks"][1]["cap"] == 9
    assert [run.rows for run in data_runs(recipe, rows, 50, "b")] == [(80, part, 17) for part in (20, 40, 80, 160)]
    with pytest.raises(FlantuneError, match="does not train on"):
        data_runs(recipe, rows, 50, "d")
    with pytest.raises(FlantuneError, match="at least 16"):
        data_runs(recipe, {**rows, "a": 15}, 50)


def side(right):
    """A model's answers, right in as many of 40 rows a task as said."""
    rows = {
        task: [
            {
                **{"row": f"{task}{i}", "template": "t", "template_kind": "seen", "exemplars": [], "prompt": f"{i}"},
                **{"prediction": "yes" if i < n else "no", "references": ["yes"], "finished": True},
                "choice_scores": None,
            }
            for i in range(40)
        ]
        for task, n in right.items()
    }
    decoding = {"evaluate_by": "generation", "max_new_tokens": 3, "method": "greedy", "version": 1}
    settings = {"model": "m", "system": "", "precision": "float32", "batch_tokens": 9}
    tasks = tuple(TaskAnswers(t, "c", "trained", ("exact_match",), decoding, rows[t], {}) for t in right)
    return Side(settings, tasks)


def test_the_matrix_says_who_helps_and_who_hurts_and_what_one_model_does(tmp_path):
    runs = transfer_runs(three_tasks(tmp_path), ["a", "b", "c"], 50)
    sides = {
        "all": side({"a": 30, "b": 20, "c": 20}),
        "alone-1": side({"a": 10, "b": 0, "c": 0}),
        "alone-2": side({"a": 0, "b": 20, "c": 0}),
        "alone-3": side({"a": 0, "b": 0, "c": 20}),
        "without-1": side({"a": 30, "b": 0, "c": 20}),  # without a, b loses: a helps b
        "without-2": side({"a": 30, "b": 20, "c": 40}),  # without b, c gains: b hurts c
        "without-3": side({"a": 30, "b": 20, "c": 20}),
    }
    made = transfer_result(side({"a": 0, "b": 0, "c": 0}), sides, runs, Resampling(199, None, 1))
    effects = {(each["source"], each["task"]): each for each in made["helps"]}
    assert {pair for pair, each in effects.items() if each["verdict"] == "helps"} == {("a", "b")}
    assert {pair for pair, each in effects.items() if each["verdict"] == "hurts"} == {("b", "c")}
    assert effects["a", "b"]["difference"] == 50
    assert effects["b", "c"]["difference"] == -50
    assert all(each["ci"][0] <= each["difference"] <= each["ci"][1] for each in made["helps"])
    assert {e["task"]: e["difference"] for e in made["together"]["tasks"]} == {"a": 50, "b": 0, "c": 0}
    assert made["answer"].startswith("One model:")
    page = study_page(tmp_path, runs, made)
    with open_browser() as browser:
        opened = browser.new_page()
        opened.goto(page.as_uri())
        cells = [text.split("\n") for text in opened.locator(".matrix td").all_inner_texts()]
        assert [cell[0][0] for cell in cells] == [*"·▲·", *"··▼", *"···"]
        assert cells[1] == ["▲ +50.0", interval(effects["a", "b"]["ci"], "0-100"), "helps"]
        assert opened.locator(".matrix td.own").count() == 3
        assert opened.locator(".matrix tbody th").all_inner_texts() == ["a", "b", "c"]
        for width, scheme in product((390, 1440), ("light", "dark")):
            opened.set_viewport_size({"width": width, "height": 900})
            opened.emulate_media(color_scheme=scheme)
            assert violations(opened) == []
    fewer = {name: made for name, made in sides.items() if name != "alone-2"}
    assert "not answered yet" in transfer_result(sides["alone-1"], fewer, runs, Resampling(99, None, 1))["answer"]


def test_what_a_cluster_brings_is_told_of_every_task_and_set_apart_from_its_own(tmp_path):
    runs = transfer_runs(three_tasks(tmp_path), ["a", "b", "c"], 50, ["first", "second", "first"])
    counts = {"all": (30, 20, 20), "alone-2": (2, 20, 0), "without-2": (30, 0, 40)}
    sides = {name: side(dict(zip("abc", right, strict=True))) for name, right in counts.items()}
    made = transfer_result(side({"a": 0, "b": 0, "c": 0}), sides, runs, Resampling(199, None, 1))
    told = [(each["source"], each["task"], each["verdict"], each["own"]) for each in made["helps"]]
    assert told == [
        ("first", "a", "helps", True),
        ("first", "b", "no difference shown", False),
        ("first", "c", "helps", True),
        ("second", "a", "no difference shown", False),
        ("second", "b", "helps", True),
        ("second", "c", "hurts", False),
    ]


def study_page(folder, runs, made):
    told = [{"name": run.name, "tasks": [], "saved_bytes": None} for run in runs]
    return write_study_report(folder, {"kind": "transfer", "draws": 9, "missing": [], "runs": told, **made})


def test_what_more_rows_bring_is_foretold_from_runs_and_the_forecast_of_the_largest_is_checked(tmp_path):
    runs = data_runs(three_tasks(tmp_path), {"a": 800, "b": 800, "c": 800}, 50)
    # a: wrong answers fall by a quarter where rows double; b: they stay; c: none is left.
    right = {"1-of-8": (10, 20, 40), "1-of-4": (17, 21, 40), "1-of-2": (23, 20, 40), "all": (27, 20, 40)}
    sides = {name: side(dict(zip("abc", counts, strict=True))) for name, counts in right.items()}
    made = data_result(side({"a": 0, "b": 0, "c": 0}), sides, runs, Resampling(999, None, 1))
    a, b, c = made["curves"]
    assert [point["rows"] for point in a["points"]] == [100, 200, 400, 800]
    assert a["exponent"] == pytest.approx(-0.41, abs=0.02)
    assert a["check"]["held"]
    assert a["check"]["expected"] == pytest.approx(67.9, abs=1)
    assert a["more"]["interval"][0] < a["more"]["gain"] < a["more"]["interval"][1]
    assert a["more"]["gain"] > 5
    assert abs(b["more"]["gain"]) < 1
    assert c["more"] is None
    assert c["check"] is None
    assert "of c would bring cannot be told: a run has no error left" in made["answer"]
    assert "held on 2 of 2 tasks" in made["answer"]
    told = [{"name": run.name, "tasks": [], "saved_bytes": None} for run in runs]
    path = write_study_report(tmp_path, {"kind": "data", "draws": 9, "missing": [], "runs": told, **made})
    assert "What would more rows bring?" in path.read_text(encoding="utf-8")


def test_a_study_of_data_without_its_last_run_foretells_from_the_others_and_checks_nothing(tmp_path):
    runs = data_runs(three_tasks(tmp_path), {"a": 800, "b": 800, "c": 800}, 50)
    sides = {name: side({"a": n, "b": n, "c": n}) for name, n in (("1-of-8", 9), ("1-of-4", 16), ("1-of-2", 22))}
    made = data_result(side({"a": 0, "b": 0, "c": 0}), sides, runs, Resampling(199, None, 1))
    assert all(curve["check"] is None and curve["more"]["gain"] > 0 for curve in made["curves"])
    del sides["1-of-8"]
    made = data_result(side({"a": 0, "b": 0, "c": 0}), sides, runs, Resampling(199, None, 1))
    assert all(curve["why"] == "there are fewer than three runs" for curve in made["curves"])


@pytest.mark.parametrize(
    ("verdicts", "begins"),
    [("worse", "One per task"), ("better worse", "It depends"), ("equivalent", "Not decided")],
)
def test_the_answer_says_no_more_than_was_shown(verdicts, begins):
    assert answer([{"task": word, "verdict": word} for word in verdicts.split()]).startswith(begins)


@pytest.mark.slow
def test_a_study_goes_on_after_a_kill_names_what_did_not_fit_and_keeps_finished_runs(tmp_path):
    recipe, cache, out = write_recipe(tmp_path), tmp_path / "cache", tmp_path / "study"
    asked = ("study", "methods", recipe, "--methods", "full,lora@1e-3", "--out", out)
    none = flantune(*asked, "--minutes", 0, "--json", cache=cache)
    assert json.loads(none.stdout)["missing"] == ["base", "full", "lora@1e-3"], none.stderr
    environment = {**os.environ, "FLANTUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [warm_python(), "-m", "flantune", *map(str, asked)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first = out / "evaluation" / "full" / "settings.json"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    weights = out / "runs" / "full" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    done = flantune(*asked, "--json", cache=cache)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["missing"] == []
    assert weights.stat().st_mtime_ns == before
    assert set(made["against_base"]) == {"full", "lora@1e-3"}
    assert set(made["against_first"]) == {"lora@1e-3"}
    full, lora = made["runs"]
    assert lora["saved_bytes"] < full["saved_bytes"]
    assert full["seconds"] > 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "What kind of tuning?" in page
    assert "http" not in page.replace("http-equiv", "")
    other = flantune("study", "methods", recipe, "--methods", "full,ia3", "--out", out, cache=cache)
    assert other.returncode == 2
    assert "another study" in other.stderr


@pytest.mark.slow
def test_a_study_that_is_stopped_stops_the_run_in_progress_once_it_is_saved(tmp_path):
    recipe, cache, out = write_recipe(tmp_path), tmp_path / "cache", tmp_path / "study"
    asked = ("study", "methods", recipe, "training.draws=4000", "training.checkpoint_every=1", "--out", out)
    environment = {**os.environ, "FLANTUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [warm_python(), "-m", "flantune", *map(str, asked)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    checkpoints = out / "runs" / "full" / "checkpoints"
    while not list(checkpoints.glob("step-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143, said
    assert said.splitlines()[-1] == "stopped by SIGTERM; the same command goes on"
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no process of it is left
    assert "stopped by SIGTERM; go on with:" in (out / "full.log").read_text(encoding="utf-8")
    assert list(checkpoints.glob("step-*"))


@pytest.mark.slow
def test_a_transfer_study_ends_in_an_answer(tmp_path):
    recipe, out = write_recipe(tmp_path), tmp_path / "study"
    done = flantune("study", "transfer", recipe, "training.draws=16", "--out", out, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    made = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert made["missing"] == []
    assert made["draws"] == 16
    assert [entry["task"] for entry in made["together"]["tasks"]] == ["words", "verdict"]
    assert made["answer"] in (out / "report.html").read_text(encoding="utf-8")


def test_a_study_of_seeds_changes_nothing_but_the_seed(tmp_path):
    recipe = three_tasks(tmp_path)
    runs = seed_runs(recipe, ["a", "b", "c"], 50, 3)
    assert [run.overrides for run in runs] == [(f"seed={seed}", "training.draws=50") for seed in (0, 1, 2)]
    with pytest.raises(FlantuneError, match="--seeds"):
        seed_runs(recipe, ["a"], 50, 1)


def test_over_seeds_what_one_run_shows_is_shown_only_where_the_others_agree(tmp_path):
    base = side({"a": 10, "b": 10, "c": 10})
    counts = {"seed-0": (30, 30, 10), "seed-1": (31, 10, 10), "seed-2": (29, 2, 10)}
    sides = {name: side(dict(zip("abc", right, strict=True))) for name, right in counts.items()}
    made = seeds_result(base, sides, [], Resampling(499, None, 1))
    a, b, c = made["seeds"]
    assert (a["verdict"], b["verdict"], c["verdict"]) == ("better", "no difference shown", "no difference shown")
    assert a["difference"] == 50
    assert b["runs"] == [50, 0, -20]
    assert b["runs_sd"] > b["rows_sd"]
    assert c["ci"] == [0, 0]
    assert made["answer"] == (
        "Over 3 seeds, as any other run on any other rows: shown to be better on a. "
        "Runs differ by more than the rows explain on b."
    )
    assert seeds_result(base, {"seed-0": sides["seed-0"]}, [], Resampling(99, None, 1))["seeds"] is None


@pytest.mark.parametrize("runs_sd", [0.0, 1.0, 4.0])
def test_intervals_over_seeds_hold_another_run_on_other_rows_as_often_as_they_say(runs_sd):
    dice, rows, held, shown = np.random.default_rng(0), 60, [], []
    for _ in range(2000):
        by_row = dice.normal(0, 10, rows)  # what the rows bring to all runs, drawn from all rows there are
        runs = [by_row + dice.normal(0, runs_sd) + dice.normal(0, 5, rows) for _ in range(3)]
        found = effect([run.mean() for run in runs], [run.std(ddof=1) / np.sqrt(rows) for run in runs], rows)
        held.append(found.low <= 0 <= found.high)
        shown.append(found.p < 0.05)
    assert 0.93 <= np.mean(held) <= 0.985
    assert np.mean(shown) == pytest.approx(1 - np.mean(held))


@pytest.mark.slow
def test_a_study_of_seeds_ends_in_intervals_over_them(tmp_path):
    recipe, out = write_recipe(tmp_path), tmp_path / "study"
    done = flantune("study", "seeds", recipe, "training.draws=16", "--seeds", 2, "--out", out, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    made = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [run["name"] for run in made["runs"]] == ["seed-0", "seed-1"]
    assert [entry["task"] for entry in made["seeds"]] == ["words", "verdict", "other"]
    assert "Does it hold for another seed?" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_study_of_data_ends_in_a_forecast(tmp_path):
    recipe, out = write_recipe(tmp_path), tmp_path / "study"
    asked = ("study", "data", recipe, "training.draws=16", "--task", "words", "--out", out)
    done = flantune(*asked, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    made = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert made["missing"] == []
    assert [run["rows"] for run in made["runs"]] == [[5, 40], [10, 40], [20, 40], [40, 40]]
    (curve,) = made["curves"]
    assert [point["rows"] for point in curve["points"]] == [5, 10, 20, 40]
    assert "examples of words would bring" in made["answer"]


@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_gives_its_tables_the_room_there_is_and_scrolls_only_inside_them(tmp_path, width):
    entry = {"task": "<b>t</b>", "metric": "rouge1", "unit": "0-100", "n": 9, "base": 1.0, "tuned": 6.0}
    entry |= {"difference": 5.0, "ci": [2.0, 8.0], "verdict": "better"}
    run = {"name": "all", "tasks": ["<b>t</b>"], "seconds": 1.0, "memory_gb": 1.0, "saved_bytes": 9}
    made = {"kind": "methods", "draws": 9, "missing": [], "runs": [run], "against_base": {"all": {"tasks": [entry]}}}
    path = write_study_report(tmp_path, made)
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(path.as_uri())
        assert page.evaluate("document.querySelector('main').clientWidth") > 0.6 * width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("td b").count() == 0
