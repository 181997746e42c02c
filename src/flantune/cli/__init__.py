"""The command line: one file a command; each parses, calls the pipeline, prints."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flantune.cli import (
    average,
    cache,
    chat,
    compare,
    evaluate,
    init,
    interpolate,
    judge,
    merge,
    model,
    plan,
    prepare,
    quickstart,
    report,
    study,
    tasks,
    train,
    ui,
)
from flantune.errors import FlantuneError
from flantune.progress import Interrupted

app = typer.Typer(
    help="Fine-tune one language model on many tasks at once, and prove what it gained.\n\n"
    "Example: flantune quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(quickstart.quickstart)
app.command()(init.init)
app.command()(plan.plan)
app.command()(prepare.prepare)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(report.report)
app.command()(judge.judge)
app.command()(merge.merge)
app.command()(interpolate.interpolate)
app.command()(average.average)
app.add_typer(study.app, name="study")
app.add_typer(tasks.app, name="tasks")
app.command()(chat.chat)
app.command()(ui.ui)
app.add_typer(model.app, name="model")
app.add_typer(cache.app, name="cache")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"flantune {version('flantune')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs a command; a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except FlantuneError as error:
        from flantune.reporting import safe  # a message may quote what stands in somebody's file

        print(f"error: {safe(error)}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
