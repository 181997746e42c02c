"""Base against tuned on the same rows: the content of `comparison.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flantune.evaluation.beside import baselines, invalid, scorers
from flantune.evaluation.metrics import Metric
from flantune.evaluation.phrasing import over_phrasings
from flantune.evaluation.predict import Prediction, record_statistics
from flantune.evaluation.records import Side, TaskAnswers, paired
from flantune.evaluation.statistics import (
    Difference,
    Pairs,
    average_interval,
    holm,
    paired_difference,
    single_interval,
    smallest_detectable,
    verdict,
)
from flantune.mixture.permutation import key_of

OF_SEEDS = (
    "One training run: the intervals tell how far other test rows could move a score, and nothing of how far another "
    "seed would."
)


@dataclass(frozen=True)
class Resampling:
    """How differences are judged.

    Attributes:
        resamples: Bootstrap resamples and random flips.
        margin: Differences of 0-100 scores inside +-margin may be called equivalent.
        seed: Of the resampling.
    """

    resamples: int
    margin: float | None
    seed: int


@dataclass(frozen=True)
class _Judged:
    """An entry of comparison.json with what its verdict and the average are made of."""

    entry: dict[str, Any]
    difference: Difference
    pairs: Pairs


def compare(
    base: Side,
    tuned: Side,
    by: Resampling,
    *,
    told: Mapping[str, Mapping[str, Any]] | None = None,
    flagged: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Differences, intervals and verdicts of all tasks and metrics: `compare_all` of one other model."""
    return compare_all(base, [tuned], by, told=told, flagged=flagged)[0]


