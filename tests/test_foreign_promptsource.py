"""promptsource's template files: read as data, each template as a task file states it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import METRICS as OURS
from flantune.recipe.yaml_file import validated
from flantune.tasks import find_task, load_task
from flantune.tasks.foreign import foreign_task, promptsource_templates
from flantune.tasks.foreign.foreign_task import task_name, template_names
from flantune.tasks.foreign.promptsource import METRICS, promptsource_task
from flantune.tasks.schema import TaskFile
from reading import json_lines, told

FILE = """\
dataset: my_news
subset: Tiny
templates:
  a1: !Template
    answer_choices: World ||| Sports
    id: a1
    jinja: "{{text}}\\nWhich section? ||| \\n{{answer_choices[label] }}"
    metadata: !TemplateMetadata
      choices_in_prompt: false
      languages:
      - en
      metrics:
      - Accuracy
      - Other
      original_task: true
    name: which section?
    reference: ''
  a2: !Template
    answer_choices: '{{ names | join("|||") }}'
    id: a2
    jinja: '{% if label == 1 %}Which of {{ answer_choices | join(", ") }}? {{text}} |||
      {{answer_choices[label]}}{% endif %}'
    metadata: !TemplateMetadata
      choices_in_prompt: true
      languages:
      - en
      metrics:
      - Accuracy
      - AUC
      original_task: true
    name: which section
    reference: ''
  a3: !Template
    answer_choices: null
    id: a3
    jinja: 'Write news on {{ ["World", "Sports"][label] }}. ||| {{text}}'
    metadata: !TemplateMetadata
      choices_in_prompt: null
      languages:
      - en
      metrics:
      - BLEU
      - ROUGE
      original_task: false
    name: generate
    reference: ''
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "templates.yaml"
    path.write_text(FILE)
    return path


def test_templates_have_valid_names_choices_of_their_own_and_a_direction(file):
    assert promptsource_templates(file) == [
        {
            "name": "which_section",
            "text": "{{text}}\nWhich section? ||| \n{{answer_choices[label] }}",
            "answer_choices": ["World", "Sports"],
        },
        {
            "name": "which_section_2",
            "text": '{% if label == 1 %}Which of {{ answer_choices | join(", ") }}? {{text}} ||| '
            "{{answer_choices[label]}}{% endif %}",
            "answer_choices": '{{ names | join("|||") }}',
        },
        {"name": "generate", "text": 'Write news on {{ ["World", "Sports"][label] }}. ||| {{text}}', "inverted": True},
    ]


def test_the_folder_of_a_file_leads_to_it(file):
    assert promptsource_templates(file.parent) == promptsource_templates(file)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["generate", "which section?"], ["generate", "which_section"]),
        (["which section"], ["which_section_2"]),
        (["which_section"], ["which_section"]),
        (["a2"], ["which_section_2"]),
        ([], []),
    ],
)
def test_templates_are_chosen_by_either_name_or_by_id(file, only, names):
    assert [template["name"] for template in promptsource_templates(file, only)] == names


def test_a_file_is_a_task_whose_rows_are_the_data_sets_own(file):
    found = promptsource_task(file)
    spec = validated(TaskFile, found.data, None)
    assert (spec.name, spec.origins, spec.language) == ("promptsource/my_news_tiny", ("my_news/Tiny",), "en")
    assert found.data["source"] == {
        "kind": "huggingface",
        "path": "my_news",
        "config": "Tiny",
        "splits": {"train": "train", "validation": "validation", "test": "test"},
    }
    assert (spec.evaluate_by, spec.metrics, spec.empty) == ("choices", ("accuracy",), "skip")
    assert found.notes == ('its metric "AUC" has no equal here and is left out',)
    assert [found.line(("templates", number)) for number in range(3)] == [4, 18, 33]
    assert found.line(("templates", 1, "text")) == 18
    assert not found.trusted


def test_a_task_without_rows_at_hand_can_still_be_looked_at(file):
    task = find_task(f"promptsource:{file}")
    assert [template.name for template in task.evaluation_templates("seen")] == ["which_section", "which_section_2"]
    assert [template.inverted for template in task.templates] == [False, False, True]


