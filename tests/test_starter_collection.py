"""The starter collection: enough rows, in form, each its own, under phrasings that differ."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter

import pytest

from flantune.evaluation.metrics import METRICS, passes
from flantune.quickstart import quickstart_recipe
from flantune.tasks import find_task, starter_tasks
from flantune.tasks.find import STARTER
from flantune.tasks.lint import check_task
from flantune.tasks.sources import split_names

TASKS = {task.name.removeprefix("starter/"): task for task in starter_tasks()}
TRAINED = ("dialogue_summary", "review_rating", "code_translation", "entity_recognition")
UNSEEN = ("intent", "dialogue_title")
FILES = sorted(STARTER.glob("*/*.jsonl"))

# What each row must hold, and of what type; the first text is what a person reads to answer.
FIELDS = {
    "code_translation": {"python": str, "javascript": str, "calls": list},
    "dialogue_summary": {"dialogue": str, "summary": str},
    "dialogue_title": {"dialogue": str, "title": str},
    "entity_recognition": {"text": str, "entities": list},
    "instructions": {"instruction": str, "answer": str},
    "intent": {"text": str, "intent": str},
    "kept_behaviour": {"instruction": str, "answer": str, "rules": list},
    "kept_knowledge": {"question": str, "choices": list, "answer": str},
    "review_rating": {"review": str, "kind": str, "stars": int},
}


def every_row():
    """Task, split, and row of the whole collection."""
    for name, task in TASKS.items():
        for split in split_names(task.spec.source):
            for row in task.split(split):
                yield name, split, row


ROWS = list(every_row())


def rows(name, split):
    return [row for task, part, row in ROWS if (task, part) == (name, split)]


# --- how much -----------------------------------------------------------------------------------------------


def test_the_quickstart_trains_on_the_trained_tasks_and_holds_the_others_out():
    recipe = quickstart_recipe()
    trained = [one.choice.task for one in recipe.trained()]
    assert trained == [f"starter/{name}" for name in (*TRAINED, "instructions")]
    assert [choice.task for choice in recipe.unseen] == [
        f"starter/{name}" for name in (*UNSEEN, "kept_knowledge", "kept_behaviour")
    ]


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_task_has_enough_rows_in_three_splits(name):
    assert len(rows(name, "train")) >= 160
    assert len(rows(name, "validation")) >= 30
    assert len(rows(name, "test")) >= 60


def test_there_are_enough_instructions_to_train_on():
    assert len(rows("instructions", "train")) >= 200
    assert len(rows("instructions", "test")) >= 60


@pytest.mark.parametrize("name", UNSEEN)
def test_an_unseen_task_has_enough_rows_to_test_and_none_to_train(name):
    assert len(rows(name, "test")) >= 60
    assert split_names(TASKS[name].spec.source) == ["test"]


def test_kept_abilities_are_at_least_120_rows_in_two_equal_halves():
    halves = [len(rows(name, "test")) for name in ("kept_knowledge", "kept_behaviour")]
    assert sum(halves) >= 120
    assert halves[0] == halves[1]


# --- form ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_is_one_json_object_a_line_in_utf8_with_its_own_ids_in_order(path):
    lines = path.read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""
    ids = [json.loads(line)["id"] for line in lines]
    split = ids[0].rpartition("-")[0]
    assert ids == [f"{split}-{number:03d}" for number in range(1, len(lines) + 1)]


@pytest.mark.parametrize("name", TASKS)
def test_every_row_has_all_fields_filled_and_no_others(name):
    for split in split_names(TASKS[name].spec.source):
        for row in rows(name, split):
            assert {key: type(value) for key, value in row.items()} == {"id": str, **FIELDS[name]}, row["id"]
            for key, value in row.items():
                assert value or key == "entities", (row["id"], key)
                assert not isinstance(value, str) or value == value.strip(), (row["id"], key)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_names_its_origin_its_licence_and_metrics_that_there_are(name):
    spec = TASKS[name].spec
    assert spec.origins == (f"flantune/starter/{TASKS[name].folder.name}",)
    assert spec.license == "CC0-1.0"
    assert spec.language == "en"
    assert spec.description.endswith(".")
    assert spec.cluster != "other"
    assert set(spec.metrics) <= set(METRICS)


def test_no_cluster_and_no_origin_of_an_unseen_task_is_trained_on():
    recipe = quickstart_recipe()
    trained = [find_task(one.choice.task).spec for one in recipe.trained()]
    unseen = [find_task(choice.task).spec for choice in recipe.unseen]
    assert not {spec.cluster for spec in trained} & {spec.cluster for spec in unseen}
    assert not {origin for spec in trained for origin in spec.origins} & {o for spec in unseen for o in spec.origins}


# --- phrasings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TRAINED, *UNSEEN, "instructions"])
def test_a_task_has_ten_phrasings_or_more_up_to_three_inverted_and_two_held_out(name):
    templates = TASKS[name].templates
    assert sum(not template.inverted and not template.held_out for template in templates) >= 10
    assert sum(template.inverted for template in templates) <= 3
    assert sum(template.held_out for template in templates) == 2
    assert not any(template.inverted and template.held_out for template in templates)


@pytest.mark.parametrize("name", TASKS)
def test_every_template_renders_on_every_row_and_its_target_is_an_answer_there_is(name):
    count, renderings = check_task(TASKS[name])
    assert renderings == count * len(TASKS[name].templates)


@pytest.mark.parametrize("name", TASKS)
def test_no_phrasing_repeats_another(name):
    # Words only: a list of types or choices has the same commas under every phrasing.
    fields_and_marks = re.compile(r"{[{%].*?[%}]}|[^\w\s]")
    said = {t.name: grams(fields_and_marks.sub(" ", t.text.partition("|||")[0])) for t in TASKS[name].templates}
    for one, other in itertools.combinations(said, 2):
        assert likeness(said[one], said[other]) < SAME, (one, other)


# --- rows that are their own --------------------------------------------------------------------------------

# Likeness of two texts: of all runs of three words or marks, the share that both have (Jaccard). Replace one word of a
# text of n: up to three of its n - 2 runs change, and n - 5 of n + 1 stay common, which is 0.33 at n = 8 and grows with
# n. So 0.3 finds every such copy from eight words on. Different texts of the collection come to 0.26 at most, where
# two short ones begin alike ("Finish the saying: ...").
SAME = 0.3


def grams(text):
    words = re.findall(r"\w+|[^\w\s]", text.casefold())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def likeness(one, other):
    return len(one & other) / max(1, len(one | other))


def asked(name, row):
    return row[next(iter(FIELDS[name]))]


def test_the_measure_finds_a_copy_with_one_word_changed():
    text = "Where can I leave a suitcase for two hours?"
    assert likeness(grams(text), grams(text.replace("suitcase", "bag"))) > SAME
    assert likeness(grams(text), grams(text.upper() + " Thanks!")) > SAME


def test_no_row_nearly_repeats_another_in_any_split_of_any_task():
    texts = [grams(asked(name, row)) for name, _, row in ROWS]
    holders: dict[tuple[str, ...], list[int]] = {}
    common: Counter[tuple[int, int]] = Counter()
    for number, text in enumerate(texts):
        for gram in text:
            common.update((other, number) for other in holders.setdefault(gram, []))
            holders[gram].append(number)
    near = [
        f"{ROWS[i][0]} {ROWS[i][2]['id']} and {ROWS[j][0]} {ROWS[j][2]['id']}"
        for i, j in common
        if likeness(texts[i], texts[j]) >= SAME
    ]
    assert not near


def test_texts_of_less_than_three_words_are_not_asked_twice_either():
    counts = Counter(" ".join(asked(name, row).casefold().split()) for name, _, row in ROWS)
    assert max(counts.values()) == 1


# --- what the answers say -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_entities_stand_in_their_text_in_order_and_without_overlap(split):
    for row in rows("entity_recognition", split):
        end = 0
        for entity in row["entities"]:
            assert set(entity) == {"type", "text"}
            assert entity["type"] in ("person", "organization", "location", "product", "date")
            start = row["text"].find(entity["text"], end)
            assert start >= 0, (row["id"], entity)
            end = start + len(entity["text"])
    assert any(not row["entities"] for row in rows("entity_recognition", split))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_stars_are_balanced_and_reviews_are_of_five_kinds(split):
    found = rows("review_rating", split)
    counts = Counter(row["stars"] for row in found)
    assert set(counts) == {1, 2, 3, 4, 5}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert {row["kind"] for row in found} == {"product", "app", "hotel", "book", "restaurant"}


def test_each_of_the_eight_intents_has_as_many_rows():
    assert Counter(row["intent"] for row in rows("intent", "test")) == dict.fromkeys(
        TASKS["intent"].spec.answer_choices or (), 8
    )


def test_a_question_of_knowledge_has_four_answers_and_the_right_one_stands_anywhere():
    found = rows("kept_knowledge", "test")
    assert all(len({choice.casefold() for choice in row["choices"]}) == 4 for row in found)
    places = Counter(row["choices"].index(row["answer"]) for row in found)
    assert places == dict.fromkeys(range(4), len(found) // 4)


def test_the_answer_that_a_row_of_behaviour_gives_passes_its_own_rules():
    for row in rows("kept_behaviour", "test"):
        assert all(passes(rule, row["answer"]) for rule in row["rules"]), row["id"]
        assert not all(passes(rule, "I am only a language model.") for rule in row["rules"]), row["id"]


def test_a_title_has_three_to_eight_words_and_a_summary_one_to_three_sentences():
    for row in rows("dialogue_title", "test"):
        assert 3 <= len(row["title"].split()) <= 8, row["id"]
    for split in ("train", "validation", "test"):
        for row in rows("dialogue_summary", split):
            assert 1 <= len(re.findall(r"[.!?](?=\s|$)", row["summary"])) <= 3, row["id"]
            assert len(row["summary"]) < len(row["dialogue"]), row["id"]


def test_a_dialogue_is_lines_of_a_name_and_what_was_said():
    for name, split in [
        (n, s) for n in ("dialogue_summary", "dialogue_title") for s in split_names(TASKS[n].spec.source)
    ]:
        for row in rows(name, split):
            lines = row["dialogue"].split("\n")
            assert len(lines) >= 2, row["id"]
            assert all(re.fullmatch(r"[^:]{1,40}: .+", line) for line in lines), row["id"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_translation_has_one_function_on_each_side_and_three_calls_or_more_to_compare_them(split):
    for row in rows("code_translation", split):
        python = re.match(r"def ([a-z0-9_]+)\(", row["python"])
        assert python is not None, row["id"]
        first, *rest = python[1].split("_")
        camel = first + "".join(part.capitalize() for part in rest)
        assert re.match(rf"function\*? {camel}\(", row["javascript"]), row["id"]
        assert len(row["calls"]) >= 3, row["id"]
        compile(row["python"], row["id"], "exec")
