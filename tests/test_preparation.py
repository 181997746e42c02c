"""How long a run is, where its phases begin, and what is mixed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.rates import as_written
from flantune.mixture.shape import MixturePart, TaskPart, rated
from flantune.preparation import draws_of, phases_at, shape_by_counts
from flantune.recipe import Recipe, recipe_from


def mixture(*parts: TaskPart | MixturePart) -> MixturePart:
    return MixturePart("", parts)


def task(name: str, rows: int, share: float | None = None) -> TaskPart:
    return TaskPart(name, rows, share)


@given(rows=st.lists(st.integers(1, 5000), min_size=1, max_size=6), epochs=st.floats(0.1, 9))
def test_without_fixed_shares_an_epoch_is_every_row_once(rows, epochs):
    parts = [task(f"t{i}", n) for i, n in enumerate(rows)]
    assert draws_of(mixture(*parts), epochs) == max(1, round(as_written(epochs) * sum(rows)))


@given(rows=st.integers(10, 5000), mixed_in=st.integers(1, 10**6), share=st.floats(0.05, 0.9))
def test_a_task_that_is_mixed_in_leaves_the_epochs_of_the_others_as_they_are(rows, mixed_in, share):
    draws = draws_of(mixture(task("own", rows), task("beside", mixed_in, share)), 2)
    assert abs(draws * (1 - share) - 2 * rows) <= 1
    assert draws == draws_of(mixture(task("own", rows), task("beside", 1, share)), 2)
    inside = MixturePart("replay", (task("beside", mixed_in), task("more", mixed_in, 0.25)), share=share)
    assert draws == draws_of(mixture(task("own", rows), inside), 2)


def test_a_task_with_a_fixed_share_of_a_mixture_inside_is_mixed_in_too():
    inner = MixturePart("inner", (task("a", 30), task("b", 10, 0.25)))
    draws = draws_of(mixture(inner, task("c", 60)), 1)  # of 100 draws a gets 30, b 10, c 60
    assert draws == round((30 + 60) / 0.9)


def test_where_all_shares_are_fixed_all_rows_count():
    assert draws_of(mixture(task("a", 30, 0.25), task("b", 10, 0.75)), 2) == 80


def recipe(**mixture: object) -> Recipe:
    return recipe_from({"tasks": ["a", {"mixture": "m", "tasks": ["b"]}], "mixture": mixture})


def test_phases_begin_at_their_draw_or_share_of_the_run():
    phases = [
        {"from_draw": 10, "rates": "equal"},
        {"from_share": 0.3, "cap": 5, "tasks": {"a": {"share": 0.1}, "m": {"rates": "explicit", "share": 0}}},
    ]
    assert phases_at(recipe(phases=phases), 101) == (
        (10, {"": {"rates": "equal"}}),
        (30, {"": {"cap": 5}, "a": {"share": 0.1}, "m": {"rates": "explicit", "share": 0.0}}),
    )
    assert phases_at(recipe(), 101) == ()


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"from_draw": 100}], "0: begins at draw 100; it must begin after draw 0 and before the run ends at draw 100"),
        (
            [{"from_share": 0.001}],
            "0: begins at draw 0; it must begin after draw 0 and before the run ends at draw 100",
        ),
        (
            [{"from_share": 0.5}, {"from_draw": 50}],
            "1: begins at draw 50; it must begin after draw 50 and before the run ends at draw 100",
        ),
    ],
)
def test_a_phase_outside_the_run_or_before_another_is_told(phases, message):
    with pytest.raises(FlantuneError) as told:
        phases_at(recipe(phases=phases), 100)
    assert str(told.value) == f"mixture.phases.{message}"


def test_a_mixture_is_known_from_numbers_of_rows_alone():
    whole = shape_by_counts(recipe(rates="explicit", replay=0.2), {"a": 10, "b": 30, "starter/instructions": 5})
    assert rated(whole).tasks() == {"a": Fraction(2, 5), "b": Fraction(2, 5), "starter/instructions": Fraction(1, 5)}
