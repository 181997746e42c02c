"""How much scores depend on the phrasing, where each row is asked in every one: mean, worst and spread, with intervals.

That phrasings matter, and that many in training make a model depend on them less, is why there are several a task
(Sanh et al. 2022, arXiv:2110.08207, report median and spread over prompts for the same reason).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flantune.evaluation.metrics import Metric
from flantune.evaluation.predict import Prediction

NAMES = ("mean", "worst", "spread")
LEAST_GROUPS = 2


def over_phrasings(
    by: Metric,
    sides: Mapping[str, np.ndarray],
    rows: Sequence[Prediction],
    *,
    groups: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """Mean, worst and spread (best less worst) of the scores by phrasing, of both sides and of their difference.

    The intervals are the percentile bootstrap's over rows, each with all of its phrasings, the same draws for both
    sides. Those of worst and spread are shifted so that their middle is the score: resamples are noisier than the rows,
    so that their best and worst lie further apart. For the same reason the spread is too wide itself, and the worst too
    bad; so the end on the other side lies as much further as the shift was, within the scores that resamples reach.
    The phrasings are taken as given.

    Args:
        by: The metric.
        sides: `base` and `tuned`: (n, k) row statistics.
        rows: (n,), what was asked.
        groups: (n,), which rows go together.
        resamples: Bootstrap resamples.
        seed: The same seed gives the same intervals.
    Returns:
        None where there is one phrasing, or not every row was asked in each.
    """
    names, at = np.unique([row["template"] for row in rows], return_inverse=True)
    units, of = np.unique(groups, return_inverse=True)
    places = of * len(names) + at
    if len(names) < 2 or len(units) < LEAST_GROUPS or len(np.unique(places)) < len(names) * len(units):
        return None
    drawn = np.random.default_rng(seed).multinomial(len(units), np.full(len(units), 1 / len(units)), size=resamples)
    weights = np.concatenate([np.ones((1, len(units))), drawn])  # the rows as they are, then the resamples
    told, reach = {}, {}
    for side, stats in sides.items():
        sums = np.zeros((len(units) * len(names), stats.shape[1]))
        np.add.at(sums, places, stats)
        every = (weights @ sums.reshape(len(units), -1)).astype(np.float64)
        scores = by.score(every.reshape(len(weights), len(names), -1))
        low, high = scores.min(-1), scores.max(-1)
        worst = low if by.higher_is_better else high
        told[side] = dict(zip(NAMES, (scores.mean(-1), worst, high - low), strict=True))
        least, most = float(scores.min()), float(scores.max())
        reach[side] = {"mean": (least, most), "worst": (least, most), "spread": (0.0, most - least)}
    told["difference"] = {name: told["tuned"][name] - told["base"][name] for name in NAMES}
    return {
        "phrasings": len(names),
        "rows": len(units),
        **{
            side: {
                name: _with_interval(found, name != "mean", reach.get(side, {}).get(name))
                for name, found in each.items()
            }
            for side, each in told.items()
        },
    }


def _with_interval(found: np.ndarray, shifted: bool, reach: tuple[float, float] | None) -> dict[str, Any]:
    """found: (1 + resamples,), the score of the rows first."""
    score = float(found[0])
    low, middle, high = (float(value) for value in np.percentile(found[1:], (2.5, 50, 97.5)))
    if shifted:
        bias = middle - score
        low, high = low - bias - max(bias, 0.0), high - bias - min(bias, 0.0)
    if reach is not None:
        low, high = max(low, reach[0]), min(high, reach[1])
    return {"score": score, "ci": [low, high]}
