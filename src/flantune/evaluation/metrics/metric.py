"""What a metric is: a score is a function of summed row statistics.

Every metric turns a row into a vector of k numbers and the sum of such vectors into a score. So a mean over
rows (ROUGE) and a corpus metric (BLEU, whose score is no mean of anything) are compared, resampled and
sign-flipped by the same code on the same (n, k) arrays: `score(statistics.sum(axis=0))` is the score of a
whole test set.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
RowStatistics = Callable[[str, Sequence[str], Mapping[str, Any] | None, Sequence[str] | None], FloatArray]


@dataclass(frozen=True)
class Metric:
    """How predictions of a task are scored.

    Args:
        name: The name in task files and reports.
        higher_is_better: Which side a tuned model should move to.
        unit: "0-100"; or "target units" (of `mean_absolute_error`) or "ratio" (of `length_ratio`), both raw.
        signature: What a reader needs to get the same number elsewhere: library, version, settings.
        statistics: (prediction, references, row, answer_choices) -> (k,) float64. There is at least one
            reference; `row` holds the source row's fields and `answer_choices` the task's answers in order,
            both None where there are none. k is the same for all rows of a task.
        score: Sums (..., k) -> (...,). Where a denominator is 0 the score is nan, unless the metric defines
            one.
        answer_valid: (prediction, answer_choices) -> whether the prediction is an answer at all, right or
            wrong; None where every text is one.
        fields: The row's fields that `statistics` reads; None where it may read any.
        measured: Its row statistics are kept with the answers, since they follow from more than texts. "answer": from
            code that looks at the answer; "target": from the model, which tells how likely it finds the right answer.
        runs_answers: Whether answers are run as programs.
    """

    name: str
    higher_is_better: bool
    unit: str
    signature: str
    statistics: RowStatistics
    score: Callable[[FloatArray], FloatArray]
    answer_valid: Callable[[str, Sequence[str] | None], bool] | None = None
    fields: tuple[str, ...] | None = ()
    measured: Literal[False, "answer", "target"] = False
    runs_answers: bool = False


def divide(numerator: FloatArray, denominator: FloatArray, empty: float = math.nan) -> FloatArray:
    """The quotient, `empty` where the denominator is 0; no warning, since a resample may well be empty."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    quotient = np.full(numerator.shape, empty)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)


def mean(sums: FloatArray) -> FloatArray:
    """Sums of (value, 1) -> the mean value."""
    return divide(sums[..., 0], sums[..., 1])


def percent(sums: FloatArray) -> FloatArray:
    """Sums of (value, 1) -> 100 times the mean value."""
    return 100.0 * mean(sums)


def best(row_score: Callable[[str, str], float]) -> RowStatistics:
    """(score against the best reference, 1) of a row; `mean` or `percent` of their sum is the metric."""

    def statistics(
        prediction: str,
        references: Sequence[str],
        row: Mapping[str, Any] | None = None,
        answer_choices: Sequence[str] | None = None,
    ) -> FloatArray:
        return np.array([max(row_score(prediction, reference) for reference in references), 1.0])

    return statistics


def version(package: str) -> str:
    """The installed version of a package, for signatures."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
