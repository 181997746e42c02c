"""Rates: the exact share of draws of each task, as fractions that sum to one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from flantune.errors import FlantuneError

Rule = Literal["proportional", "temperature", "equal", "explicit"]


def task_rates(
    sizes: Sequence[int],
    rule: Rule,
    *,
    cap: int | None = None,
    temperature: float = 1.0,
    weights: Sequence[float] | None = None,
    shares: Sequence[float | None] | None = None,
) -> list[Fraction]:
    """Exact share of draws of each task.

    Args:
        sizes: Training rows of each task.
        rule: `proportional`: min(size, cap), the examples-proportional mixing with a cap of T5 (Raffel et al. 2020,
            arXiv:1910.10683, section 3.5.2) and FLAN; `temperature`: min(size, cap) ** (1 / temperature), as in
            mT5 and T5; `equal`; `explicit`: the weights.
        cap: A task counts as at most this many rows.
        temperature: At least 1.
        weights: One a task, for `explicit`.
        shares: A fixed share for some tasks; the others divide what is left by the rule.
    Returns:
        Fractions that sum to exactly 1, in the order of `sizes`.
    Raises:
        FlantuneError: The fixed shares leave nothing for the other tasks.
    """
    capped = [min(size, cap) if cap is not None else size for size in sizes]
    if rule == "proportional":
        amounts = [Fraction(size) for size in capped]
    elif rule == "temperature":
        # A root is not rational: seven significant digits are exact enough and the same on every machine.
        amounts = [Fraction(f"{size ** (1.0 / temperature):.6e}") for size in capped]
    elif rule == "equal":
        amounts = [Fraction(1)] * len(sizes)
    else:
        amounts = [as_written(weight) for weight in weights or [1.0] * len(sizes)]
    fixed = [as_written(share) if share is not None else None for share in shares or [None] * len(sizes)]
    left = 1 - sum((share for share in fixed if share is not None), Fraction(0))
    if left <= 0 and None in fixed:
        raise FlantuneError(
            f"the fixed shares sum to {float(1 - left):g} and leave nothing for the other tasks; make them smaller",
            "tasks: share",
        )
    free = sum((amount for amount, share in zip(amounts, fixed, strict=True) if share is None), Fraction(0))
    rates = [share if share is not None else left * amount / free for amount, share in zip(amounts, fixed, strict=True)]
    total = sum(rates, Fraction(0))  # fixed shares such as 0.333 may miss 1 by a rounding
    return [rate / total for rate in rates]


def as_written(number: float) -> Fraction:
    """A number of a recipe or task file as the fraction that its digits say: 0.3 is 3/10."""
    return Fraction(str(number))
