"""Attention by segment: a flat stream of examples in which no example sees another.

Registered with transformers' attention interface under the name `flantune`. The lengths of the segments travel as a
keyword through `model(...)`, so the library's own models run on a stream without padding. On a CPU, batched matrix
products and a compiled softmax beat the flash kernel, whose backward pass is slow there.

A segment may go on from another one, which then stands before it as if it were its own beginning: so the prefix that
several prompts share is computed once. What such a segment sees is the chain of segments that lead to it.

Shapes: H query heads, K key heads (H a multiple of K), T tokens of the stream, M tokens of the stream that is attended
to (the same stream but in cross-attention), D head size, l tokens of a segment, m tokens that it sees, B reach of a
bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flantune.errors import FlantuneError

NAME = "flantune"
CHANGES_THE_RESULT = ("s_aux", "head_mask")


def _visible(queries: int, keys: int, window: int, causal: bool, device: torch.device) -> Tensor:
    """(l, m): which keys a query sees. A window holds `window` tokens backwards, itself included, or reaches so far.

    Where causal, the last query stands at the last key: the keys before the first query are of what it goes on from.
    """
    distance = torch.arange(queries, device=device)[:, None] - torch.arange(keys, device=device)[None, :]
    if causal:
        distance = distance + (keys - queries)
        return (distance >= 0) & (distance < window) if window else distance >= 0
    return distance.abs() <= window if window else torch.ones_like(distance, dtype=torch.bool)


def _capped(scores: Tensor, scale: float, softcap: float) -> Tensor:
    """Scaled scores in float32, bent so that none exceeds the cap; 0 for no cap (Gemma 2, arXiv:2408.00118)."""
    scaled = scores.float() * scale
    return torch.tanh(scaled / softcap) * softcap if softcap else scaled


def _probabilities(
    scores: Tensor, bias: Tensor | None, scale: float, window: int, softcap: float, causal: bool
) -> Tensor:
    """Softmax over what is visible. scores: (K, H/K, l, m), bias the same -> same shape, dtype of the scores."""
    logits = _capped(scores, scale, softcap)
    if bias is not None:
        logits = logits + bias
    if causal or window:
        visible = _visible(scores.shape[-2], scores.shape[-1], window, causal, scores.device)
        logits = logits.masked_fill(~visible, float("-inf"))
    return logits.softmax(-1).to(scores.dtype)


def _scores_gradient(grad: Tensor, probabilities: Tensor, scores: Tensor, scale: float, softcap: float) -> Tensor:
    """Gradient through softmax, cap and scale, computed in float32."""
    g, p = grad.float(), probabilities.float()
    inner = (g - (g * p).sum(-1, keepdim=True)) * p
    if softcap:
        inner = inner * (1 - (_capped(scores, scale, softcap) / softcap).square())
    return (inner * scale).to(probabilities.dtype)


_fused: dict[str, Callable[..., Tensor]] = {"probabilities": _probabilities, "gradient": _scores_gradient}


def _elementwise(name: str, shape: tuple[int, ...]) -> Callable[..., Tensor]:
    """The compiled function if there is one; a compiler takes lengths of 1 for constants, and would begin anew."""
    plain = _probabilities if name == "probabilities" else _scores_gradient
    return plain if 1 in shape[2:] else _fused[name]


def compile_softmax(enabled: bool) -> None:
    """Whether the element-wise parts are compiled: faster after the first steps, half a minute slower to start."""
    if enabled:
        _fused["probabilities"] = torch.compile(_probabilities, dynamic=True)
        _fused["gradient"] = torch.compile(_scores_gradient, dynamic=True)
    else:
        _fused["probabilities"], _fused["gradient"] = _probabilities, _scores_gradient


@dataclass(frozen=True)
class _Segment:
    """Where a segment lies among the queries, and what it sees among the keys."""

    queries: slice
    keys: tuple[slice, ...]  # in order of place; more than one where it goes on from a segment that lies elsewhere
    shape: tuple[int, int, int, int]  # of its scores: (K, H/K, l, m)


def _segments(
    query: Tensor, key: Tensor, lengths: Tensor, key_lengths: Tensor, parents: Tensor | None
) -> Iterator[_Segment]:
    heads, first, first_key = key.shape[0], 0, 0
    before = [-1] * len(lengths) if parents is None else parents.tolist()
    chains: list[tuple[slice, ...]] = []
    for length, keys, parent in zip(lengths.tolist(), key_lengths.tolist(), before, strict=True):
        own = slice(first_key, first_key + keys)
        chain = () if parent < 0 else chains[parent]
        if chain and chain[-1].stop == own.start:
            chain, own = chain[:-1], slice(chain[-1].start, own.stop)
        chains.append((*chain, own))
        seen = sum(part.stop - part.start for part in chains[-1])
        shape = (heads, query.shape[0] // heads, length, seen)
        if length:
            yield _Segment(slice(first, first + length), chains[-1], shape)
        first, first_key = first + length, first_key + keys


def _seen(states: Tensor, segment: _Segment) -> Tensor:
    """(K, M, D) -> (K, m, D): the keys or values that a segment sees."""
    parts = [states[:, part] for part in segment.keys]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _add_seen(gradient: Tensor, segment: _Segment, part: Tensor) -> None:
    """Adds a segment's gradient (K, m, D) by what it saw to that of the whole stream (K, M, D)."""
    first = 0
    for keys in segment.keys:
        after = first + keys.stop - keys.start
        gradient[:, keys] += part[:, first:after]
        first = after


