"""Keyed hashes and permutations of row numbers: integers only, any element at random, nothing held in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Keys = NDArray[np.uint64]
ROUNDS = 6
AS_JSON = json.JSONEncoder(separators=(",", ":"))
AT_ONCE = 2**16  # positions; bounds the memory for their round keys


def key_of(*parts: object) -> int:
    """64 bits from a tuple such as (seed, "row", task, epoch); never by adding seeds, which would collide."""
    return int.from_bytes(hashlib.blake2b(AS_JSON.encode(parts).encode(), digest_size=8).digest(), "little")


def derived(keys: Keys, numbers: Integers) -> Keys:
    """64 bits from each key and number, where hashing a tuple for each would take long."""
    return _mixed(keys ^ _mixed(numbers.astype(np.uint64) + np.uint64(1)))


def _mixed(values: Keys) -> Keys:
    """The finalizer of SplitMix64 (Steele et al. 2014): each input bit flips about half of the output bits."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def permuted(positions: Integers, size: Integers | int, key: Keys | int) -> Integers:
    """π(position) for a keyed permutation π of 0..size-1.

    A balanced Feistel network over the next even number of bits, walked along its cycle until the value lies
    below `size` (format-preserving encryption by cycle walking, Black & Rogaway 2002).

    Args:
        positions: Any shape, each in [0, size).
        size: Length of the permutation, at least 1, at most 2**53; one for all or one for each position.
        key: 64 bits; one for all or one for each position.
    Returns:
        Same shape, each in [0, size); distinct for distinct positions of one permutation.
    """
    return _by_blocks(_walked, positions, size, key)


def unpermuted(values: Integers, size: Integers | int, key: Keys | int) -> Integers:
    """The positions that `permuted` maps to these values."""
    return _by_blocks(_walked_back, values, size, key)


def _by_blocks(walk: Callable[[Keys, Keys, Keys], Keys], values: Integers, size: Any, key: Any) -> Integers:
    result = np.array(values, dtype=np.uint64).reshape(-1)
    sizes, keys = (np.asarray(each, dtype=np.uint64).reshape(-1) for each in (size, key))
    for start in range(0, len(result), AT_ONCE):
        here = slice(start, start + AT_ONCE)
        result[here] = walk(result[here], _of(sizes, here), _of(keys, here))
    return result.astype(np.int64).reshape(np.shape(values))


def _walked(values: Keys, sizes: Keys, keys: Keys) -> Keys:
    return _until_inside(_feistel, values, sizes, _rounds(keys))


def _walked_back(values: Keys, sizes: Keys, keys: Keys) -> Keys:
    return _until_inside(_feistel_back, values, sizes, _rounds(keys)[::-1])


def _rounds(keys: Keys) -> Keys:
    return _mixed(keys ^ np.arange(1, ROUNDS + 1, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15))


def _until_inside(step: Callable[[Keys, Keys, Keys], Keys], values: Keys, sizes: Keys, rounds: Keys) -> Keys:
    """Each value stepped on until it lies below its size."""
    # frexp gives the number of bits, exactly up to 2**53.
    half = np.maximum((np.frexp((sizes - np.uint64(1)).astype(np.float64))[1] + 1) // 2, 1).astype(np.uint64)
    values = step(values, half, rounds)
    outside = np.flatnonzero(values >= sizes)
    while outside.size:
        values[outside] = again = step(values[outside], _of(half, outside), _of(rounds, outside))
        outside = outside[again >= _of(sizes, outside)]
    return values


def _of(each: Keys, chosen: Integers | slice) -> Keys:
    """The values of the chosen positions, where there is not one value for all."""
    return each if each.shape[-1] == 1 else each[..., chosen]


def _feistel(values: Keys, half: Keys, rounds: Keys) -> Keys:
    """Each value of 2 * half bits mapped to another one."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for round_key in rounds:
        left, right = right, left ^ (_mixed(right ^ round_key) & mask)
    return (left << half) | right


def _feistel_back(values: Keys, half: Keys, rounds: Keys) -> Keys:
    """The inverse of `_feistel`, with its rounds from the last to the first."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for round_key in rounds:
        left, right = right ^ (_mixed(left ^ round_key) & mask), left
    return (left << half) | right
