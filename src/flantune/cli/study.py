"""`flantune study`: several runs of one recipe, compared on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from flantune.recipe import Recipe
    from flantune.study import Kind
    from flantune.study_plan import StudyRun

Plan = dict[str, Any]

app = typer.Typer(
    help="Several runs of one recipe, compared on the same rows: kinds of tuning; who helps whom; what more rows "
    "bring; how far seeds differ. The same command goes on with a study that was stopped."
    "\n\nExample: flantune study methods recipe.yaml",
    no_args_is_help=True,
)

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe values to change.", show_default=False)
]
Out = Annotated[
    Path | None, typer.Option("--out", help="The study's folder; default studies/NAME-KIND.", show_default=False)
]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", min=0, help="Stop then; what is missing is named.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def methods(
    recipe: RecipeFile,
    overrides: Overrides = None,
    methods_: Annotated[
        str,
        typer.Option(
            "--methods",
            help="Kinds of tuning, separated by commas: full, or an adapter.method; with a rate, lora@1e-3.",
        ),
    ] = "full,lora",
    out: Out = None,
    minutes: Minutes = None,
    json_: Json = False,
) -> None:
    """Compare kinds of tuning on the same draws: quality, time, memory, size.

    Example: flantune study methods recipe.yaml --methods full,lora@1e-3,ia3
    """
    from flantune.study_plan import method_runs

    def runs(recipe: Recipe, plan: Plan) -> list[StudyRun]:
        return method_runs(methods_.split(","), list(_rows(plan)), plan["draws"])

    _study("methods", recipe, overrides, out, minutes, json_, runs)


@app.command()
def transfer(
    recipe: RecipeFile,
    overrides: Overrides = None,
    leave_out: Annotated[
        Literal["task", "cluster"], typer.Option("--leave-out", help="Whether one task or one cluster is left out.")
    ] = "task",
    out: Out = None,
    minutes: Minutes = None,
    json_: Json = False,
) -> None:
    """Train each task alone, all together, and all but one task or cluster: who helps or hurts whom.

    Example: flantune study transfer recipe.yaml --minutes 60
    """
    from flantune.study_plan import transfer_runs

    def runs(recipe: Recipe, plan: Plan) -> list[StudyRun]:
        clusters = [task["cluster"] for task in plan["tasks"]] if leave_out == "cluster" else None
        return transfer_runs(recipe, list(_rows(plan)), plan["draws"], clusters)

    _study("transfer", recipe, overrides, out, minutes, json_, runs)


@app.command()
def data(
    recipe: RecipeFile,
    overrides: Overrides = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Take parts of this task's rows alone.", show_default=False)
    ] = None,
    out: Out = None,
    minutes: Minutes = None,
    json_: Json = False,
) -> None:
    """Train on an eighth, a quarter, half and all of the rows: what another 1,000 would bring.

    Example: flantune study data recipe.yaml --task mails
    """
    from flantune.study_plan import data_runs

    def runs(recipe: Recipe, plan: Plan) -> list[StudyRun]:
        return data_runs(recipe, _rows(plan), plan["draws"], task)

    _study("data", recipe, overrides, out, minutes, json_, runs)


@app.command()
def seeds(
    recipe: RecipeFile,
    overrides: Overrides = None,
    seeds_: Annotated[int, typer.Option("--seeds", help="How many: the recipe's and those after it.", min=2)] = 3,
    out: Out = None,
    minutes: Minutes = None,
    json_: Json = False,
) -> None:
    """Train the recipe with several seeds: intervals that hold for another run, not only for other rows.

    Example: flantune study seeds recipe.yaml --seeds 3
    """
    from flantune.study_plan import seed_runs

    def runs(recipe: Recipe, plan: Plan) -> list[StudyRun]:
        return seed_runs(recipe, list(_rows(plan)), plan["draws"], seeds_)

    _study("seeds", recipe, overrides, out, minutes, json_, runs)


def _rows(plan: Plan) -> dict[str, int]:
    """Training rows by task."""
    return {task["task"]: task["rows"] for task in plan["tasks"]}


def _study(
    kind: Kind,
    path: Path,
    overrides: list[str] | None,
    out: Path | None,
    minutes: float | None,
    json_: bool,
    runs_of: Callable[[Recipe, Plan], list[StudyRun]],
) -> None:
    """runs_of: from recipe and plan."""
    from flantune.cli.console import console
    from flantune.cli.show import print_json, print_study
    from flantune.preparation import prepare
    from flantune.recipe import load_recipe
    from flantune.study import study

    recipe = load_recipe(path, overrides or [])
    out = out or Path("studies") / f"{recipe.name}-{kind}"
    with console() as listener:
        plan = prepare(recipe, listener=listener).plan
        runs = runs_of(recipe, plan)
        made = study(kind, recipe, out, runs, draws=plan["draws"], minutes=minutes, listener=listener)
    if json_:
        print_json(made)
        return
    print_study(made)
    print(f"report: {out / 'report.html'}")
