"""Rates: exact shares of draws, and how they follow the sizes of the tasks."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.rates import task_rates
from strategies import sizes

ROUNDING = 1e-6  # a root is rounded to seven significant digits
caps = st.none() | st.integers(1, 10**6)
temperatures = st.floats(1, 20)
by_size = st.sampled_from(["proportional", "temperature"])


@settings(deadline=None)
@given(sizes, st.sampled_from(["proportional", "temperature", "equal", "explicit"]), caps, temperatures, st.data())
def test_rates_are_positive_fractions_that_sum_to_exactly_one(sizes, rule, cap, temperature, data):
    weights = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(sizes), max_size=len(sizes)))
    rates = task_rates(sizes, rule, cap=cap, temperature=temperature, weights=weights)
    assert all(isinstance(rate, Fraction) and rate > 0 for rate in rates)
    assert sum(rates) == 1


@given(sizes, caps)
def test_proportional_counts_every_row_of_a_task_up_to_the_cap(sizes, cap):
    counted = [min(size, cap or size) for size in sizes]
    assert task_rates(sizes, "proportional", cap=cap) == [Fraction(count, sum(counted)) for count in counted]


@given(sizes, caps)
def test_temperature_one_is_proportional(sizes, cap):
    assert task_rates(sizes, "temperature", cap=cap, temperature=1) == task_rates(sizes, "proportional", cap=cap)


@settings(deadline=None)
@given(sizes, caps, temperatures)
def test_temperature_takes_the_root_of_the_capped_size(sizes, cap, temperature):
    roots = [min(size, cap or size) ** (1 / temperature) for size in sizes]
    wanted = [root / sum(roots) for root in roots]
    got = [float(rate) for rate in task_rates(sizes, "temperature", cap=cap, temperature=temperature)]
    assert got == pytest.approx(wanted, rel=2 * ROUNDING)


@given(sizes, temperatures, temperatures)
def test_a_higher_temperature_brings_rates_closer_together(sizes, one, other):
    cold = task_rates(sizes, "temperature", temperature=min(one, other))
    hot = task_rates(sizes, "temperature", temperature=max(one, other))
    assert max(hot) / min(hot) <= max(cold) / min(cold) * Fraction(1 + 2 * ROUNDING)


def test_a_very_high_temperature_is_almost_equal():
    assert [float(r) for r in task_rates([10, 10**6], "temperature", temperature=1e9)] == pytest.approx([0.5, 0.5])


@given(sizes, by_size, caps, temperatures)
def test_a_task_with_more_rows_is_drawn_no_less(sizes, rule, cap, temperature):
    rates = task_rates(sorted(sizes), rule, cap=cap, temperature=temperature)
    assert rates == sorted(rates)


@given(sizes, by_size, caps, temperatures, st.integers(0, 10**6), st.data())
def test_more_rows_of_one_task_raise_no_other_rate(sizes, rule, cap, temperature, more, data):
    grown = data.draw(st.integers(0, len(sizes) - 1))
    larger = [size + more * (i == grown) for i, size in enumerate(sizes)]
    before = task_rates(sizes, rule, cap=cap, temperature=temperature)
    after = task_rates(larger, rule, cap=cap, temperature=temperature)
    assert all(after[i] >= before[i] if i == grown else after[i] <= before[i] for i in range(len(sizes)))


@given(sizes, st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_lower_cap_never_raises_the_largest_rate(sizes, one, other):
    low, high = sorted([one, other])
    assert max(task_rates(sizes, "proportional", cap=low)) <= max(task_rates(sizes, "proportional", cap=high))


@given(sizes, caps, st.integers(1, 10**6))
def test_a_floor_lifts_tasks_of_fewer_rows_after_the_cap(sizes, cap, floor):
    counted = [max(min(size, cap or size), floor) for size in sizes]
    rates = task_rates(sizes, "proportional", cap=cap, floor=floor)
    assert rates == [Fraction(count, sum(counted)) for count in counted]


@given(sizes, st.integers(1, 10**6))
def test_a_floor_never_lowers_the_smallest_rate(sizes, floor):
    assert min(task_rates(sizes, "proportional", floor=floor)) >= min(task_rates(sizes, "proportional"))


@given(sizes, st.integers(1, 1000), st.integers(1, 1000))
def test_with_a_mean_length_shares_are_shares_of_tokens(sizes, length, other):
    lengths = [Fraction(length if i % 2 else other) for i in range(len(sizes))]
    drawn = task_rates(sizes, "proportional", lengths=lengths)
    tokens = [rate * mean for rate, mean in zip(drawn, lengths, strict=True)]
    wanted = [float(share) for share in task_rates(sizes, "proportional")]
    assert [float(count / sum(tokens)) for count in tokens] == pytest.approx(wanted, rel=4 * ROUNDING)
    assert sum(drawn) == 1


@given(sizes)
def test_lengths_that_are_all_the_same_change_almost_nothing(sizes):
    drawn = task_rates(sizes, "proportional", lengths=[Fraction(7, 3)] * len(sizes))
    wanted = task_rates(sizes, "proportional")
    assert [float(rate) for rate in drawn] == pytest.approx([float(rate) for rate in wanted], rel=2 * ROUNDING)


@given(sizes)
def test_equal_rates_are_equal(sizes):
    assert task_rates(sizes, "equal") == [Fraction(1, len(sizes))] * len(sizes)


def test_explicit_weights_are_taken_as_written_in_decimal():
    assert task_rates([5, 5, 5], "explicit", weights=[0.1, 0.2, 0.7]) == [Fraction(n, 10) for n in (1, 2, 7)]
    assert task_rates([5, 5], "explicit", weights=[10, 1e-05]) == [Fraction(1000000, 1000001), Fraction(1, 1000001)]


every_rule = st.sampled_from(["proportional", "temperature", "equal", "explicit"])


@settings(deadline=None)
@given(sizes, every_rule, caps, st.none() | st.integers(1, 10**6), temperatures, st.data())
def test_a_weight_is_a_factor_on_what_any_rule_gives(sizes, rule, cap, floor, temperature, data):
    weights = data.draw(st.lists(st.integers(1, 1000), min_size=len(sizes), max_size=len(sizes)))
    said = {"cap": cap, "floor": floor, "temperature": temperature}
    weighed = [
        rate * Fraction(weight, 100) for rate, weight in zip(task_rates(sizes, rule, **said), weights, strict=True)
    ]
    rates = task_rates(sizes, rule, weights=[weight / 100 for weight in weights], **said)
    assert rates == [each / sum(weighed) for each in weighed]


@given(sizes, every_rule, st.floats(0.01, 100))
def test_weights_that_are_all_the_same_change_nothing(sizes, rule, weight):
    assert task_rates(sizes, rule, weights=[weight] * len(sizes)) == task_rates(sizes, rule)


@given(sizes, st.integers(1, 99), st.integers(1, 1000))
def test_a_weight_beside_a_fixed_share_does_nothing_to_it(sizes, percent, weight):
    shares = [percent / 100, *[None] * len(sizes)]
    rates = task_rates([9, *sizes], "proportional", weights=[weight, *[1] * len(sizes)], shares=shares)
    assert rates == task_rates([9, *sizes], "proportional", shares=shares)


def test_the_order_is_cap_floor_temperature_weight():
    rates = task_rates([1, 400, 10**6], "temperature", cap=10_000, floor=100, temperature=2, weights=[1, 3, 0.5])
    assert rates == [Fraction(n, 10 + 60 + 50) for n in (10, 60, 50)]


def test_explicit_without_weights_is_equal():
    assert task_rates([3, 1], "explicit") == [Fraction(1, 2)] * 2


@given(sizes, st.lists(st.integers(1, 99), min_size=1, max_size=5), by_size)
def test_fixed_shares_stay_and_the_others_divide_the_rest_by_the_rule(sizes, percents, rule):
    fixed = [percent / 1000 for percent in percents]  # five times 99 per mille leave something
    shares = [*fixed, *[None] * len(sizes)]
    rates = task_rates([7] * len(fixed) + sizes, rule, temperature=3, shares=shares)
    assert rates[: len(fixed)] == [Fraction(percent, 1000) for percent in percents]
    rest = 1 - sum(rates[: len(fixed)])
    assert rates[len(fixed) :] == [rest * rate for rate in task_rates(sizes, rule, temperature=3)]


def test_fixed_shares_that_miss_one_by_a_rounding_are_scaled():
    assert task_rates([1, 2, 3], "equal", shares=[0.333, 0.333, 0.333]) == [Fraction(1, 3)] * 3


def test_fixed_shares_that_leave_nothing_are_refused():
    # In floating point these ten sum to less than 1.
    with pytest.raises(FlantuneError) as told:
        task_rates([5] * 12, "proportional", shares=[0.1] * 10 + [None, None])
    assert str(told.value) == (
        "tasks: share: the fixed shares sum to 1 and leave nothing for the other tasks; make them smaller"
    )
