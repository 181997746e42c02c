"""How a task's error falls with its training rows: a power law through few runs, and how sure it is. Pure.

error(n) = exp(a) * n^b (Hestness et al. 2017, arXiv:1712.00409), without a floor, which four runs could not tell from
noise. It is a straight line in logarithms, fitted by least squares. How far runs lie from their lines is pooled over
tasks, as a multiple of what their test rows alone would bring about: four runs leave one task two degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

SAMPLES = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Line:
    """A straight line through a task's runs, of the logarithm of the error over that of the rows.

    Attributes:
        intercept: At the mean of the logarithms of the rows.
        slope: The exponent of the power law.
        center: That mean.
        spread: Sum of squares of the logarithms around it.
        sd: Standard deviation that the test rows alone give the logarithm of an error.
        count: Runs.
        squares: Sum of squared residuals in units of `sd`.
    """

    intercept: float
    slope: float
    center: float
    spread: float
    sd: float
    count: int
    squares: float

    @property
    def freedom(self) -> int:
        """Degrees of freedom that are left."""
        return self.count - 2


@dataclass(frozen=True)
class Noise:
    """How far runs lie from their lines, pooled over tasks.

    Attributes:
        factor: Multiple of what the test rows alone bring about.
        freedom: Degrees of freedom it was estimated with.
    """

    factor: float
    freedom: int

    def reach(self) -> float:
        """Standard deviations that an interval reaches to both sides."""
        return self.factor * float(stats.t.ppf((1 + LEVEL) / 2, self.freedom))


def line(rows: Sequence[int], errors: Sequence[float], sds: Sequence[float]) -> Line | None:
    """The line through a task's runs; None where there are fewer than three, or an error is 0 and has no logarithm.

    Args:
        rows: Training rows of each run, different numbers.
        errors: What each run's model has left to gain.
        sds: Standard deviation of each error by its test rows.
    """
    if len(rows) < 3 or min(errors) <= 0 or min(sds) <= 0:
        return None
    x, y = np.log(np.asarray(rows, float)), np.log(np.asarray(errors, float))
    center = float(x.mean())
    spread = float(((x - center) ** 2).sum())
    slope = float(((x - center) * y).sum() / spread)
    intercept = float(y.mean())
    sd = math.sqrt(float(np.mean((np.asarray(sds, float) / np.asarray(errors, float)) ** 2)))
    residuals = (y - intercept - slope * (x - center)) / sd
    return Line(intercept, slope, center, spread, sd, len(rows), float((residuals**2).sum()))


def noise(lines: Sequence[Line]) -> Noise:
    """Pooled over lines, of which there must be one at least."""
    freedom = sum(each.freedom for each in lines)
    return Noise(math.sqrt(sum(each.squares for each in lines) / freedom), freedom)


def predicted(of: Line, rows: int, by: Noise) -> tuple[float, float, float]:
    """Error that another run with so many rows would be measured to have, and its 95 % prediction interval."""
    away = math.log(rows) - of.center
    middle = of.intercept + of.slope * away
    half = by.reach() * of.sd * math.sqrt(1 + 1 / of.count + away**2 / of.spread)
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def change(of: Line, rows: int, more: int, by: Noise, seed: int) -> tuple[float, float, float]:
    """What `more` rows do to the error of a model trained on `rows`, and the 95 % interval of that.

    The interval is of the lines that fit, drawn from their joint t distribution; a single run may lie farther off.
    """
    dice = np.random.default_rng(seed)
    scale = by.factor * of.sd * np.sqrt(by.freedom / dice.chisquare(by.freedom, SAMPLES))
    level = of.intercept + scale / math.sqrt(of.count) * dice.standard_normal(SAMPLES)
    slope = of.slope + scale / math.sqrt(of.spread) * dice.standard_normal(SAMPLES)
    before, after = math.log(rows) - of.center, math.log(rows + more) - of.center
    with np.errstate(over="ignore", invalid="ignore"):
        drawn = np.exp(level + slope * after) - np.exp(level + slope * before)
    low, high = np.quantile(np.nan_to_num(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    middle = math.exp(of.intercept + of.slope * after) - math.exp(of.intercept + of.slope * before)
    return middle, float(low), float(high)
