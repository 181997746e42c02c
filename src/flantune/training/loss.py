"""The loss: summed over the global batch, divided once by the global batch's weight."""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each target token in nats, in float32.

    Args:
        logits: (N, vocabulary), any floating type.
        targets: (N,), token ids.
    Returns:
        (N,).
    """
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def weighted_sum(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of w * loss over target tokens, and each token's loss for the log.

    Args:
        logits: (N, vocabulary).
        targets: (N,).
        weights: (N,) float32, factor of each target token.
    Returns:
        A scalar to differentiate, and (N,) detached losses. N = 0 gives 0 with a gradient of 0.
    """
    losses = token_losses(logits, targets)
    return (losses * weights).sum(), losses.detach()
