"""Rounding to bfloat16 that is right on average: weights without a float32 copy, and where such a copy begins.

A bfloat16 is the upper half of a float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flantune.mixture.permutation import key_of


def round_stochastically(values: Tensor, key: int) -> Tensor:
    """Rounds to one of the two nearest bfloat16 values, each the likelier the nearer it is, so the mean is kept.

    A random number added to the lower half of a float32 carries into the upper half with the probability that the
    lower half says.

    Args:
        values: float32, finite.
        key: Decides the random numbers; nothing else does, so that a resumed run rounds alike.
    Returns:
        bfloat16, same shape.
    """
    noise = _noise(values, 0, 1 << 16, key)
    return (noise.add_(values.view(torch.int32)) & -(1 << 16)).view(torch.float32).to(torch.bfloat16)


def spread_masters(values: Tensor, key: int) -> Tensor:
    """Float32 masters of bfloat16 weights, each at a random place among the numbers that round to its weight.

    Were a master the weight itself, no update of less than half the distance between two bfloat16 would reach the
    model, and all of a few small ones would be lost. From places all over the range, some cross a border at any
    update, so that the weights move on average as their masters do: dither (Schuchman 1964, "Dither signals and their
    effect on quantization noise").

    Args:
        values: bfloat16, finite.
        key: Decides the places; nothing else does.
    Returns:
        float32, same shape; rounded to the nearest bfloat16 they are the values, and what is 0 stays 0.
    """
    exact = values.float()
    noise = _noise(values, 1 - (1 << 15), 1 << 15, key)
    return torch.where(values == 0, exact, noise.add_(exact.view(torch.int32)).view(torch.float32))


def master_of(weight: Tensor, name: str, seed: int) -> Tensor:
    """The float32 tensor that a run with this seed trains in place of a weight; of a float32 weight, itself."""
    if weight.dtype == torch.bfloat16:
        return spread_masters(weight.detach(), key_of(seed, "master", name))
    return weight if weight.dtype == torch.float32 else weight.detach().float()


def _noise(values: Tensor, low: int, high: int, key: int) -> Tensor:
    generator = torch.Generator(values.device).manual_seed(key)
    noise = torch.empty(values.shape, dtype=torch.int32, device=values.device)
    return noise.random_(low, high, generator=generator)
