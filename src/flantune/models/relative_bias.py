"""Relative position bias of the T5 family on streams: by distance, so that positions restart in each segment.

The library's T5 adds to each score a learned number that depends on the distance of key and query. It makes a matrix of
them over the whole sequence, which for a stream would be mostly of pairs that never meet. A layer asks its
`compute_bias` for it and hands the result to the attention interface, so that is where a table by distance goes in.
"""

from __future__ import annotations

import types
from typing import Any

from torch import Tensor


def give_bias_by_distance(model: Any) -> None:
    """Replaces the bias matrices of a model's attention layers with tables by distance; other models stay as they are.

    Weights, their names and what is saved stay the same. The layers then work with attention by segment alone.

    Relative position bias: Raffel et al. 2020, arXiv:1910.10683.
    """
    for layer in model.modules():
        if not hasattr(layer, "compute_bias"):
            continue
        if layer.has_relative_attention_bias:
            layer.compute_bias = types.MethodType(_table, layer)
        else:
            # Where a layer has no bias of its own, the library makes a matrix of zeros unless it believes otherwise.
            layer.has_relative_attention_bias = True
            layer.compute_bias = types.MethodType(_nothing, layer)


def _table(layer: Any, query_length: int, key_length: int, device: Any = None, past_seen_tokens: int = 0) -> Tensor:
    """(H, 2B - 1) by distance key - query, for streams of B tokens: what token B of 2B - 1 would add to all of them."""
    reach = query_length + past_seen_tokens
    bias = type(layer).compute_bias(layer, 1, 2 * reach - 1, device=device, past_seen_tokens=reach - 1)
    return bias[0, :, 0].contiguous()


def _nothing(layer: Any, query_length: int, key_length: int, device: Any = None, past_seen_tokens: int = 0) -> Tensor:
    return layer.q.weight.new_empty(0)
