"""How likely a model finds texts: right answers after their prompts, and plain text by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from flantune.evaluation.generate import batches_by_length
from flantune.evaluation.predict import DECODING, Prediction, precision_of, remembered
from flantune.evaluation.prompts import EvaluationSet
from flantune.files import digest
from flantune.models.load import LoadedModel
from flantune.models.stream import Example, start_token, stream_of, target_logits

# Of a text by itself, and of a batch of such texts: every token has logits over the vocabulary, in float32.
MOST_TEXT_TOKENS = 512


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
    head = len(loaded.format.target_head)
    losses = _summed_losses(loaded, examples, head, batch_tokens)
    return [(loss, len(target) - head) for loss, (_, target, _) in zip(losses, examples, strict=True)]


@torch.inference_mode()
def text_losses(loaded: LoadedModel, texts: Sequence[str]) -> list[tuple[float, int]]:
    """Negative log-likelihood of each text by itself, in nats, and the number of its tokens that count.

    Texts stand as in pre-training: in no chat template, behind what the tokenizer puts before any text. Where that is
    nothing, the first token of a text has nothing that could predict it, and does not count. No end token is asked for.
    Of a long text the first tokens are read, at most `MOST_TEXT_TOKENS` and half of what the model has positions for.

    Args:
        loaded: A decoder: an encoder-decoder knows no likelihood of a text alone.
        texts: Each is read apart from the others.
    """
    most = min(MOST_TEXT_TOKENS, (loaded.format.positions or 2 * MOST_TEXT_TOKENS) // 2)
    examples: list[tuple[list[int], list[int], float]] = []
    for text in texts:
        head, ids = loaded.format.text_ids(text)
        given = head or ids[:1]
        examples.append((given, ids[0 if head else 1 : most], 1.0))
    losses = [0.0] * len(texts)
    told = [i for i, (_, target, _) in enumerate(examples) if target]
    for i, loss in zip(told, _summed_losses(loaded, [examples[i] for i in told], 0, MOST_TEXT_TOKENS), strict=True):
        losses[i] = loss
    return [(loss, len(target)) for loss, (_, target, _) in zip(losses, examples, strict=True)]


def _summed_losses(loaded: LoadedModel, examples: Sequence[Example], head: int, batch_tokens: int) -> list[float]:
    """The losses of each example's target tokens behind the first `head` of them, added up."""
    device, start = next(loaded.model.parameters()).device, start_token(loaded.model)
    losses = [0.0] * len(examples)
    for batch in batches_by_length([len(given) + len(target) for given, target, _ in examples], batch_tokens):
        stream = stream_of([examples[i] for i in batch], start).to(device)
        likely = target_logits(loaded.model, stream).float().log_softmax(-1)
        found = likely.gather(1, stream.targets[:, None])[:, 0].double().cpu()
        for i, part in zip(batch, found.split([len(examples[i][1]) for i in batch]), strict=True):
            losses[i] = -float(part[head:].sum())
    return losses


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


def text_records(
    loaded: LoadedModel, paragraphs: Sequence[str], *, cache: Path | None, model_digest: str
) -> list[Prediction]:
    """One record a paragraph: `row`, `text`, and `nats` of its `tokens` by `text_losses`.

    Args:
        loaded: A decoder.
        paragraphs: Of a `PlainText`.
        cache: As of `predict.predictions`.
        model_digest: As of `predict.predictions`.
    """
    key = digest("plain text", 1, model_digest, loaded.format.fingerprint(), list(paragraphs), precision_of(loaded))

    def measured() -> list[Prediction]:
        found = text_losses(loaded, paragraphs)
        return [
            {"row": number, "text": text, "nats": nats, "tokens": tokens}
            for number, (text, (nats, tokens)) in enumerate(zip(paragraphs, found, strict=True))
        ]

    return remembered(cache, key, measured)
