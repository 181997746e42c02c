"""Simulates many draws of a mixture as large as FLAN's, and prints how well shares are kept and rows balanced.

python scripts/simulate_draws.py                    10^9 draws, counted anywhere and sampled: half a minute
python scripts/simulate_draws.py --walk             and walks all of as many draws of one mixture: seven minutes
python scripts/simulate_draws.py --draws 10000000

1,836 tasks in five submixtures, two of which have submixtures of their own; of 20 to 440,000 rows, capped; ten
templates of which three are inverted, at 0.3:1; options in half of the draws, in three styles; half of them few-shot.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flantune.mixture.draw import DrawFunction, MixedTask
from flantune.mixture.shape import MixturePart, TaskPart, rated
from flantune.mixture.tree import Climb, Rated

Random = np.random.Generator
Shares = NDArray[np.float64]
SUBMIXTURES = {  # tasks, weight, cap
    "a": (69, 0.40, 30_000),
    "b": (193, 0.32, 20_000),
    "c": (1_554, 0.20, 5_000),
    "d": (16, 0.05, 100_000),
    "e": (4, 0.03, 200_000),
}
DIVIDED = ("d", "e")  # into a plain and an inverted submixture
INVERTED = Fraction(3, 13)
TEMPLATES = (*[(1 - INVERTED) / 7] * 7, *[INVERTED / 3] * 3)
HALF = (Fraction(1, 2), *[Fraction(1, 6)] * 3)  # none, or one of three
WAYS = {"templates": np.array(TEMPLATES, float), "options": np.array(HALF, float), "shots": np.array(HALF, float)}
WINDOW = 512
FOLLOWED = 200  # tasks


def main() -> None:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10**9)
    parser.add_argument("--places", type=int, default=4_000, help="prefixes, blocks and windows looked at, of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--walk", action="store_true")
    chosen = parser.parse_args()
    random, started = np.random.default_rng(chosen.seed), time.perf_counter()
    sizes, mixture = made_up(random)
    function = DrawFunction([MixedTask(*each, TEMPLATES, HALF, HALF) for each in sizes.items()], mixture, chosen.seed)
    exact = np.array(list(mixture.tasks().values()), float)
    print(f"{chosen.draws:,} draws of {len(sizes):,} tasks with {sum(sizes.values()):,} rows")
    count_anywhere(function, exact, chosen.draws, chosen.places, random)
    sample_windows(function, exact, chosen.draws, chosen.places, random)
    follow_epochs(function, chosen.draws, random)
    print(f"{time.perf_counter() - started:.0f} s")
    if chosen.walk:
        walk(chosen.draws, chosen.seed)


def made_up(random: Random) -> tuple[dict[str, int], Rated]:
    """Rows of each task, and their exact rates."""
    sizes, parts = {}, []
    for name, (tasks, weight, cap) in SUBMIXTURES.items():
        rows = np.exp(random.uniform(3, 13 if cap > 5_000 else 8.8, tasks)).astype(int).tolist()
        inside = [TaskPart(f"{name}{i}", size) for i, size in enumerate(rows)]
        sizes |= {part.name: part.rows for part in inside}
        parts.append(submixture(name, inside, weight, cap))
    return sizes, rated(MixturePart("", tuple(parts), rates="explicit"))


def submixture(name: str, tasks: list[TaskPart], weight: float, cap: int) -> MixturePart:
    """One of the five."""
    if name not in DIVIDED:
        return MixturePart(name, tuple(tasks), weight=weight, cap=cap)
    half = len(tasks) // 2
    plain = MixturePart(f"{name} plain", tuple(tasks[:half]), cap=cap)
    inverted = MixturePart(f"{name} inverted", tuple(tasks[half:]), cap=cap, weight=0.3)
    return MixturePart(name, (plain, inverted), weight=weight, rates="explicit")


def count_anywhere(function: DrawFunction, exact: Shares, draws: int, places: int, random: Random) -> None:
    """Counts of all tasks in prefixes and in blocks of any length, none of them drawn, against their shares."""
    starts = random.integers(0, draws, places).tolist()
    lengths = np.exp(random.uniform(0, np.log(draws), places)).astype(int).tolist()
    prefix = block = 0.0
    for start, length in zip(starts, lengths, strict=True):
        end = min(start + length, draws)
        before, after = function.schedule.counts(start), function.schedule.counts(end)
        assert before.sum() == start, "counts do not sum to the draws"
        assert after.sum() == end, "counts do not sum to the draws"
        prefix = max(prefix, uneven(before, exact))
        block = max(block, uneven(after - before, exact))
    print(f"{places:,} prefixes: at most {prefix:.2f} draws from a share; {places:,} blocks: {block:.2f}")


def sample_windows(function: DrawFunction, exact: Shares, draws: int, places: int, random: Random) -> None:
    """Windows anywhere, drawn: their counts are those in closed form, and ways to ask keep their shares."""
    furthest, ways, started = 0.0, [np.zeros(len(shares)) for shares in WAYS.values()], time.perf_counter()
    for start in random.integers(0, draws - WINDOW, places).tolist():
        drawn = function.draws(np.arange(start, start + WINDOW))
        counts = np.bincount(drawn.tasks, minlength=len(exact))
        closed = function.schedule.counts(start + WINDOW) - function.schedule.counts(start)
        assert np.array_equal(counts, closed), f"counts of the window at draw {start} are not those in closed form"
        furthest = max(furthest, uneven(counts, exact))
        for total, name in zip(ways, WAYS, strict=True):
            total += np.bincount(getattr(drawn, name), minlength=len(total))
    each = 1e6 * (time.perf_counter() - started) / places / WINDOW
    print(f"{places:,} windows drawn ({each:.1f} µs a draw): at most {furthest:.2f} draws from a share")
    for total, (name, shares) in zip(ways, WAYS.items(), strict=True):
        off = 100 * uneven(total, shares) / total.sum()
        print(f"  {name}: shares over all of them within {off:.3f} percentage points")


def follow_epochs(function: DrawFunction, draws: int, random: Random) -> None:
    """The last whole epoch of some tasks, found by the way back: every row once, and each way to ask in its share."""
    counts = function.schedule.counts(draws)
    climb, furthest, epochs = Climb(function.schedule.upto(draws)[0].tree, len(counts)), 0.0, list[int]()
    for number in random.permutation(len(counts))[:FOLLOWED].tolist():
        rows = function.tasks[number].rows
        epoch = int(counts[number]) // rows - 1
        if epoch >= 0:
            visits = np.arange(epoch * rows, (epoch + 1) * rows)
            drawn = function.draws(climb.numbers(np.full(rows, number), visits))
            assert np.array_equal(np.sort(drawn.rows), np.arange(rows)), "a row does not come once an epoch"
            chosen = [np.bincount(getattr(drawn, name), minlength=len(shares)) for name, shares in WAYS.items()]
            furthest = max(furthest, *map(uneven, chosen, WAYS.values()))
            epochs.append(epoch)
    first, last = min(epochs, default=-1) + 1, max(epochs, default=-1) + 1
    print(f"the last whole epoch of {len(epochs)} tasks (the {first:,}th to {last:,}th): each row once,")
    print(f"  templates, options and exemplars at most {furthest:.2f} rows from their shares")


def uneven(counts: Any, shares: Shares) -> float:
    """How far any count is from its share of their sum."""
    return float(abs(counts - counts.sum() * shares).max())


def walk(draws: int, seed: int, tasks: int = 1836, block: int = 10**6) -> None:
    """Walks all draws of one mixture and follows every task's distance from its share."""
    sizes = np.minimum(np.exp(np.random.default_rng(seed).uniform(3, 16, tasks)), 30_000).astype(int).tolist()
    mixture = Rated.of_tasks({f"t{i}": Fraction(size, sum(sizes)) for i, size in enumerate(sizes)})
    function = DrawFunction([MixedTask(name, 1, (Fraction(1),)) for name in mixture.tasks()], mixture, seed)
    tree, exact = function.schedule.upto(draws)[0].tree, np.array(sizes) / sum(sizes)
    low, high, started = np.zeros(tasks), np.zeros(tasks), time.perf_counter()
    for start in range(0, draws, block):
        numbers = np.arange(start, min(start + block, draws))
        drawn, visits = tree.visits(0, numbers)
        np.minimum.at(low, drawn, visits - numbers * exact[drawn])
        np.maximum.at(high, drawn, visits + 1 - (numbers + 1) * exact[drawn])
    seconds = time.perf_counter() - started
    assert tree.counts(draws, tasks)[drawn[-1]] == visits[-1] + 1, "counts in closed form are not those of the walk"
    print(f"{draws:,} draws of one mixture of {tasks:,} tasks walked in {seconds:.0f} s:")
    print(
        f"  at most {max(high.max(), -low.min()):.2f} from a share in any prefix, {(high - low).max():.2f} in any block"
    )


if __name__ == "__main__":
    main()
