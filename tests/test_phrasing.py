"""How much scores depend on the phrasing: each row asked in all of them, and mean, worst and spread of the scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flantune as api
from flantune import Recipe
from flantune.evaluation.metrics import metrics_of
from flantune.evaluation.phrasing import NAMES, over_phrasings
from flantune.evaluation.prompts import evaluation_set
from flantune.reporting.html import read_json
from flantune.tasks import Task, Template
from runs import write_recipe

ROWS = [{"x": f"test {i}", "y": f"e{i}"} for i in range(20)]
TEMPLATES = [
    Template("plain", "{{ x }} ||| {{ y }}"),
    Template("asked", "{{ x }}? ||| {{ y }}"),
    Template("other", "Say: {{ x }} ||| {{ y }}", held_out=True),
]


def task(metric="exact_match"):
    return Task("t", {"train": ROWS, "test": ROWS}, TEMPLATES, metrics=[metric])


@pytest.mark.parametrize("rows", [1, 7])
def test_each_asks_the_rows_of_all_in_every_phrasing(rows):
    each, turns = (
        evaluation_set(task(), split="test", rows=rows, templates=kind, seed=3).items for kind in ("each", "all")
    )
    assert [item.row for item in each] == [item.row for item in turns for _ in TEMPLATES]
    for first in range(0, len(each), 3):
        assert [item.template for item in each[first : first + 3]] == ["plain", "asked", "other"]
        assert [item.template_kind for item in each[first : first + 3]] == ["seen", "seen", "held_out"]
    assert all(item in each for item in turns)


def asked(rows, phrasings):
    return [{"row": str(row), "template": f"t{at}"} for row in range(rows) for at in range(phrasings)]


def answered(by, numbers):
    return np.stack([by.statistics(str(number), ["2"], None, None) for number in numbers])


def over(by, sides, questions, seed=0):
    groups = [row["row"] for row in questions]
    return over_phrasings(by, sides, questions, groups=groups, resamples=200, seed=seed) or {}


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(2, 12),
    phrasings=st.integers(2, 5),
    metric=st.sampled_from(["exact_match", "mean_absolute_error"]),
    seed=st.integers(0, 99),
)
def test_mean_worst_and_spread_are_those_of_the_scores_by_phrasing(rows, phrasings, metric, seed):
    by = metrics_of(task(metric))[0]
    questions, random = asked(rows, phrasings), np.random.default_rng(seed)
    sides = {side: answered(by, random.integers(0, 5, len(questions))) for side in ("base", "tuned")}
    told = over(by, sides, questions, seed)
    assert (told["phrasings"], told["rows"]) == (phrasings, rows)
    for side, stats in sides.items():
        scores = [float(by.score(stats[at::phrasings].sum(axis=0))) for at in range(phrasings)]
        worst = min(scores) if by.higher_is_better else max(scores)
        plain = {"mean": np.mean(scores), "worst": worst, "spread": max(scores) - min(scores)}
        for name in NAMES:
            assert told[side][name]["score"] == pytest.approx(plain[name], abs=1e-9)
            low, high = told[side][name]["ci"]
            assert low <= high
            if name != "mean":
                assert low - 1e-9 <= told[side][name]["score"] <= high + 1e-9
            assert low >= 0
            assert high <= 100 or metric != "exact_match"
    for name in NAMES:
        difference = told["tuned"][name]["score"] - told["base"][name]["score"]
        assert told["difference"][name]["score"] == pytest.approx(difference, abs=1e-9)


def test_one_phrasing_a_row_says_nothing_of_spread():
    by = metrics_of(task())[0]
    turns = asked(6, 2)[::2] + asked(6, 2)[1:2]
    for questions in (turns, asked(6, 1)):
        stats = answered(by, [2] * len(questions))
        assert over(by, {"base": stats, "tuned": stats}, questions) == {}


def test_a_model_that_fails_in_one_phrasing_has_a_worst_and_a_spread_that_say_so():
    by = metrics_of(task())[0]
    questions = asked(10, 4)
    base = answered(by, [0 if row["template"] == "t3" else 2 for row in questions])
    told = over(by, {"base": base, "tuned": answered(by, [2] * 40)}, questions)
    assert {name: told["base"][name]["score"] for name in NAMES} == {"mean": 75, "worst": 0, "spread": 100}
    assert {name: told["tuned"][name]["score"] for name in NAMES} == {"mean": 100, "worst": 100, "spread": 0}
    assert told["difference"]["spread"] == {"score": -100, "ci": [-100, -100]}


def test_intervals_hold_mean_worst_and_spread_of_phrasings_that_differ():
    by, rows, phrasings, tries = metrics_of(task())[0], 30, 8, 100
    right, wrong = answered(by, [2, 0])
    questions, easier = asked(rows, phrasings), np.linspace(-1.5, 1.5, phrasings)

    def chances(random, count):
        return 1 / (1 + np.exp(-random.normal(0, 1.5, count)[:, None] - easier))

    true = 100 * chances(np.random.default_rng(1), 100_000).mean(0)
    held = {"mean": 0, "worst": 0, "spread": 0}
    for number in range(tries):
        random = np.random.default_rng(number)
        sides = {
            side: np.where((random.random((rows, phrasings)) < chances(random, rows)).reshape(-1, 1), right, wrong)
            for side in ("base", "tuned")
        }
        told = over(by, sides, questions, number)["tuned"]
        for name, value in (("mean", true.mean()), ("worst", true.min()), ("spread", true.max() - true.min())):
            low, high = told[name]["ci"]
            held[name] += low <= value <= high
    assert held["mean"] >= 90
    assert held["worst"] >= 80
    assert held["spread"] >= 85


def test_a_run_that_asks_each_phrasing_tells_of_them_in_comparison_and_report(tmp_path, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.load(write_recipe(tmp_path), ["evaluation.templates=each", "evaluation.rows=4"])
    run = api.train(recipe)
    api.compare(run)
    entry = next(entry for entry in read_json(run / "comparison.json")["tasks"] if entry["task"] == "verdict")
    told = entry["over_phrasings"]
    assert (told["rows"], told["phrasings"]) == (entry["n"], len(entry["by_template"])) == (4, 3)
    assert entry["rows"] == 12
    scores = [each["tuned"] for each in entry["by_template"].values()]
    assert told["tuned"]["worst"]["score"] == pytest.approx(min(scores))
    assert "Each of 4 rows in all 3 phrasings" in (run / "report.html").read_text()
