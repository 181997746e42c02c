"""What a model is asked beside the questions of a comparison: by the other scorer of a closed task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flantune.evaluation.predict import Prediction, answers_by, measure, said
from flantune.evaluation.prompts import EvaluationSet
from flantune.models.load import LoadedModel

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
