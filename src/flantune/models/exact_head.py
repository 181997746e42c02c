"""Logits in float32 of a model whose layers compute in bfloat16.

In bfloat16 a logit of 20 is known to 1/8 only, so that the likeliest token, or the likeliest choice, is often a tie
decided by token number. Where only the likeliest token is wanted, the quick product in bfloat16 says which few tokens
it may be, and these are computed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

CANDIDATES = 16
# Two logits that are rounded to 8 bits come closer by 2**-8 of the higher one at most: twice that is allowed for.
MARGIN, LEAST_MARGIN = 2**-7, 2**-7


def exact_head(model: Any) -> None:
    """Has the model compute its logits in float32, whatever type its layers have."""
    head = model.get_output_embeddings()
    if type(head) is torch.nn.Linear and head.weight.dtype != torch.float32:  # an adapter on it is more than a matrix
        head.forward = _ExactHead(head.weight.detach(), None if head.bias is None else head.bias.detach())


@contextlib.contextmanager
def likeliest_tokens(model: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yields what takes the logits (B, ...) of the model's last call to the likeliest token of each row (B,).

    Within, these may be the logits of a few tokens only.
    """
    forward = getattr(model.get_output_embeddings(), "forward", None)
    if not isinstance(forward, _ExactHead) or not forward.narrow_is_quick:
        yield lambda logits: logits.argmax(-1)
        return
    forward.candidates_only = True
    try:
        yield lambda logits: forward.tokens.gather(-1, logits.argmax(-1, keepdim=True)).squeeze(-1)
    finally:
        forward.candidates_only = False


class _ExactHead:
    """The linear layer of a head, in float32; or, with `candidates_only`, its product for the few likeliest tokens.

    Args:
        weight: (vocabulary, D).
        bias: (vocabulary,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.narrow = (weight, bias)
        self.weight, self.bias = weight.float(), None if bias is None else bias.float()
        self.candidates_only = False
        self.tokens = torch.empty(0)

    @property
    def narrow_is_quick(self) -> bool:
        """Whether there are instructions for products in bfloat16, which are summed in float32."""
        on_cpu = self.weight.device.type == "cpu" and self.narrow[0].dtype == torch.bfloat16
        return on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def __call__(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., vocabulary), or (..., candidates) of the tokens in `tokens`."""
        states = input.flatten(0, -2)
        logits = self._of_candidates(states) if self.candidates_only else linear(input.float(), self.weight, self.bias)
        return logits.view(*input.shape[:-1], -1)

    def _of_candidates(self, states: Tensor) -> Tensor:
        """(B, D) -> (B, candidates), the likeliest token among them; `tokens` are in ascending order."""
        near, tokens = linear(states.to(self.narrow[0].dtype), *self.narrow).topk(min(CANDIDATES, len(self.weight)))
        least = near[:, 0].float() - (near[:, 0].float().abs() * MARGIN).clamp(min=LEAST_MARGIN)
        unsure = (near[:, -1] >= least).nonzero().squeeze(-1)  # others, beside the candidates, may be as likely
        if len(unsure):
            tokens[unsure] = linear(states[unsure].float(), self.weight, self.bias).topk(tokens.shape[1]).indices
        self.tokens = tokens.sort(-1).values
        logits = torch.matmul(self.weight[self.tokens], states.float()[..., None]).squeeze(-1)
        return logits if self.bias is None else logits + self.bias[self.tokens]
