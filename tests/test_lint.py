"""Lint: each finding is told where there is something to find, with its place, and not where there is nothing."""

from __future__ import annotations

import json

import pytest

from flantune.tasks import Template, load_task, starter_tasks
from flantune.tasks.lint import lint
from flantune.tasks.task import Task

ROWS = [{"text": f"mail number {i}", "label": ("question", "praise")[i % 2], "id": i} for i in range(20)]
STATED = {"license": "CC0-1.0", "origins": ["mine"]}
GOOD = ["Sort: {{ text }} ||| {{ label }}", "{{ text }}\nWhat is it? ||| {{ label }}"]


def found(rows=ROWS, templates=GOOD, **fields):
    """Code and message of each finding."""
    splits = rows if isinstance(rows, dict) else {"all": rows}
    report = lint(Task("t", splits, templates, **{**STATED, **fields}))
    return [(finding.severity, finding.code, finding.message) for finding in report.findings]


def test_a_sound_task_has_no_finding():
    assert found() == []


def test_all_rows_are_asked_in_all_templates_of_all_splits():
    report = lint(Task("t", {"train": ROWS, "test": [{"text": "other", "label": "praise"}]}, GOOD, **STATED))
    assert (report.rows, report.renderings) == (21, 42)


def test_a_bounded_look_takes_rows_from_all_over_the_split():
    report = lint(Task("t", {"all": [*ROWS[:19], {"text": "", "label": ""}]}, ["{{ text }} ||| {{ label }}"], **STATED))
    assert len(report.errors) == 1
    assert lint(Task("t", {"all": ROWS}, GOOD, **STATED), rows=5).rows == 5


