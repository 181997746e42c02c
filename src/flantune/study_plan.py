"""Which runs a study consists of. Pure: nothing is read, written or run here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from flantune.errors import FlantuneError, nearest
from flantune.recipe import Recipe
from flantune.recipe.mixing import TaskChoice
from flantune.recipe.schema import Adapter

METHODS = get_args(Adapter.model_fields["method"].annotation)


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        name: Of its folder.
        overrides: KEY=VALUE arguments that make it from the study's recipe.
        tasks: Names, as the recipe gives them, that it is trained on.
    """

    name: str
    overrides: tuple[str, ...]
    tasks: tuple[str, ...]


def method_runs(methods: Sequence[str], names: Sequence[str], draws: int) -> list[StudyRun]:
    """One run a kind of tuning, each on the same draws.

    Args:
        methods: Kinds of tuning: `full` for every weight, or what `adapter.method` may be.
        names: The trained tasks' own names.
        draws: Of each run.
    Raises:
        FlantuneError: Fewer than two, one twice, or an unknown one.
    """
    chosen = [method.strip() for method in methods]
    known = ["full" if method == "none" else method for method in METHODS]
    for name in chosen:
        if name not in known:
            raise FlantuneError(f'unknown method "{name}"; {nearest(name, known)}', "--methods")
    if len(set(chosen)) < max(2, len(chosen)):
        raise FlantuneError("name at least two different methods, such as full,lora", "--methods")
    return [
        StudyRun(
            name, (f"adapter.method={'none' if name == 'full' else name}", f"training.draws={draws}"), tuple(names)
        )
        for name in chosen
    ]


def transfer_runs(recipe: Recipe, names: Sequence[str], draws: int) -> list[StudyRun]:
    """All tasks together, each task alone, and all but each task: every run with the same number of draws.

    Args:
        recipe: The study's; its tasks stand side by side.
        names: The tasks' own names, in the recipe's order.
        draws: Of each run.
    Raises:
        FlantuneError: Fewer than two tasks, or a mixture in which a task cannot be left out.
    """
    choices = [choice for choice in recipe.tasks if isinstance(choice, TaskChoice)]
    if len(choices) < len(recipe.tasks) or recipe.mixture.phases or recipe.mixture.replay is not None:
        raise FlantuneError(
            "tasks of mixtures inside, phases and replay cannot be left out one by one; list the tasks side by side",
            recipe.place("tasks"),
        )
    if len(choices) < 2:
        raise FlantuneError("there must be two tasks at least for one to help another", recipe.place("tasks"))
    if any(choice.share is not None for choice in choices):
        raise FlantuneError(
            "a fixed share has no meaning where a task is alone or another is left out; remove `share`",
            recipe.place("tasks"),
        )

    def run(name: str, kept: Sequence[int]) -> StudyRun:
        dumped: list[Any] = [choices[place].model_dump(mode="json", exclude_none=True) for place in kept]
        overrides = (f"tasks={json.dumps(dumped)}", f"training.draws={draws}")
        return StudyRun(name, overrides, tuple(names[place] for place in kept))

    everything = range(len(choices))
    return [
        run("all", everything),
        *(run(f"alone-{place + 1}", [place]) for place in everything),
        # Of two tasks, all but one is the other alone.
        *(run(f"without-{p + 1}", [q for q in everything if q != p]) for p in everything if len(choices) > 2),
    ]


def run_without(runs: Sequence[StudyRun], task: str) -> StudyRun | None:
    """The run that is trained on all tasks but this one; None where there is none."""
    everything = max(runs, key=lambda run: len(run.tasks))
    rest = tuple(name for name in everything.tasks if name != task)
    return next((run for run in runs if run.tasks == rest), None)


def run_alone(runs: Sequence[StudyRun], task: str) -> StudyRun | None:
    """The run that is trained on this task alone; None where there is none."""
    return next((run for run in runs if run.tasks == (task,)), None)
