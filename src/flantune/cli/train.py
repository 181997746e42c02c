"""`flantune train`: a recipe becomes a tuned model, compared with its base."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flantune.errors import FlantuneError


def train(
    recipe: Annotated[Path | None, typer.Argument(help="The recipe, a YAML file.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe values to change.", show_default=False)
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run from its newest checkpoint.")] = None,
    no_compare: Annotated[bool, typer.Option("--no-compare", help="Train only; compare later.")] = False,
) -> None:
    """Train on all tasks of a recipe, then compare base and tuned model and write the report.

    Example: flantune train recipe.yaml training.learning_rate=1e-4 output=runs/slower
    """
    from flantune import pipeline
    from flantune.cli.console import console
    from flantune.cli.show import next_steps, print_comparison
    from flantune.recipe import load_recipe
    from flantune.run_folder import read_recipe

    if (recipe is None) == (resume is None):
        raise FlantuneError("give a recipe, or --resume RUN, and not both", "train")
    if resume is not None:
        chosen = read_recipe(resume)
    else:
        assert recipe is not None
        chosen = load_recipe(recipe, overrides or [])
    with console() as listener:
        with interruptible():
            run = pipeline.train(chosen, resume=resume, listener=listener)
        if no_compare:
            print(f"model: {run / 'model'}")
            return
        comparison = pipeline.compare(run, listener=listener)
    print_comparison(comparison)
    print(next_steps(run))


@contextmanager
def interruptible() -> Iterator[None]:
    """A run that was asked to stop ends with one line that says how to go on."""
    from flantune.progress import Interrupted

    try:
        yield
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(stopped.exit_code) from None
