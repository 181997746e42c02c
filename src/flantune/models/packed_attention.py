"""Attention by segment: a flat stream of examples in which no example sees another.

Registered with transformers' attention interface under the name `flantune`. The lengths of the segments travel as a
keyword through `model(...)`, so the library's own models run on a stream without padding. On a CPU, batched matrix
products and a compiled softmax beat the flash kernel, whose backward pass is slow there.

Shapes: H query heads, K key heads (H a multiple of K), T tokens of the stream, D head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flantune.errors import FlantuneError

NAME = "flantune"
CHANGES_THE_RESULT = ("softcap", "s_aux", "head_mask", "position_bias")


def _probabilities(scores: Tensor, scale: float, window: int) -> Tensor:
    """Causal softmax. scores: (K, H/K, l, l) -> same shape and dtype; window 0: no sliding window."""
    length = scores.shape[-1]
    at = torch.arange(length, device=scores.device)
    distance = at[:, None] - at[None, :]
    visible = distance >= 0
    if window:
        visible = visible & (distance < window)
    return (scores.float() * scale).masked_fill(~visible, float("-inf")).softmax(-1).to(scores.dtype)


def _scores_gradient(grad: Tensor, probabilities: Tensor, scale: float) -> Tensor:
    """Gradient through softmax and scale, computed in float32."""
    g, p = grad.float(), probabilities.float()
    return ((g - (g * p).sum(-1, keepdim=True)) * p * scale).to(probabilities.dtype)


_fused: dict[str, Callable[..., Tensor]] = {"probabilities": _probabilities, "gradient": _scores_gradient}


def compile_softmax(enabled: bool) -> None:
    """Whether the element-wise parts are compiled: faster after the first steps, half a minute slower to start."""
    if enabled:
        _fused["probabilities"] = torch.compile(_probabilities, dynamic=True)
        _fused["gradient"] = torch.compile(_scores_gradient, dynamic=True)
    else:
        _fused["probabilities"], _fused["gradient"] = _probabilities, _scores_gradient


@torch.library.custom_op("flantune::segment_attention", mutates_args=())
def segment_attention(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float, window: int) -> Tensor:
    """Causal attention inside each segment of a stream.

    Args:
        query: (H, T, D).
        key: (K, T, D).
        value: (K, T, D).
        lengths: (segments,), integers that sum to T.
        scale: Factor on the scores.
        window: Tokens that a token sees at most, itself included; 0 for all before it.
    Returns:
        (H, T, D).
    """
    heads, _, size = query.shape
    groups = heads // key.shape[0]
    out = torch.empty_like(query)
    start = 0
    for length in lengths.tolist():
        end = start + length
        q = query[:, start:end].reshape(-1, groups * length, size)
        k, v = key[:, start:end], value[:, start:end]
        scores = torch.bmm(q, k.transpose(1, 2)).view(-1, groups, length, length)
        p = _fused["probabilities"](scores, scale, window).view(-1, groups * length, length)
        out[:, start:end] = torch.bmm(p, v).view(heads, length, size)
        start = end
    return out


@segment_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float, window: int) -> Tensor:
    return torch.empty_like(query)


@torch.library.custom_op("flantune::segment_attention_backward", mutates_args=())
def segment_attention_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `segment_attention` by query, key and value; the probabilities are computed again."""
    heads, _, size = query.shape
    groups = heads // key.shape[0]
    d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    start = 0
    for length in lengths.tolist():
        end = start + length
        q = query[:, start:end].reshape(-1, groups * length, size)
        k, v = key[:, start:end], value[:, start:end]
        g = grad[:, start:end].reshape(-1, groups * length, size)
        scores = torch.bmm(q, k.transpose(1, 2)).view(-1, groups, length, length)
        p = _fused["probabilities"](scores, scale, window).view(-1, groups * length, length)
        d_value[:, start:end] = torch.bmm(p.transpose(1, 2), g)
        d_scores = _fused["gradient"](torch.bmm(g, v.transpose(1, 2)), p, scale)
        d_query[:, start:end] = torch.bmm(d_scores, k).view(heads, length, size)
        d_key[:, start:end] = torch.bmm(d_scores.transpose(1, 2), q)
        start = end
    return d_query, d_key, d_value


@segment_attention_backward.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, key, value, lengths, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(query, key, value, lengths)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = segment_attention_backward(grad.contiguous(), *ctx.saved_tensors, ctx.scale, ctx.window)
    return (*gradients, None, None, None)


segment_attention.register_autograd(_backward, setup_context=_save)


def _interface(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segment_lengths: Tensor | None = None,
    kv_store: Any = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer. query: (1, H, T, D) -> (1, T, H, D).

    With `kv_store` (generation) keys and values are kept, or attended to from there; without it the stream is
    one training micro-batch. Dropout on attention weights is not applied.

    Raises:
        FlantuneError: The model asks for something that changes the result and is not computed here.
    """
    for name in CHANGES_THE_RESULT:
        if unused.get(name) is not None:
            raise FlantuneError(
                f"the model's attention uses {name}, which is not supported packed; choose another model"
            )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    window = int(sliding_window or 0)
    if kv_store is not None and kv_store.decoding:
        return kv_store.attend(module.layer_idx, query[0], key[0], value[0], scale, window)[None], None
    if segment_lengths is None:
        raise RuntimeError("attention by segment needs segment_lengths; call the model through flantune.models.stream")
    if kv_store is not None:
        kv_store.fill(module.layer_idx, key[0], value[0])
    out = segment_attention(
        query[0].contiguous(), key[0].contiguous(), value[0].contiguous(), segment_lengths, scale, window
    )
    return out.transpose(0, 1)[None], None


def register() -> str:
    """Makes the attention known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _interface)
    return NAME