def compare_all(
    base: Side,
    others: Sequence[Side],
    by: Resampling,
    *,
    told: Mapping[str, Mapping[str, Any]] | None = None,
    flagged: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    """Each of the others against the base, on the same rows.

    Args:
        base: Answers of the model to compare with.
        others: Answers of other models to the same questions.
        by: How differences are judged.
        told: More to say of the models, by `base` and `tuned`.
        flagged: Task name to ids of rows that have text in common with training rows.
    Returns:
        For each of the others `base`, `tuned`, `verdict` (sentences), `tasks` (one entry a task and metric, the task's
        main metric first), `average` (over main metrics on the 0-100 scale), `judged` (how). Holm's correction runs
        over the main metrics of all tasks and all models; other metrics are told with their own correction, since no
        conclusion is drawn from them.
    Raises:
        FlantuneError: Rows, prompts, decoding or another setting differ; the message names the first that does.
    """
    sides = [paired(base, other) for other in others]
    judged = [
        [
            _judged(ours, theirs, used, place == 0, by, frozenset((flagged or {}).get(ours.task, ())))
            for ours, theirs in zip(base.tasks, side.tasks, strict=True)
            for place, used in enumerate(ours.scored_by())
        ]
        for side in sides
    ]
    for main in (True, False):
        chosen = [each for side in judged for each in side if each.entry["main"] == main]
        for each, p in zip(chosen, holm([each.difference.p for each in chosen]), strict=True):
            each.entry["p_adjusted"] = p
            each.entry["verdict"] = verdict(
                each.difference,
                higher_is_better=each.entry["higher_is_better"],
                adjusted_p=p,
                margin=by.margin if each.entry["unit"] == "0-100" else None,
            )
    tests = sum(each.entry["main"] for side in judged for each in side)
    return [
        {
            "base": {**_of_model(base), **(told or {}).get("base", {})},
            "tuned": {**_of_model(side), **(told or {}).get("tuned", {})},
            "verdict": summary([each.entry for each in found]),
            "tasks": [each.entry for each in found],
            "average": {
                "seen": _average([each for each in found if each.entry["seen"]], by),
                "unseen": _average([each for each in found if not each.entry["seen"]], by),
            },
            "judged": {
                "resamples": by.resamples,
                "margin": by.margin,
                "seed": by.seed,
                "confidence": 0.95,
                "tests": tests,
                "training_seeds": 1,
                "note": OF_SEEDS,
            },
        }
        for side, found in zip(sides, judged, strict=True)
    ]


def _of_model(side: Side) -> dict[str, Any]:
    return {key: side.settings[key] for key in ("model", "precision", "device") if key in side.settings}


def _judged(
    base: TaskAnswers, tuned: TaskAnswers, by: Metric, main: bool, how: Resampling, flagged: frozenset[str]
) -> _Judged:
    rows = base.rows
    before, after = (record_statistics(by, side.rows) for side in (base, tuned))
    drawn: dict[str, Any] = {
        "resamples": how.resamples,
        "seed": key_of(how.seed, "bootstrap", base.task, by.name),
        "groups": [row["row"] for row in rows],  # rows of one id (questions about one text) go together
    }
    difference = paired_difference(before, after, by.score, **drawn)
    kinds = np.array([row["template_kind"] for row in rows])
    asked = np.array([row["template"] for row in rows], dtype=object)
    entry: dict[str, Any] = {
        "task": base.task,
        "cluster": base.cluster,
        "group": base.group,
        "seen": base.group == "trained",
        "metric": by.name,
        "signature": by.signature,
        "main": main,
        "unit": by.unit,
        "higher_is_better": by.higher_is_better,
        "n": difference.n,
        "rows": len(rows),
        "base": difference.base,
        "tuned": difference.tuned,
        "difference": difference.difference,
        "ci": [difference.low, difference.high],
        "base_ci": list(single_interval(before, by.score, **drawn)),
        "tuned_ci": list(single_interval(after, by.score, **drawn)),
        "p": difference.p,
        "p_adjusted": difference.p,
        "verdict": "",
        "smallest_detectable": smallest_detectable(before, after, by.score, **drawn),
        "baselines": baselines(by, base),
        **scorers(by, {"base": base, "tuned": tuned}, **drawn),
        "invalid": {"base": invalid(by, base.rows), "tuned": invalid(by, tuned.rows)},
        "unfinished": {
            "base": sum(not row["finished"] for row in base.rows),
            "tuned": sum(not row["finished"] for row in tuned.rows),
        },
        "by_phrasing": {
            kind: _scores_of(by, before, after, kinds == kind) for kind in ("seen", "held_out") if (kinds == kind).any()
        },
        "by_template": {
            name: {
                "held_out": bool((kinds[asked == name] == "held_out").all()),
                **_scores_of(by, before, after, asked == name),
            }
            for name in sorted(set(asked.tolist()))
        },
        "flagged": None,
    }
    if main and (over := over_phrasings(by, {"base": before, "tuned": after}, rows, **drawn)):
        entry["over_phrasings"] = over
    marked = np.array([row["row"] in flagged for row in rows])
    if marked.any():
        entry["flagged"] = {
            "n": int(marked.sum()),
            "without": None if marked.all() else _scores_of(by, before, after, ~marked),
        }
    return _Judged(entry, difference, Pairs(before, after, by.score, drawn["groups"]))


def _scores_of(by: Metric, base: np.ndarray, tuned: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    """Scores of both models on some of the rows."""
    return {
        "n": int(chosen.sum()),
        "base": float(by.score(base[chosen].sum(axis=0))),
        "tuned": float(by.score(tuned[chosen].sum(axis=0))),
    }


def row_scores(metrics: Sequence[Metric], rows: Sequence[Prediction]) -> list[dict[str, float]]:
    """Each row's score by each metric of the task, as if the row stood alone."""
    scores: list[dict[str, float]] = [{} for _ in rows]
    for by in metrics:
        for row, value in zip(scores, by.score(record_statistics(by, rows)), strict=True):
            row[by.name] = float(value) if np.isfinite(value) else 0.0
    return scores


def scores(side: Side, by: Resampling) -> list[dict[str, Any]]:
    """One model's score on each task and metric, with its interval."""
    told = []
    for it in side.tasks:
        for used in it.scored_by():
            stats = record_statistics(used, it.rows)
            drawn: dict[str, Any] = {
                "groups": [row["row"] for row in it.rows],
                "resamples": by.resamples,
                "seed": key_of(by.seed, "bootstrap", it.task, used.name),
            }
            low, high = single_interval(stats, used.score, **drawn)
            score = float(used.score(stats.sum(axis=0)))
            n = len(set(drawn["groups"]))
            entry = {"task": it.task, "metric": used.name, "n": n, "score": score, "ci": [low, high]}
            told.append(entry | scorers(used, {"model": it}, **drawn))
    return told


def _average(judged: Sequence[_Judged], by: Resampling) -> dict[str, Any]:
    """The mean over main metrics on the 0-100 scale, each task counting the same."""
    used = [each for each in judged if each.entry["main"] and each.entry["unit"] == "0-100"]
    if not used:
        return {"tasks": 0, "base": None, "tuned": None, "difference": None, "ci": None}
    base, tuned = (sum(each.entry[side] for each in used) / len(used) for side in ("base", "tuned"))
    ci = average_interval([each.pairs for each in used], resamples=by.resamples, seed=key_of(by.seed, "average"))
    return {"tasks": len(used), "base": base, "tuned": tuned, "difference": tuned - base, "ci": list(ci)}


def summary(entries: Sequence[Mapping[str, Any]]) -> str:
    """What was shown, in sentences; made of verdicts on main metrics only."""
    sentences = []
    names = {
        "trained": ("trained task", "trained tasks"),
        "unseen": ("unseen task", "unseen tasks"),
        "kept": ("ability to keep", "abilities to keep"),
    }
    for group, (one, many) in names.items():
        mains = [entry for entry in entries if entry["main"] and entry["group"] == group]
        if not mains:
            continue
        told = []
        for word in ("better", "worse", "equivalent", "no difference shown"):
            found = [entry["task"].removeprefix("starter/") for entry in mains if entry["verdict"] == word]
            if found:
                told.append(f"{len(found)} {word} ({', '.join(found)})")
        sentences.append(f"Of {len(mains)} {one if len(mains) == 1 else many}: {'; '.join(told)}.")
    return " ".join(sentences)
