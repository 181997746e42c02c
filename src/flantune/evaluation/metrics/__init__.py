"""Metrics by name. Each turns rows into vectors and sums of vectors into a score (`metric.py`)."""

from __future__ import annotations

from flantune.errors import named
from flantune.evaluation.metrics.answers import ANSWER_METRICS
from flantune.evaluation.metrics.metric import FloatArray, Metric, RowStatistics, best, divide, mean, percent
from flantune.evaluation.metrics.rules import RULE_METRICS, RULES, passes
from flantune.evaluation.metrics.structures import STRUCTURE_METRICS
from flantune.evaluation.metrics.texts import TEXT_METRICS

__all__ = [
    "METRICS",
    "RULES",
    "FloatArray",
    "Metric",
    "RowStatistics",
    "best",
    "divide",
    "mean",
    "metric",
    "passes",
    "percent",
]

METRICS: dict[str, Metric] = {
    each.name: each for each in (*TEXT_METRICS, *ANSWER_METRICS, *STRUCTURE_METRICS, *RULE_METRICS)
}


def metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        FlantuneError: No metric has this name; the message offers the nearest.
    """
    return named(name, METRICS, "metric", show=len(METRICS))
