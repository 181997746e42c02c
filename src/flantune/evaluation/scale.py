"""Metrics of different units on one scale, 0 to 100 and higher is better, so that tasks can be averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flantune.evaluation.metrics import Metric
from flantune.evaluation.predict import row_statistics
from flantune.evaluation.prompts import EvaluationSet


def score_of(questions: EvaluationSet, texts: Sequence[str], by: Metric) -> float:
    """The metric's score of these answers; 0 for nothing to divide by."""
    score = float(by.score(row_statistics(by, questions, texts).sum(axis=0)))
    return score if math.isfinite(score) else 0.0


def on_one_scale(score: float, by: Metric, constant: float) -> float:
    """A score as 0 to 100, higher is better, in the order that the metric itself puts scores in.

    A metric of 0 to 100 is left as it is. An error e in units of its own becomes 100 / (1 + e / c), with c the error
    of the best constant answer: 100 is without error, 50 as good as always saying the same. A score s of a user's own
    unit, which may have either sign, becomes 50 (1 + s / (1 + |s|)), with -s for s where lower is better.

    Args:
        score: Of the metric.
        by: The metric.
        constant: What `best_constant` says of it.
    """
    if by.unit == "0-100":
        return score if by.higher_is_better else 100.0 - score
    if by.measured:
        signed = score if by.higher_is_better else -score
        return 50.0 * (1.0 + signed / (1.0 + abs(signed)))
    assert not by.higher_is_better, "a metric with units of its own is an error"
    return 100.0 / (1.0 + score / constant)


def best_constant(questions: EvaluationSet, by: Metric) -> float:
    """The smallest error that one answer to all rows gets, among the rows' own references; 1 where that is 0.

    Only metrics with units of their own need it.
    """
    if by.unit == "0-100" or by.measured:
        return 1.0
    answers = {item.references[0] for item in questions.items}
    return min(score_of(questions, [answer] * len(questions.items), by) for answer in answers) or 1.0
