"""`flantune compare`: base against tuned on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    run: Annotated[Path, typer.Argument(help="A trained run's folder.")],
    json_: Annotated[bool, typer.Option("--json", help="Print comparison.json.")] = False,
) -> None:
    """Evaluate base and tuned model of a run, task by task, with intervals; write comparison.json and report.html.

    Example: flantune compare runs/mine
    """
    from flantune import pipeline
    from flantune.cli.console import console
    from flantune.cli.show import print_comparison, print_json

    with console() as listener:
        comparison = pipeline.compare(run, listener=listener)
    if json_:
        print_json(comparison)
    else:
        print_comparison(comparison)
        print(f"report: {run / 'report.html'}")
