"""Options: every style shows every choice once, and an answer by mark leads back to the choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks.options import BY_DEFAULT, GAP, LETTERS, STYLES, option_style, without_gap

CHOICES = st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=9,
                   unique=True)  # fmt: skip
NAMES = st.sampled_from(sorted(STYLES))


@given(name=NAMES, choices=CHOICES)
def test_every_style_writes_the_choices_in_their_order(name, choices):
    style = option_style(name)
    written, at = style.written(choices), len(style.heading)
    for choice in choices:
        at = written.index(choice, at) + len(choice)


@given(name=NAMES, choices=CHOICES, data=st.data())
def test_the_answer_of_a_style_names_exactly_one_choice(name, choices, data):
    style = option_style(name)
    target = data.draw(st.sampled_from(choices))
    answers = [style.answered(choice, choices) for choice in choices]
    assert answers.index(style.answered(target, choices)) == choices.index(target)
    assert len(set(answers)) == len(choices)


@given(name=NAMES, choices=CHOICES)
def test_a_target_that_is_no_choice_stays_as_it_is(name, choices):
    assert option_style(name).answered("something else entirely", choices) == "something else entirely"


def test_the_default_styles_answer_in_words():
    assert {STYLES[name].answer for name in BY_DEFAULT} == {"{text}"}
    assert len(BY_DEFAULT) >= 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dashes", "OPTIONS:\n- yes\n- no"),
        ("or", "Answer with yes or no."),
        ("letters", "Options:\n(A) yes\n(B) no"),
        ("letter_answers", "Options:\n(A) yes\n(B) no\nAnswer with the letter."),
        ("slashes", "[yes / no]"),
    ],
)
def test_styles_read_as_a_person_would_write_them(name, expected):
    assert option_style(name).written(["yes", "no"]) == expected


def test_braces_in_a_choice_stay_braces():
    assert option_style("letters").written(["{mark}", "{text}"]) == "Options:\n(A) {mark}\n(B) {text}"


def test_more_choices_than_letters_are_refused():
    with pytest.raises(FlantuneError) as caught:
        option_style("letters").written([str(i) for i in range(len(LETTERS) + 1)])
    assert str(caught.value) == (
        'options style "letters" has 26 marks for 27 answer_choices; choose a style without marks'
    )


def test_an_unknown_style_is_told_with_the_nearest():
    with pytest.raises(FlantuneError) as caught:
        option_style("dash")
    assert str(caught.value).startswith('unknown options style "dash"; did you mean "dashes"?')


@pytest.mark.parametrize(
    ("rendered", "expected"),
    [
        (f"Is it?\n\n{GAP}\n\nAnswer:", "Is it?\n\nAnswer:"),
        (f"Is it? {GAP}", "Is it?"),
        (f"{GAP}\nIs it?", "\nIs it?"),
        ("nothing left out", "nothing left out"),
    ],
)
def test_options_that_are_left_out_leave_no_gap(rendered, expected):
    assert without_gap(rendered) == expected
