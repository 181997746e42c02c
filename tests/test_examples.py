"""The task files in examples/ and the page about tasks: each file is whole without data, and asks its rows with it."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from flantune.evaluation.metrics import METRICS
from flantune.preview import preview
from flantune.tasks import find_task
from flantune.tasks.lint import lint
from flantune.tasks.schema import Options, TaskFile
from flantune.tasks.sources import SourceChoice
from flantune.tasks.sources.transform_schema import Transform

REPOSITORY = Path(__file__).parent.parent
EXAMPLES = sorted((REPOSITORY / "examples").rglob("*.yaml"))
DATA = REPOSITORY.parent / "shared" / "data"
PAGE = (REPOSITORY / "docs" / "tasks.md").read_text(encoding="utf-8")
VARIABLES = {"DATA": str(DATA), "data": str(DATA)}
SET = re.compile(r"\$\{(?:DATA|data)\}/((?:nli|recross_p3)/[^/]+|[^/]+)")

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")


def identity(path):
    return str(path.relative_to(REPOSITORY / "examples"))


def own(path):
    """Whether a file's templates are its own: those of others are read with the data."""
    return "templates_from" not in path.read_text(encoding="utf-8")


# --- without data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=identity)
def test_an_example_is_whole_without_its_data(path):
    text = path.read_text(encoding="utf-8")
    spec = TaskFile.model_validate(yaml.safe_load(text))
    assert set(spec.metrics) <= set(METRICS)
    assert text.startswith("# ")
    assert spec.description
    assert spec.origins
    assert spec.license is not None or path.parent.name == "four_tasks"
    assert SET.findall(text)
    if own(path):
        find_task(str(path))


def test_the_examples_are_many_tasks_of_many_kinds_over_many_data_sets():
    specs = [TaskFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in EXAMPLES]
    assert [name for name, count in Counter(spec.name for spec in specs).items() if count > 1] == []
    assert len({spec.cluster for spec in specs}) >= 20
    assert len({name for path in EXAMPLES for name in SET.findall(path.read_text(encoding="utf-8"))}) >= 55


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples" / "tasks").rglob("*.yaml")), ids=identity)
def test_an_example_asks_in_several_ways_and_holds_one_out(path):
    """What comes with its prompts, each row under one of several, has one template that passes them on."""
    task = find_task(str(path))
    if [template.name for template in task.templates] == ["as_prompted"]:
        return
    straight = [template for template in task.training_templates if not template.inverted]
    assert len(straight) >= 2 or any(template.conversation for template in task.templates)
    assert task.evaluation_templates("held_out")
    assert (path.parent.name, path.stem) == (task.spec.cluster, task.name)
    assert all(template.name.startswith("held_out_") == template.held_out for template in task.templates)


# --- with data ----------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=identity)
def test_an_example_asks_its_rows_without_an_error(path):
    task = find_task(str(path), VARIABLES)
    report = lint(task, rows=200)
    assert [str(finding) for finding in report.errors] == []
    assert {finding.code for finding in report.findings} & {"leak", "equal-prompts"} == set()
    for split in task.split_names():
        shown = preview(task, split=split)
        assert [record["template"] for record in shown] == [template.name for template in task.templates]


@needs_data
@pytest.mark.parametrize(
    "name", ["sentiment/sst2", "math_word_problems/gsm8k", "data_to_text/webnlg", "tool_use/glaive_toolcall"]
)
def test_an_example_of_each_kind_of_template_asks_its_rows(name):
    task = find_task(str(REPOSITORY / "examples" / "tasks" / f"{name}.yaml"), VARIABLES)
    assert lint(task, rows=20).errors == []
    assert len(preview(task)) == len(task.templates)


@needs_data
@pytest.mark.slow
def test_all_files_of_the_t0_collection_stand_in_a_task():
    """55,185 rows in 283 files, less the 1,400 of TREC, which have no completion."""
    tasks = [find_task(str(path), VARIABLES) for path in EXAMPLES if path.parent.name == "t0"]
    places = [rows.place(i) for task in tasks for rows in [task.split("train")] for i in range(len(rows))]
    assert len(places) == 55_185 - 1_400
    assert len({place.partition(".jsonl")[0] for place in places}) == 283 - 7


