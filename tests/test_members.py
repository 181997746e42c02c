"""Members in mixtures: from tasks with rows, mixtures inside, phases and lengths to draws, plan and order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest

from flantune.errors import FlantuneError
from flantune.mixture.lengths import SAMPLE, measured
from flantune.mixture.order import build_order, order_key
from flantune.mixture.plan import plan
from flantune.mixture.shape import MixturePart
from flantune.mixture.window import draw_function, exact_rates, exemplar_counts, option_ways, planned_shares
from flantune.preparation import in_phases, phases_at
from flantune.recipe import recipe_from
from small_mixture import ByteEncoder, made_task, member, rule


def rows(count, words):
    return [{"a": f"row {i}", "b": " ".join(["word"] * words)} for i in range(count)]


@pytest.fixture
def tasks(tmp_path):
    """Three tasks of 10, 20 and 30 rows, with targets of 5, 15 and 45 tokens."""
    return [
        made_task(tmp_path / "tasks", f"task{n}", rows(10 * n, words), ["{{ a }}? ||| {{ b }}"])
        for n, words in ((1, 1), (2, 3), (3, 9))
    ]


def inside(name, around="", **fields):
    return around, MixturePart(name, (), **fields)


def test_members_stand_in_the_mixtures_that_they_name(tasks):
    members = [member(tasks[0]), member(tasks[1], inside="in"), member(tasks[2], inside="deep", cap=5)]
    nested = rule(mixtures=(inside("in", share=0.4), inside("deep", "in", share=0.25)))
    assert exact_rates(members, nested) == [Fraction(3, 5), Fraction(3, 10), Fraction(1, 10)]
    drawn = Counter(draw_function(members, nested).draws(range(1000)).tasks.tolist())
    assert all(abs(drawn[i] - share) < 3 for i, share in enumerate([600, 300, 100]))


def test_max_epochs_of_a_member_bounds_its_draws(tasks):
    members = [member(tasks[0], max_epochs=1.5), member(tasks[1])]
    counts = draw_function(members, rule()).schedule.counts(200)
    assert counts.tolist() == [15, 185]
    assert planned_shares(members, rule(), 200) == [Fraction(15, 200), Fraction(185, 200)]
    assert planned_shares(members, rule(), 30) == exact_rates(members, rule())


def test_phases_change_rates_from_their_draw_on(tasks):
    members = [member(task) for task in tasks]
    phased = rule(phases=((60, {"task0": {"share": 0}, "": {"rates": "equal"}}),))
    with pytest.raises(FlantuneError) as told:
        draw_function(members, phased)
    assert str(told.value) == (
        'mixture.phases.0: no task or mixture "task0" to change; did you mean "task3"? (task1, task2, task3)'
    )
    phased = rule(phases=((60, {"task1": {"share": 0}, "": {"rates": "equal"}}),))
    counts = draw_function(members, phased).schedule.counts
    assert counts(60).tolist() == [10, 20, 30]
    assert counts(160).tolist() == [10, 70, 80]


def test_lengths_are_measured_only_where_tokens_are_shared(tasks):
    members = tuple(member(task) for task in tasks)
    assert measured(members, rule(), ByteEncoder()) == members
    for change in ({"share_of": "tokens"}, {"mixtures": (inside("in", share_of="tokens"),)}):
        assert all(each.lengths for each in measured(members, rule(**change), ByteEncoder()))


def test_the_lengths_of_a_task_are_those_of_its_own_draws(tasks):
    members = [member(task, weight=n, share=0.2) for n, task in enumerate(tasks, start=1)]
    for each, target in zip(measured(members, rule(share_of="tokens"), ByteEncoder()), (5, 15, 45), strict=True):
        assert each.lengths["target_tokens"] == target
        assert target + 7 <= each.lengths["tokens"] < target + 9  # <start>, "row 7?" or "row 17?"


@pytest.mark.parametrize("unit", ["target_tokens", "tokens"])
def test_planned_shares_of_tokens_come_out_in_the_order(tasks, unit, tmp_path):
    by_tokens = rule(rates="equal", share_of=unit)
    members = measured([member(task) for task in tasks], by_tokens, ByteEncoder())
    order = build_order(members, by_tokens, 3000, ByteEncoder(), tmp_path / "orders")
    counted = plan(members, by_tokens, order, draws=3000, rows_per_step=4)["tasks"]
    tokens = [
        task["draws"] * (task["mean_target_tokens"] + (unit == "tokens") * task["mean_input_tokens"])
        for task in counted
    ]
    # A task's share of draws is off by less than 3 of some hundreds, its mean input by less than a token of twenty.
    assert [count / sum(tokens) for count in tokens] == pytest.approx([1 / 3] * 3, rel=0.02)


def test_a_task_none_of_whose_draws_fit_has_no_share_of_tokens(tasks):
    with pytest.raises(FlantuneError) as told:
        measured([member(tasks[2])], rule(share_of="tokens", capacity=40), ByteEncoder())
    assert str(told.value) == (
        f"of {SAMPLE} draws of task task3 none fits into a packed row of 40 tokens, so its share of tokens cannot be "
        "planned; raise mixture.capacity"
    )


def test_the_key_of_an_order_depends_on_mixtures_inside_phases_and_limits(tasks):
    plain, equal = [member(task) for task in tasks], rule(rates="equal")
    inner = [replace(plain[0], inside="in"), *plain[1:]]
    keys = {
        order_key(members, how, 100, ByteEncoder())
        for members, how in [
            (plain, equal),
            (inner, replace(equal, mixtures=(inside("in"),))),  # the same rates in another tree
            (plain, rule()),
            (plain, replace(equal, phases=((50, {"": {"rates": "proportional"}}),))),
            (plain, replace(equal, phases=((51, {"": {"rates": "proportional"}}),))),
            ([replace(plain[0], max_epochs=1.0), *plain[1:]], equal),
        ]
    }
    assert len(keys) == 6


def test_the_plan_tells_the_share_of_the_whole_run(tasks, tmp_path):
    members = [member(tasks[0], max_epochs=1.0), member(tasks[1])]
    order = build_order(members, rule(), 100, ByteEncoder(), tmp_path / "orders")
    made = plan(members, rule(), order, draws=100, rows_per_step=4)["tasks"]
    assert [task["rate"] for task in made] == [0.1, 0.9]
    assert [task["draws"] for task in made] == [10, 90]


def test_phases_ask_otherwise_from_their_draw_on(tmp_path):
    inverted = {"text": "{{ b }}: ||| {{ a }}", "inverted": True}
    task = made_task(
        tmp_path, "task", rows(40, 1), ["{{ a }}? {{ options }} ||| {{ b }}", inverted], answer_choices="x"
    )
    begin = member(task, inverted=0.0, options=0.0)
    then = replace(begin, inverted=0.25, options=1.0, few_shot=0.5, exemplars={2: 1})
    phased = replace(begin, later=((40, then),))
    whole, alone = (draw_function([it], rule()).draws(range(120)) for it in (phased, begin))
    assert [name for name, _ in option_ways(phased)] == [None, *task.styles]
    assert [share for _, share in exemplar_counts(phased)] == [1, 0]
    for field in ("tasks", "rows", "epochs"):
        assert getattr(whole, field).tolist() == getattr(alone, field).tolist()
    assert not any(chosen[:40].any() for chosen in (whole.templates, whole.options, whole.shots))
    assert Counter(whole.templates[40:].tolist()) == {0: 60, 1: 20}
    assert whole.options[40:].all()
    assert abs(whole.shots[40:].sum() - 40) <= 2
    assert len({order_key([it], rule(), 100, ByteEncoder()) for it in (begin, phased, then)}) == 3


def test_members_are_asked_as_the_phases_of_a_recipe_say(tmp_path):
    task = made_task(tmp_path, "task", rows(4, 1), ["{{ a }}? ||| {{ b }}"])
    phases = [
        {"from_draw": 5, "rates": "equal"},
        {"from_draw": 10, "options": 0.5, "tasks": {"task": {"few_shot": {"share": 0.2}}}},
        {"from_draw": 20},
    ]
    recipe = recipe_from({"tasks": [str(tmp_path / "task.yaml")], "mixture": {"phases": phases}})
    (made,) = in_phases(recipe, [member(task)], [5, 10, 20])
    assert [(start, then.options, then.few_shot) for start, then in made.later] == [(10, 0.5, 0.2), (20, 1.0, 0.0)]
    assert phases_at(recipe, 30) == ((5, {"": {"rates": "equal"}}), (10, {"": {}, "task": {}}), (20, {"": {}}))
