"""`flantune interpolate`: models between a base and what was made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def interpolate(
    base: Annotated[str, typer.Argument(help="Embedded model, model folder, or hub name.")],
    tuned: Annotated[str, typer.Argument(help="A run's folder, a model folder, or a hub name.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the models.")],
    alpha: Annotated[
        str, typer.Option("--alpha", help="Shares of the way to the tuned model: first:last:step, or a list.")
    ] = "0:1:0.1",
    precision: Annotated[Literal["bf16", "fp32"], typer.Option(help="Type of the weights.")] = "bf16",
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Evaluate each model on this recipe, or run, and print its scores.")
    ] = None,
) -> None:
    """Write models between a base and a tuned one: they often keep more of what the base knew.

    Example: flantune interpolate smollm2-135m-instruct runs/mine --alpha 0:1:0.25 --out between
    """
    from flantune import assessment
    from flantune.cli.console import console
    from flantune.cli.show import print_scores
    from flantune.derived_models import between
    from flantune.evaluation.compare import scores
    from flantune.models.interpolation import shares
    from flantune.run_folder import recipe_of

    chosen = recipe_of(recipe) if recipe is not None else None
    with console() as listener:
        folders = between(base, tuned, shares(alpha), out, precision=precision, listener=listener)
    for folder in folders:
        print(folder)
        if chosen is not None:
            with console() as listener:
                side = assessment.evaluated(chosen, str(folder), out / "evaluation" / folder.name, listener=listener)
            print_scores(scores(side, assessment.resampling(side.settings)))
