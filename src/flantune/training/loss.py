"""The loss: summed over the global batch, divided once by the global batch's weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

SummedLoss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


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


def regularized_sum(label_smoothing: float, z_loss: float, vocabulary: int) -> SummedLoss:
    """`weighted_sum` with label smoothing and a loss on the normalizer, which act on each token by itself.

    So they are the same however examples are packed and a step is cut. The losses for the log are without them.

    Args:
        label_smoothing: Share of the target that is spread evenly over all tokens (Szegedy et al. 2016,
            arXiv:1512.00567).
        z_loss: Factor on the square of the logarithm of the softmax's normalizer, which keeps logits from drifting
            (Chowdhery et al. 2022, arXiv:2204.02311).
        vocabulary: Number of tokens that exist; rows of the head beyond them are padding and get no share.
    """
    if not label_smoothing and not z_loss:
        return weighted_sum

    def summed(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        exact = logits.float()
        normalizer = exact.logsumexp(-1)
        losses = normalizer - exact.gather(-1, targets[:, None])[:, 0]
        spread = normalizer - exact[:, :vocabulary].mean(-1)
        total = torch.lerp(losses, spread, label_smoothing) + z_loss * normalizer.square()
        return (total * weights).sum(), losses.detach()

    return summed
