"""Rates: the exact share of draws of each task, as fractions that sum to one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from flantune.errors import FlantuneError

Rule = Literal["proportional", "temperature", "equal", "explicit"]
Unit = Literal["examples", "target_tokens", "tokens"]


def task_rates(
    sizes: Sequence[int],
    rule: Rule,
    *,
    cap: int | None = None,
    floor: int | None = None,
    temperature: float = 1.0,
    weights: Sequence[float] | None = None,
    shares: Sequence[float | None] | None = None,
    lengths: Sequence[Fraction] | None = None,
) -> list[Fraction]:
    """Exact share of draws of each task, or mixture of tasks, of one mixture.

    Args:
        sizes: Training rows of each task.
        rule: `proportional`: the rows counted, max(min(size, cap), floor), the examples-proportional mixing with a
            cap of T5 (Raffel et al. 2020, arXiv:1910.10683, section 3.5.2) and FLAN; `temperature`: the rows counted
            ** (1 / temperature), as in mT5 and T5; `equal` and `explicit`: 1, so that the weights alone count.
        cap: A task counts as at most this many rows.
        floor: A task counts as at least this many rows, so that one of fewer is repeated.
        temperature: At least 1.
        weights: One a task: a factor on what the rule gives; 1 without.
        shares: A fixed share for some tasks; the others divide what is left. A weight beside one does nothing.
        lengths: Mean length of an example of each task, where shares are shares of tokens and not of draws.
    Returns:
        Fractions that sum to exactly 1, in the order of `sizes`.
    Raises:
        FlantuneError: The fixed shares leave nothing for the other tasks.
    """
    amounts = [_amount(counted_rows(size, cap, floor), rule, temperature) for size in sizes]
    if weights is not None:
        amounts = [amount * as_written(weight) for amount, weight in zip(amounts, weights, strict=True)]
    divided = _divided(amounts, [as_written(share) if share is not None else None for share in shares or []])
    if lengths is None:
        return divided
    return _scaled([rounded(share / length) for share, length in zip(divided, lengths, strict=True)])


def counted_rows(rows: int, cap: int | None, floor: int | None) -> int:
    """As how many rows a task counts."""
    return max(rows if cap is None else min(rows, cap), floor or 0)


def _amount(size: int, rule: Rule, temperature: float) -> Fraction:
    if rule == "proportional":
        return Fraction(size)
    return rounded(size ** (1.0 / temperature)) if rule == "temperature" else Fraction(1)


def _divided(amounts: Sequence[Fraction], shares: Sequence[Fraction | None]) -> list[Fraction]:
    """Fixed shares as they are, and what they leave in the proportion of the amounts."""
    fixed = shares or [None] * len(amounts)
    left = 1 - sum((share for share in fixed if share is not None), Fraction(0))
    if left <= 0 and None in fixed:
        raise FlantuneError(
            f"the fixed shares sum to {float(1 - left):g} and leave nothing for the other tasks; make them smaller",
            "tasks: share",
        )
    free = sum((amount for amount, share in zip(amounts, fixed, strict=True) if share is None), Fraction(0))
    rates = [share if share is not None else left * amount / free for amount, share in zip(amounts, fixed, strict=True)]
    return _scaled(rates)  # fixed shares such as 0.333 may miss 1 by a rounding


def _scaled(rates: Sequence[Fraction]) -> list[Fraction]:
    total = sum(rates, Fraction(0))
    return [rate / total for rate in rates]


def as_written(number: float | str) -> Fraction:
    """A number of a recipe or task file as the fraction that its digits say: 0.3 is 3/10, the ratio 0.3:1 is 3/13."""
    part, colon, rest = str(number).partition(":")
    return Fraction(part) / (Fraction(part) + Fraction(rest)) if colon else Fraction(part)


def rounded(number: float | Fraction) -> Fraction:
    """A number to seven significant digits: exact enough for a rate, and the same on every machine.

    A root is not rational, and quotients by lengths have denominators that multiply over the tasks.
    """
    return Fraction(f"{float(number):.6e}")
