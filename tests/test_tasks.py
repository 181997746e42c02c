"""Tasks: read, found by name, and checked on every row."""

from __future__ import annotations

import json

import pytest

from flantune.errors import FlantuneError
from flantune.tasks import find_task, load_task, starter_tasks
from flantune.tasks.find import starter_files
from flantune.tasks.lint import check_task

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
    assert list(task.split("all")) == ROWS
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
        'source.kind: unknown value "jsn"; did you mean "json"? '
        "(arrow, classes, conll, csv, documents, huggingface, json, jsonl, parallel, parquet, sql, tsv, ...)",
    ),
    "  - name: short": (
        "  - nme: short",
        'templates.0.nme: unknown key "nme"; did you mean "name"? '
        "(answer, answer_choices, conversation, few_shot, held_out, inverted, name, text, weight)",
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
    "cluste: x": 'cluste: unknown key "cluste"; did you mean "cluster"? (answer_choices, both_scorers, '
    "cluster, description, empty, evaluate_by, exemplar_formats, fields, language, license, max_new_tokens, "
    "metrics, ...)",
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
    missing = f"{tmp_path}/mails.yaml"
    assert told(find_task, missing) == f"{missing}: no such file; no .yaml file is beside it"


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
        "{folder}/mails.jsonl:1; 2 rows in all)",
    ),
    "an empty target": (
        TASK.replace("{{ kind }}", "{{ kind if kind == 'question' }}"),
        ':7: template "short" renders an empty target; filter such rows or change the template (row at '
        "{folder}/mails.jsonl:2)",
    ),
    "a computed field": (
        TASK + 'fields:\n  x: "{{ bdy }}"\n',
        ':10: field "x" asks for field "bdy", which the row lacks; did you mean "body"? (body, kind) (row at '
        "{folder}/mails.jsonl:1; 2 rows in all)",
    ),
    "a reference": (
        TASK + 'references:\n  - "{{ kind }}"\n  - "{{ knd }}"\n',
        ':11: the reference asks for field "knd", which the row lacks; did you mean "kind"? (body, kind) (row at '
        "{folder}/mails.jsonl:1; 2 rows in all)",
    ),
    "choices of a row": (
        TASK + 'answer_choices: "{{ choices }}"\n',
        ':9: answer_choices asks for field "choices", which the row lacks; known: body, kind (row at '
        "{folder}/mails.jsonl:1; 2 rows in all)",
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
