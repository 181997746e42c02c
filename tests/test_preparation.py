"""How long a run is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from flantune.preparation import draws_of


def member(rows: int, share: float | None = None) -> Any:
    return cast("Any", SimpleNamespace(rows=range(rows), share=share))


@given(rows=st.lists(st.integers(1, 5000), min_size=1, max_size=6), epochs=st.floats(0.1, 9))
def test_without_fixed_shares_an_epoch_is_every_row_once(rows, epochs):
    assert draws_of([member(n) for n in rows], epochs) == max(1, round(epochs * sum(rows)))


@given(rows=st.integers(10, 5000), mixed_in=st.integers(1, 10**6), share=st.floats(0.05, 0.9))
def test_a_task_that_is_mixed_in_leaves_the_epochs_of_the_others_as_they_are(rows, mixed_in, share):
    draws = draws_of([member(rows), member(mixed_in, share)], 2)
    assert abs(draws * (1 - share) - 2 * rows) <= 1
    assert draws == draws_of([member(rows), member(1, share)], 2)


def test_where_all_shares_are_fixed_all_rows_count():
    assert draws_of([member(30, 0.25), member(10, 0.75)], 2) == 80
