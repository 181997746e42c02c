"""The ledger: which tasks may stand beside each other, by name, origin and licence; each mistake with its line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flantune.errors import FlantuneError, Place
from flantune.mixture.ledger import Allowed, Listed, check_licences, check_names, check_origins
from flantune.preparation import check_ledger, tasks_of, trained_tasks
from flantune.recipe import Recipe, load_recipe
from flantune.tasks.task import Task, load_task
from small_mixture import made_task

ROW = {"text": "x", "label": "y"}
TEMPLATE = ["{{ text }} ||| {{ label }}"]


@pytest.fixture
def task(tmp_path):
    """Makes a task of these fields."""
    return lambda name, **fields: made_task(tmp_path, name, [ROW], TEMPLATE, **fields)


def listed(*tasks):
    return [Listed(it, f"recipe.yaml:{line}") for line, it in enumerate(tasks, start=1)]


def told(call, *arguments):
    with pytest.raises(FlantuneError) as caught:
        call(*arguments)
    return str(caught.value)


# Origins


def test_an_unseen_task_that_shares_an_origin_with_a_trained_one_is_refused(task):
    trained = listed(task("reviews", origins=["yelp"]), task("intent", origins=["banking77", "imdb"]))
    unseen = listed(task("other", origins=["trec"]), task("sentiment", origins=["sst2", "imdb"]))
    assert told(check_origins, trained, unseen) == (
        "recipe.yaml:2: unseen task sentiment shares its origin imdb with the trained task intent (recipe.yaml:2); "
        "hold both out, do not call it unseen, or allow it: ledger: {allow: [[intent, sentiment]]}"
    )


def test_a_held_out_cluster_is_named_where_none_of_its_tasks_is_trained_on(task):
    trained = listed(task("titles", origins=["samsum"], cluster="titles"))
    unseen = listed(task("summary", origins=["SAMSum"], cluster="summarization"))
    assert told(check_origins, trained, unseen).startswith(
        "recipe.yaml:1: unseen task summary of the held-out cluster summarization shares its origin SAMSum with "
    )
    trained += listed(task("news", origins=["cnn"], cluster="summarization"))
    assert "held-out cluster" not in told(check_origins, trained, unseen)


def test_origins_are_one_whatever_their_case_and_punctuation(task):
    trained = listed(task("a", origins=["Super_GLUE/WiC"]))
    assert "origin super-glue.wic with" in told(check_origins, trained, listed(task("b", origins=["super-glue.wic"])))
    assert check_origins(trained, listed(task("c", origins=["super_glue"]))) == []
    assert check_origins(listed(task("d", origins=["???"])), listed(task("e", origins=["!!!"]))) == []


def test_tasks_made_in_python_are_told_without_a_line():
    one = Task("one", {"train": [ROW]}, TEMPLATE, origins=["samsum"])
    other = Task("other", {"test": [ROW]}, TEMPLATE, origins=["samsum"])
    assert told(check_origins, [Listed(one)], [Listed(other)]) == (
        "unseen task other shares its origin samsum with the trained task one; "
        "hold both out, do not call it unseen, or allow it: ledger: {allow: [[one, other]]}"
    )


def test_origins_apart_are_no_mistake(task):
    reviews, more, mails = (
        task("reviews", origins=["yelp"]),
        task("more", origins=["yelp"]),
        task("mails", origins=["x"]),
    )
    assert check_origins(listed(reviews, more), listed(mails)) == []
    assert check_origins(listed(reviews), []) == []
    assert check_origins([], listed(reviews, more)) == []
    assert check_origins(listed(task("none")), listed(task("nothing"))) == []


def test_a_pair_that_the_recipe_allows_is_told_and_no_mistake_in_any_order(task):
    trained = listed(task("a", origins=["samsum", "imdb"]), task("b", origins=["samsum"]))
    unseen = listed(task("c", origins=["samsum", "IMDB"]))
    allowed = [Allowed(("c", "a")), Allowed(("b", "c"))]
    assert check_origins(trained, unseen, allowed) == [
        {"trained": "a", "unseen": "c", "origins": ["samsum", "IMDB"]},
        {"trained": "b", "unseen": "c", "origins": ["samsum"]},
    ]
    assert "with the trained task b" in told(check_origins, trained, unseen, allowed[:1])


def test_an_allowed_pair_of_unknown_names_is_a_mistake(task):
    allowed = [Allowed(("mails", "leters"), Place(Path("recipe.yaml"), 7))]
    assert told(check_origins, listed(task("mails")), listed(task("letters")), allowed) == (
        'recipe.yaml:7: ledger.allow: no task is called leters; did you mean "letters"? (letters, mails)'
    )


# Names


def test_two_tasks_of_one_name_are_refused_with_both_files(task, tmp_path):
    first = task("mails")
    second = made_task(tmp_path / "deep", "mails", [ROW], TEMPLATE)
    assert told(check_names, listed(task("other"), first, second)) == (
        f"{tmp_path}/deep/mails.yaml: two tasks are called mails; rename one (the other is in {tmp_path}/mails.yaml)"
    )


def test_a_task_that_stands_twice_is_refused_however_its_path_is_written(task, tmp_path):
    first = task("mails")
    (tmp_path / "deep").mkdir()
    for again in (load_task(tmp_path / "mails.yaml"), load_task(tmp_path / "deep" / ".." / "mails.yaml"), first):
        assert told(check_names, listed(first, task("other"), again)) == (
            "recipe.yaml:3: task mails stands twice among `tasks` and `unseen`; trained tasks are evaluated anyway, so "
            "remove one"
        )


def test_a_copy_of_a_task_file_is_another_file(task, tmp_path):
    first = task("mails")
    shutil.copy(tmp_path / "mails.yaml", tmp_path / "copy.yaml")
    assert "two tasks are called mails" in told(check_names, listed(first, load_task(tmp_path / "copy.yaml")))


def test_two_tasks_of_one_name_made_in_python_are_refused():
    one, other = (Task("one", {"train": [ROW]}, TEMPLATE) for _ in range(2))
    assert "two tasks are called one" in told(check_names, listed(one, other))
    assert "stands twice" in told(check_names, listed(one, one))


def test_tasks_of_different_names_are_no_mistake(task):
    check_names(listed(task("mails"), task("letters"), task("mails-urgent")))
    check_names([])


# Licences


def test_a_licence_that_is_not_allowed_is_refused_with_task_licence_and_line(task, tmp_path):
    trained = listed(task("mails", license="MIT"), task("letters", license="CC BY-NC 4.0"))
    line = (tmp_path / "letters.yaml").read_text().split("\n").index(' "license": "CC BY-NC 4.0"') + 1
    assert told(check_licences, trained, ["MIT", "Apache-2.0"]) == (
        f"{tmp_path}/letters.yaml:{line}: task letters (recipe.yaml:2) has the licence CC BY-NC 4.0, which "
        "ledger.licences.allow does not name (MIT, Apache-2.0); remove the task, or allow its licence"
    )


def test_a_task_that_states_no_licence_is_refused_where_some_are_allowed(task, tmp_path):
    assert told(check_licences, listed(task("mails")), ["MIT"]) == (
        f"{tmp_path}/mails.yaml: task mails (recipe.yaml:1) has no `license`, which ledger.licences.allow does not "
        "name (MIT); remove the task, or state its licence"
    )


def test_allowed_licences_are_no_mistake_in_any_case_and_all_are_by_default(task):
    trained = listed(task("mails", license="Apache-2.0"), task("letters", license="CC  BY 4.0"))
    check_licences(trained, ["apache-2.0", "cc by 4.0"])
    check_licences([*trained, *listed(task("none"))], None)
    assert "does not name (it is empty)" in told(check_licences, trained, [])


# Lines of the recipe


@pytest.fixture
def recipe(task, tmp_path):
    """A recipe of these lines, in which `samsum` is trained on and `prompted` is unseen, of one origin."""
    for name in ("samsum", "prompted", "mails"):
        task(name, origins=["samsum"] if name != "mails" else [], license="MIT")

    def made(text, *arguments):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, arguments)

    return made


def checked(recipe: Recipe):
    return check_ledger(recipe, trained_tasks(recipe), tasks_of(recipe.unseen, recipe))


def test_a_shared_origin_is_told_with_both_lines_of_the_recipe(recipe, tmp_path):
    text = (
        "tasks:\n  - mails.yaml\n  - mixture: dialogues\n    tasks:\n      - samsum.yaml\nunseen:\n  - prompted.yaml\n"
    )
    assert told(checked, recipe(text)) == (
        f"{tmp_path}/recipe.yaml:7: unseen task prompted shares its origin samsum with the trained task samsum "
        f"({tmp_path}/recipe.yaml:5); hold both out, do not call it unseen, or allow it: "
        "ledger: {allow: [[samsum, prompted]]}"
    )


def test_a_replayed_task_counts_as_trained_on_and_has_its_line(recipe, tmp_path):
    text = "tasks: [mails.yaml]\nunseen: [prompted.yaml]\nmixture:\n  replay: {share: 0.1, tasks: [samsum.yaml]}\n"
    assert f"with the trained task samsum ({tmp_path}/recipe.yaml:4)" in told(checked, recipe(text))


def test_a_task_that_an_argument_names_is_told_with_the_argument(recipe, tmp_path):
    text = "tasks: [mails.yaml]\nunseen: [prompted.yaml]\n"
    assert told(checked, recipe(text, "tasks=[samsum.yaml]")).startswith(
        f"{tmp_path}/recipe.yaml:2: unseen task prompted shares its origin samsum with the trained task samsum "
        "(tasks=[samsum.yaml]); "
    )


def test_the_ledger_of_a_recipe_allows_pairs_and_licences(recipe, tmp_path):
    text = "tasks: [samsum.yaml]\nunseen: [prompted.yaml]\nledger:\n  allow:\n    - [prompted, samsum]\n"
    assert checked(recipe(text)) == [{"trained": "samsum", "unseen": "prompted", "origins": ["samsum"]}]
    assert told(checked, recipe(text + "    - [mails, samsum]\n")) == (
        f"{tmp_path}/recipe.yaml:6: ledger.allow: no task is called mails; known: prompted, samsum"
    )
    assert "has the licence MIT" in told(checked, recipe(text + "  licences: {allow: [Apache-2.0]}\n"))
    checked(recipe(text + "  licences: {allow: [mit]}\n"))


@pytest.mark.parametrize(
    ("ledger", "message"),
    [
        ("{allow: [[a]]}", "ledger.allow.0.1: is missing; add it"),
        ("{allow: [ab]}", "ledger.allow.0: a list is wanted, such as [ab]"),
        ("{decontaminate: yes}", 'ledger.decontaminate: unknown value "yes"; known: drop, report, skip'),
        (
            "{licenses: {}}",
            'ledger.licenses: unknown key "licenses"; did you mean "licences"? '
            "(allow, decontaminate, duplicates, licences)",
        ),
    ],
)
def test_a_mistake_in_the_ledger_is_told_with_its_line(recipe, tmp_path, ledger, message):
    assert told(recipe, f"tasks: [mails.yaml]\nledger: {ledger}\n") == f"{tmp_path}/recipe.yaml:2: {message}"
