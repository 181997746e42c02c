"""Windows: how draws are asked, and what gives way when a prompt is too long."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.lengths import with_target_capacity
from flantune.mixture.packing import fitting_target_capacity
from flantune.mixture.window import Member, WindowBuilder, exemplar_counts, option_ways
from flantune.tasks import Task
from flantune.tasks.conversation import Conversation
from flantune.tasks.options import STYLES
from flantune.tasks.schema import ConversationChoice
from flantune.tasks.template import Template
from small_mixture import ByteEncoder, rule

COLOURS = [{"thing": f"thing {i}", "colour": ("red", "green", "blue")[i % 3]} for i in range(30)]
TEMPLATES = ["Which colour has {{ thing }}?\n\n{{ options }} ||| {{ colour }}", "{{ thing }} is ||| {{ colour }}"]
STYLE_NAMES = ["dashes", "commas", "letter_answers"]


def colours(**fields):
    fields.setdefault("options", {"styles": STYLE_NAMES})
    return Task("colours", {"train": COLOURS}, TEMPLATES, answer_choices=["red", "green", "blue"], **fields)


def member(task, **options):
    return Member(task, task.split("train"), **options)


def segments(*members, draws=240, capacity=4000, seed=0, window=60):
    builder = WindowBuilder(members, rule(capacity=capacity, window=window, seed=seed), ByteEncoder())
    rows, dropped = [], []
    for number in range(-(-draws // window)):
        packed, lost = builder.window(number, draws)
        rows += [segment for row in packed for segment in row]
        dropped += lost
    return sorted(rows, key=lambda segment: segment.draw), dropped


def text(segment):
    return bytes(segment.input_ids[1:]).decode(), bytes(segment.target_ids[:-1]).decode()


@settings(max_examples=20, deadline=None)
@given(shown=st.sampled_from([0.0, 0.25, 0.5, 1.0]), seed=st.integers(0, 99))
def test_options_are_shown_in_their_share_and_in_all_their_styles(shown, seed):
    one = member(colours(), options=shown)
    made, _ = segments(one, draws=600, seed=seed)
    asked = [segment for segment in made if segment.template == 0]
    ways = [style for style, _ in option_ways(one)]
    counted = Counter(ways[segment.options] for segment in asked)
    for style, share in option_ways(one):
        assert abs(counted[style] - float(share) * len(asked)) <= 30
    for segment in asked:
        prompt, style = text(segment)[0], ways[segment.options]
        listed = style is not None and style.written(["red", "green", "blue"]) in prompt
        assert listed if style is not None else prompt.endswith("?")


def test_an_answer_by_letter_names_the_row_s_colour_also_when_options_are_shuffled():
    made, _ = segments(member(colours(options={"styles": ["letter_answers"], "shuffle": True})))
    orders = set()
    for segment in made:
        prompt, target = text(segment)
        if segment.template == 0:
            lines = dict(line[1:].split(") ") for line in prompt.splitlines() if line.startswith("("))
            assert lines[target] == COLOURS[segment.row]["colour"]
            orders.add(tuple(lines.values()))
        else:
            assert target == COLOURS[segment.row]["colour"]
    assert len(orders) == 6


def test_a_row_s_own_field_of_the_name_options_is_the_row_s():
    rows = [{"question": f"q{i}", "options": f"own {i}", "answer": "yes"} for i in range(5)]
    task = Task("t", {"train": rows}, ["{{ question }} {{ options }} ||| {{ answer }}"], answer_choices=["yes", "no"])
    assert task.example(3) == ("q3 own 3", "yes")


def test_a_template_that_shows_options_without_answer_choices_is_told():
    task = Task("t", {"train": [{"q": "a"}]}, ["{{ q }} {{ options }} ||| yes"])
    with pytest.raises(FlantuneError) as caught:
        task.example(0)
    assert str(caught.value) == (
        'task t: template "template_1" shows options, but the task has no "answer_choices"; add them (row at row 0)'
    )


@settings(max_examples=20, deadline=None)
@given(share=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 99))
def test_exemplars_are_asked_for_in_their_share_and_never_hold_the_row_itself(share, seed):
    one = member(colours(), few_shot=share, exemplars={1: 1, 3: 2})
    made, _ = segments(one, draws=600, seed=seed)
    counted = Counter(segment.exemplars for segment in made)
    for count, planned in exemplar_counts(one):
        assert abs(counted[count] - float(planned) * len(made)) <= 30
    for segment in made:
        assert text(segment)[0].count(COLOURS[segment.row]["thing"] + "?") <= 1


def test_the_same_draws_ask_the_same_way_in_windows_of_any_size():
    one = member(colours(), options=0.5, few_shot=0.5, exemplars={2: 1})
    assert segments(one, window=60) == segments(one, window=17)


def test_exemplars_give_way_one_by_one_until_the_prompt_fits_and_are_counted_as_shown():
    one = member(colours(), few_shot=1.0, exemplars={5: 1})
    roomy, _ = segments(one)
    assert {segment.exemplars for segment in roomy} == {5}
    narrow, dropped = segments(one, capacity=150)
    assert not dropped
    assert {segment.exemplars for segment in narrow} > {0, 1}
    for wide, tight in zip(roomy, narrow, strict=True):
        assert tight.length <= 150
        assert tight.target_ids == wide.target_ids
        assert text(tight)[0] == text(wide)[0] if tight.exemplars == 5 else len(tight.input_ids) < len(wide.input_ids)


def test_a_template_without_few_shot_never_shows_exemplars():
    task = colours()
    chosen = [*task.templates]
    object.__setattr__(chosen[1], "few_shot", False)
    made, _ = segments(member(task, few_shot=1.0, exemplars={2: 1}))
    assert {(segment.template, segment.exemplars) for segment in made} == {(0, 2), (1, 0)}


def test_a_row_that_renders_to_nothing_is_a_mistake_or_left_out_as_the_task_says():
    rows = [{"x": "a", "y": "1"}, {"x": "b", "y": ""}]
    strict = Task("t", {"train": rows}, ["{{ x }} ||| {{ y }}"])
    with pytest.raises(FlantuneError) as caught:
        segments(member(strict))
    assert str(caught.value) == (
        'task t: template "template_1" renders an empty target; filter such rows or change the template (row at row 1)'
    )
    made, dropped = segments(member(Task("t", {"train": rows}, ["{{ x }} ||| {{ y }}"], empty="skip")), draws=10)
    assert {segment.row for segment in made} == {0}
    assert Counter((item["row"], item["reason"]) for item in dropped) == {(1, "renders an empty input or target"): 5}


TURNS = [("system", "Be kind."), ("user", "one"), ("assistant", "two " * 20), ("user", "three")]


def test_the_first_turns_of_a_conversation_give_way_and_the_system_s_text_stays():
    template = Template("chat", conversation=ConversationChoice())
    task = Task("chat", {"train": [{"history": TURNS, "target": "four"}]}, [template])
    (whole,), _ = segments(member(task), draws=1)
    (shorter,), _ = segments(member(task), draws=1, capacity=60)
    assert text(whole)[0] == str(Conversation(TURNS))
    assert text(shorter) == ("System: Be kind.\nUser: three", "four")


def test_all_styles_are_told_apart_in_the_order():
    task = colours(options={"styles": sorted(STYLES)})
    one = member(task)
    made, _ = segments(one, draws=900)
    assert {segment.options for segment in made if segment.template == 0} == set(range(len(STYLES)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), weight=st.sampled_from([1.0, 0.3, 2.5]))
def test_per_task_a_task_s_share_of_the_loss_is_its_share_of_draws_in_every_window(seed, weight):
    words = [{"n": str(i), "text": "word " * (1 + i % 13)} for i in range(17)]
    long = Task("long", {"train": words}, ["{{ n }} ||| {{ text }}"])
    builder = WindowBuilder(
        [member(colours()), member(long, loss_weight=weight)],
        rule(capacity=4000, window=50, seed=seed, per="task"),
        ByteEncoder(),
    )
    for number in range(3):
        made = [segment for row in builder.window(number, 150)[0] for segment in row]
        for task, factor in enumerate([1.0, weight]):
            own = [segment for segment in made if segment.task == task]
            loss = sum(segment.loss_weight * len(segment.target_ids) for segment in own)
            assert loss == pytest.approx(factor * len(own), rel=1e-12)
            assert len({segment.loss_weight for segment in own}) == 1


# Rows of two capacities

SIZED = [{"text": "t" * n, "answer": "a" * m} for n, m in [(10, 3), (30, 9), (40, 2), (50, 4), (20, 12), (39, 11)]]


def sized(**fields):
    return Task("sized", {"train": SIZED}, ["{{ text }} ||| {{ answer }}"], **fields)


def windows_of_pairs(task, **how):
    builder = WindowBuilder([member(task)], rule(window=len(SIZED), **how), ByteEncoder())
    return builder.window(0, len(SIZED))


def test_inputs_and_targets_of_an_encoder_decoder_row_have_capacities_of_their_own():
    rows, dropped = windows_of_pairs(sized(), capacity=60, target_capacity=13)
    assert dropped == []
    assert sorted(s.row for row in rows for s in row) == list(range(len(SIZED)))
    assert all(sum(len(s.input_ids) for s in row) <= 60 for row in rows)
    assert all(sum(len(s.target_ids) for s in row) <= 13 for row in rows)


def test_a_target_longer_than_the_target_capacity_is_dropped_and_a_prompt_longer_than_the_other_gives_way():
    rows, dropped = windows_of_pairs(sized(shorten="text"), capacity=41, target_capacity=12)
    assert [(lost["row"], lost["reason"]) for lost in dropped] == [(4, "target longer than a packed row")]
    kept = {s.row: s for row in rows for s in row}
    assert {row: s.cut for row, s in kept.items()} == {0: 0, 1: 0, 2: 0, 3: 10, 5: 0}
    assert (len(kept[3].input_ids), len(kept[3].target_ids)) == (41, 5)


def test_the_target_capacity_of_a_mixture_holds_its_longest_target_and_is_the_same_each_time():
    lengths = rule(window=len(SIZED), capacity=60)
    chosen = {with_target_capacity([member(sized())], lengths, ByteEncoder(), 600).target_capacity for _ in range(2)}
    assert chosen == {
        fitting_target_capacity([len(r["text"]) + 1 for r in SIZED], [len(r["answer"]) + 1 for r in SIZED], 60)
    }
    assert chosen == {round(1.06 * 47 / 195 * 60)}


def test_a_mixture_none_of_whose_draws_fits_has_no_target_capacity():
    with pytest.raises(FlantuneError) as told:
        with_target_capacity([member(sized())], rule(capacity=2), ByteEncoder(), 600)
    assert str(told.value) == "of 600 draws none fits into a packed row of 2 tokens; raise mixture.capacity"
