"""Checks the laws of the draw function on many made-up mixtures, and prints how far draws are from exact shares.

python scripts/check_draws.py        10,000 mixtures of 1 to 2,000 tasks

Fails at the first mixture that breaks a law, and says which. `simulate_draws.py` follows one large mixture far out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from flantune.mixture.draw import COORDINATES, DrawFunction, MixedTask
from flantune.mixture.permutation import Integers, key_of
from flantune.mixture.tree import Forest, Rated, forest_of

MOST_TASKS = 2000
FAR = (10**6, 10**9, 10**12, 10**15)  # prefixes at which counts are compared in exact arithmetic

Random = np.random.Generator
AMOUNTS: dict[str, Callable[[Random, int], Any]] = {
    "equal": lambda random, tasks: np.ones(tasks),
    "uniform": lambda random, tasks: random.integers(1, 10**6, tasks),
    "log-uniform": lambda random, tasks: np.exp(random.uniform(0, np.log(10**7), tasks)),
    "capped": lambda random, tasks: np.minimum(np.exp(random.uniform(3, 16, tasks)), 30_000),
    "tempered": lambda random, tasks: np.exp(random.uniform(0, np.log(10**7), tasks)) ** 0.5 * 1000,
    "one giant": lambda random, tasks: np.where(np.arange(tasks) == 0, 10**7, random.integers(1, 100, tasks)),
    "two sizes": lambda random, tasks: np.where(random.random(tasks) < 0.5, 1, 1000),
    "halving": lambda random, tasks: 2 ** (40 - np.minimum(np.arange(tasks), 40)),
}


def main() -> None:
    """Runs the checks that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=10_000, help="draws walked of each mixture")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    check_many(chosen.mixtures, chosen.draws, chosen.seed)


def check_many(mixtures: int, draws: int, seed: int) -> None:
    """The laws on many mixtures: flat ones, and nested ones of two and of three levels, in turn."""
    started, tasks = time.perf_counter(), 0
    furthest = {levels: np.zeros(3) for levels in (1, 2, 3)}
    for number in range(mixtures):
        random, levels = np.random.default_rng([seed, number]), number % 3 + 1
        mixture = made_up(random, levels)
        try:
            furthest[levels] = np.maximum(furthest[levels], check_mixture(mixture, draws, number, random))
        except AssertionError as broken:
            sys.exit(f"mixture {number} of --seed {seed}, {levels} levels deep, breaks a law: {broken}")
        tasks += len(mixture.tasks())
    print(f"{mixtures:,} mixtures of {tasks:,} tasks in all; furthest from an exact share, in draws:")
    print(f"levels  in a prefix of up to {draws:,}  in a block of those  in a prefix of up to 10^15")
    for levels, (prefix, block, far) in furthest.items():
        print(f"{levels:>6}  {prefix:>22.2f}  {block:>19.2f}  {far:>26.2f}")
    print(f"{time.perf_counter() - started:.0f} s")


def made_up(random: Random, levels: int) -> Rated:
    """A mixture of 1 to 2,000 tasks, its amounts and its nesting by chance."""
    count = int(np.exp(random.uniform(0, np.log(MOST_TASKS + 1))))
    inner = [Rated(f"t{i}", Fraction(1)) for i in range(count)]
    for level in range(1, levels):
        groups = np.array_split(np.arange(len(inner)), min(len(inner), int(random.integers(1, 9))))
        inner = [
            Rated(f"m{level}.{number}", Fraction(1), parts(random, [inner[i] for i in group]))
            for number, group in enumerate(groups)
        ]
    return Rated("", Fraction(1), parts(random, inner))


def parts(random: Random, inner: list[Rated]) -> tuple[Rated, ...]:
    """The parts with rates of one of the kinds."""
    amounts = AMOUNTS[str(random.choice(list(AMOUNTS)))](random, len(inner))
    whole = [max(1, round(float(amount))) for amount in amounts]
    return tuple(Rated(p.name, Fraction(n, sum(whole)), p.parts) for p, n in zip(inner, whole, strict=True))


