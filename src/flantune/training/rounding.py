"""Stochastic rounding: bfloat16 weights that are right on average, without a float32 copy."""

from __future__ import annotations

import torch
from torch import Tensor


def round_stochastically(values: Tensor, key: int) -> Tensor:
    """Rounds to one of the two nearest bfloat16 values, each the likelier the nearer it is, so the mean is kept.

    A bfloat16 is the upper half of a float32. A random number added to the lower half carries into the upper half
    with the probability that the lower half says.

    Args:
        values: float32, finite.
        key: Decides the random numbers; nothing else does, so that a resumed run rounds alike.
    Returns:
        bfloat16, same shape.
    """
    generator = torch.Generator(values.device).manual_seed(key)
    noise = torch.empty(values.shape, dtype=torch.int32, device=values.device)
    noise.random_(0, 1 << 16, generator=generator)
    return (noise.add_(values.view(torch.int32)) & -(1 << 16)).view(torch.float32).to(torch.bfloat16)
