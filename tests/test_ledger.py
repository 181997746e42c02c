"""The ledger: what is called unseen was not trained on, and test rows do not stand in training."""

from __future__ import annotations

import shutil

import pytest

from flantune.errors import FlantuneError
from flantune.mixture.ledger import check_origins, leaks, repeated_names
from flantune.tasks.task import load_task
from small_mixture import made_task, member

ROW = {"text": "x", "label": "y"}
TEMPLATE = ["{{ text }} ||| {{ label }}"]
EIGHT = "one two three four five six seven eight"


@pytest.fixture
def task(tmp_path):
    """Makes a task of these rows and fields."""
    return lambda name, rows=(ROW,), **fields: made_task(tmp_path, name, list(rows), TEMPLATE, **fields)


# Origins


def test_an_unseen_task_that_shares_an_origin_with_a_trained_one_is_refused(task):
    trained = [task("reviews", origins=["yelp"]), task("intent", origins=["banking77", "imdb"])]
    unseen = [task("other", origins=["trec"]), task("sentiment", origins=["sst2", "imdb"])]
    with pytest.raises(FlantuneError) as told:
        check_origins(trained, unseen)
    assert str(told.value) == (
        "unseen task sentiment shares its origin imdb with the trained task intent; "
        "hold both out, or do not call it unseen"
    )


def test_origins_apart_are_no_mistake(task):
    check_origins([task("reviews", origins=["yelp"]), task("more", origins=["yelp"])], [task("mails", origins=["x"])])
    check_origins([task("reviews", origins=["yelp"])], [])
    check_origins([], [task("mails", origins=["yelp"]), task("letters", origins=["yelp"])])


def test_tasks_without_origins_share_none(task):
    check_origins([task("reviews")], [task("mails")])


# Names


def test_two_tasks_of_one_name_are_refused_with_both_files(task, tmp_path):
    first = task("mails")
    second = made_task(tmp_path / "deep", "mails", [ROW], TEMPLATE)
    with pytest.raises(FlantuneError) as told:
        repeated_names([task("other"), first, second])
    assert str(told.value) == (
        f"{tmp_path}/deep/mails.yaml: two tasks are called mails; rename one (the other is in {tmp_path}/mails.yaml)"
    )


def test_a_task_that_stands_twice_is_refused_however_its_path_is_written(task, tmp_path):
    first = task("mails")
    (tmp_path / "deep").mkdir()
    for again in (load_task(tmp_path / "mails.yaml"), load_task(tmp_path / "deep" / ".." / "mails.yaml"), first):
        with pytest.raises(FlantuneError) as told:
            repeated_names([first, task("other"), again])
        assert str(told.value) == (
            "task mails stands twice among `tasks` and `unseen`; trained tasks are evaluated anyway, so remove one"
        )


def test_a_copy_of_a_task_file_is_another_file(task, tmp_path):
    first = task("mails")
    shutil.copy(tmp_path / "mails.yaml", tmp_path / "copy.yaml")
    with pytest.raises(FlantuneError, match="two tasks are called mails"):
        repeated_names([first, load_task(tmp_path / "copy.yaml")])


def test_tasks_of_different_names_are_no_mistake(task):
    repeated_names([task("mails"), task("letters"), task("mails-urgent")])
    repeated_names([])


# Leaks


def test_an_evaluation_row_that_stands_in_training_is_told(task):
    trained = task("mails", [{"text": EIGHT, "label": "yes"}, {"text": "another text", "label": "no"}])
    evaluated = task("letters", [{"text": EIGHT, "label": "no"}, {"text": "one two three", "label": "no"}])
    assert leaks([member(trained)], [(evaluated, evaluated.split("train").rows)]) == [
        "letters: 1 of 2 evaluation rows share a text with training rows of mails"
    ]


def test_case_and_white_space_do_not_hide_a_leak(task):
    trained = task("mails", [{"text": EIGHT, "label": "yes"}])
    again = {"text": "  One TWO\nthree   four\tfive six seven\u00a0eight ", "label": "no"}
    assert len(leaks([member(trained)], [(trained, [again])])) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"text": EIGHT + " nine"},
        {"text": EIGHT.replace("eight", "acht")},
        {"text": EIGHT.removeprefix("one ")},
        {"text": [EIGHT]},
        {"text": None, "number": 8},
    ],
)
def test_another_text_is_no_leak(row, task):
    assert leaks([member(task("mails", [{"text": EIGHT, "label": "yes"}]))], [(task("letters"), [row])]) == []


def test_texts_of_less_than_eight_words_are_too_common_to_tell(task):
    seven = {"text": EIGHT.removesuffix(" eight"), "label": "yes"}
    assert leaks([member(task("mails", [seven]))], [(task("letters"), [seven])]) == []


def test_a_text_in_another_field_is_a_leak_too(task):
    trained = task("mails", [{"text": "short", "label": EIGHT}])
    assert len(leaks([member(trained)], [(task("letters"), [{"question": EIGHT}])])) == 1


def test_each_evaluated_task_names_the_tasks_that_it_meets_in_order(task):
    nine = EIGHT + " nine"
    trained = [task("sums", [{"text": nine, "label": "a"}]), task("mails", [{"text": EIGHT, "label": "a"}])]
    rows = [{"text": EIGHT}, {"text": nine}, {"text": nine}, {"text": "new"}]
    told = leaks([member(it) for it in trained], [(task("letters"), rows), (task("other"), [{"text": "new"}])])
    assert told == ["letters: 3 of 4 evaluation rows share a text with training rows of mails, sums"]


def test_only_rows_that_are_trained_on_can_leak(task):
    trained = task("mails", [{"text": EIGHT, "label": "yes"}, {"text": "new", "label": "no"}])
    given = trained.split("train")
    fewer = member(trained)
    fewer = type(fewer)(trained, type(given)(given.rows[1:], given.places[1:]))
    assert leaks([fewer], [(trained, [{"text": EIGHT}])]) == []
