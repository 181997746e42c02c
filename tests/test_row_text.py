"""Row texts: the fields that a task shows, as question and as answer, and nothing of its templates' own words."""

from __future__ import annotations

import pytest

from flantune.mixture.row_text import RowText, ShownFields, Texts, sides, text_of
from flantune.tasks.schema import ConversationChoice
from flantune.tasks.task import Task
from flantune.tasks.template import Template


def shown(templates, row, **fields) -> RowText:
    """The texts of a row of a task with these templates."""
    task = Task("mails", {"train": [row]}, templates, **fields)
    return ShownFields.of(task, task.templates).text(row)


ROW = {"id": "7", "body": "Dear all", "title": "Hello", "label": "urgent", "url": "http://x"}


def test_fields_of_the_input_are_the_question_in_the_rows_order_and_those_of_the_target_the_answer():
    assert shown(["Mail: {{ title }} {{ body }} ||| {{ label }}"], ROW) == RowText(("Dear all", "Hello"), ("urgent",))


def test_a_field_on_both_sides_is_question():
    assert shown(["{{ body }} ||| {{ body }} {{ label }}"], ROW) == RowText(("Dear all",), ("urgent",))


def test_all_straight_templates_count_and_inverted_ones_only_where_there_is_no_other():
    inverted = Template("inverted", "{{ label }} ||| {{ url }}", inverted=True)
    assert shown(["{{ body }} ||| {{ label }}", Template("title", "{{ title }} ||| {{ label }}"), inverted], ROW) == (
        RowText(("Dear all", "Hello"), ("urgent",))
    )
    assert shown([inverted], ROW) == RowText(("urgent",), ("http://x",))


def test_computed_fields_stand_for_the_fields_behind_them_however_deep():
    fields = {"whole": "{{ title }}: {{ text }}", "text": "{{ body | trim }}", "title": "{{ title | upper }}"}
    assert shown(["{{ whole }} ||| {{ label }}"], ROW, fields=fields) == RowText(("Dear all", "Hello"), ("urgent",))


def test_choices_stand_for_the_fields_that_they_are_made_of():
    row = {"question": "Which?", "first": "red", "second": "blue", "label": 1}
    templates = ["{{ question }} {{ options }} ||| {{ answer_choices[label] }}"]
    assert shown(templates, row, answer_choices="{{ first }} ||| {{ second }}") == RowText(
        ("Which?", "red", "blue"), ("1",)
    )
    assert shown(templates, row, answer_choices=["red", "blue"]) == RowText(("Which?",), ("1",))


def test_references_are_answers():
    row = {"text": "long", "one": "a", "two": "b"}
    assert shown(["{{ text }} ||| {{ one }}"], row, references=["{{ one }}", "{{ two }}"]) == RowText(
        ("long",), ("a", "b")
    )


def test_a_conversation_is_its_turns():
    template = Template("chat", conversation=ConversationChoice())
    row = {"history": [["user", "Hi!"], ["assistant", "Hello."], ["user", "Why?"]], "target": "Because.", "id": 1}
    assert shown([template], row) == RowText(("user Hi! assistant Hello. user Why?",), ("Because.",))


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("{{ a }} ||| {{ b }}", {"a"}, {"b"}),
        ("{% if a %}{{ b }} ||| {{ c }}{% else %}{{ d }} ||| {{ e }}{% endif %}", {"a", "b", "d"}, {"c", "e"}),
        ("{% if a %}x{% elif b %}{{ c }} ||| {{ d }}{% endif %}{{ e }}", {"a", "b", "c"}, {"d", "e"}),
        ("{% for each in a %}{{ each }}{% endfor %} ||| {% set x = b %}{{ x }}", {"a"}, {"b"}),
        ('{{ "a b" | field }} ||| {{ "c|||d" | field }}', {"a b"}, {"c|||d"}),
        ("{{ a }} ||| b ||| {{ c }}", {"a"}, {"c"}),
    ],
)
def test_the_sides_of_a_template_are_divided_by_its_separator(text, before, after):
    assert sides(Template("t", text)) == (before, after)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (None, ""), (True, ""), (1.5, "1.5"), (["a", ["b", None], {"c": "d", "e": 0}], "a b d 0"), ([], "")],
)
def test_the_text_of_a_value_is_all_texts_and_numbers_in_it(value, text):
    assert text_of(value) == text


def test_texts_are_made_of_rows_as_they_are_asked_for():
    task = Task("mails", {"train": [ROW, {**ROW, "body": "Bye"}]}, ["{{ body }} ||| {{ label }}"])
    texts = Texts(task.split("train"), ShownFields.of(task, task.templates))
    assert [row.question for row in texts] == [("Dear all",), ("Bye",)]
    assert texts[1] == RowText(("Bye",), ("urgent",))
    assert len(texts) == 2
