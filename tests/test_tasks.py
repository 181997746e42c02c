"""Tasks: read, found by name, checked on every row, and made of a person's own table."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import METRICS
from flantune.recipe import load_recipe
from flantune.recipe.yaml_file import read_yaml
from flantune.tasks import find_task, load_task, starter_tasks
from flantune.tasks.check import check_task
from flantune.tasks.find import starter_files
from flantune.tasks.init import init_task

ROWS = [{"body": "Where is it?", "kind": "question"}, {"body": "Thank you.", "kind": "praise"}]
TASK = """\
name: mails
metrics: [accuracy]
source:
  kind: jsonl
  splits: {all: mails.jsonl}
templates:
  - name: short
    text: "Kind: {{ body }} ||| {{ kind }}"
"""


def written(folder, text=TASK, rows=ROWS):
    (folder / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "mails.yaml").write_text(text, encoding="utf-8")
    return folder / "mails.yaml"


def told(call, *arguments, **options):
    with pytest.raises(FlantuneError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- reading a task -----------------------------------------------------------------------------------------


def test_a_task_is_its_file_its_rows_and_its_templates(tmp_path):
    text = (
        TASK
        + """\
  - {name: back, inverted: true, text: "Write: {{ kind }} ||| {{ body }}"}
  - {name: other, held_out: true, text: "Say: {{ body }} ||| {{ kind }}"}
"""
    )
    task = load_task(written(tmp_path, text))
    assert (task.name, task.spec.cluster, task.spec.origins, task.folder) == ("mails", "other", (), tmp_path)
    assert [template.name for template in task.training_templates] == ["short", "back"]
    assert [template.name for template in task.evaluation_templates("seen")] == ["short"]
    assert [template.name for template in task.evaluation_templates("held_out")] == ["other"]
    assert list(task.split("all").rows) == ROWS
    assert task.render(task.templates[0], ROWS[0], "here") == ("Kind: Where is it?", "question")
    assert task.references(ROWS[0], "question") == ["question"]


def test_computed_fields_choices_and_references_are_rendered_from_the_row(tmp_path):
    text = (
        TASK.replace("{{ body }} ||| {{ kind }}", "{{ loud }} of {{ answer_choices | join('/') }} ||| {{ kind }}")
        + """\
