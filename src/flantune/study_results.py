"""What a study's answers show: methods against base and each other, and who helps or hurts whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flantune.evaluation.compare import Resampling, compare, compare_all
from flantune.evaluation.records import Side
from flantune.study_plan import StudyRun, run_alone

_SHOWN = ("task", "metric", "unit", "n", "base", "tuned", "difference", "ci", "p", "p_adjusted", "verdict", "group")
_EFFECT = {"better": "hurts", "worse": "helps"}  # of a task, by what leaving it out does


def methods_result(base: Side, sides: Mapping[str, Side], runs: Sequence[StudyRun], by: Resampling) -> dict[str, Any]:
    """Each method against the base, and each against the first that finished.

    Returns:
        `against_base` and `against_first`: a table for each method, with Holm's correction over each of the two.
    """
    names = list(sides)
    made = {"against_base": tables(base, sides, by)}
    rest = {name: sides[name] for name in names[1:]}
    return made | {
        "first": names[0] if names else None,
        "against_first": tables(sides[names[0]], rest, by) if rest else {},
    }


def transfer_result(base: Side, sides: Mapping[str, Side], runs: Sequence[StudyRun], by: Resampling) -> dict[str, Any]:
    """Who helps or hurts whom, and whether one model does what one per task do.

    Args:
        base: Answers of the model before training.
        sides: Run name to its model's answers, of runs that finished.
        runs: All runs of the study.
        by: How differences are judged.
    Returns:
        `against_base`: every run against the base. `helps`: one entry for a task or cluster left out and a task
        asked, whose `difference` is what the one's examples, in place of more of the others', bring to the other (with
        all tasks less without it); `own` where the task asked is among those left out. `together`: on each task the
        model of all tasks less the task's own model. `answer`: one sentence. Holm's correction runs over each of the
        three; what cannot be said yet is None.
    """
    told: dict[str, Any] = {"against_base": tables(base, sides, by), "helps": None, "together": None}
    tasks = next(run for run in runs if run.name == "all").tasks
    together = sides.get("all")
    left = sorted((run for run in runs if run.without and run.name in sides), key=lambda run: _first_left(run, tasks))
    if together is not None and left:
        asked = together.only(tasks)
        made = compare_all(asked, [sides[run.name].only(tasks) for run in left], by)
        told["helps"] = [
            {"source": run.without, "own": entry["task"] not in run.tasks, **_reversed(entry)}
            for run, comparison in zip(left, made, strict=True)
            for entry in comparison["tasks"]
            if entry["main"]
        ]
    alone = {task: found for task in tasks if (found := run_alone(runs, task)) and found.name in sides}
    if together is not None and len(alone) == len(tasks):
        # One model a task is a system that answers each task with the task's own model.
        own = replace(together, tasks=tuple(sides[alone[task].name].only([task]).tasks[0] for task in tasks))
        comparison = compare(own, together.only(tasks), by)
        told["together"] = {"tasks": _mains(comparison), "average": comparison["average"]["seen"]}
    told["answer"] = answer(told["together"]["tasks"] if told["together"] else None)
    return told


def answer(entries: Sequence[Mapping[str, Any]] | None) -> str:
    """One model or one per task, in a sentence.

    >>> answer([{"task": "a", "verdict": "better"}, {"task": "b", "verdict": "no difference shown"}])
    'One model: at the same number of draws in each run it is shown to be better on a, and worse on no task.'
    """
    if entries is None:
        return "One model or one per task: not answered yet, since runs are missing."
    found = {word: [entry["task"] for entry in entries if entry["verdict"] == word] for word in ("better", "worse")}
    same = "at the same number of draws in each run"
    if found["better"] and not found["worse"]:
        return f"One model: {same} it is shown to be better on {', '.join(found['better'])}, and worse on no task."
    if found["worse"] and not found["better"]:
        return f"One per task: {same} they are shown to be better on {', '.join(found['worse'])}, and worse on no task."
    if found["worse"]:
        return (
            f"It depends on the task: {same} one model is shown to be better on {', '.join(found['better'])}, "
            f"and one per task on {', '.join(found['worse'])}."
        )
    return f"Not decided by these rows: {same} no difference is shown on any task between one model and one per task."


def tables(base: Side, sides: Mapping[str, Side], by: Resampling) -> dict[str, Any]:
    """Each side against the base: a table of main metrics and their average, with Holm's correction over all."""
    made = compare_all(base, list(sides.values()), by)
    return {
        name: {"tasks": _mains(comparison), "average": comparison["average"]["seen"]}
        for name, comparison in zip(sides, made, strict=True)
    }


def _mains(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{key: entry[key] for key in _SHOWN} for entry in comparison["tasks"] if entry["main"]]


def _first_left(run: StudyRun, tasks: Sequence[str]) -> int:
    return next(place for place, task in enumerate(tasks) if task not in run.tasks)


def _reversed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """With less without, from a comparison of without against with."""
    low, high = entry["ci"]
    verdict = _EFFECT.get(entry["verdict"], entry["verdict"])
    kept = {key: entry[key] for key in ("task", "metric", "unit", "higher_is_better", "n", "p", "p_adjusted")}
    return kept | {"difference": -entry["difference"], "ci": [-high, -low], "verdict": verdict}
