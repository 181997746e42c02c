"""The position of a run: a function of the rows consumed, however they were cut into steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flantune.mixture.window import Segment
from flantune.training.position import START


def row(draws: list[int]) -> list[Segment]:
    return [
        Segment(
            draw=draw,
            task=draw % 3,
            row=draw // 3,
            template=0,
            options=0,
            exemplars=0,
            cut=0,
            input_ids=[1],
            target_ids=[2],
            loss_weight=1.0,
        )
        for draw in draws
    ]


ROWS = st.lists(st.lists(st.integers(0, 10**12), min_size=1, max_size=4), min_size=1, max_size=12)


@given(rows=ROWS, sizes=st.lists(st.integers(1, 5), min_size=12, max_size=12))
def test_rows_cut_into_any_steps_lead_to_the_same_row_and_hash(rows, sizes):
    at_once = START.after([row(draws) for draws in rows])
    position, left = START, [row(draws) for draws in rows]
    for size in sizes:
        if left:
            position, left = position.after(left[:size]), left[size:]
    assert (position.row, position.draws) == (at_once.row, at_once.draws) == (len(rows), at_once.draws)


@given(rows=ROWS, place=st.integers(0, 11), change=st.sampled_from(["missing", "twice", "other", "swapped"]))
def test_a_row_that_is_missing_comes_twice_or_is_another_changes_the_hash(rows, place, change):
    place %= len(rows)
    changed = {
        "missing": rows[:place] + rows[place + 1 :],
        "twice": [*rows[: place + 1], *rows[place:]],
        "other": [*rows[:place], [draw + 1 for draw in rows[place]], *rows[place + 1 :]],
        "swapped": [*rows[place:], *rows[:place]],
    }[change]
    same = START.after([row(draws) for draws in rows]).draws == START.after([row(draws) for draws in changed]).draws
    assert same == (changed == rows)
