"""What stands beside the difference of two models: what needs no training, and what the other scorer says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flantune.evaluation.metrics import Metric
from flantune.evaluation.predict import Prediction, record_statistics
from flantune.evaluation.records import TaskAnswers
from flantune.evaluation.statistics import paired_difference


def baselines(by: Metric, asked: TaskAnswers) -> dict[str, float | None]:
    """Scores of what was not trained: the most frequent answer, a copy of the input, the model behind solved examples.

    None where there is no such answer, or where the metric scores answers only when they are made; `few_shot` is left
    out where the model was not asked so.
    """
    rows, found = asked.rows, {} if by.measured else _constant(by, asked)
    found = {"majority": None, "copy": None} | found
    if all("few_shot" in row for row in rows):
        shown = [{**row, **row["few_shot"]} for row in rows]
        found["few_shot"] = float(by.score(record_statistics(by, shown).sum(axis=0)))
    return found


def _constant(by: Metric, asked: TaskAnswers) -> dict[str, float | None]:
    rows = asked.rows

    def score(texts: Sequence[str]) -> float:
        return float(by.score(record_statistics(by, rows, texts).sum(axis=0)))

    majority = copied = None
    if "choices" in rows[0] and all(row.get("choices") == rows[0]["choices"] for row in rows):
        counted = Counter(row["references"][0] for row in rows)
        tied = [answer for answer, n in counted.items() if n == max(counted.values())]
        ranked = [score([answer] * len(rows)) for answer in sorted(tied)]
        majority = max(ranked) if by.higher_is_better else min(ranked)
    if asked.decoding["evaluate_by"] == "generation":
        copied = score([row["prompt"][slice(*row.get("copied", (None,)))] for row in rows])
    return {"majority": majority, "copy": copied}


def invalid(by: Metric, rows: Sequence[Prediction]) -> int | None:
    """How many answers are none, right or wrong; None where the metric takes every text for one."""
    if by.answer_valid is None:
        return None
    return sum(not by.answer_valid(row["prediction"], row.get("choices")) for row in rows)


def scorers(by: Metric, sides: Mapping[str, TaskAnswers], **drawn: Any) -> dict[str, Any]:
    """Scores of a closed task by its own scorer and by the other, where all rows were answered by both.

    Args:
        by: The metric.
        sides: Answers of each model, under the names that the result has.
        drawn: `groups`, `resamples` and `seed` of the gaps' intervals.
    Returns:
        Under `scorers`, for each model: the scores `generation` and `choices`, the `gap` (generation less choices) with
        its 95 % interval `gap_ci`, and how many written answers are `invalid`. Nothing where there are not both.
    """
    if by.measured == "target" or any("other" not in row for side in sides.values() for row in side.rows):
        return {}
    found = {}
    for name, side in sides.items():
        own, other = side.decoding["evaluate_by"], side.rows[0]["other"]["evaluate_by"]
        rows = {own: side.rows, other: [{**row, **row["other"]} for row in side.rows]}
        chosen, written = (record_statistics(by, rows[each]) for each in ("choices", "generation"))
        gap = paired_difference(chosen, written, by.score, **drawn)
        found[name] = {
            "generation": gap.tuned,
            "choices": gap.base,
            "gap": gap.difference,
            "gap_ci": [gap.low, gap.high],
            "invalid": invalid(by, rows["generation"]),
        }
    return {"scorers": found}
