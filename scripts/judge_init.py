"""Runs `flantune init` on the bare files of each set in a data folder, without options, and judges what it makes.

python scripts/judge_init.py DATA_FOLDER [--only NAME] [--hide-names] prints a table; --write puts it into
docs/your-own-data.md. The answers to compare with are in judge_init.yaml. With --hide-names the columns' names
are hidden from the evidence, which shows how much of it rests on them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError
from flantune.recipe.yaml_file import read_yaml
from flantune.tasks import load_task
from flantune.tasks.init import Draft, init_tasks
from flantune.tasks.lint import check_task

PAGE = Path(__file__).resolve().parent.parent / "docs" / "your-own-data.md"
BEGIN, END = "<!-- judged by scripts/judge_init.py -->\n", "<!-- end of the judgement -->\n"


def main() -> None:
    """Prints the table and how many sets are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--hide-names", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    parser.add_argument("--check", action="store_true", help="load each task and render all rows")
    asked = parser.parse_args()
    if asked.hide_names:
        _hide_names()
    answers = read_yaml(Path(__file__).with_suffix(".yaml")).data
    right = 0
    lines = ["| set | what it made of the files | right? |", "|---|---|---|"]
    for name, answer in answers.items():
        if asked.only not in name:
            continue
        began = time.monotonic()
        made, verdict = judged(asked.data / answer.get("give", name), answer, check=asked.check)
        right += verdict == "yes"
        lines.append(f"| {name} | {made} | {verdict} |")
        print(f"{name}: {verdict}, {time.monotonic() - began:.1f} s", file=sys.stderr)
    text = "\n".join([*lines, "", f"Right: {right} of {len(answers)}.", ""])
    print(text)
    if asked.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page.split(BEGIN)[0] + BEGIN + text + END + page.split(END)[1], encoding="utf-8")


def judged(given: Path, answer: Mapping[str, Any], *, check: bool) -> tuple[str, str]:
    """What was made, in words, and `yes` or where it erred."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            tasks = init_tasks([given], Path(folder)).tasks
        except FlantuneError as error:
            told = error.message.split(";")[0]
            return f"told: {told[:110]}", "yes" if answer.get("expect") == [] else "no: a task was wanted"
        if check:
            for task in tasks:
                check_task(load_task(Path(folder) / f"{task.name}.yaml"))
    wrong = errors(tasks, answer)
    return described(tasks), "yes" if not wrong else f"no: {'; '.join(wrong[:4])}"


def errors(tasks: Sequence[Draft], answer: Mapping[str, Any]) -> list[str]:
    """Where tasks differ from what a careful person would make."""
    if "each" in answer:
        wanted = [answer["each"]] * answer["tasks"]
    else:
        wanted = answer["expect"]
    found = [f"{len(tasks)} tasks, not {len(wanted)}"] if len(tasks) != len(wanted) else []
    for task, want in zip(tasks, wanted, strict=False):
        is_ = {
            "kind": task.kind,
            "given": _set(" + ".join(task.given)),
            "target": task.target,
            "metrics": task.keys["metrics"][0],
        }
        for key, value in is_.items():
            allowed = [each.strip() for each in want[key].split("|")]
            allowed = [_set(each) for each in allowed] if key == "given" else allowed
            if value not in allowed and "any" not in allowed:
                told = " + ".join(sorted(value)) if isinstance(value, frozenset) else value
                found.append(f"{task.name}: {key} {told}, not {want[key]}")
    return found


def _set(columns: str) -> frozenset[str]:
    return frozenset(each.strip() for each in columns.split(" + "))


def described(tasks: Sequence[Draft]) -> str:
    """Tasks in a few words; those that are alike, once."""
    told: dict[str, int] = {}
    for task in tasks:
        words = f"{task.kind}: {' + '.join(task.given)} → {task.target}, by {task.keys['metrics'][0]}"
        told[words] = told.get(words, 0) + 1
    return "; ".join(words + (f" ({count} tasks)" if count > 1 else "") for words, count in told.items())


def _hide_names() -> None:
    """All columns look as if the file did not name them; what is written keeps its names."""
    from flantune.tasks.init import view

    view.View.suggests = lambda self, column, *roles: 0.0  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
