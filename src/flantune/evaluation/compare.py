"""Base against tuned on the same rows: the content of `comparison.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from flantune.evaluation.metrics import Metric, metric
from flantune.evaluation.predict import Prediction, row_statistics
from flantune.evaluation.prompts import EvaluationSet
from flantune.evaluation.statistics import (
    Difference,
    holm,
    paired_difference,
    single_interval,
    smallest_detectable,
    verdict,
)
from flantune.mixture.permutation import key_of

Group = Literal["trained", "unseen", "kept"]
KEPT = "kept_abilities"  # the cluster of tasks that ask whether something was forgotten


@dataclass(frozen=True)
class Answered:
    """A task's questions with the answers of both models, in the same order.

    Attributes:
        flagged: Ids of rows that have text in common with training rows.
    """

    questions: EvaluationSet
    seen: bool
    base: Sequence[Prediction]
    tuned: Sequence[Prediction]
    flagged: frozenset[str] = frozenset()

    @property
    def group(self) -> Group:
        """Trained on; not trained on; or an ability that should be kept."""
        if self.seen:
            return "trained"
        return "kept" if self.questions.task.spec.cluster == KEPT else "unseen"


def compare(
    answered: Sequence[Answered],
    *,
    base: Mapping[str, Any],
    tuned: Mapping[str, Any],
    resamples: int,
    margin: float | None,
    seed: int,
) -> dict[str, Any]:
    """Differences, intervals and verdicts of all tasks and metrics.

    Args:
        answered: One a task; trained tasks first reads best.
        base: What to say of the base model (`model`: its name).
        tuned: The same of the tuned one.
        resamples: Bootstrap resamples and random flips.
        margin: Differences of 0-100 scores inside +-margin may be called equivalent.
        seed: Of the resampling.
    Returns:
        `base`, `tuned`, `verdict` (sentences), `tasks` (one entry a task and metric, the task's main metric first),
        `average` (over main metrics on the 0-100 scale). Holm's correction runs over the main metrics of all tasks;
        other metrics are told with their own correction, since no conclusion is drawn from them.
    """
    entries, differences = [], []
    for task in answered:
        for place, name in enumerate(task.questions.task.spec.metrics):
            entry, difference = _entry(task, metric(name), place == 0, resamples=resamples, seed=seed)
            entries.append(entry)
            differences.append(difference)
    for main in (True, False):
        chosen = [i for i, entry in enumerate(entries) if entry["main"] == main]
        adjusted = holm([entries[i]["p"] for i in chosen])
        for i, p in zip(chosen, adjusted, strict=True):
            entries[i]["p_adjusted"] = p
            entries[i]["verdict"] = verdict(
                differences[i],
                higher_is_better=entries[i]["higher_is_better"],
                adjusted_p=p,
                margin=margin if entries[i]["unit"] == "0-100" else None,
            )
    return {
        "base": dict(base),
        "tuned": dict(tuned),
        "verdict": summary(entries),
        "tasks": entries,
        "average": {
            "seen": _average([e for e in entries if e["seen"]]),
            "unseen": _average([e for e in entries if not e["seen"]]),
        },
    }


def _entry(task: Answered, by: Metric, main: bool, *, resamples: int, seed: int) -> tuple[dict[str, Any], Difference]:
    questions, name = task.questions, task.questions.task.name
    base = row_statistics(by, questions, [p["prediction"] for p in task.base])
    tuned = row_statistics(by, questions, [p["prediction"] for p in task.tuned])
    drawn: dict[str, Any] = {
        "resamples": resamples,
        "seed": key_of(seed, "bootstrap", name, by.name),
        "groups": [item.row for item in questions.items],  # rows of one id (questions about one text) go together
    }
    difference = paired_difference(base, tuned, by.score, **drawn)
    kinds = np.array([item.template_kind for item in questions.items])
    asked = np.array([item.template for item in questions.items], dtype=object)
    entry: dict[str, Any] = {
        "task": name,
        "cluster": questions.task.spec.cluster,
        "group": task.group,
        "seen": task.seen,
        "metric": by.name,
        "signature": by.signature,
        "main": main,
        "unit": by.unit,
        "higher_is_better": by.higher_is_better,
        "n": difference.n,
        "base": difference.base,
        "tuned": difference.tuned,
        "difference": difference.difference,
        "ci": [difference.low, difference.high],
        "base_ci": list(single_interval(base, by.score, **drawn)),
        "tuned_ci": list(single_interval(tuned, by.score, **drawn)),
        "p": difference.p,
        "p_adjusted": difference.p,
        "verdict": "",
        "smallest_detectable": smallest_detectable(base, tuned, by.score, **drawn),
        "baselines": baselines(by, questions),
        "invalid": {"base": _invalid(by, task, task.base), "tuned": _invalid(by, task, task.tuned)},
        "unfinished": {
            "base": sum(not p["finished"] for p in task.base),
            "tuned": sum(not p["finished"] for p in task.tuned),
        },
        "by_phrasing": {
            kind: _scores_of(by, base, tuned, kinds == kind) for kind in ("seen", "held_out") if (kinds == kind).any()
        },
        "by_template": {
            name: {
                "held_out": bool((kinds[asked == name] == "held_out").all()),
                **_scores_of(by, base, tuned, asked == name),
            }
            for name in sorted(set(asked.tolist()))
        },
        "flagged": None,
    }
    flagged = np.array([item.row in task.flagged for item in questions.items])
    if flagged.any():
        entry["flagged"] = {
            "n": int(flagged.sum()),
            "without": None if flagged.all() else _scores_of(by, base, tuned, ~flagged),
        }
    return entry, difference


def _scores_of(by: Metric, base: np.ndarray, tuned: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    """Scores of both models on some of the rows."""
    return {
        "n": int(chosen.sum()),
        "base": float(by.score(base[chosen].sum(axis=0))),
        "tuned": float(by.score(tuned[chosen].sum(axis=0))),
    }


def row_scores(questions: EvaluationSet, predictions: Sequence[Prediction]) -> list[dict[str, float]]:
    """Each row's score by each metric of the task, as if the row stood alone."""
    scores: list[dict[str, float]] = [{} for _ in predictions]
    for name in questions.task.spec.metrics:
        by = metric(name)
        values = by.score(row_statistics(by, questions, [p["prediction"] for p in predictions]))
        for row, value in zip(scores, values, strict=True):
            row[name] = float(value) if np.isfinite(value) else 0.0
    return scores


def baselines(by: Metric, questions: EvaluationSet) -> dict[str, float | None]:
    """Scores of two models that need no training: the most frequent answer, and a copy of the input."""

    def score(texts: Sequence[str]) -> float:
        return float(by.score(row_statistics(by, questions, texts).sum(axis=0)))

    majority = None
    if questions.task.spec.answer_choices is not None and all(
        item.choices == questions.items[0].choices for item in questions.items
    ):
        counted = Counter(item.references[0] for item in questions.items)
        tied = [answer for answer, n in counted.items() if n == max(counted.values())]
        ranked = [score([answer] * len(questions.items)) for answer in sorted(tied)]
        majority = max(ranked) if by.higher_is_better else min(ranked)
    copied = (
        score([item.copied for item in questions.items]) if questions.task.spec.evaluate_by == "generation" else None
    )
    return {"majority": majority, "copy": copied}


def _invalid(by: Metric, task: Answered, predictions: Sequence[Prediction]) -> int | None:
    if by.answer_valid is None:
        return None
    return sum(
        not by.answer_valid(prediction["prediction"], item.choices)
        for prediction, item in zip(predictions, task.questions.items, strict=True)
    )


def _average(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    used = [entry for entry in entries if entry["main"] and entry["unit"] == "0-100"]
    if not used:
        return {"tasks": 0, "base": None, "tuned": None, "difference": None}
    base, tuned = (sum(entry[side] for entry in used) / len(used) for side in ("base", "tuned"))
    return {"tasks": len(used), "base": base, "tuned": tuned, "difference": tuned - base}


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