def _grouped(states: Tensor, segment: _Segment) -> Tensor:
    """(H, T, D) -> (K, H/K * l, D) of one segment: all query heads of a key head in one matrix product."""
    heads, groups, length, _ = segment.shape
    return states[:, segment.queries].reshape(heads, groups * length, states.shape[-1])


def _bias_by_place(table: Tensor, longest: int) -> Tensor:
    """(H, 2B - 1) by distance -> (H, l, l) by query and key, in float32. Any shorter segment's is its upper left."""
    at = torch.arange(longest, device=table.device)
    return table.float()[:, at[None, :] - at[:, None] + table.shape[1] // 2]


def _bias_by_distance(by_place: Tensor, reach: int) -> Tensor:
    """(H, l, l) by query and key -> (H, 2B - 1): the sums along the diagonals."""
    heads, longest, _ = by_place.shape
    # Rows of 2l read as rows of 2l - 1 move one place further each, so that a diagonal comes to stand in a column.
    rows = torch.nn.functional.pad(by_place.flip(-1), (0, longest)).reshape(heads, -1)[:, :-longest]
    sums = rows.reshape(heads, longest, 2 * longest - 1).sum(1).flip(-1)
    return torch.nn.functional.pad(sums, (reach - longest, reach - longest))


@torch.library.custom_op("flantune::segment_attention", mutates_args=())
def segment_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Tensor,
    key_lengths: Tensor,
    bias: Tensor | None,
    scale: float,
    window: int,
    softcap: float,
    causal: bool,
    parents: Tensor | None = None,
) -> Tensor:
    """Attention of each segment of a stream to the segment with the same number in a stream of keys.

    Args:
        query: (H, T, D).
        key: (K, M, D).
        value: (K, M, D).
        lengths: (segments,), integers that sum to T.
        key_lengths: (segments,), integers that sum to M; the lengths where a segment attends to itself.
        bias: (H, 2B - 1), added to the scores by distance key - query, -(B - 1) first; None for none. B is at least
            the longest segment, which attends to itself.
        scale: Factor on the scores.
        window: Tokens that a token sees at most: backwards, itself included, where causal; else in each direction.
            0 for all.
        softcap: Bound of the scores; 0 for none. Not together with a bias.
        causal: A token sees none after it.
        parents: (segments,), the earlier segment that each goes on from, -1 for none; only where it is causal, in the
            stream itself, without a bias. None for none at all.
    Returns:
        (H, T, D).
    """
    out = torch.empty_like(query)
    by_place = None if bias is None else _bias_by_place(bias, int(lengths.max()))
    for segment in _segments(query, key, lengths, key_lengths, parents):
        q, k, v = _grouped(query, segment), _seen(key, segment), _seen(value, segment)
        scores = torch.bmm(q, k.transpose(1, 2)).view(segment.shape)
        p = _elementwise("probabilities", segment.shape)(
            scores, _bias_of(by_place, segment), scale, window, softcap, causal
        )
        out[:, segment.queries] = torch.bmm(p.view(*q.shape[:2], -1), v).view(query.shape[0], -1, query.shape[-1])
    return out


