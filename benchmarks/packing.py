"""How full packed rows are, and what packing costs, for decoder rows and for rows of an encoder-decoder.

    python benchmarks/packing.py RECIPE [--capacity N] [--window N] [--draws N] [KEY=VALUE ...]

Takes the recipe's examples as they are drawn, packs them in windows, and prints the share of positions that hold a
token. Rows of two capacities stand beside a plain best-fit decreasing over both, whose target capacity is 1.1 times the
targets' share. Tokens are those of the recipe's model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from flantune.mixture.lengths import SAMPLE, WINDOWS, evenly
from flantune.mixture.packing import fitting_target_capacity, pack, pack_pairs
from flantune.mixture.window import WindowBuilder
from flantune.preparation import mix
from flantune.recipe import load_recipe

Pairs = list[tuple[int, int]]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--capacity", type=int, default=2048)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--draws", type=int, default=16384)
    given = parser.parse_intermixed_args()
    pairs = drawn(given)
    inputs, targets = np.array(pairs).T
    print(f"{len(pairs):,} examples of {inputs.mean():.0f} input and {targets.mean():.0f} target tokens")

    def one(some: Pairs) -> int:
        return len(pack([i + t for i, t in some], given.capacity))

    fills("one sequence", pairs, given, one, given.capacity)
    sample = [pair for w in evenly(len(pairs) // SAMPLE, WINDOWS) for pair in pairs[w * SAMPLE : (w + 1) * SAMPLE]]
    chosen = fitting_target_capacity(*zip(*sample, strict=True), given.capacity)
    pairs = [(i, t) for i, t in pairs if t <= chosen]
    print(f"{len(targets) - len(pairs):,} left out: their targets are longer than all in the sample and its share")
    fills("two", pairs, given, lambda some: len(pack_pairs(*zip(*some, strict=True), given.capacity, chosen)), chosen)
    usual = max(int(targets.max()), round(1.1 * targets.sum() / inputs.sum() * given.capacity))
    fills("two, plain", pairs, given, lambda some: best_fit(some, given.capacity, usual), usual)


def drawn(given: argparse.Namespace) -> Pairs:
    """Input and target tokens of the recipe's draws, those that fit a row."""
    mixed = mix(load_recipe(given.recipe, [f"training.draws={given.draws}", *given.overrides]))
    rule = replace(mixed.rule, window=given.window, capacity=given.capacity)
    builder = WindowBuilder(mixed.members, rule, mixed.encoder)
    made = (builder.window(number, given.draws)[0] for number in range(given.draws // given.window))
    segments = sorted((s for rows in made for row in rows for s in row), key=lambda s: s.draw)
    return [(len(s.input_ids), len(s.target_ids)) for s in segments]


def fills(name: str, pairs: Pairs, given: argparse.Namespace, packed: Callable[[Pairs], int], second: int) -> None:
    """Packs window by window and prints how full the rows are."""
    windows = [pairs[at : at + given.window] for at in range(0, len(pairs) - given.window + 1, given.window)]
    began = time.process_time()
    rows = sum(packed(window) for window in windows)
    seconds = time.process_time() - began
    inputs, targets = np.array([pair for window in windows for pair in window]).sum(axis=0)
    each = f"{1e6 * seconds / sum(map(len, windows)):.1f} µs an example"
    if name == "one sequence":
        print(f"{name} of {given.capacity}: {100 * (inputs + targets) / rows / given.capacity:.1f} %, {each}")
    else:
        filled = f"{100 * inputs / rows / given.capacity:.1f} % and {100 * targets / rows / second:.1f} %"
        print(f"{name} of {given.capacity} and {second}: {filled}, {each}")


def best_fit(pairs: Pairs, input_capacity: int, target_capacity: int) -> int:
    """Rows of a plain best-fit decreasing: the longest side first, each into the row that it fills best in all."""
    room: list[tuple[int, int]] = []
    for i, t in sorted(pairs, key=lambda pair: -max(pair[0] / input_capacity, pair[1] / target_capacity)):
        fitting = [r for r, (left, other) in enumerate(room) if left >= i and other >= t]
        if not fitting:
            fitting = [len(room)]
            room.append((input_capacity, target_capacity))
        best = min(fitting, key=lambda r: room[r][0] / input_capacity + room[r][1] / target_capacity)
        room[best] = (room[best][0] - i, room[best][1] - t)
    return len(room)


if __name__ == "__main__":
    main()
