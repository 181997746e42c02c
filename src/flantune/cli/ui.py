"""`flantune ui`: runs, curves, tasks, reports and a playground as a local page."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer


def ui(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1; 0: a free port.", min=0, max=65535)] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a page on this machine alone: runs and live curves, tasks, reports, base beside tuned. Ctrl-C ends it.

    Example: flantune ui runs
    """
    from flantune.ui.serve import serve

    def ready(address: str) -> None:
        print(address, flush=True)
        if open_:
            import webbrowser

            webbrowser.open(address)

    with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
        serve(folder, port, ready)
