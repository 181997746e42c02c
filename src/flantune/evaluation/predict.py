"""Predictions of one model on one task: made once, kept in files, found again in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flantune.cache import added, used
from flantune.errors import FlantuneError
from flantune.evaluation.generate import Progress, choose, generate
from flantune.evaluation.metrics import Metric
from flantune.evaluation.prompts import EvaluationSet, Item
from flantune.evaluation.sampling import sampler
from flantune.files import digest, read_json_lines, write_json_lines
from flantune.models.load import LoadedModel

Prediction = dict[str, Any]
DECODING = 6  # raise it when the same model would answer the same prompts otherwise


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
    if questions.answered:
        kept: dict[str, Any] = {"batch_tokens": batch_tokens, "cache": cache, "model_digest": model_digest}
        answers = answers_by(loaded, questions, questions.task.spec.evaluate_by, progress=progress, **kept)
    else:
        answers = [{"prediction": "", "finished": True, "choice_scores": None} for _ in questions.items]
        progress(len(answers))
    return [
        {
            "row": item.row,
            "template": item.template,
            "template_kind": item.template_kind,
            "exemplars": item.exemplars,
            **({"repeat": item.repeat} if questions.sampled else {}),
            "prompt": item.prompt,
            **said(item, answer),
            "references": list(item.references),
            **({"choices": list(item.choices)} if item.choices is not None else {}),
            **_scored_with(questions, item),
        }
        for item, answer in zip(questions.items, answers, strict=True)
    ]


def said(item: Item, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a record tells of an answer: the part that is scored, all of it where that is another, how it was found."""
    return {
        "prediction": item.answer_in(answer["prediction"]),
        **({"text": answer["prediction"]} if item.answer is not None else {}),
        "finished": answer["finished"],
        "choice_scores": answer["choice_scores"],
    }


def answer_text(row: Prediction) -> str:
    """All that the model said, also where a part of it is scored."""
    return str(row.get("text", row["prediction"]))


def answers_by(
    loaded: LoadedModel,
    questions: EvaluationSet,
    by: str,
    *,
    batch_tokens: int,
    cache: Path | None,
    model_digest: str,
    progress: Progress = lambda count: None,
) -> list[dict[str, Any]]:
    """`prediction`, `finished` and `choice_scores` of each question, from the cache where they are there.

    Args:
        loaded: The model.
        questions: The task's items.
        by: generation or choices.
        batch_tokens: See `predictions`, as for the rest.
        cache: Folder of earlier answers.
        model_digest: Identity of the model.
        progress: Called with the number of rows just done.
    """
    key = digest(DECODING, model_digest, loaded.format.fingerprint(), questions.fingerprint(by), precision_of(loaded))
    return remembered(cache, key, lambda: _answer(loaded, questions, by, batch_tokens, progress), progress)


def _scored_with(questions: EvaluationSet, item: Item) -> dict[str, Any]:
    """What scores and baselines need beside the references: fields of the row, and which part of the prompt is copied.

    The part is [start, end] in characters.
    """
    told: dict[str, Any] = {}
    wanted = [by.fields for by in questions.metrics]
    if any(fields is None for fields in wanted):
        told["fields"] = item.fields
    elif names := [name for fields in wanted for name in fields or () if name in item.fields]:
        told["fields"] = {name: item.fields[name] for name in names}
    written = questions.answered and questions.task.spec.evaluate_by == "generation"
    if written and (start := item.prompt.find(item.copied)) >= 0:
        told["copied"] = [start, start + len(item.copied)]
    return told


def precision_of(loaded: LoadedModel) -> str:
    """The type that the model computes in, for the keys of caches."""
    return str(next(loaded.model.parameters()).dtype)


def remembered(
    cache: Path | None,
    key: str,
    make: Callable[[], list[dict[str, Any]]],
    found: Progress = lambda count: None,
) -> list[dict[str, Any]]:
    """Rows under a key of the cache; made and kept where they are missing.

    Args:
        cache: The folder; None to make them afresh and keep nothing.
        key: Hash of all that they follow from.
        make: Makes them.
        found: Called with their number where they were there.
    """
    kept = cache / f"{key}.jsonl" if cache is not None else None
    if kept is not None and kept.exists():
        used(kept)
        rows = read_json_lines(kept)
        found(len(rows))
        return rows
    rows = make()
    if kept is not None:
        write_json_lines(kept, rows)
        added(kept)
    return rows


def _answer(
    loaded: LoadedModel, questions: EvaluationSet, by: str, batch_tokens: int, progress: Progress
) -> list[dict[str, Any]]:
    prompts = [loaded.format.prompt_ids(item.prompt) for item in questions.items]
    if by == "choices":
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
        sampler=sampler(questions),
    )
    return [
        {"prediction": answer.text.strip(), "finished": answer.finished, "choice_scores": None} for answer in answers
    ]


def row_statistics(by: Metric, questions: EvaluationSet, texts: Sequence[str]) -> Any:
    """(n, k) array of the metric's row statistics for these answers.

    Raises:
        FlantuneError: The metric cannot score a row.
    """
    import numpy as np

    found = []
    for text, item in zip(texts, questions.items, strict=True):
        try:
            found.append(by.statistics(text, item.references, item.fields, item.choices))
        except FlantuneError as error:
            raise FlantuneError(f"{error.message} (row {item.row})" if by.measured else error.message) from None
    return np.stack(found)


def measure(questions: EvaluationSet, rows: Sequence[Prediction]) -> None:
    """Puts what code says of the answers into the rows, by the metric's name under `measured`.

    Raises:
        FlantuneError: A metric cannot score a row.
    """
    for by in questions.metrics:
        if by.measured == "answer":
            found = row_statistics(by, questions, [row["prediction"] for row in rows])
            for row, numbers in zip(rows, found.tolist(), strict=True):
                row.setdefault("measured", {})[by.name] = numbers


def record_statistics(by: Metric, rows: Sequence[Prediction], texts: Sequence[str] | None = None) -> Any:
    """The same of kept predictions, or of other answers to their questions."""
    import numpy as np

    if by.measured:
        assert texts is None, "other answers were not measured"
        return np.array([row["measured"][by.name] for row in rows])
    given = [row["prediction"] for row in rows] if texts is None else texts
    return np.stack(
        [
            by.statistics(text, row["references"], row.get("fields"), row.get("choices"))
            for text, row in zip(given, rows, strict=True)
        ]
    )
