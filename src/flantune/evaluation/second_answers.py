"""What a model is asked beside the questions of a comparison: by the other scorer, and behind solved examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flantune.evaluation.generate import Progress
from flantune.evaluation.likelihood import measure_targets
from flantune.evaluation.predict import Prediction, answers_by, measure, predictions, said
from flantune.evaluation.prompts import EvaluationSet
from flantune.models.load import LoadedModel

SAID = ("prediction", "text", "finished", "choice_scores")
OTHER = {"generation": "choices", "choices": "generation"}


def answer_otherwise(loaded: LoadedModel, questions: EvaluationSet, rows: Sequence[Prediction], **kept: Any) -> None:
    """Puts the answers by the other scorer into the rows, under `other`: written ones, or the likeliest choice.

    Nothing where a question has no closed set of answers, or asks for reasoning first.

    Args:
        loaded: The model.
        questions: A task's items.
        rows: Its answers to them, as `predictions` made them.
        kept: `batch_tokens`, `cache` and `model_digest`, as of `predictions`.
    """
    if not questions.answered or any(not item.choices or item.answer is not None for item in questions.items):
        return
    by = OTHER[questions.task.spec.evaluate_by]
    answers = answers_by(loaded, questions, by, **kept)
    others = [{"evaluate_by": by, **said(*pair)} for pair in zip(questions.items, answers, strict=True)]
    measure(questions, others)
    for row, other in zip(rows, others, strict=True):
        row["other"] = other


def answer_with_exemplars(
    loaded: LoadedModel,
    shown: EvaluationSet,
    rows: Sequence[Prediction],
    *,
    progress: Progress = lambda count: None,
    **kept: Any,
) -> None:
    """Puts the answers to the same questions behind solved examples into the rows, under `few_shot`.

    Nothing where no question has any: the task has no rows to solve, or its templates take none.

    Args:
        loaded: The model.
        shown: The task's items with their exemplars, in the order of the rows.
        rows: The answers without.
        progress: Called with the number of rows just done.
        kept: `batch_tokens`, `cache` and `model_digest`, as of `predictions`.
    """
    if not any(item.exemplars for item in shown.items):
        progress(len(rows))
        return
    found = [
        {key: record[key] for key in ("exemplars", "prompt", *SAID) if key in record}
        for record in predictions(loaded, shown, progress=progress, **kept)
    ]
    measure(shown, found)
    measure_targets(loaded, shown, found, **kept)
    for row, few in zip(rows, found, strict=True):
        row["few_shot"] = few