fields: {twice: "{{ body }} {{ body }}", loud: "{{ twice | upper }}!"}
answer_choices: "{{ kind }} ||| other"
references: ["{{ kind }}", " {{ loud }} "]
"""
    )
    task = load_task(written(tmp_path, text))
    row = {"body": "{{ x }}", "kind": "a"}
    assert task.render(task.templates[0], row, "here") == ("Kind: {{ X }} {{ X }}! of a/other", "a")
    assert task.references(row, "a") == ["a", "{{ X }} {{ X }}!"]


def test_whole_numbers_may_be_answers_without_quotes(tmp_path):
    task = load_task(written(tmp_path, TASK + "answer_choices: [1, 2, '1.50', 'true', yes]\n"))
    assert task.spec.answer_choices == ("1", "2", "1.50", "true", "yes")


def line_of(text, part):
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


MISTAKES = {
    "name: mails": (
        "name: My Mails",
        'name: a name is made of a-z, 0-9, _, . and -, at most one / among them, not "My Mails"',
    ),
    "metrics: [accuracy]": ("metrics: accuracy", "metrics: a list is wanted, such as [accuracy]"),
    "metrics: [accuracy] ": ("metrics: []", "metrics: is empty; give at least one"),
    "  kind: jsonl": (
        "  kind: jsn",
        'source.kind: unknown value "jsn"; did you mean "jsonl"? (conll, csv, huggingface, jsonl, parallel, tsv)',
    ),
    "  - name: short": (
        "  - nme: short",
        'templates.0.nme: unknown key "nme"; did you mean "name"? (held_out, inverted, name, text, weight)',
    ),
    "  - name: short ": (
        "  - name: a b",
        'templates.0.name: a template\'s name is 1 to 64 of a-z, A-Z, 0-9, _ and -, not "a b"',
    ),
}


@pytest.mark.parametrize("part", MISTAKES)
def test_a_mistake_in_a_task_is_told_with_line_and_field(tmp_path, part):
    wrong, message = MISTAKES[part]
    text = TASK.replace(part.rstrip(), wrong)
    path = written(tmp_path, text)
    assert told(load_task, path) == f"{path}:{line_of(text, wrong)}: {message}"


ADDED = {
    "cluste: x": 'cluste: unknown key "cluste"; did you mean "cluster"? (answer_choices, cluster, description, '
    "evaluate_by, fields, language, license, max_new_tokens, metrics, name, origins, references, ...)",
    "max_new_tokens: 0": "max_new_tokens: must be at least 1, not 0",
    "evaluate_by: choices": "evaluate_by: choices needs `answer_choices`; list the possible answers",
    "answer_choices: [true, false]": "answer_choices: true is no text in YAML; put quotes around it",
    "answer_choices: [1.50, 2]": "answer_choices: 1.5 is no text in YAML; put quotes around it",
    'answer_choices: "{{ a "': "answer_choices is not valid Jinja (line 1 of the text): unexpected end of template, "
    "expected 'end of print statement'.",
    'references: ["{% if %}"]': "the reference is not valid Jinja (line 1 of the text): Expected an expression, got "
    "'end of statement block'",
    'fields: {x: "{{ a | uper }}"}': "field \"x\" is not valid Jinja (line 1 of the text): No filter named 'uper'.",
}


@pytest.mark.parametrize("line", ADDED)
def test_a_line_that_is_wrong_is_told_before_any_row_is_read(tmp_path, line):
    path = written(tmp_path, f"{TASK}{line}\n", rows=[])
    assert told(load_task, path) == f"{path}:{len(TASK.splitlines()) + 1}: {ADDED[line]}"


def test_templates_that_are_none_or_stand_twice_are_told_with_their_line(tmp_path):
    path = written(tmp_path, TASK + '  - {name: none, text: "{{ body }}"}\n')
    assert told(load_task, path) == f'{path}:9: template "none" has no "|||" between input and target; add it'
    path = written(tmp_path, TASK + '  - {name: short, text: "a ||| b"}\n')
    assert told(load_task, path) == f'{path}:9: template "short" stands twice; rename one'
    path = written(tmp_path, TASK + '  - name: open\n    text: "{{ body ||| b"\n')
    assert told(load_task, path) == (
        f"{path}:9: template \"open\" is not valid Jinja (line 1 of the text): expected token 'name', got '|'"
    )


# --- finding a task -----------------------------------------------------------------------------------------


def test_every_starter_task_is_found_by_its_name():
    tasks = starter_tasks()
    assert {task.name for task in tasks} == set(starter_files())
    assert len(tasks) == 9
    for task in tasks:
        assert find_task(task.name).spec == task.spec


def test_a_task_is_found_by_the_path_of_its_file(tmp_path):
    assert find_task(str(written(tmp_path))).name == "mails"


STARTERS = (
    "starter/code_translation, starter/dialogue_summary, starter/dialogue_title, starter/entity_recognition, "
    "starter/instructions, starter/intent, starter/kept_behaviour, starter/kept_knowledge, starter/review_rating"
)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("starter/reviw_rating", "starter/review_rating"),
        ("review_rating", "starter/review_rating"),
        ("xyz", None),
        ("", None),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_and_how_own_tasks_are_named(name, near):
    offered = f'did you mean "{near}"? ({STARTERS})' if near else f"known: {STARTERS}"
    assert told(find_task, name) == (
        f"unknown task {name!r}; {offered}; your own task is named by the path of its .yaml file"
    )


def test_a_file_that_is_missing_is_told(tmp_path):
    assert told(find_task, f"{tmp_path}/mails.yaml") == f"{tmp_path}/mails.yaml: no such file"


# --- checking a task ----------------------------------------------------------------------------------------


def test_a_check_renders_every_template_on_every_row_of_every_split(tmp_path):
    text = TASK + '  - {name: other, held_out: true, text: "a {{ body }} ||| {{ kind }}"}\n'
    assert check_task(load_task(written(tmp_path, text))) == (2, 4)
    text = text.replace("{all: mails.jsonl}", "{train: mails.jsonl, test: mails.jsonl}")
    assert check_task(load_task(written(tmp_path, text))) == (4, 8)


CHECKS = {
    "a missing field": (
        TASK.replace("{{ body }}", "{{ boddy }}"),
        ':7: template "short" asks for field "boddy", which the row lacks; did you mean "body"? (body, kind) (row at '
        "{folder}/mails.jsonl:1)",
    ),
    "an empty target": (
        TASK.replace("{{ kind }}", "{{ kind if kind == 'question' }}"),
        ':7: template "short" renders an empty target; filter such rows or change the template (row at '
        "{folder}/mails.jsonl:2)",
    ),
    "a computed field": (
        TASK + 'fields:\n  x: "{{ bdy }}"\n',
        ':10: field "x" asks for field "bdy", which the row lacks; did you mean "body"? (body, kind) (row at '
        "{folder}/mails.jsonl:1)",
    ),
    "a reference": (
        TASK + 'references:\n  - "{{ kind }}"\n  - "{{ knd }}"\n',
        ':11: the reference asks for field "knd", which the row lacks; did you mean "kind"? (body, kind) (row at '
        "{folder}/mails.jsonl:1)",
    ),
    "choices of a row": (
        TASK + 'answer_choices: "{{ choices }}"\n',
        ':9: answer_choices asks for field "choices", which the row lacks; known: body, kind (row at '
        "{folder}/mails.jsonl:1)",
    ),
    "a target outside the choices": (
        TASK + "evaluate_by: choices\nanswer_choices: [question, complaint]\n",
        ":10: the target 'praise' is not among the answer_choices (question, complaint) (row at "
        "{folder}/mails.jsonl:2)",
    ),
    "shorten": (
        TASK + "shorten: boddy\n",
        ':9: shorten names field "boddy", which no row of split "all" has; did you mean "body"? (body, kind)',
    ),
    "no row left": (
        TASK.replace("{all: mails.jsonl}", "{all: mails.jsonl}\n  where: kind == 'x'"),
        ':3: split "all" has no rows left after its filters',
    ),
}


@pytest.mark.parametrize("mistake", CHECKS)
def test_the_first_mistake_is_told_with_the_places_of_text_and_row(tmp_path, mistake):
    text, message = CHECKS[mistake]
    path = written(tmp_path, text)
    assert told(check_task, load_task(path)) == f"{path}{message.format(folder=tmp_path)}"


def test_an_inverted_template_may_ask_for_what_is_no_choice(tmp_path):
    text = TASK + '  - {name: back, inverted: true, text: "{{ kind }} ||| {{ body }}"}\n'
    text += "evaluate_by: choices\nanswer_choices: [question, praise]\n"
    assert check_task(load_task(written(tmp_path, text))) == (2, 4)


# --- a table of one's own becomes a task --------------------------------------------------------------------


def table(folder, name, rows):
    """A CSV, TSV or JSONL file of rows, each a dict."""
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    return path


def many(answers, *, given="text", asked="label", count=80):
    return [{given: f"mail number {i}", asked: answers[i % len(answers)]} for i in range(count)]


def made(folder, name, rows, **options):
    """The task of a table, read and checked, and its recipe, read."""
    given, asked = list(rows[0])[:2]
    done = init_task(table(folder, name, rows), input_=given, target=asked, **options)
    task = load_task(done.task)
    count = check_task(task)[0]
    assert count == done.rows == len(rows)
    recipe = load_recipe(done.recipe)
    assert [choice.task for choice in recipe.tasks] == [str(done.task), "starter/instructions"]
    assert set(task.spec.metrics) <= set(METRICS)
    return done, task


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_table_becomes_a_task_whose_templates_ask_for_a_column(tmp_path, kind):
    done, task = made(tmp_path, f"Mails of 2024.{kind}", many(["question", "praise"]))
    assert (done.task.name, done.recipe.name) == ("mails-of-2024.yaml", "mails-of-2024-recipe.yaml")
    assert done.kind == "2 different answers"
    assert task.spec.answer_choices == ("praise", "question")
    assert task.spec.evaluate_by == "choices"
    assert task.spec.metrics == ("accuracy", "macro_f1")
    assert [template.held_out for template in task.templates] == [False] * 4 + [True]
    assert task.render(task.templates[0], {"text": "Hello", "label": "praise"}, "here") == (
        "What is the label of this text? Answer with one of: praise, question.\n\nHello",
        "praise",
    )
    assert len(task.split("train")) > len(task.split("test")) > 0
    for choice in load_recipe(done.recipe).unseen:
        find_task(choice.task)


def test_an_instruction_in_words_takes_the_place_of_the_question(tmp_path):
    words = 'What is "it"? {{ no field }} ||| 100 % {% sure %} {# ü🙂 #}: #1'
    done, task = made(tmp_path, "mails.csv", many(["a", "b"]), instruction=words)
    assert task.spec.description == words
    assert task.render(task.templates[0], {"text": "Hello", "label": "a"}, "here")[0] == (
        f"{words} Answer with one of: a, b.\n\nHello"
    )
    assert done.kind == "2 different answers"


CLASSES, NUMBERS, FREE = ("accuracy", "macro_f1"), ("mean_absolute_error", "accuracy"), ("rouge1", "rougeL")
MARKS = ('"d"', "#e", "[c", "a: b", "{{ f }}", "ü\u2028🙂")


@pytest.mark.parametrize(
    ("answers", "choices", "metrics"),
    [
        (["10", "9", "1"], ("1", "9", "10"), NUMBERS),
        (["-1", "0.5", "2"], ("-1", "0.5", "2"), NUMBERS),
        (["10", "9", "many"], ("10", "9", "many"), CLASSES),
        (["yes", "no", "NA"], ("NA", "no", "yes"), CLASSES),
        (["007", "7"], ("007", "7"), NUMBERS),
        (["true", "false"], ("false", "true"), CLASSES),
        (MARKS, MARKS, CLASSES),
        ([f"{i}" for i in range(20)], tuple(f"{i}" for i in range(20)), NUMBERS),
        ([f"answer {i}" for i in range(21)], None, FREE),
        ([f"all different {i}" for i in range(80)], None, FREE),
        (["always the same"], None, FREE),
    ],
)
def test_few_answers_are_a_closed_set_numbers_are_ordered_and_the_rest_is_free_text(
    tmp_path, answers, choices, metrics
):
    done, task = made(tmp_path, "mails.csv", many(answers))
    assert task.spec.answer_choices == choices
    assert task.spec.metrics == metrics
    assert task.spec.evaluate_by == ("choices" if choices else "generation")
    assert done.kind == (f"{len(choices)} different answers" if choices else "free text")


def test_numbers_of_json_are_answers_too(tmp_path):
    _, task = made(tmp_path, "mails.jsonl", many([1, 5, 3]))
    assert task.spec.answer_choices == ("1", "3", "5")


ODD = [
    "first name", "class", "if", "not", "true", "None", "self", "super", "loop", "range", "row", "field", "caller",
    "answer-choices", "e-mail", "2024", "a.b", "a: b", "#1", "- x", "[x]", "{x", "{{ x }}", "{% x %}", "x ||| y", "|",
    'say "hi"', "it's", "back\\slash", "größe", "日本", "🙂", "two\nlines", "yes", "null", "~", "*", "&a", "!b", "%c",
    "@d", "x\u2028y", "x\x85y", "x\x7fy", "x\ufeff", "x" * 200,
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_column_of_any_name_can_be_given_and_asked_for(tmp_path, odd):
    for place, names in enumerate([(odd, "label"), ("text", odd)]):
        folder = tmp_path / str(place)
        folder.mkdir()
        rows = many(["a", "b"], given=names[0], asked=names[1], count=30)
        _, task = made(folder, "mails.csv", rows)
        assert task.spec.shorten == names[0]
        for template in task.templates:
            prompt, target = task.render(template, rows[3], "here")
            assert "mail number 3" in prompt
            assert target == "b"
        form = next(template for template in task.templates if template.name == "form")
        assert task.render(form, rows[3], "here")[0] == f"{names[0]}: mail number 3\n{names[1]}:"


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
two_words = st.lists(words.filter(str.strip), min_size=2, max_size=2, unique_by=str.strip)


@settings(deadline=None, max_examples=60)
@given(names=two_words, texts=two_words)
def test_any_names_and_answers_survive_the_way_into_a_task(tmp_path_factory, names, texts):
    assume("answer_choices" not in names)
    # Rows are divided by hash: of 40, all go to train once in ten thousand tables; of 120, never.
    _, task = made(
        tmp_path_factory.mktemp("init"), "mails.jsonl", many(texts, given=names[0], asked=names[1], count=120)
    )
    assert set(task.spec.answer_choices or ()) == {text.strip() for text in texts}


@pytest.mark.parametrize(
    "stem", ["2024", "null", "yes", "1e5", "_x", "..x", "ÄÖ", "a b#c", "x" * 120, "[a]", "it's 🙂"]
)
def test_a_table_of_any_name_gives_files_that_load(tmp_path, stem):
    done, task = made(tmp_path, f"{stem}.csv", many(["a", "b"]))
    assert done.task.name == f"{task.name}.yaml"
    assert task.spec.origins == (f"{stem}.csv",)


def test_the_made_file_explains_its_lines(tmp_path):
    done, _ = made(tmp_path, "mails.csv", many(["a", "b"]))
    assert done.task.read_text(encoding="utf-8").startswith(
        "# Made from mails.csv; edit freely, then: flantune tasks check mails.yaml\n"
    )
    assert done.recipe.read_text(encoding="utf-8").startswith("# flantune plan mails-recipe.yaml   shows what")
    assert read_yaml(done.task).data["source"]["fractions"] == {"train": 0.8, "test": 0.2}


INIT_MISTAKES = {
    "another format": ("mails.xlsx", many(["a"]), {}, "{file}: a .csv, .tsv or .jsonl file is wanted"),
    "an unknown column": (
        "mails.csv",
        many(["a"]),
        {"input_": "txt"},
        '{file}: no column "txt"; did you mean "text"? (label, text)',
    ),
    "an unknown target": (
        "mails.csv",
        many(["a"]),
        {"target": "category"},
        '{file}: no column "category"; known: label, text',
    ),
    "too few rows": (
        "mails.csv",
        many(["a"], count=1),
        {},
        "{file}: too few rows: by the hash of each, 1 to train and 0 to test; both need some, so add rows",
    ),
    "a taken name": (
        "mails.csv",
        many(["a", "b"], asked="answer_choices"),
        {"target": "answer_choices"},
        '{file}: templates call the list of answers "answer_choices"; rename the column',
    ),
}


@pytest.mark.parametrize("mistake", INIT_MISTAKES)
def test_a_table_that_gives_no_task_is_told_and_nothing_is_written(tmp_path, mistake):
    name, rows, options, message = INIT_MISTAKES[mistake]
    file = table(tmp_path, name, rows)
    given = {"input_": "text", "target": "label", **options}
    assert told(init_task, file, **given) == message.format(file=file)
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_table_and_one_with_a_broken_row_are_told(tmp_path):
    assert told(init_task, tmp_path / "mails.csv", input_="a", target="b") == (
        f"{tmp_path}/mails.csv: no such file; check its path"
    )
    (tmp_path / "mails.csv").write_text("a,b\n1,2\n3,4,5\n")
    assert told(init_task, tmp_path / "mails.csv", input_="a", target="b") == (
        f"{tmp_path}/mails.csv:3: 3 fields where 2 are wanted (a, b); check each: quote it if it holds a comma or a "
        "line end"
    )


@pytest.mark.parametrize("name", ["mails.yaml", "mails-recipe.yaml"])
def test_a_file_that_exists_is_never_written_over(tmp_path, name):
    file = table(tmp_path, "mails.csv", many(["a", "b"]))
    (tmp_path / name).write_text("mine")
    assert told(init_task, file, input_="text", target="label") == (
        f"{tmp_path}/{name}: exists already; move it away, or edit it"
    )
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mails.csv", name])


def test_the_classes_of_a_table_stand_in_both_splits_near_their_shares(tmp_path):
    _, task = made(tmp_path, "mails.csv", many(["a", "a", "b"], count=600))
    for split, share in (("train", 0.8), ("test", 0.2)):
        counts = Counter(row["label"] for row in task.split(split).rows)
        # The hash is fixed, so this cannot flicker; three standard deviations of 600 coins are 5 %.
        assert counts.total() / 600 == pytest.approx(share, abs=0.05)
        assert counts["a"] / counts.total() == pytest.approx(2 / 3, abs=0.1)
