"""`flantune evaluate`: one model's answers and scores on a recipe's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    recipe: Annotated[Path, typer.Argument(help="A recipe, or a run's folder: tasks, rows and seed.")],
    model: Annotated[str, typer.Argument(help="Embedded model, model folder, adapter folder, or hub name.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictions.")] = Path("evaluation"),
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer the evaluation rows of a recipe with any model, and score the answers.

    Example: flantune evaluate recipe.yaml smollm2-135m-instruct --out evaluation/base
    """
    from flantune import pipeline
    from flantune.cli.console import console
    from flantune.cli.show import print_json, print_scores
    from flantune.run_folder import recipe_of

    chosen = recipe_of(recipe)
    with console() as listener:
        made = pipeline.evaluate(chosen, model, out, listener=listener)
    scores = pipeline.scores(chosen, made)
    if json_:
        print_json({"model": model, "tasks": scores})
        return
    print_scores(scores)
    print(f"predictions: {out}")
