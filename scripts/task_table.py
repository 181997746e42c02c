"""Writes the tables of tasks in docs/tasks.md: each task is read, asked in all its templates, and its row written.

python scripts/task_table.py --data ../data              writes the tables (some minutes)
python scripts/task_table.py --data ../data --rows 200   looks at no more than 200 rows of each split

A table stands after its mark, `<!-- tasks: WHAT -->`, where WHAT is a folder of task files of this repository, or a
collection and a pattern below the data folder, such as `super_ni:super_ni/tasks/*.json*`.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flantune.errors import FlantuneError
from flantune.tasks import Task, find_task
from flantune.tasks.lint import LintReport, lint

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "tasks.md"
TABLE = re.compile(r"(<!-- tasks: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SET = re.compile(r"\$\{(?:DATA|data)\}/((?:nli|recross_p3)/[^/]+|[^/]+)")  # two folders hold several sets


class Looked(NamedTuple):
    """A task and what lint found."""

    task: Task
    report: LintReport


def main() -> None:
    """Writes each table anew, in place."""
    parser = argparse.ArgumentParser(description="Write the tables of tasks in docs/tasks.md.")
    parser.add_argument("--data", required=True, type=Path, help="the data folder: ${DATA} in the task files")
    parser.add_argument("--rows", type=int, help="rows of each split to look at; all by default")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda found: _written(found, options.data, options.rows), page), encoding="utf-8")


def _written(found: re.Match[str], data: Path, rows: int | None) -> str:
    started = time.monotonic()
    names = list(_names(found[2], data))
    if found[2].startswith("promptsource:"):
        text = _parsed(names)
    else:
        looked = [_looked(name, data, rows) for name in names]
        text = f"{_totals(looked)}\n\n{_table(looked)}"
    print(f"{found[2]}: {len(names)} in {time.monotonic() - started:.0f} s")
    return f"{found[1]}{text}\n{found[4]}"


def _names(what: str, data: Path) -> Iterator[str]:
    """The names under which the tasks of a table are found."""
    collection, colon, pattern = what.partition(":")
    if colon:
        yield from (f"{collection}:{path}" for path in sorted(data.glob(pattern)))
    else:
        yield from (str(path) for path in sorted((REPOSITORY / what).rglob("*.yaml")))


def _looked(name: str, data: Path, rows: int | None) -> Looked:
    task = find_task(name, {"DATA": str(data.resolve()), "data": str(data.resolve())})
    return Looked(task, lint(task, rows=rows))


def _totals(looked: list[Looked]) -> str:
    clusters = {each.task.spec.cluster for each in looked}
    sets = {name for each in looked for name in SET.findall(each.task.spec.source.model_dump_json())}
    rows = sum(len(each.task.split(split)) for each in looked for split in each.task.split_names())
    prompts = sum(each.report.renderings for each in looked)
    wrong = sum(bool(each.report.errors) for each in looked)
    told = f"{len(looked)} tasks in {len(clusters)} clusters"
    if len(sets) > 1:
        told += f" over {len(sets)} data sets"
    errors = f"{wrong} task{'s' * (wrong > 1)} with an error" if wrong else "no task with an error"
    return f"{told}: {rows:,} rows; {prompts:,} prompts looked at; {errors}."


def _table(looked: list[Looked]) -> str:
    lines = ["| task | cluster | rows | templates | licence | lint |", "|---|---|---|---|---|---|"]
    for task, report in looked:
        cells = (task.name, task.spec.cluster, _rows(task), _templates(task), task.spec.license, _told(report))
        lines.append("| " + " | ".join((cell or "not stated").replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _rows(task: Task) -> str:
    return ", ".join(f"{len(task.split(split)):,} {split}" for split in task.split_names())


def _templates(task: Task) -> str:
    kinds = {
        "inverted": sum(template.inverted for template in task.templates),
        "held out": sum(template.held_out for template in task.templates),
        "reasoning": sum(template.answer is not None for template in task.templates),
    }
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    return f"{len(task.templates)}" + (f" ({told})" if told else "")


def _told(report: LintReport) -> str:
    found = Counter(finding.severity for finding in report.findings)
    told = [f"{found[kind]} {kind}{'s' * (found[kind] > 1)}" for kind in ("error", "warning", "note") if found[kind]]
    return ", ".join(told) or "clean"


def _parsed(names: list[str]) -> str:
    """How many of promptsource's files and templates can be read."""
    templates, failed = 0, []
    for name in names:
        try:
            templates += len(find_task(name).templates)
        except FlantuneError as error:
            failed.append(str(error))
    if failed:
        raise SystemExit("\n".join(failed))
    return f"{len(names)} files with {templates:,} templates; all parse."


if __name__ == "__main__":
    main()
