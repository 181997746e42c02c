"""`flantune init`: data files of one's own become tasks and a recipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flantune.tasks.init import Made


def init(
    files: Annotated[list[Path], typer.Argument(help="Data files, folders of them, or archives.")],
    input_: Annotated[
        list[str] | None, typer.Option("--input", help="A column that is given; may be said again.", show_default=False)
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column that is asked for.", show_default=False)] = None,
    kind: Annotated[
        str | None, typer.Option(help="The kind of task, such as summarization or rating.", show_default=False)
    ] = None,
    instruction: Annotated[
        str | None, typer.Option(help="What is asked, in words of your own.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The task's name; by default its file's.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the best guess and say so.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make tasks and a recipe of your own data: looks at the files, says what it takes them for, writes YAML.

    Example: flantune init mails.csv
    """
    from flantune.cli.show import print_json
    from flantune.tasks.init import Wishes, init_tasks

    asks = sys.stdin.isatty() and sys.stdout.isatty() and not yes and not json_
    wishes = Wishes(kind, tuple(input_ or ()), target, instruction)
    made = init_tasks(files, out, wishes, name=name, ask=_Terminal() if asks else None)
    if json_:
        print_json(_told(made))
    else:
        _print(made)


class _Terminal:
    """Asks a person at the terminal."""

    def choose(self, question: str, answers: Sequence[str]) -> int:
        """The number of an answer, from 0; Enter takes the first."""
        from flantune.reporting import safe

        print(question)
        for number, answer in enumerate(answers, start=1):
            print(f"  {number}  {safe(answer)}")
        chosen = 0
        while not 1 <= chosen <= len(answers):
            chosen = typer.prompt("Number", default=1, type=int)
        return chosen - 1

    def say(self, question: str) -> str:
        """A word or two; Enter says nothing."""
        from flantune.reporting import safe

        return typer.prompt(safe(question), default="", show_default=False)


def _print(made: Made) -> None:
    from flantune.reporting import safe

    for task, file in zip(made.tasks, made.files, strict=False):
        counts = ", ".join(f"{count:,} {split}" for split, count in task.rows.items())
        given = " + ".join(task.given)
        print(safe(f"{file}: {task.kind.replace('_', ' ')}, {given} -> {task.target} ({counts})"))
        for reason in task.why:
            print(safe(f"  because  {reason}"))
        print(safe(f"  scored   by {', '.join(task.keys['metrics'])}; {len(task.templates)} phrasings"))
        for guess in task.guesses:
            print(safe(f"  guessed  {guess}"))
    for name, reason in made.aside:
        print(safe(f"left aside: {name}: {reason}"))
    recipe = made.files[-1]
    print(safe(f"{recipe}: trains the embedded model on {'it' if len(made.tasks) == 1 else 'all of them'}"))
    print(safe(f"next: flantune plan {recipe}   (then: flantune train {recipe})"))


def _told(made: Made) -> dict[str, Any]:
    """For machines."""
    return {
        "tasks": [
            {
                "name": task.name,
                "file": str(file),
                "kind": task.kind,
                "given": list(task.given),
                "target": task.target,
                "metrics": list(task.keys["metrics"]),
                "evaluate_by": task.keys["evaluate_by"],
                "rows": dict(task.rows),
                "why": list(task.why),
                "guesses": list(task.guesses),
            }
            for task, file in zip(made.tasks, made.files, strict=False)
        ],
        "recipe": str(made.files[-1]),
        "aside": [{"file": name, "why": reason} for name, reason in made.aside],
    }
