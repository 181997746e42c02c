"""Metrics by name. Each turns rows into vectors and sums of vectors into a score (`metric.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flantune.errors import FlantuneError, named
from flantune.evaluation.metrics.answers import ANSWER_METRICS
from flantune.evaluation.metrics.likelihood import LIKELIHOOD_METRICS
from flantune.evaluation.metrics.metric import FloatArray, Metric, RowStatistics, best, divide, mean, percent
from flantune.evaluation.metrics.own import installed_metrics, kept_metric, metric_at_path, metric_of_package
from flantune.evaluation.metrics.rules import RULE_METRICS, RULES, passes
from flantune.evaluation.metrics.structures import STRUCTURE_METRICS
from flantune.evaluation.metrics.texts import TEXT_METRICS

if TYPE_CHECKING:
    from flantune.tasks.task import Task

__all__ = [
    "METRICS",
    "RULES",
    "FloatArray",
    "Metric",
    "RowStatistics",
    "best",
    "divide",
    "kept_metric",
    "mean",
    "metric",
    "metrics_of",
    "passes",
    "percent",
]

METRICS: dict[str, Metric] = {
    each.name: each for each in (*TEXT_METRICS, *ANSWER_METRICS, *STRUCTURE_METRICS, *RULE_METRICS, *LIKELIHOOD_METRICS)
}


def metric(name: str, task: Task | None = None) -> Metric:
    """The metric of this name.

    Args:
        name: One of `METRICS`, one that an installed package brings, or `module:function`.
        task: The task that names it, which says whether code may run and where its modules lie.
    Raises:
        FlantuneError: No metric has this name (the message offers the nearest), or it names code that may not run or
            cannot be used.
    """
    found = METRICS.get(name)
    if task is not None and not task.allow_code and (":" in name or (found is not None and found.runs_answers)):
        runs, trust = ("code", " if you trust it") if found is None else ("what a model writes", "")
        remedy = f"say `allow_code: true` in the recipe{trust}" if task.trusted else "others' tasks may not"
        raise FlantuneError(f'metric "{name}" runs {runs}; {remedy}')
    if found is not None:
        return found
    if ":" in name and task is not None:
        return metric_at_path(name, task.code_folders)
    installed = installed_metrics()
    named(name, {**METRICS, **installed}, "metric", show=len(METRICS) + len(installed))
    return metric_of_package(installed[name])


def metrics_of(task: Task) -> list[Metric]:
    """The task's metrics, the main one first.

    Raises:
        FlantuneError: See `metric`; told with the line in the task's file.
    """
    found = []
    for number, name in enumerate(task.spec.metrics):
        try:
            found.append(metric(name, task))
        except FlantuneError as error:
            line = task.file.line(["metrics", number])
            raise FlantuneError(error.message, f"{task.file.path}:{line}: metrics") from None
    return found