@needs_data
@pytest.mark.slow
def test_the_files_of_other_projects_are_tasks_by_their_name():
    instructions = sorted((DATA / "super_ni" / "tasks").glob("*.json*"))
    assert len(instructions) == 33
    for path in instructions:
        task = find_task(f"super_ni:{path}")
        assert lint(task, rows=20).errors == []
        assert len(preview(task)) == len(task.templates)
    collections = sorted((DATA / "promptsource" / "templates").rglob("templates.yaml"))
    counts = [len(find_task(f"promptsource:{path}").templates) for path in collections]
    assert (len(counts), sum(counts)) == (279, 2085)


# --- the page -----------------------------------------------------------------------------------------------


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path):
    """The files that the page shows, each after its name."""
    for name, text in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_commands_of_the_page_say_what_it_shows(folder):
    shown = "".join(blocks("console"))
    commands = re.findall(r"^\$ flantune (.*)\n", shown, re.MULTILINE)
    said = ""
    for command in commands:
        call = [sys.executable, "-m", "flantune", *command.split()]
        done = subprocess.run(
            call, cwd=folder, env=os.environ | {"COLUMNS": "100"}, capture_output=True, text=True, check=True
        )
        lines = [line.rstrip() for line in done.stdout.rstrip().splitlines()]
        said += "\n".join([f"$ flantune {command}", *lines]) + "\n"
    assert len(commands) >= 5
    assert said == shown


def test_the_python_of_the_page_does_what_it_shows(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for text in blocks("python"):
        test = doctest.DocTestParser().get_doctest(text, {}, "tasks.md", "tasks.md", 0)
        assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def table(heading):
    """Cells of the tables below a heading, bars that stand for themselves restored."""
    section = re.search(rf"^## {heading}\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    assert section is not None
    for line in section[1].splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            yield [cell.strip().replace("\0", "|") for cell in line.replace("\\|", "\0").strip("|").split("|")]


def code(cell):
    found = re.fullmatch(r"`(.*)`", cell)
    return yaml.safe_load(found[1]) if found else None


def test_the_sources_of_the_page_are_sources_and_are_all_of_them():
    kinds, keys = set(), set()
    for first, second, third in table("Sources"):
        if first in ("kind", "key"):
            continue
        stated = code(third)
        if isinstance(stated, dict) and "kind" in stated:
            kinds.add(SourceChoice.model_validate(stated).kind)
            kinds |= set(re.findall(r"`(\w+)`", first))
        else:
            key = first.strip("`")
            whole = {"kind": "csv", "splits": {"test" if key == "beside" else "all": "rows.csv"}, key: code(second)}
            if key in ("fractions_by", "sample"):
                whole["fractions"] = {"train": 0.5, "test": 0.5}
            SourceChoice.model_validate(whole)
            keys.add(key)
    assert kinds == set(SourceChoice.model_json_schema()["$defs"]["SourceChoice"]["properties"]["kind"]["enum"])
    assert keys == {"beside", "also", "group", "where", "fractions", "fractions_by", "split_by", "sample"}


def test_the_transforms_of_the_page_are_transforms_and_are_all_of_them():
    named = {
        Transform.model_validate(code(second)).chosen[0]
        for first, second in table("Transforms")
        if first != "transform"
    }
    assert named == set(Transform.model_fields) - {"strip_prefix"}


def test_the_option_styles_of_the_page_are_all_of_them():
    from flantune.tasks.options import STYLES

    named = {name for first, *_ in table("Options") for name in re.findall(r"`(\w+)`", first)}
    assert named == set(STYLES)
    for text in blocks("yaml"):
        if text.startswith("options:"):
            Options.model_validate(yaml.safe_load(text)["options"])