def _bias_of(by_place: Tensor | None, segment: _Segment) -> Tensor | None:
    """(K, H/K, l, l) of a segment from (H, L, L) of the longest; copied, since kernels are compiled for strides."""
    if by_place is None:
        return None
    length = segment.shape[2]
    return by_place[:, :length, :length].clone(memory_format=torch.contiguous_format).view(segment.shape)


def _reading(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, parents: Tensor | None, scale: float
) -> Tensor:
    """`segment_attention` of prompts that are only read: PyTorch's own kernel keeps no scores for a backward pass."""
    out = torch.empty_like(query)
    for segment in _segments(query, key, lengths, lengths, parents):
        q, k, v = query[:, segment.queries], _seen(key, segment), _seen(value, segment)
        new, seen = segment.shape[2:]
        visible = None if new == seen else _visible(new, seen, 0, True, query.device)
        out[:, segment.queries] = torch.nn.functional.scaled_dot_product_attention(
            q[None], k[None], v[None], visible, is_causal=visible is None, scale=scale, enable_gqa=len(q) != len(k)
        )[0]
    return out


@segment_attention.register_fake
def _(query: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(query)


@torch.library.custom_op("flantune::segment_attention_backward", mutates_args=())
def segment_attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Tensor,
    key_lengths: Tensor,
    bias: Tensor | None,
    scale: float,
    window: int,
    softcap: float,
    causal: bool,
    parents: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `segment_attention` by query, key, value and bias; the probabilities are computed again.

    The last is empty where there is no bias. What a segment contributes to those it goes on from is summed in float32.
    """
    d_query = torch.empty_like(query)
    summed = key.dtype if parents is None else torch.float32
    d_key, d_value = torch.zeros_like(key, dtype=summed), torch.zeros_like(value, dtype=summed)
    by_place = None if bias is None else _bias_by_place(bias, int(lengths.max()))
    d_by_place = None if by_place is None else torch.zeros_like(by_place)
    for segment in _segments(query, key, lengths, key_lengths, parents):
        q, k, v = _grouped(query, segment), _seen(key, segment), _seen(value, segment)
        g = _grouped(grad, segment)
        scores = torch.bmm(q, k.transpose(1, 2)).view(segment.shape)
        p = _elementwise("probabilities", segment.shape)(
            scores, _bias_of(by_place, segment), scale, window, softcap, causal
        )
        _add_seen(d_value, segment, torch.bmm(p.view(*q.shape[:2], -1).transpose(1, 2), g))
        d_p = torch.bmm(g, v.transpose(1, 2)).view(segment.shape)
        d_scores = _elementwise("gradient", segment.shape)(d_p, p, scores, scale, softcap)
        if d_by_place is not None:
            length = segment.shape[2]
            d_by_place[:, :length, :length] += d_scores.flatten(0, 1) / scale
        d_scores = d_scores.view(*q.shape[:2], -1)
        d_query[:, segment.queries] = torch.bmm(d_scores, k).view(query.shape[0], -1, query.shape[-1])
        _add_seen(d_key, segment, torch.bmm(d_scores.transpose(1, 2), q))
    d_key, d_value = d_key.to(key.dtype), d_value.to(value.dtype)
    if bias is None or d_by_place is None:
        return d_query, d_key, d_value, query.new_empty(0)
    return d_query, d_key, d_value, _bias_by_distance(d_by_place, bias.shape[1] // 2 + 1).to(bias.dtype)


@segment_attention_backward.register_fake
def _(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Tensor,
    key_lengths: Tensor,
    bias: Tensor | None,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_bias = query.new_empty(0) if bias is None else torch.empty_like(bias, memory_format=torch.contiguous_format)
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), d_bias


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale, ctx.window, ctx.softcap, ctx.causal, parents = inputs
    ctx.save_for_backward(*tensors, parents)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, parents = ctx.saved_tensors
    *gradients, d_bias = segment_attention_backward(
        grad.contiguous(), *tensors, ctx.scale, ctx.window, ctx.softcap, ctx.causal, parents
    )
    return (*gradients, None, None, d_bias if d_bias.numel() else None, *[None] * 5)


segment_attention.register_autograd(_backward, setup_context=_save)


def _answering(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    hidden: Tensor | None,
    scale: float,
    window: int,
    softcap: float,
) -> Tensor:
    """Attention of the newest token of each of B answers. query: (B, H, 1, D), key: (B, K, m, D) -> (B, 1, H, D)."""
    batch, heads, _, size = query.shape
    keys = key.shape[2]
    q = query.reshape(batch, key.shape[1], -1, size)
    scores = _capped(torch.matmul(q, key.transpose(2, 3)), scale, softcap)
    if bias is not None:  # by distance, all of it backwards from the newest
        scores = scores + bias[:, :keys].reshape(1, key.shape[1], -1, keys)
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None], float("-inf"))
    if window:
        scores[..., : max(0, keys - window)] = float("-inf")
    return torch.matmul(scores.softmax(-1).to(value.dtype), value).reshape(batch, 1, heads, size)


def _interface(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    segment_lengths: Tensor | None = None,
    segment_parents: Tensor | None = None,
    memory_lengths: Tensor | None = None,
    memory_padding: Tensor | None = None,
    kv_store: Any = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer. query: (1, H, T, D) -> (1, T, H, D).

    `memory_lengths` come with a decoder's stream: of the segments that its cross-attention sees. `segment_parents` are
    the `parents` of `segment_attention`. `position_bias` is the table that `flantune.models.relative_bias` gives. With
    `kv_store` (generation) keys and values are kept, or attended to from there; without it the stream is one training
    micro-batch. `memory_padding` (B, m) comes with one new token of each answer of an encoder-decoder. Dropout on
    attention weights is not applied.

    Raises:
        FlantuneError: The model asks for something that changes the result and is not computed here.
    """
    for name in CHANGES_THE_RESULT:
        if unused.get(name) is not None:
            raise FlantuneError(
                f"the model's attention uses {name}, which is not supported packed; choose another model"
            )
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    window, cap = int(sliding_window or 0), float(softcap or 0)
    causal = getattr(module, "is_causal", True)
    bias = position_bias if position_bias is not None and position_bias.numel() else None
    if memory_padding is not None:
        hidden = None if causal else memory_padding
        return _answering(query, key, value, bias, hidden, scale, window, cap), None
    if kv_store is not None and kv_store.decoding:
        return kv_store.attend(module.layer_idx, query[0], key[0], value[0], scale, window, cap)[None], None
    if segment_lengths is None:
        raise RuntimeError("attention by segment needs segment_lengths; call the model through flantune.models.stream")
    if kv_store is not None:
        kv_store.fill(module.layer_idx, key[0], value[0])
        if causal and bias is None and not (window or cap) and not torch.is_grad_enabled():
            out = _reading(query[0], key[0], value[0], segment_lengths, segment_parents, scale)
            return out.transpose(0, 1)[None], None
    out = segment_attention(
        query[0].contiguous(),
        key[0].contiguous(),
        value[0].contiguous(),
        segment_lengths,
        segment_lengths if memory_lengths is None or causal else memory_lengths,
        bias,
        scale,
        window,
        cap,
        causal,
        segment_parents,
    )
    return out.transpose(0, 1)[None], None


def register() -> str:
    """Makes the attention known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _interface)
    return NAME
