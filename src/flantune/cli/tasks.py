"""`flantune tasks`: list tasks, look at one, lint them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flantune.tasks import Task

app = typer.Typer(
    help="List tasks, look at the prompts of one, find what is wrong with them.\n\nExample: flantune tasks list",
    no_args_is_help=True,
)

Variables = Annotated[
    list[str] | None,
    typer.Option("--variable", "-v", help="NAME=VALUE for ${NAME} in paths.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Run the Python functions that task files name.")]


@app.command("list")
def list_(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(help="Task files, folders of them, or names; the starter tasks and installed packs by default."),
    ] = None,
    variables: Variables = None,
    json_: Json = False,
) -> None:
    """List tasks: cluster, rows, templates, metrics, licence.

    Example: flantune tasks list examples -v DATA=../data
    """
    from rich.console import Console

    from flantune.cli.show import print_json
    from flantune.reporting.terminal import task_table
    from flantune.tasks.find import task_names

    listed = [_summary(task) for task in _found(tasks or task_names(), _variables(variables))]
    if json_:
        print_json(listed)
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(task_table(listed))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="TASK", help="A starter task's name, a task file, or PACK/NAME.")],
    examples: Annotated[
        int, typer.Option("--examples", "-n", min=0, help="How many rows; 0: the templates as they are written.")
    ] = 1,
    row: Annotated[int, typer.Option(min=0, help="The first row, from 0.")] = 0,
    split: Annotated[
        str | None, typer.Option(help="Which split; the first one by default.", show_default=False)
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="Only this template, by name or number.", show_default=False)
    ] = None,
    shots: Annotated[int, typer.Option(min=0, max=64, help="Solved examples before each question.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="Count tokens as this model does; otherwise characters are counted.")
    ] = None,
    variables: Variables = None,
    allow_code: AllowCode = False,
    json_: Json = False,
) -> None:
    """Show rows as prompts: what a model reads and what it should answer.

    Example: flantune tasks show starter/review_rating -n 3 --template form --shots 2
    """
    from flantune.cli.show import print_json, print_prompts
    from flantune.preview import preview
    from flantune.tasks import find_task

    task = find_task(name, _variables(variables), allow_code=allow_code)
    chosen = None if template is None else int(template) if template.isdigit() else template
    shown = preview(task, split=split, rows=range(row, row + examples), template=chosen, exemplars=shots, model=model)
    if json_:
        print_json(shown)
    else:
        print_prompts(shown)


@app.command()
def lint(
    tasks: Annotated[list[str], typer.Argument(help="Task files, folders of them, or names.")],
    variables: Variables = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=0, help="Rows of each split to look at; all by default, 0: the file alone.", show_default=False
        ),
    ] = None,
    longest: Annotated[int, typer.Option(min=1, help="Characters above which an example counts as long.")] = 16_000,
    allow_code: AllowCode = False,
    json_: Json = False,
) -> None:
    """Ask all rows in all templates and tell what is wrong or looks wrong: exit code 2 where something is wrong.

    Example: flantune tasks lint mails.yaml examples
    """
    from flantune.cli.show import print_json
    from flantune.errors import FlantuneError
    from flantune.evaluation.metrics import metrics_of
    from flantune.reporting import safe
    from flantune.tasks import find_task
    from flantune.tasks.lint import as_json, summary, unreadable
    from flantune.tasks.lint import lint as lint_task

    reports = []
    given = _variables(variables)
    for name in _names(tasks):
        try:
            task = find_task(name, given, allow_code=allow_code)
            metrics_of(task)
            report = lint_task(task, rows=rows, longest=longest)
        except FlantuneError as error:  # the other tasks are looked at all the same
            report = unreadable(name, error)
        reports.append(report)
        if json_:
            continue
        for finding in report.findings:
            wrong = finding.severity == "error"
            print(f"{'error: ' if wrong else ''}{safe(finding)}", file=sys.stderr if wrong else sys.stdout)
        if not report.errors:
            print(safe(summary(report)))
    if json_:
        print_json([as_json(report) for report in reports])
    if any(report.errors for report in reports):
        raise typer.Exit(2)


def _variables(given: list[str] | None) -> dict[str, str]:
    from flantune.errors import FlantuneError

    for text in given or []:
        if "=" not in text:
            raise FlantuneError("not of the form NAME=VALUE", f"--variable {text}")
    return dict(text.split("=", 1) for text in given or [])


def _found(names: list[str], variables: dict[str, str]) -> list[Task]:
    from flantune.tasks import find_task

    return [find_task(name, variables) for name in _names(names)]


def _names(given: list[str]) -> list[str]:
    """Names and files; in place of a folder all task files in it and below."""
    from pathlib import Path

    from flantune.errors import FlantuneError

    names = []
    for name in given:
        files = sorted(path for path in Path(name).rglob("*.yaml") if _is_task(path)) if Path(name).is_dir() else []
        if Path(name).is_dir() and not files:
            raise FlantuneError("no task file in this folder", name)
        names += map(str, files) if files else [name]
    return names


def _is_task(path: Any) -> bool:
    """Whether a YAML file is a task and no recipe: it says where rows come from."""
    return any(line.startswith("source:") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())


def _summary(task: Task) -> dict[str, Any]:
    return {
        "task": task.name,
        "cluster": task.spec.cluster,
        "rows": {split: len(task.split(split)) for split in task.split_names()},
        "templates": len(task.templates),
        "metrics": list(task.spec.metrics),
        "license": task.spec.license,
    }
