"""Keyed hashes and permutations of row numbers: integers only, any element at random, nothing held in memory."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
ROUNDS = 6


def key_of(*parts: object) -> int:
    """64 bits from a tuple such as (seed, "row", task, epoch); never by adding seeds, which would collide."""
    text = json.dumps(parts, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al. 2014): each input bit flips about half of the output bits."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permuted(positions: Integers, size: int, key: int) -> Integers:
    """π(position) for a keyed permutation π of 0..size-1.

    A balanced Feistel network over the next even number of bits, walked along its cycle until the value lies
    below `size` (format-preserving encryption by cycle walking, Black & Rogaway 2002).

    Args:
        positions: Any shape, each in [0, size).
        size: Length of the permutation, at least 1.
        key: 64 bits.
    Returns:
        Same shape, each in [0, size); distinct for distinct positions.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    keys = _mixed(np.uint64(key) ^ np.arange(1, ROUNDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))

    def once(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> shift, values & mask
        for round_key in keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        return (left << shift) | right

    flat = np.asarray(positions).reshape(-1).astype(np.uint64)
    result = once(flat)
    outside = np.flatnonzero(result >= size)
    while outside.size:
        result[outside] = once(result[outside])
        outside = outside[result[outside] >= size]
    return result.astype(np.int64).reshape(np.shape(positions))
