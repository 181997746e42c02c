"""Which runs a study consists of. Pure: nothing is read, written or run here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, get_args

from flantune.errors import FlantuneError, nearest
from flantune.recipe import Recipe
from flantune.recipe.mixing import TaskChoice
from flantune.recipe.schema import Adapter

METHODS = get_args(Adapter.model_fields["method"].annotation)
PARTS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))  # of the training rows
RATE = re.compile(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")
FEWEST = 16  # rows, of which an eighth is two


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        name: Of its folder.
        overrides: KEY=VALUE arguments that make it from the study's recipe.
        tasks: Names, as the recipe gives them, that it is trained on.
        rows: Training rows of each of these, where a study chooses them.
        without: The task or cluster that is left out of all tasks, where it is trained on the rest.
    """

    name: str
    overrides: tuple[str, ...]
    tasks: tuple[str, ...]
    rows: tuple[int, ...] = ()
    without: str | None = None


def method_runs(methods: Sequence[str], names: Sequence[str], draws: int) -> list[StudyRun]:
    """One run a kind of tuning, each on the same draws.

    Args:
        methods: Kinds of tuning: `full` for every weight, or what `adapter.method` may be; with a learning rate of its
            own behind an @ sign, such as `lora@1e-3`.
        names: The trained tasks' own names.
        draws: Of each run.
    Raises:
        FlantuneError: Fewer than two, one twice, an unknown one, or no rate behind the sign.
    """
    chosen = [method.strip() for method in methods]
    tunings = {_tuning(name): name for name in chosen}
    if len(tunings) < max(2, len(chosen)):
        raise FlantuneError("name at least two different methods, such as full,lora", "--methods")
    return [StudyRun(name, (*tuning, f"training.draws={draws}"), tuple(names)) for tuning, name in tunings.items()]


def _tuning(name: str) -> tuple[str, ...]:
    """The arguments that make a run of such a method."""
    method, at, rate = name.partition("@")
    known = ["full" if each == "none" else each for each in METHODS]
    if method not in known:
        raise FlantuneError(f'unknown method "{method}"; {nearest(method, known)}', "--methods")
    kind = f"adapter.method={'none' if method == 'full' else method}"
    if not at:
        return (kind,)
    if not RATE.fullmatch(rate) or not 0 < float(rate) < math.inf:
        raise FlantuneError(f'"{rate}" is no learning rate; write a number, such as {method}@1e-3', "--methods")
    return kind, f"training.learning_rate={float(rate)}"


def transfer_runs(
    recipe: Recipe, names: Sequence[str], draws: int, clusters: Sequence[str] | None = None
) -> list[StudyRun]:
    """All tasks together, each task alone, and all but each task or cluster: every run with as many draws.

    Args:
        recipe: The study's; its tasks stand side by side.
        names: The tasks' own names, in the recipe's order.
        draws: Of each run.
        clusters: Of the tasks, where clusters are left out; by default each task is left out.
    Raises:
        FlantuneError: Fewer than two tasks or clusters, or a mixture in which a task cannot be left out.
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

    groups: dict[str, list[int]] = {}  # what is left out together
    for place, group in enumerate(clusters or names):
        groups.setdefault(group, []).append(place)
    if len(groups) < 2:
        raise FlantuneError(
            f'all tasks are of the cluster "{next(iter(groups))}"; name others in their files, or leave out tasks',
            "--leave-out",
        )

    def run(name: str, kept: Sequence[int]) -> StudyRun:
        rest = set(everything) - set(kept)
        without = next((group for group, places in groups.items() if set(places) == rest), None)
        dumped: list[Any] = [choices[place].model_dump(mode="json", exclude_none=True) for place in kept]
        overrides = (f"tasks={json.dumps(dumped)}", f"training.draws={draws}")
        return StudyRun(name, overrides, tuple(names[place] for place in kept), without=without)

    everything = range(len(choices))
    left = [[place for place in everything if place not in places] for places in groups.values()]
    return [
        run("all", everything),
        *(run(f"alone-{place + 1}", [place]) for place in everything),
        # Where one task is left it is that task alone.
        *(run(f"without-{number}", kept) for number, kept in enumerate(left, 1) if len(kept) > 1),
    ]


def seed_runs(recipe: Recipe, names: Sequence[str], draws: int, count: int) -> list[StudyRun]:
    """The recipe with its seed and the ones after it: other draws, other new weights of adapters.

    Raises:
        FlantuneError: Fewer than two.
    """
    if count < 2:
        raise FlantuneError("two seeds at least show how much one run differs from another", "--seeds")
    seeds = range(recipe.seed, recipe.seed + count)
    return [StudyRun(f"seed-{seed}", (f"seed={seed}", f"training.draws={draws}"), tuple(names)) for seed in seeds]


def data_runs(recipe: Recipe, rows: Mapping[str, int], draws: int, task: str | None = None) -> list[StudyRun]:
    """An eighth, a quarter, a half and all of the training rows, each part inside the next, on as many draws each.

    Args:
        recipe: The study's.
        rows: Trained task's own name to its training rows, in the recipe's order.
        draws: Of each run.
        task: The only one whose rows become fewer; all of them by default.
    Raises:
        FlantuneError: An unknown task, or too few rows to take an eighth of.
    """
    if task is not None and task not in rows:
        raise FlantuneError(f'the recipe does not train on "{task}"; {nearest(task, list(rows))}', "--task")
    scaled = [name for name in rows if task in (None, name)]
    for name in scaled:
        if rows[name] < FEWEST:
            raise FlantuneError(f"{name} has {rows[name]} training rows; at least {FEWEST} are needed", "--task")

    def run(part: Fraction) -> StudyRun:
        used = {name: round(part * count) if name in scaled else count for name, count in rows.items()}
        left = iter(used.values())
        entries = json.dumps(
            [_with_rows(entry.model_dump(mode="json", exclude_none=True), left) for entry in recipe.tasks]
        )
        name = f"{part.numerator}-of-{part.denominator}" if part < 1 else "all"
        return StudyRun(name, (f"tasks={entries}", f"training.draws={draws}"), tuple(rows), tuple(used.values()))

    return [run(part) for part in PARTS]


def _with_rows(entry: dict[str, Any], left: Iterator[int]) -> dict[str, Any]:
    """An entry of a recipe with as many training rows as come next, for each task in it."""
    if "mixture" in entry:
        return {**entry, "tasks": [_with_rows(inside, left) for inside in entry["tasks"]]}
    return {**entry, "train_rows": next(left)}


def run_alone(runs: Sequence[StudyRun], task: str) -> StudyRun | None:
    """The run that is trained on this task alone; None where there is none."""
    return next((run for run in runs if run.tasks == (task,)), None)
