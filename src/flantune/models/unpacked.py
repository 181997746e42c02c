"""Examples a row each, for models that streams do not fit: with the library's own attention, padded or one by one.

Some models mix what stands beside each other in one sequence whatever attention they are given: recurrent layers,
distances that are not taken from positions, attention of their own. They read the same streams as all others, but what
they compute at once are rows of like length, one example each. Which rows a step holds, its loss and its gradients are
the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flantune.models.stream import Stream

Layout = Literal["packed", "padded", "alone"]
FULL = 0.75  # the shortest of the rows that are padded together is at least this share of the longest


def layout_of(model: Any) -> Layout:
    """How a model computes the examples of a micro-batch: as one stream, in padded rows, or one by one."""
    return getattr(model, "flantune_layout", "packed")


def learns_a_prompt(model: Any) -> bool:
    """Whether an adapter puts learned tokens, or keys and values, before each example."""
    config = getattr(model, "peft_config", None)
    return bool(config) and config[model.active_adapter].is_prompt_learning


def keeps_logits(model: Any) -> bool:
    """Whether the model can be told where logits are wanted."""
    plain = model.get_base_model() if hasattr(model, "peft_config") else model
    return not learns_a_prompt(model) and "logits_to_keep" in inspect.signature(plain.forward).parameters


def unpacked_logits(model: Any, stream: Stream) -> Tensor:
    """(N, vocabulary) logits at the predicting places of a stream, in its order, each segment computed as a row."""
    lengths, inputs = stream.lengths.tolist(), stream.input_ids.split(stream.lengths.tolist())
    read = stream if stream.decoder is None else stream.decoder
    starts = (read.lengths.cumsum(0) - read.lengths).to(stream.predicting.device)
    places = stream.predicting - starts[stream.owners]
    found, order = [], []
    for group in _groups(lengths, layout_of(model) == "alone"):
        row_of = torch.full((len(lengths),), -1, device=places.device)
        row_of[group] = torch.arange(len(group), device=places.device)
        rows = row_of[stream.owners]
        wanted = (rows >= 0).nonzero()[:, 0]
        ids, mask = _padded([inputs[number] for number in group])
        if stream.decoder is None:
            logits = _at_places(model, ids, mask, rows[wanted], places[wanted])
        else:
            targets = stream.decoder.input_ids.split(stream.decoder.lengths.tolist())
            given = _padded([targets[number] for number in group])[0]
            logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=given, use_cache=False).logits
            logits = logits[rows[wanted], places[wanted]]
        found.append(logits)
        order.append(wanted)
    return torch.cat(found)[torch.cat(order).argsort()]


def _at_places(model: Any, ids: Tensor, mask: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """(n, vocabulary) logits of a decoder at n places of its rows."""
    if keeps_logits(model):
        kept, at = places.unique(return_inverse=True)
        return model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=kept).logits[rows, at]
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits[rows, places + logits.shape[1] - ids.shape[1]]  # learned tokens stand before


def _groups(lengths: Sequence[int], alone: bool) -> Iterator[list[int]]:
    """Numbers of segments in groups of like length, the longest first."""
    group: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if group and (alone or lengths[number] < FULL * lengths[group[0]]):
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Token ids (B, longest), filled up at the end, and a mask of the same shape: 1 where there is a token."""
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return ids, torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
