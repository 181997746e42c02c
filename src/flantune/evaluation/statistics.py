"""Is the tuned model better? Intervals, tests and verdicts on summed row statistics.

All functions take the (n, k) arrays of `flantune.evaluation.metrics` and the metric's `score`. Paired rows
stay paired. Rows that are not independent (several prompts of one source row) carry a common group; the
statistics of a group are summed first, and the group is what is resampled, left out and sign-flipped. Row
resampling of 20 groups of 10 correlated rows finds a difference in .53 of the cases where there is none,
group resampling in .06.

The sign flip decides and the interval describes: with one changed row of 300, a randomization test that
counts `>` where `>=` is right says p = .0001, ours says 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Score = Callable[[FloatArray], FloatArray]

_MOST_ENUMERATED = 13  # 8192 sign patterns, about as many as are drawn beyond
# Intervals of fewer may be too short: of right and wrong answers .07 of them miss the truth at n = 20.
_FEWEST_FOR_EQUIVALENCE = 20
_BLOCK_ELEMENTS = 2**20  # of a block of resampling weights: 8 MiB
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Difference:
    """What tuning changed on one test set, in the unit of the metric.

    Args:
        base: Score of the base model.
        tuned: Score of the tuned model.
        difference: tuned - base.
        low: Lower end of the interval of the difference.
        high: Upper end.
        p: Two-sided, of the sign-flip test, not adjusted for other tests; in (0, 1].
        n: Independent pairs: rows, or groups where rows share one.
    """

    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    n: int


def paired_difference(
    base: FloatArray,
    tuned: FloatArray,
    score: Score,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 9999,
    confidence: float = 0.95,
    seed: int,
) -> Difference:
    """The difference of two models on the same rows, with interval and p-value.

    The interval is the paired BCa bootstrap (Efron 1987, doi:10.1080/01621459.1987.10478410), as much wider as
    Student's interval of as many rows is than the normal one (Hesterberg 2015, doi:10.1080/00031305.2015.1089789):
    without this .07 of them miss the truth at n = 50 and .08 at 20, with it .05 and .06. p is by sign
    flips: under the null hypothesis the names "base" and "tuned" can be swapped in any row, so p is the share
    of swaps with a difference at least as large. It is exact where all rows that differ do so by the same
    amount, as right and wrong answers do (this is McNemar's exact test), and where at most 13 rows differ; otherwise
    `resamples` random swaps are tried, and p = (count + 1) / (resamples + 1) (Phipson & Smyth 2010,
    doi:10.2202/1544-6115.1585).

    Args:
        base: (n, k) row statistics of the base model.
        tuned: (n, k) of the tuned model, the same rows in the same order.
        score: Sums (..., k) -> (...,).
        groups: A row's group, for rows that are not independent; every row its own if left out.
        resamples: Bootstrap resamples, and random swaps.
        confidence: Of the interval.
        seed: The same seed gives the same result; swapping base and tuned negates it.
    Raises:
        ValueError: There is no row, or shapes or the length of `groups` differ.
    """
    units, difference = _paired(base, tuned, score, groups)
    bootstrap_seed, swap_seed = np.random.SeedSequence(seed).spawn(2)
    base_sums, tuned_sums = np.split(units.sum(axis=0), 2)
    base_score, tuned_score = float(score(base_sums)), float(score(tuned_sums))
    tolerance = _tolerance(base_score, tuned_score)
    observed = tuned_score - base_score if abs(tuned_score - base_score) > tolerance else 0.0
    low, high = _bca(units, difference, observed, tolerance, resamples, confidence, bootstrap_seed)
    p = _sign_flip_p(units, difference, observed, tolerance, resamples, swap_seed)
    return Difference(base_score, tuned_score, observed, low, high, p, len(units))


def single_interval(
    stats: FloatArray,
    score: Score,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 9999,
    confidence: float = 0.95,
    seed: int,
) -> tuple[float, float]:
    """The interval of one model's score; arguments and errors as in `paired_difference`.

    Of right and wrong answers it is Wilson's (1927, doi:10.1080/01621459.1927.10502953), which has a width also where
    all are right; of other scores the BCa bootstrap's. Where all of those are alike it is that point: resampling cannot
    know of rows that it never saw.
    """
    units = _units(stats, groups)
    if units.shape[1] == 2 and (units[:, 1] == 1).all() and np.isin(units[:, 0], (0, 1)).all():
        ends = _wilson(float(units[:, 0].sum()), len(units), confidence)
        low, high = (float(score(np.array([end, 1.0]))) for end in ends)
        return low, high
    observed = float(score(units.sum(axis=0)))
    bootstrap_seed = np.random.SeedSequence(seed)
    return _bca(units, score, observed, _tolerance(observed), resamples, confidence, bootstrap_seed)


@dataclass(frozen=True)
class Pairs:
    """Row statistics of both models on one test set, as `paired_difference` takes them."""

    base: FloatArray
    tuned: FloatArray
    score: Score
    groups: Sequence[Hashable] | None = None


def average_interval(
    tasks: Sequence[Pairs], *, resamples: int = 9999, confidence: float = 0.95, seed: int
) -> tuple[float, float]:
    """The BCa interval of the mean of several test sets' differences, each counting the same.

    Rows are resampled within each test set. The test sets themselves are taken as given, so the interval says nothing
    of other tasks. The acceleration is that of several samples (DiCiccio & Efron 1996, doi:10.1214/ss/1032280214).

    Raises:
        ValueError: There is no test set; or see `paired_difference`.
    """
    if not tasks:
        raise ValueError("there is no test set to average over")
    paired = [_paired(it.base, it.tuned, it.score, it.groups) for it in tasks]
    seeds = np.random.SeedSequence(seed).spawn(len(tasks))
    whole = [float(difference(units.sum(axis=0))) for units, difference in paired]
    drawn = [_bootstrap(*each, resamples, its) for each, its in zip(paired, seeds, strict=True)]
    tolerance = _tolerance(*whole, 1e-6)
    acceleration = _acceleration(np.concatenate([_left_out(*each) for each in paired]), tolerance)
    # Of tasks that are known unequally well, the few rows of the least known one may decide: Welch 1947.
    variances = np.var(drawn, axis=1)
    freedom = np.array([max(1, len(units) - 1) for units, _ in paired])
    alike = variances.sum() ** 2 / max(float((variances**2 / freedom).sum()), 1e-300)
    reach = _reach(confidence, max(1.0, alike) + 1)
    return _bca_ends(np.mean(drawn, axis=0), float(np.mean(whole)), tolerance, acceleration, reach)


def smallest_detectable(
    base: FloatArray,
    tuned: FloatArray,
    score: Score,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 9999,
    seed: int,
) -> float:
    """The true difference that this test set would show with 80 % power at level .05.

    (1.96 + 0.84) bootstrap standard errors of the paired difference, in the unit of the metric: the normal
    approximation, good for planning. Of equal predictions it is 0, which says nothing.
    """
    units, difference = _paired(base, tuned, score, groups)
    drawn = _bootstrap(units, difference, resamples, np.random.SeedSequence(seed))
    return float((_NORMAL.inv_cdf(0.975) + _NORMAL.inv_cdf(0.8)) * drawn.std(ddof=1))


def standard_deviation(ci: Sequence[float]) -> float:
    """That of an estimate whose 95 % interval this is, as far as the estimate is normal.

    >>> round(standard_deviation([-1.96, 1.96]), 3)
    1.0
    """
    return (ci[1] - ci[0]) / (2 * NormalDist().inv_cdf(0.975))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given: compare each with alpha (Holm 1979).

    Raises:
        ValueError: A p-value lies outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1, these do not: {list(p_values)}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def verdict(
    difference: Difference,
    *,
    higher_is_better: bool,
    adjusted_p: float,
    margin: float | None = None,
    alpha: float = 0.05,
) -> str:
    """What the test set has shown: "better", "worse", "equivalent" or "no difference shown".

    Better and worse need both the adjusted p below alpha and an interval on that side of 0. What is shown to
    differ is never called equivalent. Equivalent needs a margin, the interval strictly within +-margin, and
    at least 20 independent rows, since the interval of fewer is too short to prove the absence of anything.

    Args:
        difference: Of one task and metric.
        higher_is_better: The metric's.
        adjusted_p: `difference.p` after `holm` over all comparisons that are reported together.
        margin: The largest difference that does not matter, in the unit of the metric.
        alpha: Level of the test.
    """
    if adjusted_p < alpha and (difference.low > 0 or difference.high < 0):
        return "better" if (difference.low > 0) == higher_is_better else "worse"
    inside = margin is not None and -margin < difference.low and difference.high < margin
    if inside and difference.n >= _FEWEST_FOR_EQUIVALENCE:
        return "equivalent"
    return "no difference shown"


def _units(stats: FloatArray, groups: Sequence[Hashable] | None) -> FloatArray:
    """(n, k) row statistics -> (units, k): the rows, or sums of groups in order of first appearance."""
    rows = np.asarray(stats, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"row statistics must be an (n, k) array with a row, not of shape {rows.shape}")
    if groups is None:
        return rows
    if len(groups) != len(rows):
        raise ValueError(f"{len(groups)} groups for {len(rows)} rows")
    unit_ids: dict[Hashable, int] = {}
    ids = [unit_ids.setdefault(group, len(unit_ids)) for group in groups]
    units = np.zeros((len(unit_ids), rows.shape[1]))
    np.add.at(units, ids, rows)
    return units


def _paired(
    base: FloatArray, tuned: FloatArray, score: Score, groups: Sequence[Hashable] | None
) -> tuple[FloatArray, Score]:
    """Units of 2k numbers, base's and tuned's, so that one resample serves both; and their difference."""
    if np.shape(base) != np.shape(tuned):
        raise ValueError(f"base and tuned are not paired: shapes {np.shape(base)} and {np.shape(tuned)}")
    units = np.concatenate([_units(base, groups), _units(tuned, groups)], axis=1)
    k = units.shape[1] // 2
    return units, lambda sums: score(sums[..., k:]) - score(sums[..., :k])


def _tolerance(*scores: float) -> float:
    """What counts as equal: sums of the same numbers in another order differ by about 1e-14 of the score."""
    return 1e-10 * max(map(abs, scores))


def _blocks(count: int, width: int) -> Iterator[int]:
    """Sizes of blocks that have `count` rows of `width` numbers together, each small enough for memory."""
    size = max(1, _BLOCK_ELEMENTS // max(1, width))
    for start in range(0, count, size):
        yield min(size, count - start)


def _bootstrap(units: FloatArray, score: Score, resamples: int, seed: np.random.SeedSequence) -> FloatArray:
    """Scores of `resamples` resamples of the units: (resamples,)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    n, drawn = len(units), []
    for block in _blocks(resamples, max(units.shape)):
        # How often each unit was drawn. As multinomial counts, but several times faster.
        picks = generator.integers(0, n, size=(block, n)) + np.arange(block)[:, None] * n
        weights = np.bincount(picks.ravel(), minlength=block * n).reshape(block, n)
        drawn.append(score(weights.astype(np.float64) @ units))
    return np.concatenate(drawn)


def _bca(
    units: FloatArray,
    score: Score,
    observed: float,
    tolerance: float,
    resamples: int,
    confidence: float,
    seed: np.random.SeedSequence,
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval of `score` over resampled units."""
    drawn = _bootstrap(units, score, resamples, seed)
    acceleration = _acceleration(_left_out(units, score), tolerance)
    return _bca_ends(drawn, observed, tolerance, acceleration, _reach(confidence, len(units)))


def _reach(confidence: float, n: float) -> float:
    """How many standard deviations of the resamples a symmetrical interval reaches: more for few rows than for many."""
    from scipy.special import stdtrit

    level = 0.5 + confidence / 2
    return math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, level)) if n > 1 else _NORMAL.inv_cdf(level)


def _bca_ends(
    drawn: FloatArray, observed: float, tolerance: float, acceleration: float, reach: float
) -> tuple[float, float]:
    # Rounding must neither split a tie nor move a bound off 0.
    drawn = np.where(np.abs(drawn - observed) <= tolerance, observed, drawn)
    drawn = np.where(np.abs(drawn) <= tolerance, 0.0, drawn)
    if np.ptp(drawn) <= tolerance:
        return observed, observed
    resamples = len(drawn)
    below = np.mean(drawn < observed) + 0.5 * np.mean(drawn == observed)  # ties half: 0/1 scores have many
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples)))

    def level(end: float) -> float:
        z = bias + end
        scale = 1.0 - acceleration * z  # positive but for extreme confidences: |acceleration| <= 1/6
        return _NORMAL.cdf(bias + z / scale) if scale > 0 else float(z > 0)

    low, high = np.quantile(drawn, [level(-reach), level(reach)])
    return float(low), float(high)


def _left_out(units: FloatArray, score: Score) -> FloatArray:
    """By how much the mean score without a unit exceeds the score without this unit: (units,)."""
    left_out = score(units.sum(axis=0) - units)
    return left_out.mean() - left_out


def _acceleration(deviation: FloatArray, tolerance: float) -> float:
    """A sixth of the skewness of the scores with one unit left out."""
    if np.abs(deviation).max() <= tolerance:
        return 0.0
    deviation = deviation / np.abs(deviation).max()  # the cube of a small number may underflow
    return float((deviation**3).sum() / (6.0 * (deviation**2).sum() ** 1.5))


def _wilson(right: float, n: int, confidence: float) -> tuple[float, float]:
    """Shares between which the true share of right answers lies."""
    z, share = _NORMAL.inv_cdf(0.5 + confidence / 2), right / n
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - reach) / (1 + z * z / n)), min(1.0, (middle + reach) / (1 + z * z / n))


def _sign_flip_p(
    units: FloatArray,
    difference: Score,
    observed: float,
    tolerance: float,
    resamples: int,
    seed: np.random.SeedSequence,
) -> float:
    """Share of swaps of base and tuned within units whose absolute difference reaches the observed one."""
    base, tuned = np.split(units, 2, axis=1)
    changed = (base != tuned).any(axis=1)  # swapping the two in another unit changes nothing
    changes = np.concatenate([tuned - base, base - tuned], axis=1)[changed]
    sums, m = units.sum(axis=0), len(changes)

    def reached(swaps: NDArray[np.integer]) -> int:
        swapped = difference(sums + swaps.astype(np.float64) @ changes)
        return int(np.count_nonzero(np.abs(swapped) >= abs(observed) - tolerance))

    if m and ((forth := (changes == changes[0]).all(axis=1)) | (changes == -changes[0]).all(axis=1)).all():
        # All of one size: a swap's sums depend only on how many of them are swapped, which is binomial.
        net = np.arange(m + 1.0) - np.count_nonzero(~forth)
        hits = np.abs(difference(sums + net[:, None] * changes[0])) >= abs(observed) - tolerance
        ways = [math.lgamma(m + 1) - math.lgamma(j + 1) - math.lgamma(m - j + 1) for j in range(m + 1)]
        return min(1.0, float(np.exp(np.array(ways) - m * math.log(2)) @ hits))
    if m <= _MOST_ENUMERATED:
        return reached((np.arange(2**m)[:, None] >> np.arange(m)) & 1) / 2**m
    generator = np.random.Generator(np.random.PCG64(seed))
    blocks = _blocks(resamples, max(changes.shape))
    count = sum(reached(generator.integers(0, 2, size=(block, m), dtype=np.int8)) for block in blocks)
    return (count + 1) / (resamples + 1)
