"""`flantune quickstart`: the main job, on the starter collection and the embedded model, offline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe values to change.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder.")] = None,
) -> None:
    """Fine-tune the embedded model on the starter tasks, compare it with its base, write a report.

    Example: flantune quickstart --out runs/first
    """
    from flantune.cli.console import clock, console
    from flantune.cli.show import next_steps, print_comparison
    from flantune.cli.train import interruptible
    from flantune.memory import peak_memory
    from flantune.pipeline import compare, train
    from flantune.quickstart import quickstart_recipe
    from flantune.run_folder import output_folder

    recipe = quickstart_recipe(overrides or [])
    if out is not None:
        recipe = recipe.model_copy(update={"output": str(out)})
    elif recipe.output is None:
        recipe = recipe.model_copy(update={"output": str(_unused(output_folder(recipe)))})
    with console() as listener:
        listener.say(
            f"flantune quickstart: {recipe.model.name} on {len(recipe.trained())} tasks, into {output_folder(recipe)}; "
            "about nine minutes on two cores"
        )
        with interruptible():
            run = train(recipe, listener=listener)
        comparison = compare(run, listener=listener)
        seconds = time.monotonic() - listener.started
        listener.say(f"done in {clock(seconds)}, at most {peak_memory() / 2**30:.1f} GB of memory")
    print_comparison(comparison)
    print(next_steps(run))


def _unused(folder: Path) -> Path:
    """runs/quickstart, runs/quickstart-2, ...: a second run does not stop a newcomer."""
    number = 1
    candidate = folder
    while candidate.exists() and any(candidate.iterdir()):
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
