"""Predictions of one model on one task: made once, kept in files, found again in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flantune.cache import added, used
from flantune.evaluation.generate import Progress, choose, generate
from flantune.evaluation.metrics import Metric, metric
from flantune.evaluation.prompts import EvaluationSet, Item
from flantune.files import digest, read_json_lines, write_json_lines
from flantune.models.load import LoadedModel

Prediction = dict[str, Any]
DECODING = 3  # raise it when the same model would answer the same prompts otherwise


def predictions(
    loaded: LoadedModel,
    questions: EvaluationSet,
    *,
    batch_tokens: int,
    cache: Path | None,
    model_digest: str,
    progress: Progress = lambda count: None,
) -> list[Prediction]:
    """One record a row: what was asked, answered and expected.

    Args:
        loaded: The model.
        questions: The task's items.
        batch_tokens: Prompt tokens computed at once.
        cache: Folder of earlier answers, by model and questions; None to answer afresh and keep nothing.
        model_digest: Identity of the model for the cache.
        progress: Called with the number of rows just done.
    """
    key = digest(DECODING, model_digest, loaded.format.fingerprint(), questions.fingerprint(), _precision(loaded))
    kept = cache / f"{key}.jsonl" if cache is not None else None
    if kept is not None and kept.exists():
        used(kept)
        answers = read_json_lines(kept)
        progress(len(answers))
    else:
        answers = _answer(loaded, questions, batch_tokens, progress)
        if kept is not None:
            write_json_lines(kept, answers)
            added(kept)
    return [
        {
            "row": item.row,
            "template": item.template,
            "template_kind": item.template_kind,
            "exemplars": item.exemplars,
            "prompt": item.prompt,
            "prediction": item.answer_in(answer["prediction"]),
            **({"text": answer["prediction"]} if item.answer is not None else {}),
            "references": list(item.references),
            **({"choices": list(item.choices)} if item.choices is not None else {}),
            **_scored_with(questions, item),
            "finished": answer["finished"],
            "choice_scores": answer["choice_scores"],
        }
        for item, answer in zip(questions.items, answers, strict=True)
    ]


def _scored_with(questions: EvaluationSet, item: Item) -> dict[str, Any]:
    """What scores and baselines need beside the references: fields of the row, and which part of the prompt is copied.

    The part is [start, end] in characters.
    """
    told: dict[str, Any] = {}
    wanted = [metric(name).fields for name in questions.task.spec.metrics]
    if any(fields is None for fields in wanted):
        told["fields"] = dict(item.values)
    elif names := [name for fields in wanted for name in fields or () if name in item.values]:
        told["fields"] = {name: item.values[name] for name in names}
    if questions.task.spec.evaluate_by == "generation" and (start := item.prompt.find(item.copied)) >= 0:
        told["copied"] = [start, start + len(item.copied)]
    return told


def _precision(loaded: LoadedModel) -> str:
    return str(next(loaded.model.parameters()).dtype)


def _answer(
    loaded: LoadedModel, questions: EvaluationSet, batch_tokens: int, progress: Progress
) -> list[dict[str, Any]]:
    prompts = [loaded.format.prompt_ids(item.prompt) for item in questions.items]
    if questions.task.spec.evaluate_by == "choices":
        choices = [item.choices or () for item in questions.items]
        scored = choose(loaded, prompts, choices, batch_tokens=batch_tokens, progress=progress)
        return [
            {
                "prediction": given[max(range(len(given)), key=scores.__getitem__)],
                "finished": True,
                "choice_scores": dict(zip(given, scores, strict=True)),
            }
            for given, scores in zip(choices, scored, strict=True)
        ]
    answers = generate(
        loaded,
        prompts,
        max_new_tokens=questions.task.spec.max_new_tokens,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    return [
        {"prediction": answer.text.strip(), "finished": answer.finished, "choice_scores": None} for answer in answers
    ]


def row_statistics(by: Metric, questions: EvaluationSet, texts: Sequence[str]) -> Any:
    """(n, k) array of the metric's row statistics for these answers."""
    import numpy as np

    return np.stack(
        [
            by.statistics(text, item.references, item.values, item.choices)
            for text, item in zip(texts, questions.items, strict=True)
        ]
    )


def record_statistics(by: Metric, rows: Sequence[Prediction], texts: Sequence[str] | None = None) -> Any:
    """The same of kept predictions, or of other answers to their questions."""
    import numpy as np

    given = [row["prediction"] for row in rows] if texts is None else texts
    return np.stack(
        [
            by.statistics(text, row["references"], row.get("fields"), row.get("choices"))
            for text, row in zip(given, rows, strict=True)
        ]
    )
