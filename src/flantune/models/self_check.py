"""How a model's examples can be computed, found out on the model itself before it is trained or asked anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flantune.models import packed_attention
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.models.unpacked import layout_of

LENGTHS = (24, 30)  # of rows whose inputs and targets differ in length, and that are padded together too


@torch.no_grad()
def packs_exactly(model: Any) -> bool:
    """Whether the examples of a stream do not influence each other, and give what the library gives for each alone.

    Two rows of different length are computed together, alone, with the other row's tokens replaced, and, of a decoder,
    by a plain call of the library with its own attention.

    Args:
        model: With attention by segment, evaluating.
    """
    first, second, other = _rows(model)
    alone = _logits(model, second)
    together, poisoned = (_logits(model, row, second)[-len(alone) :] for row in (first, other))
    if not _alike(together, poisoned, model, of_rounding=0.25) or not _alike(together, alone, model):
        return False
    return model.config.is_encoder_decoder or _alike(alone, _plain_logits(model, second), model)


@torch.no_grad()
def pads_exactly(model: Any) -> bool:
    """Whether rows that are padded to one length give what each gives alone.

    Args:
        model: With the library's attention, evaluating; its layout is `padded`.
    """
    rows = _rows(model)[:2]
    return _alike(_logits(model, *rows), torch.cat([_logits(model, row) for row in rows]), model)


@torch.no_grad()
def shares_prefixes(model: Any) -> bool:
    """Whether prompts of the model may share a computed prefix: whether two rows have the same logits either way.

    Not of an encoder-decoder, whose encoder sees all of an input at once, nor with dropout, which each example draws,
    nor where each example is a row.
    """
    if model.config.is_encoder_decoder or layout_of(model) != "packed":
        return False
    if any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules()):
        return False
    training = model.training
    model.train()  # a dropout that is not a layer of its own shows
    size = int(model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(1)
    common, first, second = (torch.randint(0, size, (n,), generator=generator).tolist() for n in (24, 19, 30))
    rows = [([*common, *row[:-8]], row[-8:], 1.0) for row in (first, second)]
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        shared, apart = (
            target_logits(model, stream_of(rows, share_prefixes=share).to(device)).float() for share in (True, False)
        )
    model.train(training)
    return _alike(shared, apart, model)


def _rows(model: Any) -> tuple[list[int], ...]:
    size = int(model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(0, size, (n,), generator=generator).tolist() for n in (*LENGTHS, LENGTHS[0]))


def _logits(model: Any, *rows: list[int]) -> Tensor:
    halves = [(row[: len(row) // 2], row[len(row) // 2 :], 1.0) for row in rows]
    stream = stream_of(halves, start_token(model))
    return target_logits(model, stream.to(next(model.parameters()).device)).float()


def _plain_logits(model: Any, row: list[int]) -> Tensor:
    """By the library's own code alone: its attention, its masks, its positions."""
    device = next(model.parameters()).device
    model.set_attn_implementation("eager")
    try:
        logits = model(input_ids=torch.tensor([row], device=device), use_cache=False).logits
    finally:
        model.set_attn_implementation(packed_attention.NAME)
    return logits[0, len(row) // 2 - 1 : -1].float()


def _alike(one: Tensor, other: Tensor, model: Any, *, of_rounding: float = 1.0) -> bool:
    """Whether two ways to compute the same logits differ by rounding alone.

    Sums are grouped by the number of tokens, and those of experts by their load; a leak makes a larger difference.
    """
    rounding = 1e-4 if next(model.parameters()).dtype == torch.float32 else 4e-2
    return bool((one - other).abs().max() / other.abs().max().clamp(min=1e-6) <= of_rounding * rounding)
