"""Absolute positions of the BART family on streams: given from outside, so that they restart in each segment.

The library's own code of these encoder-decoders counts positions along the whole sequence and takes no others, though
all else in them works on streams. Both stacks ask a module for the embeddings of their positions, so that is where the
positions of the stream go in.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor

WITH_POSITIONS = ("bart", "blenderbot", "blenderbot-small", "m2m_100", "marian", "mbart", "pegasus", "plbart")
"""Kinds of models, as their configurations say, whose stacks have such a module."""


def give_positions(model: Any) -> None:
    """Has encoder and decoder take `position_ids` and `decoder_position_ids`; other models stay as they are.

    Weights, their names and what is saved stay the same, and without positions the library's own are used. Sinusoids
    are no longer trained: they are not learned in these models, and some are not even saved.
    """
    if model.config.model_type not in WITH_POSITIONS:
        return
    for stack, name in ((model.get_encoder(), "position_ids"), (model.get_decoder(), "decoder_position_ids")):
        positions = stack.embed_positions
        positions.given = None
        positions.forward = types.MethodType(_embedded, positions)
        stack.register_forward_pre_hook(_taken(positions, name), with_kwargs=True)
        if "Sinusoidal" in type(positions).__name__:
            positions.requires_grad_(False)


def _taken(positions: Any, name: str) -> Any:
    def take(stack: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positions.given = kwargs.pop(name, None)
        return args, kwargs

    return take


def _embedded(positions: Any, *args: Any, **kwargs: Any) -> Tensor:
    """(B, T, D) embeddings of the positions (B, T) that were given, else what the library makes of its arguments."""
    if positions.given is None:
        return type(positions).forward(positions, *args, **kwargs)
    given, positions.given = positions.given, None
    if hasattr(positions, "weights"):  # M2M100: a buffer whose first rows, up to the padding's, are no positions
        return positions.weights[given + positions.padding_idx + 1].detach()
    return torch.nn.functional.embedding(given + getattr(positions, "offset", 0), positions.weight)
