"""`flantune evaluate`: one model's answers and scores on a recipe's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flantune.errors import FlantuneError


def evaluate(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe, or a run's folder: tasks, rows and seed.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Argument(help="Embedded model, model folder, adapter folder, or hub name.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictions.")] = Path("evaluation"),
    recompute: Annotated[
        Path | None,
        typer.Option(
            "--recompute",
            help="Instead: compute a run's comparison, or the scores of a folder of predictions, from the kept answers "
            "alone; a number of comparison.json that is another one is an error.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", help="Also write sample logs in lm-eval's form to this folder.", show_default=False),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer the evaluation rows of a recipe with any model, and score the answers.

    Example: flantune evaluate recipe.yaml smollm2-135m-instruct --out evaluation/base
    """
    from flantune import assessment
    from flantune.cli.console import console
    from flantune.cli.show import print_comparison, print_json, print_scores
    from flantune.evaluation.compare import scores
    from flantune.evaluation.forgetting import plain_text_score
    from flantune.evaluation.records import read_side
    from flantune.evaluation.sample_logs import write_sample_logs
    from flantune.run_folder import recipe_of

    if recompute is not None and (recompute / "recipe.yaml").exists():
        comparison = assessment.recomputed(recompute)
        if samples is not None:
            for name in ("base", "tuned"):
                write_sample_logs(samples / name, read_side(recompute / "evaluation" / name))
        if json_:
            print_json(comparison)
        else:
            print_comparison(comparison)
            print("comparison.json says the same as the kept answers")
        return
    if recompute is not None:
        side = read_side(recompute)
    elif recipe is None or model is None:
        raise FlantuneError("give a recipe and a model, or --recompute and a folder")
    else:
        with console() as listener:
            side = assessment.evaluated(recipe_of(recipe), model, out, listener=listener)
    if samples is not None:
        write_sample_logs(samples, side)
    by = assessment.resampling(side.settings)
    told, text = scores(side, by), plain_text_score(side, by)
    if json_:
        print_json({"model": side.name, "tasks": told, **({"plain_text": text} if text else {})})
        return
    print_scores(told, text)
    print(f"predictions: {recompute or out}")
