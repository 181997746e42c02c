"""The questions of an evaluation: fixed by task and seed, solved examples from the training split only."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.evaluation.prompts import evaluation_set
from flantune.tasks import Task, Template
from flantune.tasks.conversation import Conversation
from flantune.tasks.schema import ConversationChoice

TRAIN = [{"x": f"train {i}", "y": f"t{i}"} for i in range(30)]
TEST = [{"x": f"test {i}", "y": f"e{i}"} for i in range(20)]


def asked(templates=("{{ x }}? ||| {{ y }}",), test=TEST, rows=10, seed=0, exemplars=0, **fields):
    task = Task("t", {"train": TRAIN, "test": test}, list(templates), **fields)
    return evaluation_set(task, split="test", rows=rows, templates="all", seed=seed, exemplars=exemplars).items


@settings(max_examples=30, deadline=None)
@given(exemplars=st.integers(0, 5), seed=st.integers(0, 99))
def test_exemplars_come_from_the_training_split_and_stand_before_the_question(exemplars, seed):
    for item in asked(exemplars=exemplars, seed=seed):
        assert item.exemplars == exemplars
        assert item.prompt.count("train ") == exemplars
        assert item.prompt.count("test ") == 1
        assert item.references[0] not in item.prompt


def test_the_questions_depend_on_the_seed_only():
    assert asked(exemplars=2, seed=3) == asked(exemplars=2, seed=3)
    assert asked(exemplars=2, seed=3) != asked(exemplars=2, seed=4)


def test_a_template_without_few_shot_is_asked_without_exemplars():
    templates = [Template("plain", "{{ x }} ||| {{ y }}", few_shot=False), Template("shown", "{{ x }}! ||| {{ y }}")]
    counted = {(item.template, item.exemplars) for item in asked(templates, exemplars=2)}
    assert counted == {("plain", 0), ("shown", 2)}


def test_the_answer_of_a_chain_of_thought_is_what_is_scored():
    cot = Template("cot", "{{ x }}, why? ||| Since it is so, the answer is {{ y }}.", answer=r"the answer is ([^.]*)")
    for item in asked([cot]):
        assert item.references == (f"e{item.row}",)
        assert item.answer_in(f"Hm. I think the answer is e{item.row}. Yes.") == f"e{item.row}"


def test_where_answers_are_chosen_a_chain_of_thought_is_not_asked():
    cot = Template("cot", "{{ x }}, why? ||| So, the answer is {{ y }}", answer="the answer is (.*)")
    straight = Template("straight", "{{ x }}? ||| {{ y }}")
    choices = {"answer_choices": [row["y"] for row in TEST], "evaluate_by": "choices"}
    assert {item.template for item in asked([cot, straight], **choices)} == {"straight"}


def test_options_are_written_in_one_style_answered_in_words():
    choices = {"answer_choices": [row["y"] for row in TEST], "options": {"styles": ["letter_answers", "commas"]}}
    for item in asked(["{{ x }}? {{ options }} ||| {{ y }}"], **choices):
        assert "Options: e0, e1, e2" in item.prompt
        assert item.references == (f"e{item.row}",)


def test_rows_that_give_no_question_are_left_out_where_the_task_allows_it():
    test = [*TEST[:3], {"x": "test 3", "y": ""}]
    assert [item.row for item in asked(test=test, empty="skip")] == ["0", "1", "2"]
    with pytest.raises(FlantuneError) as caught:
        asked(test=test)
    assert str(caught.value).startswith('task t: template "template_1" renders an empty target')
    with pytest.raises(FlantuneError) as caught:
        asked(test=test[3:], empty="skip")
    assert str(caught.value) == 'task t: no row of split "test" gives a question'


def test_a_task_of_one_split_is_asked_without_exemplars_and_one_of_others_with_theirs():
    alone = Task("t", {"test": TEST}, ["{{ x }}? ||| {{ y }}"])
    items = evaluation_set(alone, split="test", rows=4, templates="all", seed=0, exemplars=2).items
    assert {item.exemplars for item in items} == {0}
    other = Task("t", {"validation": TRAIN, "test": TEST}, ["{{ x }}? ||| {{ y }}"])
    items = evaluation_set(other, split="test", rows=4, templates="all", seed=0, exemplars=2).items
    assert {item.prompt.count("train ") for item in items} == {2}


def test_a_conversation_keeps_its_turns_where_others_get_exemplars():
    rows = [{"history": [["user", f"hello {i}"]], "target": "hi"} for i in range(9)]
    task = Task("t", {"train": rows, "test": rows}, [Template("chat", conversation=ConversationChoice())])
    for item in evaluation_set(task, split="test", rows=4, templates="all", seed=0, exemplars=2).items:
        assert isinstance(item.prompt, Conversation)
        assert item.exemplars == 0


def test_a_conversation_is_another_question_than_its_words_in_one_turn():
    rows = [{"history": [["user", "hello"]], "target": "hi"}]
    chat = Task("t", {"test": rows}, [Template("chat", conversation=ConversationChoice())])
    text = Task("t", {"test": rows}, [Template("chat", "User: {{ history[0][1] }} ||| {{ target }}")])
    asked = [evaluation_set(task, split="test", rows=1, templates="all", seed=0) for task in (chat, text)]
    assert asked[0].items[0].prompt == asked[1].items[0].prompt
    assert asked[0].fingerprint() != asked[1].fingerprint()