CASES = {
    "a field that no template uses": (
        {"rows": [{**row, "sender": "x", "date": "y"} for row in ROWS]},
        ("note", "unused-field", 'no template uses "sender", "date"'),
    ),
    "a rendering that is empty": (
        {"rows": [*ROWS, {"text": "a", "label": ""}, {"text": "b", "label": " "}], "templates": GOOD[:1]},
        (
            "error",
            "rendering",
            'template "template_1" renders an empty target; filter such rows or change the template '
            "(row at row 20; 2 rows in all)",
        ),
    ),
    "an empty rendering that is allowed": (
        {"rows": [*ROWS, {"text": "a", "label": ""}], "templates": GOOD[:1], "empty": "skip"},
        (
            "note",
            "empty",
            'template "template_1" renders an empty input or target for 1 rows, which are left out (row at row 20)',
        ),
    ),
    "templates of the same words": (
        {"templates": [GOOD[0], "Sort:  {{ text }} ||| {{ label }}"]},
        (
            "warning",
            "equal-prompts",
            'templates "template_1" and "template_2" ask in the same words; change one, or remove it',
        ),
    ),
    "a template that shows its answer": (
        {"templates": [GOOD[0], "{{ text }} is {{ label }} . What is it? ||| {{ label }}"]},
        (
            "warning",
            "leak",
            'template "template_2" shows the answer: its input and its target both come from field "label"',
        ),
    ),
    "a row that stands there twice": (
        {"rows": [*ROWS, {**ROWS[3], "id": 99}]},
        ("note", "duplicate", "all: 1 row that repeat an earlier one (row 3 and row 20)"),
    ),
    "a test row among the training rows": (
        {"rows": {"train": ROWS, "test": [ROWS[4]]}},
        ("warning", "overlap", "train and test: 1 row in both splits (row 4 and row 0)"),
    ),
    "two answers to a question with a closed set of answers": (
        {
            "rows": [*ROWS, {"text": "mail number 3", "label": "question"}],
            "answer_choices": ["question", "praise"],
        },
        (
            "warning",
            "conflict",
            "all: 1 row with the question of an earlier one and another answer (row 3 and row 20)",
        ),
    ),
    "two answers to an open question": (
        {"rows": [*ROWS, {"text": "mail number 3", "label": "question"}]},
        (
            "note",
            "conflict",
            "all: 1 row with the question of an earlier one and another answer (row 3 and row 20)",
        ),
    ),
    "a target that is no choice": (
        {"answer_choices": ["question", "complaint"], "evaluate_by": "choices", "templates": GOOD[:1]},
        (
            "error",
            "rendering",
            "the target 'praise' is not among the answer_choices (question, complaint) (row at row 1; 10 rows in all)",
        ),
    ),
    "a long example": (
        {"rows": [*ROWS, {"text": "long " * 4000, "label": "praise"}], "templates": GOOD[:1]},
        ("warning", "long", 'template "template_1": 1 examples have more than 16,000 characters (row at row 20)'),
    ),
    "no licence": (
        {"license": None},
        ("warning", "no-license", "no `license`; say under what terms the rows may be used"),
    ),
    "a licence that nobody knows": (
        {"license": "Not stated"},
        (
            "note",
            "unknown-license",
            "the licence is Not stated; find out under what terms the rows may be used",
        ),
    ),
    "no origin": (
        {"origins": []},
        ("warning", "no-origin", "no `origins`; name the data sets, so that leaks can be found"),
    ),
    "a field to shorten that is not there": (
        {"shorten": "txt"},
        (
            "error",
            "shorten",
            'shorten names field "txt", which no row of split "all" has; did you mean "text"? (id, label, text)',
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_and_nothing_else(case):
    given, expected = CASES[case]
    assert found(**given) == [expected]


NO_LEAKS = {
    "extraction": (
        [{"text": f"Anna {i} left Rome", "name": f"Anna {i}"} for i in range(9)],
        "Who? {{ text }} ||| {{ name }}",
    ),
    "arithmetic": ([{"a": i, "b": i * 7} for i in range(9)], "{{ a }} + {{ b }} ||| {{ a + b }}"),
    "a choice of the row": (
        [{"q": f"q{i}", "c": [f"a{i}", f"b{i}"]} for i in range(9)],
        "{{ q }} {{ c | join(' or ') }}? ||| {{ c[0] }}",
    ),
    "an answer that another field decides": (
        [{"q": f"q{i}", "kind": ("app", "book")[i % 2], "n": i} for i in range(9)],
        "{{ q }} about {{ 'an' if kind == 'app' else 'a' }} {{ kind }} ||| {{ n }} ",
    ),
}


@pytest.mark.parametrize("case", NO_LEAKS)
def test_an_answer_that_has_to_be_found_is_no_leak(case):
    rows, template = NO_LEAKS[case]
    choices = {"answer_choices": "{{ c | join(' ||| ') }}"} if "c" in rows[0] else {}
    codes = {code for _, code, _ in found(rows=rows, templates=[template], **choices)}
    assert "leak" not in codes


def test_an_inverted_template_may_show_what_others_ask_for():
    back = Template("back", "Write a {{ label }}. ||| {{ text }}", inverted=True)
    assert found(templates=[*(Template(f"t{i}", text) for i, text in enumerate(GOOD)), back]) == []


def test_a_field_that_makes_others_or_says_which_rows_there_are_is_used(tmp_path):
    """`raw` gives the text, `fold` the split, `kind` is filtered by; `page` alone is of no use."""
    rows = [
        {"raw": f"mail {i}", "fold": ("a", "b")[i % 2], "kind": "mail", "label": f"l{i}", "page": i} for i in range(9)
    ]
    (tmp_path / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    stated = {
        "name": "mails",
        **STATED,
        "source": {
            "kind": "jsonl",
            "splits": {"all": "mails.jsonl"},
            "transforms": [
                {"filter": "kind == 'mail'"},
                {"regex": {"field": "raw", "pattern": "mail (.*)", "into": "text"}},
            ],
            "split_by": {"field": "fold", "splits": {"train": "a", "test": "b"}},
        },
        "metrics": ["accuracy"],
        "templates": [{"name": "short", "text": GOOD[0]}],
    }
    (tmp_path / "mails.yaml").write_text(json.dumps(stated), encoding="utf-8")
    report = lint(load_task(tmp_path / "mails.yaml"))
    assert [(finding.code, finding.message) for finding in report.findings] == [
        ("unused-field", 'no template uses "page"')
    ]


def test_findings_name_the_line_of_the_file_and_the_row(tmp_path):
    (tmp_path / "mails.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": "c", "label": ""}\n', encoding="utf-8")
    stated = {
        "name": "mails",
        "license": "CC0-1.0",
        "origins": ["mine"],
        "source": {"kind": "jsonl", "splits": {"all": "mails.jsonl"}},
        "metrics": ["accuracy"],
        "templates": [{"name": "short", "text": GOOD[0]}],
    }
    path = tmp_path / "mails.yaml"
    path.write_text(json.dumps(stated, indent=1), encoding="utf-8")
    report = lint(load_task(path))
    line = path.read_text(encoding="utf-8").splitlines().index('   "name": "short",')
    assert [str(finding) for finding in report.findings] == [
        f'{path}:{line}: template "short" renders an empty target; filter such rows or change the template '
        f"(row at {tmp_path}/mails.jsonl:2)"
    ]


@pytest.mark.parametrize("task", starter_tasks(), ids=lambda task: task.name)
def test_the_starter_tasks_have_no_errors_and_no_warnings(task):
    assert [str(f) for f in lint(task).findings if f.severity != "note"] == []
