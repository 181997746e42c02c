"""Made-up sizes, rates and mixtures, for the tests that state laws."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from flantune.mixture.draw import MixedTask

seeds = st.integers(0, 2**32)
sizes = st.lists(st.integers(1, 10**6), min_size=1, max_size=40)

few_amounts = st.lists(st.integers(1, 10) | st.integers(1, 10**6), min_size=1, max_size=12)
many_amounts = st.lists(st.integers(1, 10) | st.integers(1, 10**6), min_size=50, max_size=300)


def shares(amounts: list[int]) -> list[Fraction]:
    """Fractions in the proportion of the amounts, summing to 1."""
    return [Fraction(amount, sum(amounts)) for amount in amounts]


@st.composite
def mixtures(draw: st.DrawFn, amounts: st.SearchStrategy[list[int]] = few_amounts) -> list[MixedTask]:
    """Tasks of few rows, so that epochs end soon, with one to five templates of any weight."""
    rates = shares(draw(amounts))
    rows = draw(st.lists(st.integers(1, 40), min_size=len(rates), max_size=len(rates)))
    weights = draw(st.lists(template_weights, min_size=1, max_size=3))
    return [
        MixedTask(f"task{i}", rows[i], rate, tuple(map(Fraction, weights[i % len(weights)])))
        for i, rate in enumerate(rates)
    ]


template_weights = st.lists(st.integers(1, 9), min_size=1, max_size=5)
