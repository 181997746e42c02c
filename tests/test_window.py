"""Windows: how draws are asked, and what gives way when a prompt is too long."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
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
