"""Real collections read in place: all files, as many rows as stated, and the prompts that others made from them."""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import pytest

from flantune.recipe.yaml_file import validated
from flantune.tasks import find_task, load_task
from flantune.tasks.foreign import foreign_task, promptsource_templates
from flantune.tasks.foreign.promptsource import promptsource_task
from flantune.tasks.foreign.super_ni import super_ni_task
from flantune.tasks.jinja import render_text
from flantune.tasks.schema import TaskFile, TemplateChoice
from flantune.tasks.sources import SourceChoice, read_split
from flantune.tasks.task import Task
from flantune.tasks.template import EmptyText, Template, split_choices
from promptsource_bindings import BINDINGS, source_of
from reading import read

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FLANTUNE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not (DATA / "README.md").exists(), reason=f"no data sets in {DATA}; FLANTUNE_TEST_DATA names another folder"
)
NI_TASKS = sorted((DATA / "super_ni" / "tasks").glob("*.json*"))
TEMPLATE_FILES = sorted((DATA / "promptsource" / "templates").rglob("templates.yaml"))


# --- Super-NaturalInstructions ------------------------------------------------------------------------------


@functools.cache
def stated():
    """File name to category and rows, as the description of the data sets states them."""
    text = (DATA / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"(task\d+\S+?\.json(?:\.gz)?) \[([^;]+); \d+ at source; \w+\] (\d+)", text)
    return {name: (category, int(rows)) for name, category, rows in found}


def test_there_are_as_many_tasks_as_stated():
    assert {path.name for path in NI_TASKS} == set(stated())
    assert len(NI_TASKS) == 33


@pytest.mark.parametrize("path", NI_TASKS, ids=lambda path: path.name.partition("_")[0])
def test_a_real_task_has_its_rows_category_phrasings_and_references(path):
    task = find_task(f"super_ni:{path}")
    category, rows = stated()[path.name]
    assert task.spec.cluster == category.lower().replace(" ", "_")
    assert [len(task.split(split)) for split in ("train", "test")] == [rows - 100, 100]
    assert len(task.templates) == 9
    test = task.split("test")
    for row, place in ((test[number], test.place(number)) for number in range(0, 100, 25)):
        prompts = [task.render(template, row, place) for template in task.templates]
        assert len({prompt for prompt, _ in prompts}) == 9
        assert {target for _, target in prompts} == {row["output"][0].strip()}
        assert task.references(row, prompts[0][1]) == [output.strip() for output in row["output"]]


def test_a_real_task_of_samsum_names_samsum_as_its_origin():
    found = super_ni_task(DATA / "super_ni" / "tasks" / "task1572_samsum_summary.json.gz")
    assert (found.data["name"], found.data["origins"]) == ("super_ni/task1572_samsum_summary", ["samsum"])
    assert (found.data["license"], found.data["language"]) == ("CC-BY-NC-ND-4.0", "en")


# --- promptsource -------------------------------------------------------------------------------------------


def test_all_templates_of_promptsource_are_read_and_compile():
    names, templates = set(), Counter()
    for path in TEMPLATE_FILES:
        spec = validated(TaskFile, promptsource_task(path).data, None)
        names.add(spec.name)
        for choice in spec.templates:
            templates["inverted" if Template.of(choice).inverted else "straight"] += 1
    assert len(names) == len(TEMPLATE_FILES) == 279
    assert templates == {"straight": 1535, "inverted": 550}


