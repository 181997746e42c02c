"""`flantune merge`: an adapter and its base as one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def merge(
    run: Annotated[Path, typer.Argument(help="The folder of a trained run with an adapter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model.")],
    precision: Annotated[
        Literal["bf16", "fp32"] | None, typer.Option(help="Type of the weights; by default what the run computed in.")
    ] = None,
) -> None:
    """Add an adapter's weights to its base's, and check on 64 prompts that the model says the same.

    Example: flantune merge runs/mine --out merged
    """
    from flantune.cli.console import console
    from flantune.derived_models import merge as merge_run

    with console() as listener:
        found = merge_run(run, out, precision=precision, listener=listener)
    print(
        f"{out}: of {found.prompts} prompts {found.changed} have another likeliest next token than with the adapter "
        f"beside its base; the largest change of a logit is {found.largest:.1e} of the largest logit"
    )
