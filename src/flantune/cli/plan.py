"""`flantune plan`: what a recipe will train on, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan(
    recipe: Annotated[Path | None, typer.Argument(help="The recipe, a YAML file.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe values to change.", show_default=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Measure a few steps to tell time and memory of the training; up to 2 minutes."),
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the recipe's JSON Schema, for editors.")] = False,
) -> None:
    """Show tasks, shares, tokens, epochs and steps of a recipe, and what to think about before training.

    Example: flantune plan recipe.yaml mixture.rates=equal
    """
    from flantune.cli.show import print_json, print_plan
    from flantune.errors import FlantuneError
    from flantune.recipe import Recipe, load_recipe

    if schema:
        print_json(Recipe.model_json_schema())
        return
    if recipe is None:
        raise FlantuneError("give a recipe, or --schema", "plan")
    from flantune.cli.console import console
    from flantune.estimate import estimate
    from flantune.preparation import prepare

    chosen = load_recipe(recipe, overrides or [])
    with console() as listener:
        prepared = prepare(chosen, listener=listener)
        made = prepared.plan
        if probe:
            made["estimate"] = estimate(prepared, listener=listener)
    if json_:
        print_json(made)
    else:
        print_plan(made)
