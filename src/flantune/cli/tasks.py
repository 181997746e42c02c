"""`flantune tasks`: list, show, check, and make tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="List the starter tasks, look at one, check one, make one of a CSV.\n\nExample: flantune tasks list",
    no_args_is_help=True,
)


@app.command("list")
def list_() -> None:
    """List the starter tasks.

    Example: flantune tasks list
    """
    from flantune.tasks import starter_tasks
    from flantune.tasks.source import split_names

    for task in starter_tasks():
        counts = ", ".join(f"{len(task.split(name))} {name}" for name in split_names(task.spec.source))
        print(f"{task.name:<28} {task.spec.metrics[0]:<20} {len(task.templates):>2} templates  {counts}")


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="A starter task's name or a task file.")],
    row: Annotated[int, typer.Option(help="Which row of the split, from 0.")] = 0,
    split: Annotated[
        str | None, typer.Option(help="Which split; the first one by default.", show_default=False)
    ] = None,
) -> None:
    """Show one row through every template: what the model reads and what it should answer.

    Example: flantune tasks show starter/review_rating --row 3
    """
    from flantune.errors import FlantuneError
    from flantune.reporting import safe
    from flantune.tasks import find_task
    from flantune.tasks.source import split_names

    found = find_task(task)
    rows = found.split(split or split_names(found.spec.source)[0])
    if not 0 <= row < len(rows):
        raise FlantuneError(f"no row {row}; the split has rows 0 to {len(rows) - 1}", found.name)
    for template in found.templates:
        marks = [word for word, on in (("inverted", template.inverted), ("held out", template.held_out)) if on]
        prompt, target = found.render(template, rows.rows[row], rows.places[row])
        print(f"--- {template.name}{' (' + ', '.join(marks) + ')' if marks else ''}")
        print(f"{safe(prompt)}\n=> {safe(target)}\n")


@app.command()
def check(
    tasks: Annotated[list[str], typer.Argument(help="Task files or starter names.")],
    variables: Annotated[
        list[str] | None, typer.Option("--variable", help="NAME=VALUE for ${NAME} in paths.", show_default=False)
    ] = None,
) -> None:
    """Render every template on every row; the first mistake is told with its place.

    Example: flantune tasks check mails.yaml
    """
    from flantune.errors import FlantuneError
    from flantune.preparation import check_metrics
    from flantune.tasks import find_task
    from flantune.tasks.check import check_task

    for given in variables or []:
        if "=" not in given:
            raise FlantuneError("not of the form NAME=VALUE", f"--variable {given}")
    values = dict(given.split("=", 1) for given in variables or [])
    for name in tasks:
        task = find_task(name, values)
        check_metrics(task)
        rows, renderings = check_task(task)
        print(f"{name}: {rows} rows, {renderings} renderings, no mistake found")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="A CSV or JSONL file with a header or keys.")],
    input_: Annotated[str, typer.Option("--input", help="The column that is given.")],
    target: Annotated[str, typer.Option("--target", help="The column that is asked for.")],
    instruction: Annotated[
        str | None,
        typer.Option(help="What is asked, in words; made of the columns' names otherwise.", show_default=False),
    ] = None,
) -> None:
    """Make a task and a recipe of your own file: writes NAME.yaml and NAME-recipe.yaml beside it.

    Example: flantune tasks init mails.csv --input body --target category
    """
    from flantune.tasks.init import init_task

    made = init_task(file, input_=input_, target=target, instruction=instruction)
    print(f"task:    {made.task}   ({made.rows} rows, {made.kind})")
    print(f"recipe:  {made.recipe}")
    print(f"next:    flantune plan {made.recipe}")
    print(f"then:    flantune train {made.recipe}")