# Fields that the files at hand do not hold: fine labels, a long answer and headings, how related sentences are.
LACKING = {
    "trec": 13,
    "pubmed_qa/pqa_labeled": 4,
    "sick": 1,
}


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.templates)
def test_templates_bound_to_real_rows_render_what_plain_jinja_renders(binding):
    """What promptsource itself would make of a row, but where it draws at random, is the reference."""
    rows = read_split(SourceChoice.model_validate(source_of(binding)), "all", DATA, {}, allow_code=True)
    rendered = Counter()
    for stated_ in promptsource_templates(DATA / "promptsource" / "templates" / binding.templates):
        template = Template.of(TemplateChoice.model_validate(stated_))
        for row in (rows[number] for number in range(0, len(rows), len(rows) // 12 + 1)):
            expected = plain(template, row)
            if expected is None:
                continue
            try:
                assert list(template.render(with_choices(template, row))) == expected or expected == []
                rendered[template.name] += 1
            except EmptyText:
                assert not all(expected[:2]) or len(expected) < 2
    files = promptsource_templates(DATA / "promptsource" / "templates" / binding.templates)
    assert len(files) - len(rendered) <= LACKING.get(binding.templates, 0)


def with_choices(template, row):
    given = template.answer_choices
    if given is None:
        return dict(row)
    choices = split_choices(render_text(given, row, "choices")) if isinstance(given, str) else list(given)
    return {**row, "answer_choices": choices}


class Drawn(Exception):
    """The template draws at random."""


def _draw(_items):
    raise Drawn


def plain(template, row):
    """Input and target by promptsource's own rules; an empty list where it draws, None where a field is missing."""
    environment: Any = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.globals["zip"] = zip  # promptsource adds it
    environment.filters.update(choice=_draw, random=_draw)
    try:
        values = with_choices(template, row)
        parts = environment.from_string(template.text).render(**json.loads(json.dumps(values))).split("|||")
    except Drawn:
        return []
    except jinja2.UndefinedError:
        return None
    return [part.strip() for part in parts[:2]]


def test_templates_of_samsum_render_the_prompts_that_p3_rendered():
    rows = read(DATA, kind="jsonl", splits={"all": "samsum/samsum_validation.jsonl.gz"})
    templates = {
        re.sub("[^a-z]", "", stated_["name"].lower()): Template.of(TemplateChoice.model_validate(stated_))
        for stated_ in promptsource_templates(DATA / "promptsource" / "templates" / "samsum")
    }
    triples = read(
        DATA,
        kind="json",
        splits={"all": "samsum_prompted/test-1000.json.gz"},
        header=["input", "outputs", "id"],
        transforms=[{"triple": {}}],
    )
    compared = Counter()
    for triple in triples:
        template = templates[re.sub("[^a-z]", "", triple["prompt"].lower())]
        row = rows[int(triple["origin_row"].rpartition("#")[2])]
        if len(row["dialogue"]) > 2048:  # what was longer, promptsource cut there
            continue
        # The copy of the data set that was prompted ends its lines as Windows does.
        expected = [text.replace("\r\n", "\n").strip() for text in (triple["input"], triple["outputs"][0])]
        assert list(template.render(row)) == expected
        compared[template.name] += 1
    assert (compared.total(), len(compared)) == (995, 7)


# --- rendered examples --------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(path for path in (DATA / "recross_p3").glob("*")), ids=lambda path: path.name)
def test_real_triples_tell_set_prompt_and_row(folder):
    name = folder.name.partition("_r1")[0]
    for path in folder.glob("*.json.gz"):
        rows = read(
            folder,
            kind="json",
            splits={"all": path.name},
            header=["input", "outputs", "id"],
            transforms=[{"triple": {}}],
        )
        assert len(rows) == len(json.loads(gzip.decompress(path.read_bytes())))
        assert {row["origin"] for row in rows} == {name}
        assert all(row["outputs"] and row["prompt"] and row["split"] for row in rows)


@pytest.mark.slow
def test_the_completions_of_t0_lose_their_mark_and_some_are_nothing_else():
    source = {
        "kind": "jsonl",
        "splits": {"all": "t0_train_50k/t0_train_50k.tar.xz!**/*.jsonl"},
        "transforms": [{"strip_suffix": {"field": "completion", "suffix": "<|endoftext|>"}}],
    }
    rows = read(DATA, **source)
    completions = [row["completion"] for row in rows]
    assert len(completions) == 55_185
    assert sum(not text.strip() for text in completions) == 1_400
    assert not any("<|endoftext|>" in text for text in completions)


# --- conversations and instructions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "file", "field", "last", "every"),
    [
        ("jsonl", "dialogsum_messages/*.jsonl.gz", "messages", 1_157, 1_157),
        ("json", "toolcall_sharegpt/glaive_toolcall_en_demo.json.gz", "conversations", 300, 957),
        ("json", "vicuna_dummy_sharegpt/dummy_conversation.json.gz", "conversations", 500, 1_000),
    ],
)
def test_real_conversations_give_their_last_answer_or_each(kind, file, field, last, every):
    for targets, count in (("last", last), ("all", every)):
        transform = {"conversation": {"field": field, "targets": targets}}
        rows = read(DATA, kind=kind, splits={"all": file}, transforms=[transform])
        assert len(rows) == count
        assert all(row["history"][-1][0] in ("user", "tool") for row in rows)


INSTRUCTIONS = """
name: instructions
source: {kind: KIND, splits: {train: "FILE"}}
metrics: [rouge1]
templates:
  - name: plain
    text: "{{ instruction }}{% if input %}\\n\\n{{ input }}{% endif %} ||| {{ FIELD }}"
  - name: headed
    text: "### Instruction:\\n{{ instruction }}{% if input %}\\n\\n### Input:\\n{{ input }}{% endif %} ||| {{ FIELD }}"
"""


@pytest.mark.parametrize(
    ("kind", "file", "field", "count"),
    [
        ("json", "code_alpaca_2k/code_alpaca_2k.json.gz", "output", 2_017),
        ("yaml", "gpteacher_roleplay/roleplay-simple-deduped-roleplay-instruct.yaml.gz", "response", 1_923),
    ],
)
def test_real_instructions_need_nothing_but_a_template(tmp_path, kind, file, field, count):
    text = INSTRUCTIONS.replace("KIND", kind).replace("FILE", f"{DATA}/{file}").replace("FIELD", field)
    (tmp_path / "task.yaml").write_text(text)
    task = load_task(tmp_path / "task.yaml")
    rows = task.split("train")
    assert len(rows) == count
    for row in (rows[number] for number in range(0, count, 50)):
        asked, answer = task.render(task.templates[0], row, "a row")
        assert asked.startswith(row["instruction"].strip())
        assert asked.endswith((row["input"].strip() if row["input"] else row["instruction"]).strip())
        assert answer == row[field].strip()


def test_a_name_leads_to_a_real_file_through_a_variable():
    found = foreign_task("promptsource", "${PS}/ag_news", {"PS": str(DATA / "promptsource" / "templates")})
    assert found.data["name"] == "promptsource/ag_news"
    assert len(found.data["templates"]) == 7


HARNESS = """
task: TASK
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{query}}\\nAnswer:"
doc_to_target: gold
doc_to_choice: choices
metric_list: [{metric: acc}]
"""


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("boolq/boolq.jsonl.gz", 3_270),
        ("mc_commonsense/arc_easy.jsonl.gz", 2_376),
        ("mc_commonsense/openbook_qa.jsonl", 500),
        ("mc_commonsense/copa.jsonl", 100),
    ],
)
def test_a_task_of_the_harness_reads_real_files(tmp_path, file, count):
    name = Path(file).name.partition(".")[0]
    (tmp_path / "task.yaml").write_text(HARNESS.replace("TASK", name).replace("FILE", f"{DATA}/{file}"))
    task = Task.from_file(foreign_task("lm_eval", tmp_path / "task.yaml"), {})
    rows = task.split("test")
    assert (task.name, len(rows)) == (f"lm_eval/{name}", count)
    for row in (rows[number] for number in range(0, count, count // 10)):
        asked, answer = task.render(task.templates[0], row, "a row")
        assert asked == f"{row['query']}\nAnswer:".strip()
        assert answer == row["choices"][row["gold"]].strip()
        assert task.values(row)["answer_choices"] == [choice.strip() for choice in row["choices"]]
