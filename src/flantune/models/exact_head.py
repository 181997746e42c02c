"""Logits in float32 of a model whose layers compute in bfloat16.

In bfloat16 a logit of 20 is known to 1/8 only, so that the likeliest token, or the likeliest choice, is often a tie
decided by token number. Where only the likeliest token is wanted, the quick product in bfloat16 says which few tokens
it may be, and these are computed again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

CANDIDATES = 16
# Rounding to 8 bits moves a logit by 2**-9 of itself at most, and two by twice that; this allows for twice as much.
MARGIN, LEAST_MARGIN = 2**-7, 2**-7


def exact_head(model: Any) -> None:
    """Has the model compute its logits in float32, whatever type its layers have."""
    head = model.get_output_embeddings()
    if type(head) is torch.nn.Linear and head.weight.dtype != torch.float32:  # an adapter on it is more than a matrix
        head.forward = _ExactHead(head.weight.detach(), None if head.bias is None else head.bias.detach())


def has_narrow_products() -> bool:
    """Whether oneDNN computes products in bfloat16 here; it sums them in float32."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def few_suffice(model: Any, logits: Callable[[], Tensor]) -> bool:
    """Whether logits of a few tokens come out of the model as they came from its head: no bias by token, none cut off.

    Args:
        model: Whose head may be exact.
        logits: Calls the model on some row; (1, vocabulary).
    """
    forward = _quick_head(model)
    if forward is None:
        return False
    every = logits()
    try:
        with _candidates_only(forward):
            few = logits()
    except (IndexError, RuntimeError):
        return False
    if every.shape[-1] != len(forward.weight) or few.shape != forward.own.tokens.shape:
        return False
    return torch.allclose(few, every.gather(-1, forward.own.tokens), rtol=1e-3, atol=1e-3)


@contextlib.contextmanager
def likeliest_tokens(model: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yields what takes the logits (B, ...) of the model's last call to the likeliest token of each row (B,).

    Within, these are the logits of a few tokens where the head has such. Only where `few_suffice`.
    """
    forward = _quick_head(model)
    if forward is None:
        yield lambda logits: logits.argmax(-1)
        return
    with _candidates_only(forward):
        yield lambda logits: forward.own.tokens.gather(-1, logits.argmax(-1, keepdim=True)).squeeze(-1)


def _quick_head(model: Any) -> _ExactHead | None:
    forward = getattr(model.get_output_embeddings(), "forward", None)
    return forward if isinstance(forward, _ExactHead) and forward.narrow_is_quick else None


@contextlib.contextmanager
def _candidates_only(forward: _ExactHead) -> Iterator[None]:
    before = forward.own.candidates_only
    forward.own.candidates_only = True
    try:
        yield
    finally:
        forward.own.candidates_only = before


class _OfThread(threading.local):
    """What a head knows of the thread that uses it: several may ask one model."""

    candidates_only = False
    tokens = torch.empty(0)


class _ExactHead:
    """The linear layer of a head, in float32; or, with `candidates_only`, its product for the few likeliest tokens.

    Args:
        weight: (vocabulary, D).
        bias: (vocabulary,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.narrow = (weight, bias)
        self.weight, self.bias = weight.float(), None if bias is None else bias.float()
        self.own = _OfThread()

    @property
    def narrow_is_quick(self) -> bool:
        """Whether the product in bfloat16 is worth it."""
        return self.weight.device.type == "cpu" and self.narrow[0].dtype == torch.bfloat16 and has_narrow_products()

    def __call__(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., vocabulary), or (..., candidates) of the tokens in `own.tokens`."""
        states = input.flatten(0, -2)
        few = self.own.candidates_only and states.dtype == torch.bfloat16
        logits = self._of_candidates(states) if few else linear(states.float(), self.weight, self.bias)
        return logits.view(*input.shape[:-1], -1)

    def _of_candidates(self, states: Tensor) -> Tensor:
        """(B, D) -> (B, candidates), the likeliest token among them; `own.tokens` are in ascending order."""
        near, tokens = linear(states, *self.narrow).topk(min(CANDIDATES, len(self.weight)))
        least = near[:, 0].float() - (near[:, 0].float().abs() * MARGIN).clamp(min=LEAST_MARGIN)
        unsure = (near[:, -1] >= least).nonzero().squeeze(-1)  # others, beside the candidates, may be as likely
        if len(unsure):
            tokens[unsure] = linear(states[unsure].float(), self.weight, self.bias).topk(tokens.shape[1]).indices
        self.own.tokens = tokens = tokens.sort(-1).values
        logits = torch.matmul(self.weight[tokens], states.float()[..., None]).squeeze(-1)
        return logits if self.bias is None else logits + self.bias[tokens]
