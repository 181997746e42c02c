"""Task files of the lm-evaluation-harness: equal meaning, told, or refused by name; never dropped in silence."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.recipe.yaml_file import validated
from flantune.tasks.foreign import lm_eval, lm_eval_keys
from flantune.tasks.foreign.lm_eval import lm_eval_task
from flantune.tasks.schema import TaskFile
from flantune.tasks.task import Task
from reading import json_lines, told

CHOICES = """\
task: shop_quiz
tag: [quizzes]
dataset_path: json
dataset_kwargs:
  data_files: {train: train.jsonl, validation: dev.jsonl}
output_type: multiple_choice
training_split: train
validation_split: validation
description: "Questions about shops.\\n\\n"
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: label
doc_to_choice: ["no", "yes"]
should_decontaminate: true
doc_to_decontamination_query: question
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
metadata:
  version: 2.0
"""
OPEN = """\
task: open_quiz
dataset_path: shops/quiz
dataset_name: main
output_type: generate_until
training_split: train
fewshot_split: train
test_split: test
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: "{{answer}}"
num_fewshot: 5
generation_kwargs:
  until: ["\\n"]
  do_sample: false
  temperature: 0.0
  max_gen_toks: 32
"""


@pytest.fixture
def task(tmp_path):
    """A task of the harness read from a text, with the rows given to it."""

    def made(text, rows=()):
        for name in ("train.jsonl", "dev.jsonl"):
            (tmp_path / name).write_text(json_lines(rows or [{"question": "Open?", "label": 1}]))
        (tmp_path / "task.yaml").write_text(text)
        found = lm_eval_task(tmp_path / "task.yaml")
        return Task.from_file(found, {})

    return made


@pytest.fixture
def refused(tmp_path):
    def told_of(text):
        (tmp_path / "task.yaml").write_text(text)
        return told(lm_eval_task, tmp_path / "task.yaml").removeprefix(str(tmp_path / "task.yaml"))

    return told_of


def replaced(text, key, *lines):
    """The text with the line of a key replaced by others."""
    return "".join(
        "\n".join(lines) + "\n" if line.startswith(f"{key}:") else line for line in text.splitlines(keepends=True)
    )


# --- choices ------------------------------------------------------------------------------------------------


def test_a_task_of_choices_is_asked_and_scored_as_in_the_harness(task):
    made = task(CHOICES)
    spec = made.spec
    assert (spec.name, spec.evaluate_by, spec.answer_choices, spec.metrics) == (
        "lm_eval/shop_quiz", "choices", ("no", "yes"), ("accuracy",),
    )  # fmt: skip
    assert spec.description == "shop_quiz of the lm-evaluation-harness, version 2.0"
    assert made.split_names() == ["train", "test"]  # it has no test split, so it is evaluated on its validation split
    assert made.example(0) == ("Questions about shops.\n\nQuestion: Open?\nAnswer:", "yes")


def test_what_only_steers_the_harness_is_told(tmp_path):
    (tmp_path / "a.yaml").write_text(CHOICES)
    assert lm_eval_task(tmp_path / "a.yaml").notes == (
        "not applied: `should_decontaminate`, `doc_to_decontamination_query`; flantune looks for overlap with the "
        "training rows itself",
        'its metric "acc_norm" has no equal here and is left out',
    )
    (tmp_path / "b.yaml").write_text(OPEN)
    assert lm_eval_task(tmp_path / "b.yaml").notes == (
        "not applied: `num_fewshot`; solved examples are asked for in the recipe",
        "not applied: `generation_kwargs.until`; an answer ends at the model's end token",
    )


@pytest.mark.parametrize(
    ("target", "choices", "row", "wanted", "answer"),
    [
        ("label", '["no", "yes"]', {"label": 1}, ["no", "yes"], "yes"),
        ("label", '["no", "yes"]', {"label": True}, ["no", "yes"], "yes"),
        ("label", '["no", "yes"]', {"label": "0"}, ["no", "yes"], "no"),
        ("label", '["no", "yes"]', {"label": "yes"}, ["no", "yes"], "yes"),
        ("label", '["3", "1", "0"]', {"label": "1"}, ["3", "1", "0"], "1"),
        ("label", "[no, yes]", {"label": 0}, ["no", "yes"], "no"),
        ("label", "[3, 1.5, true]", {"label": 1}, ["3", "1.5", "True"], "1.5"),
        ("2", '["a", "b", "c"]', {}, ["a", "b", "c"], "c"),
        ('"{{label}}"', '["3", "1"]', {"label": "1"}, ["3", "1"], "1"),
        (
            '"{{choices.label.index(key)}}"',
            '"{{choices.text}}"',
            {"key": "B", "choices": {"text": ["x", "y"], "label": ["A", "B"]}},
            ["x", "y"],
            "y",
        ),
        (
            '"{% if good %}1{% else %}0{% endif %}"',
            '"{{[one, two]}}"',
            {"good": True, "one": "x {{ y }}", "two": "z"},
            ["x {{ y }}", "z"],
            "z",
        ),
        ('"{{ right }}"', "options", {"right": "b", "options": ["a", "b"]}, ["a", "b"], "b"),
        ("label", '{first: "no", second: "yes"}', {"label": 1}, ["no", "yes"], "yes"),
    ],
)
def test_a_target_is_the_number_of_a_choice_or_a_choice(task, target, choices, row, wanted, answer):
    text = replaced(
        replaced(CHOICES, "doc_to_target", f"doc_to_target: {target}"), "doc_to_choice", f"doc_to_choice: {choices}"
    )
    made = task(text, [{"question": "Open?", **row}])
    assert made.values(made.split("test")[0])["answer_choices"] == wanted
    assert made.example(0, split="test")[1] == answer


@pytest.mark.parametrize(
    ("target", "choices", "row"),
    [
        ("label", '["no", "yes"]', {"label": 2}),
        ("label", '["no", "yes"]', {"label": "maybe"}),
        ('"{{label}}"', '["no", "yes"]', {"label": 2}),
        ("label", "options", {"label": 0, "options": "ab"}),
    ],
)
def test_a_target_that_is_neither_is_an_error_of_its_row(task, target, choices, row):
    text = replaced(
        replaced(CHOICES, "doc_to_target", f"doc_to_target: {target}"), "doc_to_choice", f"doc_to_choice: {choices}"
    )
    assert "(row at " in told(task(text, [{"question": "Open?", **row}]).example, 0)


# --- texts --------------------------------------------------------------------------------------------------


def test_a_task_of_texts_reads_the_data_set_that_it_names(tmp_path):
    (tmp_path / "task.yaml").write_text(OPEN)
    data = lm_eval_task(tmp_path / "task.yaml").data
    spec = validated(TaskFile, data, None)
    assert data["source"] == {
        "kind": "huggingface", "path": "shops/quiz", "config": "main", "splits": {"train": "train", "test": "test"},
    }  # fmt: skip
    assert (spec.origins, spec.evaluate_by, spec.max_new_tokens, spec.metrics) == (
        ("shops/quiz/main",), "generation", 32, ("exact_match",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "row", "references"),
    [
        ('"{{answer}}"', {"answer": "x"}, ["x"]),
        ('"{{answer}}"', {"answer": ["x", "y ||| z"]}, ["x", "y ||| z"]),
        ("answer", {"answer": ["x", "y"]}, ["x", "y"]),
        ("answer", {"answer": 5}, ["5"]),
        ('"{{answer.aliases}}"', {"answer": {"aliases": ["x"]}}, ["x"]),
        ('"so: {{answer}}"', {"answer": "x"}, ["so: x"]),
        ("7", {}, ["7"]),
        ('"7"', {}, ["7"]),
    ],
)
def test_a_target_that_is_a_list_is_as_many_references(task, target, row, references):
    text = (
        replaced(CHOICES, "doc_to_choice")
        .replace("multiple_choice", "generate_until")
        .replace("metric: acc", "metric: bleu")
    )
    made = task(replaced(text, "doc_to_target", f"doc_to_target: {target}"), [{"question": "Open?", **row}])
    answer = made.example(0)[1]
    assert answer == references[0]
    assert made.references(made.split("test")[0], answer) == references


def test_words_that_look_like_marks_are_words(task):
    text = replaced(CHOICES, "doc_to_text", 'doc_to_text: "a ||| b {% raw %}|||{% endraw %} {{question}}"')
    assert task(text, [{"question": "{{ 7 * 7 }} |||", "label": 0}]).example(0) == (
        "Questions about shops.\n\na ||| b ||| {{ 7 * 7 }} |||", "no",
    )  # fmt: skip


def test_one_word_is_a_field_and_more_are_words(task):
    assert task(replaced(CHOICES, "doc_to_text", "doc_to_text: question")).example(0)[0].endswith("\n\nOpen?")
    assert task(replaced(CHOICES, "doc_to_text", "doc_to_text: Is it so?")).example(0)[0].endswith("\n\nIs it so?")
    assert "lacks" in told(task(replaced(CHOICES, "doc_to_text", "doc_to_text: qestion")).example, 0)


def test_a_delimiter_that_is_no_white_space_stands_at_the_end_of_the_input(task):
    assert task(CHOICES + 'target_delimiter: " => "\n').example(0)[0].endswith("Answer: =>")
    assert task(CHOICES + 'target_delimiter: "\\n"\n').example(0)[0].endswith("Answer:")


# --- scores -------------------------------------------------------------------------------------------------


def test_exact_match_that_ignores_case_is_accuracy_and_what_else_it_ignores_is_told(tmp_path):
    (tmp_path / "task.yaml").write_text(
        OPEN + "metric_list:\n  - metric: exact_match\n    ignore_case: true\n    regexes_to_ignore: [',']\n"
    )
    found = lm_eval_task(tmp_path / "task.yaml")
    assert found.data["metrics"] == ["accuracy"]
    assert "not applied: `exact_match` with regexes_to_ignore; answers are compared as they stand" in found.notes


def test_a_filter_that_finds_the_answer_is_the_templates(tmp_path):
    pipeline = [{"function": "regex", "regex_pattern": r"#### (\d+)"}, {"function": "take_first"}]
    filters = json.dumps([{"name": "get-answer", "filter": pipeline}])
    (tmp_path / "task.yaml").write_text(OPEN + f"filter_list: {filters}\n")
    found = lm_eval_task(tmp_path / "task.yaml")
    assert found.data["templates"][0]["answer"] == r"#### (\d+)"
    assert "of several answers that its filter finds, the last one counts" in found.notes


def test_every_metric_that_is_translated_exists_here():
    from flantune.evaluation.metrics import METRICS

    assert set(lm_eval.METRICS.values()) <= set(METRICS)


# --- include ------------------------------------------------------------------------------------------------


def test_included_files_are_the_ground_on_which_a_file_stands(tmp_path):
    (tmp_path / "_base").write_text(OPEN)
    (tmp_path / "_other").write_text("num_fewshot: 3\ntest_split: dev\ndoc_to_text: !function utils.text\n")
    (tmp_path / "task.yaml").write_text('include: [_other, _base]\ntask: mine\ndoc_to_text: "{{question}}"\n')
    data = lm_eval_task(tmp_path / "task.yaml").data
    assert data["name"] == "lm_eval/mine"
    assert data["source"]["splits"]["test"] == "dev"  # of several the first wins
    assert data["templates"][0]["text"].startswith("{{question}} ||| ")


def test_a_mistake_in_an_included_file_names_that_file(tmp_path):
    (tmp_path / "_base").write_text(OPEN + "repeats: 64\n")
    (tmp_path / "task.yaml").write_text("include: _base\n")
    assert told(lm_eval_task, tmp_path / "task.yaml") == (
        f"{tmp_path}/_base:16: repeats: is the recipe's to say (`evaluation.sampling.repeats`); leave it out"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: task.yaml\n", ":1: include: more than 8 files include each other"),
        ("include: {a: b}\n", ":1: include: a file or a list of files is wanted"),
    ],
)
def test_a_mistake_in_include_is_one_line(refused, text, message):
    assert refused(text) == message


def test_an_included_file_that_is_missing_is_named(tmp_path):
    (tmp_path / "task.yaml").write_text("include: no_base\n")
    assert told(lm_eval_task, tmp_path / "task.yaml") == f"{tmp_path}/no_base: no such file; known: task.yaml"


# --- refused ------------------------------------------------------------------------------------------------

NO_CODE = "flantune runs no code of a task file; write it as Jinja here, or as a transform in a task file of your own"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("process_docs: !function utils.process", f"process_docs: has no equal in flantune; {NO_CODE}"),
        ("process_results: !function utils.score", f"process_results: has no equal in flantune; {NO_CODE}"),
        ("class: !function task.Mine", f"class: has no equal in flantune; {NO_CODE}"),
        (
            "use_prompt: promptsource:a",
            "use_prompt: has no equal in flantune; use `templates_from: {promptsource: FILE}` in a "
            "task file of your own",
        ),
        ("gen_prefix: So", "gen_prefix: has no equal in flantune; write it at the end of doc_to_text"),
        ("doc_to_image: image", "doc_to_image: has no equal in flantune; flantune reads text only; leave it out"),
        (
            "unsafe_code: true",
            "unsafe_code: has no equal in flantune; code that a model wrote runs in tasks of your own alone (metric "
            "code_passes); leave it out",
        ),
        ("repeats: 2", "repeats: is the recipe's to say (`evaluation.sampling.repeats`); leave it out"),
        (
            "filter_list: [{name: a, filter: []}, {name: b, filter: []}]",
            "filter_list: several ways to find one answer have no equal in flantune; keep one of them",
        ),
        (
            "filter_list: [{name: a, filter: [{function: majority_vote}]}]",
            'filter_list.0.filter.0: the filter "majority_vote" has no equal in flantune',
        ),
        (
            "filter_list: [{name: a, filter: [{function: regex, regex_pattern: 'a'}]}]",
            "filter_list.0.filter.0.regex_pattern: a regular expression with one group is wanted",
        ),
        (
            "metric_list: [{metric: perplexity}]",
            "metric_list: none of these has an equal in flantune: perplexity; known: acc, "
            "exact_match, bleu, chrf, rouge1, rouge2, rougeL",
        ),
        ("metric_list: [{metric: !function utils.f}]", f"metric_list.0: a metric by name is wanted; {NO_CODE}"),
        ("metric_list: [acc]", f"metric_list.0: a metric by name is wanted; {NO_CODE}"),
    ],
)
def test_a_key_without_an_equal_is_refused_by_name(refused, line, message):
    assert refused(OPEN + line + "\n") == f":16: {message}"


@pytest.mark.parametrize(
    ("key", "line", "message"),
    [
        (
            "doc_to_text",
            "doc_to_text: !function utils.text",
            f"doc_to_text: is `!function utils.text`, Python code; {NO_CODE}",
        ),
        (
            "doc_to_text",
            "doc_to_text: 1",
            "doc_to_text: a number: choices as inputs have no equal in flantune; write the input as Jinja",
        ),
        (
            "doc_to_text",
            'doc_to_text: "{{ a"',
            "doc_to_text: not valid Jinja (line 1 of the text): unexpected end of template, "
            "expected 'end of print statement'.",
        ),
        ("doc_to_target", "doc_to_target: [a, b]", "doc_to_target: a field, Jinja or a number is wanted"),
        (
            "output_type",
            "output_type: loglikelihood_rolling",
            'output_type: "loglikelihood_rolling" has no equal in flantune; known: multiple_choice, generate_until',
        ),
        (
            "output_type",
            "output_type: multiple_choice",
            "doc_to_choice: is missing; output_type: multiple_choice needs it",
        ),
        ("dataset_path", "", "dataset_path: is missing; add it"),
        ("doc_to_text", "", "doc_to_text: is missing; add it"),
        ("task", "task: [a, b]", "task: a group of tasks; name its tasks one by one"),
        (
            "task",
            "tsak: a",
            'tsak: unknown key; did you mean "task"? (class, custom_dataset, dataset_kwargs, dataset_name, '
            "dataset_path, description, doc_to_audio, doc_to_choice, doc_to_decontamination_query, doc_to_image, "
            "doc_to_target, "
            "doc_to_text, fewshot_config, fewshot_delimiter, fewshot_split, filter_list, gen_prefix, "
            "generation_kwargs, group, "
            "group_alias, include, metadata, metric_list, num_fewshot, output_type, process_docs, "
            "process_results, repeats, "
            "should_decontaminate, tag, target_delimiter, task, task_alias, test_split, training_split, "
            "unsafe_code, use_prompt, "
            "validation_split)",
        ),
        ("dataset_name", "dataset_kwargs: {trust_remote_code: true}", f"dataset_kwargs.trust_remote_code: {NO_CODE}"),
        (
            "dataset_name",
            "dataset_kwargs: {data_dir: x}",
            "dataset_kwargs.data_dir: has no equal in flantune; name files by `data_files`",
        ),
        (
            "dataset_name",
            "dataset_kwargs: {data_files: x.csv}",
            'dataset_kwargs.data_files: has no files for split "test"',
        ),
        (
            "dataset_name",
            "dataset_kwargs: {data_files: {train: 'https://a/x.csv', test: y.csv}}",
            "dataset_kwargs.data_files: names an address; fetch the file and name its path",
        ),
        (
            "dataset_name",
            "dataset_kwargs: {data_files: {train: x.csv, test: y.txt}}",
            "dataset_kwargs.data_files: files of one kind are wanted (.json, .jsonl, .csv, .parquet, .arrow)",
        ),
    ],
)
def test_a_value_without_an_equal_is_refused_by_name(refused, key, line, message):
    said = refused(replaced(OPEN, key, line))
    assert said[said.index(": ") + 2 :] == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "  do_sample: true",
            "generation_kwargs.do_sample: is the recipe's to say (`evaluation.sampling`); leave it out",
        ),
        (
            "  temperature: 0.7",
            "generation_kwargs.temperature: is the recipe's to say (`evaluation.sampling`); leave it out",
        ),
        (
            "  num_beams: 4",
            "generation_kwargs.num_beams: has no equal in flantune; leave it out",
        ),
        ("  max_gen_toks: 0", "generation_kwargs.max_gen_toks: a whole number of at least 1 is wanted"),
    ],
)
def test_a_way_to_generate_without_an_equal_is_refused_by_name(refused, line, message):
    text = OPEN[: OPEN.index("  until")] + line + "\n"
    assert refused(text) == f":12: {message}"


def test_files_by_split_are_read_with_their_record_path(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps({"data": [{"question": "a", "answer": "b"}]}))
    files = "dataset_kwargs: {data_files: {train: rows.json, test: [rows.json]}, field: data}"
    text = replaced(OPEN, "dataset_path", "dataset_path: json", files)
    (tmp_path / "task.yaml").write_text(replaced(text, "dataset_name"))
    task = Task.from_file(lm_eval_task(tmp_path / "task.yaml"), {})
    assert task.example(0, split="test") == ("Q: a\nA:", "b")


KEYS = (*lm_eval_keys.TRANSLATED, *lm_eval_keys.LABELS, *lm_eval_keys.TOLD, *lm_eval_keys.REFUSED, "unknown")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["train", "{{ a }}", "{% if %}", "acc", "|||", "a b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metric", "filter", "function", "until", "data_files", "train", "version"]), inner
        )
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(set(KEYS) - {"include"})), VALUES))
def test_any_values_make_a_valid_task_or_one_line(tmp_path_factory, changed):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    ground = {"dataset_path": "a/b", "test_split": "test", "doc_to_text": "{{ a }}", "doc_to_target": "b"}
    path.write_text(json.dumps({**ground, **changed}))
    with contextlib.suppress(FlantuneError):
        validated(TaskFile, lm_eval_task(path).data, None)
