"""`flantune average`: the mean of several models that were tuned from one base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def average(
    models: Annotated[list[str], typer.Argument(help="Runs' folders, model folders or hub names, two or more.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model.")],
    precision: Annotated[Literal["bf16", "fp32"], typer.Option(help="Type of the weights.")] = "bf16",
) -> None:
    """Write the model whose weights are the mean of those of several, such as one recipe's with other seeds.

    Example: flantune average runs/seed-0 runs/seed-1 runs/seed-2 --out mean
    """
    from flantune.cli.console import console
    from flantune.derived_models import average as averaged

    with console() as listener:
        averaged(models, out, precision=precision, listener=listener)
    print(out)
