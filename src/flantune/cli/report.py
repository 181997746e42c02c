"""`flantune report`: the report of a compared run, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="A compared run's folder.")]) -> None:
    """Write report.html and the model card of a run again from its files.

    Example: flantune report runs/mine
    """
    from flantune import pipeline

    print(pipeline.report(run))