def check_mixture(mixture: Rated, draws: int, seed: int, random: Random) -> tuple[float, float, float]:
    """Asserts the laws on one mixture; how far shares are missed by prefix, by block, and far out."""
    exact = list(mixture.tasks().values())
    tasks = [made_task(name, random) for name in mixture.tasks()]
    function = DrawFunction(tasks, mixture, seed)
    tree = function.schedule.upto(draws)[0].tree
    members, visits = tree.visits(0, np.arange(draws))
    prefix, block = missed_in_walk(members, visits, np.array([float(share) for share in exact]))
    far = max(missed_at(tree, exact, number) for number in FAR)
    assert max(prefix, far) < 3, f"a task is {max(prefix, far):.3f} draws from its share of a prefix"
    assert block < 2 + depth(mixture), f"a task is {block:.3f} draws from its share of a block"
    at = int(random.integers(draws))
    walked = np.bincount(members[:at], minlength=len(exact))
    assert np.array_equal(tree.counts(at, len(exact)), walked), "counts in closed form are not those of the walk"
    check_rows(function, int(members[at]))
    check_alone(function, random.integers(0, 10**12, 5))
    check_subtrees(mixture, seed)
    return prefix, block, far


def depth(mixture: Rated) -> int:
    """Levels of mixtures."""
    return 1 + max((depth(part) for part in mixture.parts if part.parts), default=0)


def made_task(name: str, random: Random) -> MixedTask:
    """A task of few rows with ways to be asked."""
    templates, options, shots = (
        tuple(Fraction(int(weight)) for weight in random.integers(1, 6, random.integers(1, most)))
        for most in (11, 4, 3)
    )
    return MixedTask(name, int(random.integers(1, 60)), templates, options, shots)


def missed_in_walk(members: Integers, visits: Integers, shares: Any) -> tuple[float, float]:
    """The largest difference between a task's draws and its share of them, in a prefix and in a block of the walk.

    A task's count less its share is lowest just before a draw of it and highest just after, or at the end.
    """
    numbers = np.arange(len(members))
    low, high = np.zeros(len(shares)), np.zeros(len(shares))
    np.minimum.at(low, members, visits - numbers * shares[members])
    np.maximum.at(high, members, visits + 1 - (numbers + 1) * shares[members])
    end = np.bincount(members, minlength=len(shares)) - len(members) * shares
    low, high = np.minimum(low, end), np.maximum(high, end)
    return float(max(high.max(), -low.min())), float((high - low).max())


def missed_at(tree: Forest, exact: list[Fraction], number: int) -> float:
    """How far the count of any task is from its share of the first `number` draws."""
    counts = tree.counts(number, len(exact)).tolist()
    assert sum(counts) == number, "counts do not sum to the draws"
    return max(
        abs(count * share.denominator - number * share.numerator) / share.denominator
        for count, share in zip(counts, exact, strict=True)
    )


def check_rows(function: DrawFunction, number: int) -> None:
    """Over epochs of one task alone: every row once, and each way to ask in its share by epoch and by row."""
    task, epochs = function.tasks[number], 6
    draws = DrawFunction([task], Rated.of_tasks({task.name: Fraction(1)}), function.seed).draws(
        range(epochs * task.rows)
    )
    places = draws.epochs * task.rows + draws.rows
    assert np.array_equal(np.sort(places), np.arange(epochs * task.rows)), "a row does not come once an epoch"
    ways = zip(
        (draws.templates, draws.options, draws.shots),
        (task.template_weights, task.option_weights, task.shot_weights),
        strict=True,
    )
    for chosen, weights in ways:
        grid = np.empty(epochs * task.rows, dtype=np.int64)
        grid[places] = chosen
        for way, weight in enumerate(weights):
            here, share = grid.reshape(epochs, task.rows) == way, float(weight / sum(weights))
            assert abs(here.sum(axis=1) - task.rows * share).max() < 3, "a way to ask misses its share of an epoch"
            assert abs(here.sum(axis=0) - epochs * share).max() < 6, "a way to ask misses its share of a row's epochs"


def check_alone(function: DrawFunction, numbers: Integers) -> None:
    """A draw alone is the draw among others."""
    together = function.draws(numbers)
    for i, number in enumerate(numbers.tolist()):
        alone = function.draws([number])
        for field in ("tasks", "visits", "epochs", "rows", *COORDINATES):
            assert getattr(alone, field)[0] == getattr(together, field)[i], f"draw {number} alone has other {field}"


def check_subtrees(mixture: Rated, seed: int) -> None:
    """A mixture inside has the order that it would have alone."""
    inner = [part for part in mixture.parts if part.parts]
    members = {name: number for number, name in enumerate(mixture.tasks())}
    key = key_of(seed, "tasks")
    whole, _ = forest_of([(mixture, key)], members).visits(0, np.arange(3000))
    for part in inner:
        own = [members[name] for name in part.tasks()]
        here = whole[np.isin(whole, own)]
        alone, _ = forest_of([(part, key)], members).visits(0, np.arange(len(here)))
        assert np.array_equal(here, alone), f"mixture {part.name} has another order beside others than alone"


if __name__ == "__main__":
    main()
