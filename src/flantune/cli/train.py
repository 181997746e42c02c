"""`flantune train`: a recipe becomes a tuned model, compared with its base."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flantune.errors import FlantuneError

if TYPE_CHECKING:
    from flantune.recipe import Recipe


def train(
    recipe: Annotated[str | None, typer.Argument(help="The recipe, a YAML file.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe values to change.", show_default=False)
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|auto",
            help="Go on with this run from its newest checkpoint; auto: with the recipe's run, if it was begun.",
        ),
    ] = None,
    no_compare: Annotated[bool, typer.Option("--no-compare", help="Train only; compare later.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that prepare rows ahead of training; 0: this one alone.")
    ] = None,
    orders: Annotated[str | None, typer.Option(help="Where flantune prepare put the order: its --out.")] = None,
) -> None:
    """Train on all tasks of a recipe, then compare base and tuned model and write the report.

    Example: flantune train recipe.yaml training.learning_rate=1e-4 output=runs/slower
    """
    from flantune import pipeline
    from flantune.cli.console import console
    from flantune.cli.show import next_steps, print_comparison
    from flantune.settings import launch

    chosen, begun = chosen_run(recipe, overrides or [], resume)
    with console() as listener:
        with interruptible():
            run = pipeline.train(chosen, resume=begun, listener=listener, workers=workers, orders=orders)
        started = launch()
        if started is not None and started.rank > 0:
            return
        if no_compare:
            print(f"model: {run / 'model'}")
            return
        comparison = pipeline.compare(run, listener=listener)
    print_comparison(comparison)
    print(next_steps(run))


def chosen_run(recipe: str | None, overrides: list[str], resume: str | None) -> tuple[Recipe, Path | None]:
    """The recipe to train, and the run to go on with; None for a new one.

    Raises:
        FlantuneError: Neither a recipe nor a run is given, or both are.
    """
    from flantune.recipe import load_recipe
    from flantune.run_folder import output_folder, read_recipe

    if resume is not None and resume != "auto" and (recipe is None or "=" in recipe):
        changed = overrides if recipe is None else [recipe, *overrides]
        return read_recipe(Path(resume), changed), Path(resume)
    if recipe is None or resume not in (None, "auto"):
        raise FlantuneError("give a recipe, or --resume RUN, and not both", "train")
    chosen = load_recipe(recipe, overrides)
    run = output_folder(chosen)
    return chosen, run if resume is not None and (run / "recipe.yaml").exists() else None


@contextmanager
def interruptible() -> Iterator[None]:
    """A run that was asked to stop ends with one line that says how to go on; of several ranks, the first says it."""
    from flantune.progress import Interrupted
    from flantune.settings import launch
    from flantune.training.distributed import RankLost

    try:
        yield
    except (Interrupted, RankLost) as stopped:
        started = launch()
        if started is None or started.rank == 0:
            print(stopped, file=sys.stderr)
        raise typer.Exit(stopped.exit_code) from None
