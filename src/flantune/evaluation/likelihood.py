"""How likely a model finds the right answers: what the perplexity of a task's targets is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from flantune.evaluation.generate import batches_by_length
from flantune.evaluation.predict import DECODING, Prediction, precision_of, remembered
from flantune.evaluation.prompts import EvaluationSet
from flantune.files import digest
from flantune.models.load import LoadedModel
from flantune.models.stream import start_token, stream_of, target_logits


@torch.inference_mode()
def target_losses(
    loaded: LoadedModel, prompts: Sequence[str], targets: Sequence[str], *, batch_tokens: int
) -> list[tuple[float, int]]:
    """Negative log-likelihood of each target after its prompt, in nats, and the number of its tokens.

    The end token counts; what every answer of the model begins with, whatever is asked, does not.

    Args:
        loaded: The model.
        prompts: Input texts.
        targets: The text that follows each.
        batch_tokens: Tokens computed at once, of prompts and targets.
    """
    examples = [(*ids, 1.0) for ids in loaded.format.ids_of_all(prompts, targets)]
    device, start = next(loaded.model.parameters()).device, start_token(loaded.model)
    head, losses = len(loaded.format.target_head), [0.0] * len(examples)
    for batch in batches_by_length([len(given) + len(target) for given, target, _ in examples], batch_tokens):
        stream = stream_of([examples[i] for i in batch], start).to(device)
        likely = target_logits(loaded.model, stream).float().log_softmax(-1)
        found = likely.gather(1, stream.targets[:, None])[:, 0].double().cpu()
        for i, part in zip(batch, found.split([len(examples[i][1]) for i in batch]), strict=True):
            losses[i] = -float(part[head:].sum())
    return [(loss, len(target) - head) for loss, (_, target, _) in zip(losses, examples, strict=True)]


def measure_targets(
    loaded: LoadedModel,
    questions: EvaluationSet,
    rows: Sequence[Prediction],
    *,
    batch_tokens: int,
    cache: Path | None,
    model_digest: str,
) -> None:
    """Puts the likelihood of the first reference into the rows, under `measured`, where a metric of the task asks.

    Arguments as of `predict.predictions`, which made the rows.
    """
    names = [by.name for by in questions.metrics if by.measured == "target"]
    if not names:
        return
    prompts, targets = [item.prompt for item in questions.items], [item.references[0] for item in questions.items]
    asked = questions.fingerprint(), targets
    key = digest("targets", DECODING, model_digest, loaded.format.fingerprint(), asked, precision_of(loaded))

    def measured() -> list[dict[str, float]]:
        found = target_losses(loaded, prompts, targets, batch_tokens=batch_tokens)
        return [{"loss": loss, "tokens": tokens} for loss, tokens in found]

    for row, found in zip(rows, remembered(cache, key, measured), strict=True):
        for name in names:
            row.setdefault("measured", {})[name] = [found["loss"], found["tokens"]]
