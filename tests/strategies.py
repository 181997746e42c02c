"""Made-up sizes, rates and mixtures, for the tests that state laws."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from flantune.mixture.draw import MixedTask
from flantune.mixture.tree import Rated

seeds = st.integers(0, 2**32)
sizes = st.lists(st.integers(1, 10**6), min_size=1, max_size=40)

few_amounts = st.lists(st.integers(1, 10) | st.integers(1, 10**6), min_size=1, max_size=12)
many_amounts = st.lists(st.integers(1, 10) | st.integers(1, 10**6), min_size=50, max_size=300)
weights = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def shares(amounts: list[int]) -> list[Fraction]:
    """Fractions in the proportion of the amounts, summing to 1."""
    return [Fraction(amount, sum(amounts)) for amount in amounts]


def flat(amounts: list[int]) -> Rated:
    """Tasks called task0, task1, ..., in the proportion of the amounts."""
    return Rated.of_tasks({f"task{i}": share for i, share in enumerate(shares(amounts))})


@st.composite
def nested(draw: st.DrawFn, depth: int = 2, name: str = "") -> Rated:
    """A mixture of tasks and, down to a depth, of mixtures; tasks are named after the mixtures that they stand in."""
    rates = shares(draw(st.lists(st.integers(1, 10) | st.integers(1, 10**4), min_size=1, max_size=5)))
    parts = []
    for i, rate in enumerate(rates):
        if depth and draw(st.booleans()):
            parts.append(Rated(f"{name}m{i}", rate, draw(nested(depth - 1, f"{name}m{i}/")).parts))
        else:
            parts.append(Rated(f"{name}t{i}", rate))
    return Rated("", Fraction(1), tuple(parts))


def asked_in(name: str, rows: int, templates: list[int], options: list[int], shots: list[int]) -> MixedTask:
    """A task with its ways to be asked, each by its weight."""
    return MixedTask(
        name, rows, tuple(map(Fraction, templates)), tuple(map(Fraction, options)), tuple(map(Fraction, shots))
    )


@st.composite
def mixtures(draw: st.DrawFn, shapes: st.SearchStrategy[Rated] | None = None) -> tuple[list[MixedTask], Rated]:
    """Tasks of few rows, so that epochs end soon, asked in up to five templates, options and numbers of exemplars."""
    mixture = draw(shapes if shapes is not None else st.builds(flat, few_amounts) | nested())
    names = list(mixture.tasks())
    rows = draw(st.lists(st.integers(1, 40), min_size=len(names), max_size=len(names)))
    templates, options, shots = (draw(st.lists(weights, min_size=1, max_size=3)) for _ in range(3))
    tasks = [
        asked_in(name, size, *(ways[i % len(ways)] for ways in (templates, options, shots)))
        for i, (name, size) in enumerate(zip(names, rows, strict=True))
    ]
    return tasks, mixture
