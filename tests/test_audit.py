"""The audit: what is found is told with its places, left out where the recipe says so, and looked for once."""

from __future__ import annotations

import json

import pytest

from flantune import cache
from flantune.errors import FlantuneError
from flantune.mixture import audit as audit_module
from flantune.mixture.audit import Evaluated, audit
from flantune.mixture.window import Member
from flantune.tasks.task import Task

WORDS = [f"w{i}" for i in range(40)]


def said(start: int, end: int) -> str:
    return " ".join(WORDS[start:end])


def member(name: str, *texts: str, **fields) -> Member:
    """A trained task of these texts."""
    task = Task(
        name, {"train": [{"text": text, "label": "x"} for text in texts]}, ["{{ text }} ||| {{ label }}"], **fields
    )
    return Member(task, task.split("train"))


def evaluated(name: str, *texts: str) -> Evaluated:
    """A task evaluated on these texts; rows are called e0, e1, ..."""
    task = Task(name, {"test": [{"text": text, "label": "x"} for text in texts]}, ["{{ text }} ||| {{ label }}"])
    rows = task.split("test")
    ids, places = ([f"{kind}{i}" for i in range(len(texts))] for kind in ("e", f"{name}.jsonl:"))
    return Evaluated(task, ids, list(rows), places)


@pytest.fixture
def look(tmp_path, monkeypatch):
    """The audit with a cache of its own."""
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path))
    return lambda members, asked, **rule: audit(members, asked, tmp_path / "ledgers", **rule)


MAILS = "nothing", f"{said(0, 20)} end", "same", "same"
EXAM = f"say {said(0, 20)}", "other", f"{said(5, 20)} more", "same"


def texts(found):
    return [[row["text"] for row in each.rows] for each in found.members]


def test_rows_in_common_are_told_with_places_and_text_and_flagged_by_their_ids(look):
    mails, exam = member("mails", *MAILS), evaluated("exam", *EXAM)
    found = look([mails], [exam])
    assert found.told["contamination"] == [
        {
            "trained": "mails",
            "evaluated": "exam",
            "evaluation_rows": 3,
            "of": 4,
            "training_rows": 3,
            "shown": [
                {
                    "row": "e0",
                    "place": "exam.jsonl:0",
                    "training_place": mails.rows.place(1),
                    "kind": "words in a row",
                    "words": 20,
                    "text": said(0, 20),
                },
                {
                    "row": "e2",
                    "place": "exam.jsonl:2",
                    "training_place": mails.rows.place(1),
                    "kind": "words in a row",
                    "words": 15,
                    "text": said(5, 20),
                },
                {
                    "row": "e3",
                    "place": "exam.jsonl:3",
                    "training_place": mails.rows.place(2),
                    "kind": "same question",
                    "words": 1,
                    "text": "same",
                },
            ],
        }
    ]
    assert found.told["flagged"] == {"exam": ["e0", "e2", "e3"]}
    assert found.warnings[0] == (
        "exam: 3 of 4 evaluation rows have text in common with training rows of mails; see which, and leave these "
        "training rows out with ledger.decontaminate: drop"
    )
    assert found.members == (mails,)


def test_long_text_in_common_is_shown_by_its_beginning(look):
    text = " ".join(f"word{i}" for i in range(80))
    shown = look([member("mails", text)], [evaluated("exam", text)]).told["contamination"][0]["shown"][0]
    assert (shown["words"], shown["text"].split()[-2:]) == (80, ["word59", "..."])


def test_training_rows_with_text_of_evaluation_rows_are_left_out(look):
    found = look([member("mails", *MAILS), member("clean", "fine")], [evaluated("exam", *EXAM)], decontaminate="drop")
    assert texts(found) == [["nothing"], ["fine"]]
    assert found.told["left_out"] == [{"task": "mails", "rows": 4, "overlapping": 3, "duplicates": 0}]
    assert found.told["contamination"][0]["training_rows"] == 3
    assert found.told["flagged"] == {}
    assert not any("evaluation rows" in warning for warning in found.warnings)
    assert look(found.members, [evaluated("exam", *EXAM)]).told["contamination"] == []