def test_templates_are_bound_to_rows_of_ones_own(file, tmp_path):
    rows = [
        {"text": "War.", "label": 0, "names": ["W", "S"]},
        {"text": "Goal {{ x }} ||| 1", "label": 1, "names": ["W", "S"]},
    ]
    (tmp_path / "news.jsonl").write_text(json_lines(rows))
    (tmp_path / "task.yaml").write_text(
        "name: news\nsource: {kind: jsonl, splits: {test: news.jsonl}}\nmetrics: [accuracy]\nempty: skip\n"
        'templates_from: {promptsource: "${PS}/templates.yaml", only: [which section, which section?, generate]}\n'
    )
    task = load_task(tmp_path / "task.yaml", {"PS": str(tmp_path)})
    assert task.example(1, template="which_section_2") == ("Which of W, S? Goal {{ x }} ||| 1", "S")
    assert task.example(1, template="which_section") == ("Goal {{ x }} ||| 1\nWhich section?", "Sports")
    assert task.example(1, template="generate") == ("Write news on Sports.", "Goal {{ x }} ||| 1")
    assert told(task.example, 0, template="which_section_2").startswith(f"{tmp_path}/task.yaml:5: template ")


def test_metrics_are_those_of_the_templates_that_do_the_task_the_most_wanted_first(file):
    changed = FILE.replace("original_task: false", "original_task: true").replace("- Accuracy\n      - Other", "- BLEU")
    file.write_text(changed)
    found = promptsource_task(file)
    assert found.data["metrics"] == ["bleu", "accuracy", "rouge1", "rouge2", "rougeL"]
    assert found.data["evaluate_by"] == "generation"


def test_every_metric_that_is_translated_exists_here():
    assert {name for names in METRICS.values() for name in names} <= set(OURS)


@given(st.lists(st.text(max_size=80)))
def test_names_are_valid_and_different_whatever_they_were(names):
    made = template_names(names)
    assert len(set(made)) == len(made) == len(names)
    data = {
        "name": task_name("promptsource", "/".join(names)),
        "source": {"kind": "jsonl", "splits": {"all": "a"}},
        "metrics": ["bleu"],
        "templates": [{"name": name, "text": "a ||| b"} for name in ("x", *made) if name != "x" or not made],
    }
    validated(TaskFile, data, None)


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("templates:", "temples:", ": has no `templates`; a templates.yaml of promptsource is wanted"),
        ("  a1: !Template", "  a1: !Tamplate", ':4: the tag "!Tamplate" is not read; take it out, or write plain data'),
        ("    id: a1", "    name: again", ':16: key "name" stands twice (first in line 6); remove one'),
        ("    name: generate", "    nome: generate", ":33: a template without a text in `name`; add it"),
        (
            "Which section? |||",
            "Which section? ||",
            ":7: template 'which section?' has no \"|||\" between input and target",
        ),
        (
            "{{answer_choices[label] }}",
            "{{answer_choices[label }}",
            ":7: jinja of template 'which section?' is not valid Jinja (line 3 of the text): unexpected '}', "
            "expected ']'",
        ),
        (
            '{{ names | join("|||") }}',
            "{{ names | jion }}",
            ":19: answer_choices of template 'which section' is not valid Jinja (line 1 of the text): No filter "
            "named 'jion'.",
        ),
        (
            "World ||| Sports",
            "[World, Sports]",
            ":5: answer_choices of template 'which section?' is no text; `a ||| b` is wanted",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(file, old, new, message):
    file.write_text(FILE.replace(old, new, 1))
    assert told(promptsource_templates, file) == f"{file}{message}"


def test_a_name_that_no_template_has_is_told_with_the_nearest(file):
    assert told(promptsource_templates, file, ["genrate"]) == (
        f'{file}: no template "genrate"; did you mean "generate"? (generate, which_section, which_section_2)'
    )


def test_a_file_that_names_no_data_set_has_templates_but_is_no_task(file):
    file.write_text(FILE.replace("dataset: my_news\n", ""))
    assert len(promptsource_templates(file)) == 3
    assert told(foreign_task, "promptsource", file) == (
        f"{file}: has no `dataset`; promptsource's files name the data set of their templates"
    )


VALUES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a ||| b", "{{ x", "{{ x }}", "en"])
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner))
KEYS = st.sampled_from(["name", "jinja", "answer_choices", "metadata", "metrics", "languages", "original_task"])


NAMED = st.dictionaries(KEYS, NESTED)
TOP = st.dictionaries(st.sampled_from(["dataset", "subset", "templates"]), NESTED)


@given(template=NAMED, metadata=NAMED, top=TOP)
def test_any_values_make_a_valid_task_or_one_line(tmp_path_factory, template, metadata, top):
    path = tmp_path_factory.getbasetemp() / "any_templates.yaml"
    whole = {"name": "a", "jinja": "{{ a }} ||| b", "metadata": metadata, **template}
    path.write_text(json.dumps({"dataset": "d", "templates": {"1": whole}, **top}))
    with contextlib.suppress(FlantuneError):
        validated(TaskFile, promptsource_task(path).data, None)
