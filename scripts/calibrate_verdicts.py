"""How often verdicts are wrong and intervals miss where the truth is known: the tables of docs/results.md.

    python scripts/calibrate_verdicts.py                            the tables, in some minutes
    python scripts/calibrate_verdicts.py --simulations 200          a look at it

Test sets are simulated on which two models are equally good: row by row, which of two answers is whose is a matter of
chance. A verdict there is a false one, and 0 is the true difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flantune.evaluation.metrics import metric
from flantune.evaluation.statistics import Pairs, average_interval, holm, paired_difference, verdict

FloatArray = NDArray[np.float64]
Generator = np.random.Generator
SIZES = (20, 50, 100, 200, 500)


def _rows(values: FloatArray) -> FloatArray:
    """(n,) scores between 0 and 1 -> (n, 2) row statistics of a mean."""
    return np.stack([values, np.ones(len(values))], axis=1)


def binary(rng: Generator, n: int) -> Pairs:
    """Right or wrong answers, of which the models differ in a fifth."""
    base = rng.random(n) < 0.6
    changed = rng.random(n) < np.where(base, 0.1 / 0.6, 0.1 / 0.4)  # as many lost as won
    first, second = (_rows(side.astype(np.float64)) for side in (base, base ^ changed))
    return Pairs(first, second, metric("accuracy").score)


def continuous(rng: Generator, n: int) -> Pairs:
    """Scores such as ROUGE, of rows of which some are hard for both models; their distribution is skewed."""
    hard = rng.normal(-1.0, 1.0, n)
    base, tuned = (1 / (1 + np.exp(-(hard + rng.normal(0.0, 0.7, n)))) for _ in range(2))
    return Pairs(_rows(base), _rows(tuned), metric("rouge1").score)


def clustered(rng: Generator, n: int) -> Pairs:
    """The same in n groups of 1 to 10 rows, which two models do alike or unlike together."""
    sizes = rng.integers(1, 11, n)
    groups = np.repeat(np.arange(n), sizes)
    base, tuned = (
        1 / (1 + np.exp(-(np.repeat(rng.normal(-1.0, 1.0, n), sizes) + rng.normal(0.0, 0.5, len(groups)))))
        for _ in range(2)
    )
    return Pairs(_rows(base), _rows(tuned), metric("rouge1").score, groups.tolist())


@cache
def _translations() -> tuple[FloatArray, FloatArray]:
    """BLEU statistics of 2,000 texts by two writers who each leave out and change words of the reference."""
    rng, by = np.random.default_rng(0), metric("bleu")
    words = np.array([f"w{i}" for i in range(200)])
    usual = 1 / np.arange(1, 201)

    def heard(text: FloatArray) -> str:
        wrong = rng.random()
        kept = np.where(rng.random(len(text)) < 0.4 * wrong, rng.choice(words, len(text)), text)
        return " ".join(kept[rng.random(len(text)) > 0.3 * wrong])

    sides = []
    for _ in range(2000):
        text = rng.choice(words, rng.integers(4, 30), p=usual / usual.sum())
        sides.append([by.statistics(heard(text), [" ".join(text)], None, None) for _ in range(2)])
    made = np.array(sides)
    return made[:, 0], made[:, 1]


def corpus_bleu(rng: Generator, n: int) -> Pairs:
    """BLEU, the score of a corpus and the mean of nothing."""
    one, other = _translations()
    chosen, swapped = rng.integers(0, len(one), n), rng.random(n)[:, None] < 0.5
    first, second = one[chosen], other[chosen]
    return Pairs(np.where(swapped, second, first), np.where(swapped, first, second), metric("bleu").score)


KINDS: dict[str, Callable[[Generator, int], Pairs]] = {
    "right or wrong": binary,
    "continuous": continuous,
    "groups of rows": clustered,
    "corpus BLEU": corpus_bleu,
}


def compared(it: Pairs, seed: int, resamples: int) -> Any:
    """The difference as a comparison computes it."""
    return paired_difference(it.base, it.tuned, it.score, groups=it.groups, resamples=resamples, seed=seed)


def told(result: Any, adjusted_p: float) -> bool:
    """Whether the verdict is "better" or "worse"."""
    return verdict(result, higher_is_better=True, adjusted_p=adjusted_p) != "no difference shown"


def cell(kind: str, n: int, *, simulations: int, resamples: int) -> tuple[float, float]:
    """Shares of simulations with a false verdict, and with an interval that holds the true difference, 0."""
    rng = np.random.default_rng([n, list(KINDS).index(kind)])
    false, covered = 0, 0
    for seed in range(simulations):
        result = compared(KINDS[kind](rng, n), seed, resamples)
        false += told(result, result.p)
        covered += result.low <= 0 <= result.high
    return false / simulations, covered / simulations


def suites(tasks: int, n: int, *, simulations: int, resamples: int) -> tuple[float, float]:
    """Shares of comparisons of many tasks with any false verdict, with Holm's correction and without."""
    rng, kinds = np.random.default_rng(tasks), list(KINDS.values())
    corrected, plain = 0, 0
    for _ in range(simulations):
        results = [compared(kinds[i % len(kinds)](rng, n), i, resamples) for i in range(tasks)]
        raw = [result.p for result in results]
        corrected += any(map(told, results, holm(raw)))
        plain += any(map(told, results, raw))
    return corrected / simulations, plain / simulations


def average_coverage(sizes: Sequence[int], *, simulations: int, resamples: int) -> float:
    """Share of intervals of the average over tasks of these sizes that hold the true average difference, 0."""
    rng, covered = np.random.default_rng(1), 0
    for seed in range(simulations):
        tasks = [kind(rng, n) for kind, n in zip(KINDS.values(), sizes, strict=False)]
        low, high = average_interval(tasks, resamples=resamples, seed=seed)
        covered += low <= 0 <= high
    return covered / simulations


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=999)
    drawn = vars(parser.parse_args())
    print("false verdicts / coverage of 95 % intervals\n")
    print("| scores | " + " | ".join(f"n = {n}" for n in SIZES) + " |\n|---" + "|---" * len(SIZES) + "|")
    for kind in KINDS:
        cells = ["{:.3f} / {:.3f}".format(*cell(kind, n, **drawn)) for n in SIZES]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)
    with_holm, without = suites(20, 50, **drawn)
    print(f"\nany false verdict on 20 tasks of 50 rows: {with_holm:.3f}; without Holm's correction {without:.3f}")
    print(
        f"coverage of the average over tasks of 50, 200 and 500 rows: {average_coverage((50, 200, 500), **drawn):.3f}"
    )


if __name__ == "__main__":
    main()