def test_duplicates_are_counted_told_and_left_out_where_the_recipe_says_so(look):
    members = [member("mails", *MAILS, said(0, 40)), member("more", "same", f"{said(0, 40)} end", "own")]
    found = look(members, [])
    assert [{k: v for k, v in it.items() if k != "shown"} for it in found.told["duplicates"]] == [
        {"task": "mails", "of": "mails", "exact": 1, "near": 0},
        {"task": "more", "of": "mails", "exact": 1, "near": 1},
    ]
    assert found.told["duplicates"][1]["shown"][0] == {
        "place": members[1].rows.place(1),
        "repeats": members[0].rows.place(4),
    }
    assert found.warnings == [
        "mails: 1 of 5 training rows repeat rows of mails; leave them out with ledger.duplicates: drop",
        "more: 2 of 3 training rows repeat rows of mails; leave them out with ledger.duplicates: drop",
    ]
    dropped = look(members, [], duplicates="drop")
    assert texts(dropped) == [["nothing", MAILS[1], "same", said(0, 40)], ["own"]]
    assert dropped.told["left_out"] == [
        {"task": "mails", "rows": 5, "overlapping": 0, "duplicates": 1},
        {"task": "more", "rows": 3, "overlapping": 0, "duplicates": 2},
    ]
    assert dropped.warnings == []


def test_few_duplicates_are_counted_without_a_warning(look):
    found = look([member("mails", *(f"row {i % 99}" for i in range(100)))], [])
    assert found.told["duplicates"][0]["exact"] == 1
    assert found.warnings == []


def test_duplicates_are_looked_for_among_the_rows_that_are_left(look):
    found = look([member("mails", *MAILS)], [evaluated("exam", *EXAM)], decontaminate="drop", duplicates="drop")
    assert found.told["duplicates"] == []
    assert found.told["left_out"] == [{"task": "mails", "rows": 4, "overlapping": 3, "duplicates": 0}]


def test_what_is_skipped_is_not_looked_for(look):
    found = look([member("mails", *MAILS)], [evaluated("exam", *EXAM)], decontaminate="skip", duplicates="skip")
    assert found.told == {"contamination": None, "flagged": {}, "duplicates": None, "left_out": []}
    assert found.warnings == []


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"decontaminate": "drop"},
            "task again mails: task again has no training rows left: all 1 hold text of evaluation rows; remove the "
            "task, or set ledger.decontaminate: report",
        ),
        (
            {"duplicates": "drop"},
            "task again mails: task again has no training rows left: all 1 repeat other rows; remove the task, or set "
            "ledger.duplicates: keep",
        ),
    ],
)
def test_a_task_of_which_no_row_is_left_is_a_mistake(look, rule, message):
    with pytest.raises(FlantuneError) as told:
        look([member("mails", "a text", "same"), member("again", "same")], [evaluated("exam", "same")], **rule)
    assert str(told.value) == message.replace("task again mails", "task again")


def test_two_rows_of_one_id_are_flagged_once(look):
    exam = evaluated("exam", "same", "same")
    found = look([member("mails", "same", "x")], [Evaluated(exam.task, ["id", "id"], exam.rows, exam.places)])
    assert found.told["flagged"] == {"exam": ["id"]}


def test_the_result_is_kept_and_found_again_until_a_row_or_what_is_shown_of_it_changes(look, tmp_path, monkeypatch):
    calls = []
    for name in ("overlaps", "repeats"):
        made = getattr(audit_module, name)
        monkeypatch.setattr(audit_module, name, lambda *a, name=name, made=made: (calls.append(name), made(*a))[1])
    first = look([member("mails", *MAILS)], [evaluated("exam", *EXAM)])
    again = look([member("mails", *MAILS)], [evaluated("exam", *EXAM)])
    assert calls == ["overlaps", "repeats"]
    assert json.dumps(first.told) == json.dumps(again.told)
    assert {entry.kind for entry in cache.entries()} == {"ledgers"}
    look([member("mails", *MAILS, "new")], [evaluated("exam", *EXAM)])
    assert calls == ["overlaps", "repeats"] * 2
    look([member("mails", *MAILS)], [evaluated("exam", *EXAM, "new")])
    assert calls == [*["overlaps", "repeats"] * 2, "overlaps"]
