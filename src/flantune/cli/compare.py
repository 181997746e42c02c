"""`flantune compare`: base against tuned, or any models against the first, on the same rows."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from flantune.errors import FlantuneError

FAILED = 3


class Failure(Enum):
    """What makes the command fail."""

    worse = "worse"


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B ...]",
            help="A trained run alone: its base against its tuned model. Several: each against the first. A run, a "
            "folder of predictions, or a model: embedded, a folder, a hub name.",
        ),
    ],
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            help="Of several: the recipe, or run, whose evaluation rows all answer. By default kept answers are "
            "compared, and models answer the rows of the first run.",
            show_default=False,
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="Of several: a task to compare on; may be repeated. All by default."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Of several: folder for answers that are made now, and comparisons.json.")
    ] = Path("comparison"),
    fail_if: Annotated[
        Failure | None,
        typer.Option("--fail-if", help="Exit with code 3 if a main metric is shown to be worse.", show_default=False),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the comparison, of several a list, as JSON.")] = False,
) -> None:
    """Compare models on the same rows, task by task, with intervals; of one run, write comparison.json and report.html.

    Example: flantune compare runs/mine
    Example: flantune compare runs/mine runs/other smollm2-135m-instruct --recipe recipe.yaml
    """
    from flantune import assessment, pipeline
    from flantune.cli.console import console
    from flantune.cli.show import print_comparison, print_forgetting, print_json
    from flantune.run_folder import recipe_of

    with console() as listener:
        if len(models) == 1:
            if recipe is not None or tasks:
                raise FlantuneError("--recipe and --task are for several models; name another one")
            made = [pipeline.compare(Path(models[0]), listener=listener)]
        else:
            made = assessment.compared_models(
                models, recipe=recipe_of(recipe) if recipe else None, tasks=tasks or (), out=out, listener=listener
            )
    if json_:
        print_json(made if len(models) > 1 else made[0])
    else:
        for each in made:
            if len(models) > 1:
                print(f"{each['tuned']['model']} (tuned) against {each['base']['model']} (base)")
            print_comparison(each)
        if len(made) > 1:
            print_forgetting(made)
        print(f"report: {Path(models[0]) / 'report.html'}" if len(models) == 1 else f"numbers: {out}/comparisons.json")
    lost = [entry for each in made for entry in each["tasks"] if entry["main"] and entry["verdict"] == "worse"]
    if fail_if is not None and lost:
        raise typer.Exit(FAILED)
