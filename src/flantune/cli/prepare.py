"""`flantune prepare`: the order of a recipe, made before any training, here or on many machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe values to change.", show_default=False)
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Where it goes besides the cache: a folder, s3://..., gs://...")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that make it; 0: this one alone.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Make the K-th of N parts, as one of N jobs.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Make it on the machines of a Ray cluster.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Render, tokenize and pack all that a recipe trains on, and keep it; training then starts at once.

    Example: flantune prepare recipe.yaml --out s3://bucket/orders --shard 1/8
    """
    import dataclasses
    import shlex

    from flantune.cli.console import console
    from flantune.cli.show import print_json
    from flantune.errors import FlantuneError
    from flantune.order_jobs import Part, make_order, make_order_with_ray
    from flantune.recipe import load_recipe

    chosen = load_recipe(recipe, overrides or [])
    if ray and (shard is not None or out is None or workers is not None):
        raise FlantuneError("goes with --out, which all machines reach, and without --shard and --workers", "--ray")
    part = Part(1, 1) if shard is None else Part.read(shard)
    if part.of > 1 and out is None:
        raise FlantuneError("give --out, a place that all jobs reach", "--shard")
    with console() as listener:
        if ray:
            made = make_order_with_ray(chosen, out=str(out), listener=listener)
        else:
            made = make_order(chosen, listener=listener, workers=workers, out=out, part=part)
    if json_:
        print_json(dataclasses.asdict(made))
        return
    print(f"order {made.key}: {made.made:,} of {made.windows:,} windows made now, {made.missing:,} missing yet")
    print(f"it lies in {made.place}")
    if out is not None and not made.missing:
        print(f"go on with: {shlex.join(['flantune', 'train', str(recipe), *(overrides or []), '--orders', out])}")
