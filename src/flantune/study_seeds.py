"""What training shows over several seeds: intervals of other rows and of other runs together. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from scipy import stats

from flantune.evaluation.compare import Resampling, compare_all
from flantune.evaluation.records import Side
from flantune.evaluation.statistics import holm, standard_deviation
from flantune.reporting.formats import short_task
from flantune.study_plan import StudyRun

_ALPHA = 0.05
_SHOWN = ("better", "worse")


@dataclass(frozen=True)
class Effect:
    """A difference that is the mean over several runs.

    Attributes:
        mean: Of the runs' differences.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Of no difference, two-sided.
        runs_sd: Standard deviation between runs.
        rows_sd: Standard deviation of a run's difference by its rows.
    """

    mean: float
    low: float
    high: float
    p: float
    runs_sd: float
    rows_sd: float


def effect(differences: Sequence[float], rows_sds: Sequence[float], rows: int) -> Effect:
    """Mean difference of runs that answered the same rows, for another run on other rows.

    Its variance has two parts: between runs, divided by their number, and by the rows, which stays as it is, since all
    runs answered the same ones (as far as they err on different rows, that is too much, never too little). The t
    distribution has the degrees of freedom of Satterthwaite (1946) for a sum of two variances.

    Args:
        differences: One a run, two or more.
        rows_sds: Standard deviation of each one by its rows.
        rows: Independent rows.
    """
    count, mean = len(differences), fmean(differences)
    between, within = variance(differences) / count, fmean(rows_sds) ** 2
    total = between + within
    if total == 0:
        return Effect(mean, mean, mean, 0.0 if mean else 1.0, 0.0, 0.0)
    freedom = total**2 / (between**2 / (count - 1) + within**2 / max(1, rows - 1))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(total)
    p = 2 * float(stats.t.sf(abs(mean) / math.sqrt(total), freedom))
    return Effect(mean, mean - half, mean + half, p, math.sqrt(between * count), math.sqrt(within))


def seeds_result(base: Side, sides: Mapping[str, Side], runs: Sequence[StudyRun], by: Resampling) -> dict[str, Any]:
    """Each task's main metric over all runs that finished.

    Returns:
        `seeds`: an entry a task, with the difference of each run, their mean, its interval, p adjusted by Holm over the
        tasks, and a verdict; None with fewer than two runs. `answer`: one sentence.
    """
    if len(sides) < 2:
        return {"seeds": None, "answer": "One run shows nothing of how another would differ; two at least must finish."}
    comparisons = compare_all(base, list(sides.values()), by)
    entries = [[entry for entry in comparison["tasks"] if entry["main"]] for comparison in comparisons]
    told: list[dict[str, Any]] = []
    for made in zip(*entries, strict=True):
        first = made[0]
        sds = [standard_deviation(run["ci"]) for run in made]
        found = effect([run["difference"] for run in made], sds, first["n"])
        same = {key: first[key] for key in ("task", "group", "metric", "unit", "higher_is_better", "n", "base")}
        over = {"tuned": fmean(run["tuned"] for run in made), "difference": found.mean, "ci": [found.low, found.high]}
        noise = {"runs": [run["difference"] for run in made], "runs_sd": found.runs_sd, "rows_sd": found.rows_sd}
        told.append(same | over | noise | {"p": found.p})
    for entry, adjusted in zip(told, holm([entry["p"] for entry in told]), strict=True):
        up = (entry["difference"] > 0) == entry["higher_is_better"]
        shown = "better" if up else "worse"
        entry |= {"p_adjusted": adjusted, "verdict": shown if adjusted < _ALPHA else "no difference shown"}
    return {"seeds": told, "answer": _answer(told, len(sides))}


def _answer(entries: Sequence[Mapping[str, Any]], runs: int) -> str:
    named = {
        word: [short_task(entry["task"]) for entry in entries if entry["verdict"] == word]
        for word in ("better", "worse")
    }
    parts = [f"{word} on {', '.join(tasks)}" for word, tasks in named.items() if tasks]
    shown = f"shown to be {' and '.join(parts)}" if parts else "on no task shown to be better or worse"
    wide = [short_task(entry["task"]) for entry in entries if entry["runs_sd"] > entry["rows_sd"]]
    noise = f" Runs differ by more than the rows explain on {', '.join(wide)}." if wide else ""
    return f"Over {runs} seeds, as any other run on any other rows: {shown}.{noise}"
