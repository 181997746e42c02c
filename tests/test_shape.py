"""The shape of a mixture: rates of tasks in mixtures in mixtures, shares of tokens, and what a phase changes."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.rates import Unit, task_rates
from flantune.mixture.shape import MixturePart, TaskPart, changed, parts_of, rated
from strategies import sizes

caps = st.none() | st.integers(1, 10**6)


def tasks(*rows, name="t", **fields):
    return tuple(TaskPart(f"{name}{i}", size, **fields) for i, size in enumerate(rows))


def shares(mixture):
    """The share of each task, in order."""
    return list(rated(mixture).tasks().values())


@settings(deadline=None)
@given(sizes, st.sampled_from(["proportional", "temperature", "equal"]), caps, st.integers(1, 100))
def test_a_mixture_of_tasks_alone_has_their_rates(rows, rule, cap, floor):
    mixture = MixturePart("", tasks(*rows), rates=rule, cap=cap, floor=floor, temperature=3)
    assert shares(mixture) == task_rates(rows, rule, cap=cap, floor=floor, temperature=3)


@given(st.lists(sizes, min_size=1, max_size=5), caps)
def test_proportional_mixtures_in_a_proportional_mixture_are_as_if_they_were_one(many, cap):
    inner = [MixturePart(f"m{i}", tasks(*rows, name=f"m{i}/"), cap=cap) for i, rows in enumerate(many)]
    flat = [size for rows in many for size in rows]
    assert shares(MixturePart("", tuple(inner))) == task_rates(flat, "proportional", cap=cap)


def test_the_share_of_a_mixture_does_not_depend_on_how_many_tasks_are_in_it():
    for count in (1, 2, 50):
        inner = MixturePart("in", tasks(*[100] * count), share=0.3)
        assert sum(shares(MixturePart("", (*tasks(7, 9, name="o"), inner)))[2:]) == Fraction(3, 10)


def test_weights_count_on_the_level_where_they_stand():
    plain = MixturePart("plain", tasks(100, 300, name="p"), weight=1)
    inverted = MixturePart("inverted", tasks(100, 300, name="i"), weight=0.3)
    thoughts = MixturePart("thoughts", (plain, inverted), rates="explicit", weight=5)
    mixture = MixturePart("", (thoughts, TaskPart("rest", 10, weight=95)), rates="explicit")
    assert shares(mixture) == [
        Fraction(5, 100) * outer * inner
        for outer in (Fraction(10, 13), Fraction(3, 13))
        for inner in (Fraction(1, 4), Fraction(3, 4))
    ] + [Fraction(95, 100)]


@given(st.sampled_from(["proportional", "temperature", "equal"]), st.integers(1, 50))
def test_the_weight_of_a_mixture_inside_is_a_factor_and_weights_in_it_leave_its_share(rule, weight):
    def share_inside(**fields):
        inner = MixturePart("in", (TaskPart("a", 300, weight=fields.pop("own", 1.0)), TaskPart("b", 100)), **fields)
        drawn = rated(MixturePart("", (inner, TaskPart("c", 400)), rates=rule, temperature=2)).tasks()
        return drawn["a"] + drawn["b"]

    plain = share_inside()
    assert share_inside(weight=weight) == weight * plain / (weight * plain + 1 - plain)
    assert share_inside(own=float(weight)) == plain


def test_what_is_said_of_a_task_goes_before_what_is_said_of_all_in_its_mixture():
    parts = (
        TaskPart("usual", 1000),
        TaskPart("small", 1),
        TaskPart("own cap", 1000, cap=3),
        TaskPart("own floor", 1, floor=500),
        TaskPart("larger cap", 1000, cap=800),
    )
    counted = [100, 10, 3, 500, 800]
    assert shares(MixturePart("", parts, cap=100, floor=10)) == [Fraction(n, sum(counted)) for n in counted]


def lengthy(name, rows, target_tokens, tokens, **fields):
    lengths: Mapping[Unit, Fraction] = {"target_tokens": Fraction(target_tokens), "tokens": Fraction(tokens)}
    return TaskPart(name, rows, lengths=lengths, **fields)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 10**4), st.integers(1, 10**4)), min_size=1, max_size=12),
    st.sampled_from(["target_tokens", "tokens"]),
)
def test_shares_of_tokens_are_shares_of_what_is_drawn_times_its_length(given_tasks, unit):
    parts = tuple(lengthy(f"t{i}", *numbers) for i, numbers in enumerate(given_tasks))
    drawn = shares(MixturePart("", parts, share_of=unit))
    tokens = [float(rate * part.lengths[unit]) for rate, part in zip(drawn, parts, strict=True)]
    wanted = [float(share) for share in task_rates([n for n, _, _ in given_tasks], "proportional")]
    assert [count / sum(tokens) for count in tokens] == pytest.approx(wanted, rel=1e-5)


def test_a_mixture_inside_counts_by_its_own_mean_length_and_in_the_unit_around_it():
    long = MixturePart("long", (lengthy("a", 10, 100, 400), lengthy("b", 30, 60, 200)), share=0.5)
    whole = MixturePart("", (long, lengthy("c", 10, 7, 70)), share_of="target_tokens")
    drawn = rated(whole).tasks()
    tokens = {"a": drawn["a"] * 100, "b": drawn["b"] * 60, "c": drawn["c"] * 7}
    wanted = {"a": 1 / 8, "b": 3 / 8, "c": 1 / 2}
    total = sum(tokens.values())
    assert {name: float(count / total) for name, count in tokens.items()} == pytest.approx(wanted, rel=1e-5)


def test_a_mixture_inside_may_count_in_another_unit():
    inner = MixturePart("in", (lengthy("a", 10, 100, 400), lengthy("b", 30, 60, 200)), share=0.5, share_of="examples")
    drawn = rated(MixturePart("", (inner, lengthy("c", 10, 7, 70)), share_of="tokens")).tasks()
    assert drawn["b"] == 3 * drawn["a"]
    assert float(drawn["c"] * 70) == pytest.approx(float(drawn["a"] * 400 + drawn["b"] * 200), rel=1e-5)


def test_many_lengths_do_not_make_denominators_without_end():
    parts = tuple(lengthy(f"t{i}", i + 1, Fraction(10**6 + i, 997 + i), 5) for i in range(300))
    rates = shares(MixturePart("", parts, share_of="target_tokens"))
    assert max(rate.denominator for rate in rates) < 10**15


@pytest.fixture
def mixture():
    inner = MixturePart("inner", tasks(10, 30, name="i"), share=0.5)
    return MixturePart("", (*tasks(10, 30, name="o"), inner))


def test_a_phase_changes_what_it_names_and_nothing_else(mixture):
    made = changed(mixture, {"": {"rates": "equal"}, "inner": {"share": 0.2}, "i1": {"cap": 10}})
    assert rated(made).tasks() == {
        "o0": Fraction(2, 5),
        "o1": Fraction(2, 5),
        "i0": Fraction(1, 10),
        "i1": Fraction(1, 10),
    }
    assert changed(mixture, {}) == mixture
    heavier = rated(changed(mixture, {"o1": {"weight": 2}})).tasks()
    assert heavier["o1"] == 6 * heavier["o0"]


def test_a_share_of_nothing_takes_a_part_out(mixture):
    assert [part.name for part in parts_of(changed(mixture, {"inner": {"share": 0}}))] == ["o0", "o1"]
    assert [part.name for part in parts_of(changed(mixture, {"i0": {"share": 0}}))] == ["o0", "o1", "inner", "i1"]


MISTAKES = {
    "o2": ({"o2": {"share": 0.1}}, 'no task or mixture "o2" to change; known: i0, i1, inner, o0, o1'),
    "rates": ({"o1": {"rates": "equal"}}, 'task o1 has no "rates"; known: cap, floor, share, weight'),
    "weight": (
        {"inner": {"weight": 2}},
        "mixture inner has a fixed share, beside which its weight does nothing; change the share",
    ),
    "shares": (
        {"inner": {"share": 0.5}, "o0": {"share": 0.6}},
        "tasks: share: the fixed shares sum to 1.1 and leave nothing for the other tasks; make them smaller",
    ),
    "nothing free": (
        {"o0": {"share": 0.2}, "o1": {"share": 0.2}},
        "each part of the mixture has a fixed share and they sum to 0.9, not 1; change the shares of the others too",
    ),
    "all of inner": (
        {"i0": {"share": 0}, "i1": {"share": 0}},
        "mixture inner has no task left; give one of them a share above 0",
    ),
    "all": (
        {"o0": {"share": 0}, "o1": {"share": 0}, "inner": {"share": 0}},
        "the mixture has no task left; give one of them a share above 0",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_phase_is_told(mixture, changes, message):
    with pytest.raises(FlantuneError) as told:
        rated(changed(mixture, changes))
    assert str(told.value) == message
