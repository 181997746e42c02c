"""The ledger in whole runs: in the plan before training, in the scores and the report after it."""

from __future__ import annotations

import json
import sys

import pytest

import flantune as api
from flantune import Recipe
from flantune.cli import main
from flantune.preparation import prepare
from runs import write_recipe

LEAKED = ("0", "3")  # rows of the test split of `words` that stand among its training rows too


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe in whose task `words` two test rows stand among the training rows, and one training row twice."""
    folder = tmp_path_factory.mktemp("ledger")
    write_recipe(folder)
    test = (folder / "words-test.jsonl").read_text(encoding="utf-8").splitlines()
    train = (folder / "words-train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [*train, *(test[int(row)] for row in LEAKED), train[7]]
    (folder / "words-train.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        yield folder


def planned(folder, *arguments):
    return prepare(Recipe.load(folder / "recipe.yaml", arguments)).plan


def test_the_plan_names_the_rows_in_common_and_the_duplicates_with_their_lines(folder):
    ledger = planned(folder)["ledger"]
    # The made-up texts of `other` are those of `words`, whose name is as long.
    assert ledger["flagged"] == {"words": list(LEAKED), "other": list(LEAKED)}
    pair = ledger["contamination"][0]
    assert (pair["trained"], pair["evaluated"], pair["training_rows"], pair["of"]) == ("words", "words", 2, 12)
    assert [(it["place"], it["training_place"]) for it in pair["shown"]] == [
        (f"{folder}/words-test.jsonl:1", f"{folder}/words-train.jsonl:41"),
        (f"{folder}/words-test.jsonl:4", f"{folder}/words-train.jsonl:42"),
    ]
    assert ledger["duplicates"] == [
        {
            "task": "words",
            "of": "words",
            "exact": 1,
            "near": 0,
            "shown": [{"place": f"{folder}/words-train.jsonl:43", "repeats": f"{folder}/words-train.jsonl:8"}],
        }
    ]
    assert ledger["licences"][0] == {"task": "words", "license": None}


def test_rows_that_the_recipe_leaves_out_are_not_drawn(folder):
    plan = planned(folder, "ledger.decontaminate=drop", "ledger.duplicates=drop")
    assert [task["rows"] for task in plan["tasks"]] == [40, 40]
    assert plan["ledger"]["left_out"] == [{"task": "words", "rows": 43, "overlapping": 2, "duplicates": 1}]
    assert plan["ledger"]["flagged"] == {}
    assert [task["rows"] for task in planned(folder)["tasks"]] == [43, 40]


def test_the_plan_on_the_terminal_shows_the_text_in_common_and_the_licences(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flantune", "plan", str(folder / "recipe.yaml")])
    with pytest.raises(SystemExit, match="0"):
        main()
    out = " ".join(capsys.readouterr().out.split())
    assert "words: 2 of 12 evaluation rows have text in common with training rows of words" in out
    assert 'same question, 5 words: "knoll knoll knoll test 0"' in out
    assert "training rows of words that repeat rows of words: 1 exactly" in out
    assert "licences: not stated (words, verdict, other)" in out


@pytest.fixture(scope="module")
def run(folder):
    run = api.train(Recipe.load(folder / "recipe.yaml"))
    api.compare(run)
    return run


def test_scores_are_told_without_the_rows_in_common_too(run):
    entries = json.loads((run / "comparison.json").read_text())["tasks"]
    assert [(it["task"], it["flagged"] is not None) for it in entries if it["main"]] == [
        ("words", True),
        ("verdict", False),
        ("other", True),
    ]
    told = next(it for it in entries if it["task"] == "words" and it["metric"] == "exact_match")
    assert told["n"] == 12
    assert (told["flagged"]["n"], told["flagged"]["without"]["n"]) == (2, 10)
    for side in ("base", "tuned"):
        rows = [json.loads(line) for line in (run / "evaluation" / side / "words.jsonl").read_text().splitlines()]
        left = [row["scores"]["exact_match"] for row in rows if row["row"] not in LEAKED]
        assert told["flagged"]["without"][side] == pytest.approx(sum(left) / 10)


def test_report_and_card_tell_them(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "words-test.jsonl:1 and words-train.jsonl:41" in page
    assert str(run.parent) not in page[page.index('id="ledger"') : page.index('id="answers"')]
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "- words: 2 of 12 evaluation rows have text in common with training rows of words." in card
    assert "- words without them, 10 rows: rouge1" in card


def test_a_run_whose_plan_knows_no_ledger_can_still_be_compared(run):
    plan = json.loads((run / "plan.json").read_text())
    del plan["ledger"]
    (run / "plan.json").write_text(json.dumps(plan))
    assert {entry["flagged"] is None for entry in api.compare(run)["tasks"]} == {True}
