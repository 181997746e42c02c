"""Conversations, rendered triples and instructions become rows."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks import load_task
from flantune.tasks.conversation import Conversation
from flantune.tasks.foreign.conversations import ROLE_OF, conversation_rows, triple_row
from reading import json_lines, read, texts, told

HOSTILE = ["{{ 7 * 7 }}", "{% raw %}", "|||", "a" * 10**6, "\x00\x1b[31m", "<|im_end|>", "\u202e\U0001f600", "\r\n"]


def said(*turns):
    """A conversation in messages form: texts by the user and the assistant in turn."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def test_the_last_answer_is_the_target_and_what_was_said_before_the_history():
    row = {"id": 7, "messages": said("Hi", "Hello", "How are you?", "Fine")}
    assert conversation_rows(row) == [
        {"id": 7, "history": [["user", "Hi"], ["assistant", "Hello"], ["user", "How are you?"]], "target": "Fine"}
    ]


def test_each_answer_is_a_target_where_all_are_asked_for():
    rows = conversation_rows({"messages": said("Hi", "Hello", "How are you?", "Fine")}, targets="all")
    assert [(len(row["history"]), row["target"]) for row in rows] == [(1, "Hello"), (3, "Fine")]


def test_a_conversation_that_ends_with_a_question_has_the_answer_before_it_as_its_last():
    rows = conversation_rows({"messages": said("Hi", "Hello", "And then?")})
    assert [(len(row["history"]), row["target"]) for row in rows] == [(1, "Hello")]


@given(st.lists(st.sampled_from(sorted(set(ROLE_OF) - {"function_call", "tool_call"})), max_size=8), st.booleans())
def test_targets_are_answers_with_something_before_them_and_nothing_is_lost(names, sharegpt):
    speaker, content = ("from", "value") if sharegpt else ("role", "content")
    turns = [{speaker: name, content: f"text {i}"} for i, name in enumerate(names)]
    rows = conversation_rows({"messages": turns}, targets="all")
    expected = [i for i, name in enumerate(names) if ROLE_OF[name] == "assistant" and i > 0]
    assert [row["target"] for row in rows] == [f"text {i}" for i in expected]
    for at, row in zip(expected, rows, strict=True):
        assert row["history"] == [[ROLE_OF[name], f"text {i}"] for i, name in enumerate(names[:at])]
    assert conversation_rows({"messages": turns}, targets="last") == rows[-1:]


def test_calls_of_tools_are_answers_and_their_results_are_the_tools_turns():
    turns = [
        {"from": "human", "value": "Weather in Rome?"},
        {"from": "function_call", "value": '{"name": "weather"}'},
        {"from": "observation", "value": '{"degrees": 21}'},
        {"from": "gpt", "value": "21 degrees."},
    ]
    row = {"conversations": turns, "tools": '[{"name": "weather"}]'}
    call, answer = conversation_rows(row, "conversations", "all", tools="tools")
    assert call == {
        "tools": '[{"name": "weather"}]',
        "history": [["system", 'You may call these tools:\n[{"name": "weather"}]'], ["user", "Weather in Rome?"]],
        "target": '{"name": "weather"}',
    }
    assert [role for role, _ in answer["history"]] == ["system", "user", "assistant", "tool"]


@pytest.mark.parametrize(("content", "before"), [(None, ""), ("", ""), ("One moment.", "One moment.\n")])
def test_calls_in_the_form_of_servers_are_told_as_json_after_what_is_said(content, before):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    turns = [*said("Weather?"), {"role": "assistant", "content": content, "tool_calls": [call]}]
    target = conversation_rows({"messages": turns})[0]["target"]
    assert target.startswith(before)
    assert json.loads(target.removeprefix(before)) == [call["function"]]


def test_parts_of_a_text_are_joined():
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        *said("", "c")[1:],
    ]
    assert conversation_rows({"messages": turns})[0]["history"] == [["user", "ab"]]


def test_a_system_field_comes_first_and_before_the_tools():
    row = {"prompt": "Be brief.", "tools": [{"name": "f"}], "messages": said("Hi", "Hello")}
    history = conversation_rows(row, system="prompt", tools="tools")[0]["history"]
    assert history[0] == ["system", 'Be brief.\n\nYou may call these tools:\n[{"name": "f"}]']
    empty = {"prompt": " ", "tools": [], "messages": said("Hi", "Hello")}
    assert conversation_rows(empty, system="prompt", tools="tools")[0]["history"] == [["user", "Hi"]]


def test_a_turn_of_weight_zero_and_an_empty_one_are_shown_and_never_learned():
    turns = said("a", "b", "c", "", "e", "f")
    turns[1]["weight"] = 0
    rows = conversation_rows({"messages": turns}, targets="all")
    assert [row["target"] for row in rows] == ["f"]
    assert [text for _, text in rows[0]["history"]] == ["a", "b", "c", "", "e"]


@pytest.mark.parametrize("turns", [[], said("only a question"), [{"from": "gpt", "value": "only an answer"}]])
def test_a_conversation_without_an_answer_to_anything_gives_no_row(turns):
    assert conversation_rows({"messages": turns}, targets="all") == []


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_said_is_text_and_nothing_else(text):
    assert conversation_rows({"messages": said(text, text)}) == [{"history": [["user", text]], "target": text}] or (
        not text.strip()
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"mesages": []}, 'the row has no field "messages"; did you mean "mesages"? (mesages)'),
        ({"messages": "Hi"}, "`messages` is no list of turns; name the field that holds the conversation"),
        (
            {"messages": ["Hi"]},
            "turn 1 of `messages` is neither {role, content} nor {from, value}; map it with another transform",
        ),
        (
            {"messages": [{"role": "asistant", "content": "x"}]},
            'turn 1 of `messages` has the unknown role "asistant"; did you mean "assistant"? (assistant, bard, '
            "bing, bot, "
            "chatgpt, customer, developer, function, function_call, function_response, gpt, human, ipython, model, "
            "observation, prompter, system, tool, tool_call, tool_response, user)",
        ),
        (
            {"messages": [*said("a"), {"role": "assistant", "content": None}]},
            "turn 2 of `messages` says no text in `content`; only text can be learned, so filter such rows",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]},
            "turn 1 of `messages` says no text in `content`; only text can be learned, so filter such rows",
        ),
        (
            {"messages": said("a", "b"), "target": 1},
            'the row has a field "target" already; rename it before the conversation is read',
        ),
    ],
)
def test_a_mistake_in_a_conversation_is_one_line(row, message):
    assert told(conversation_rows, row) == message


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x))
)
def test_anything_in_place_of_a_conversation_is_rows_or_one_line(value):
    turns = [{"role": value, "content": "x"}, {"role": "user", "content": value, "tool_calls": value, "weight": value}]
    for row in ({"messages": value}, {"messages": [value]}, *({"messages": [turn]} for turn in turns)):
        with contextlib.suppress(FlantuneError):
            conversation_rows(row, targets="all")


# --- triples ------------------------------------------------------------------------------------------------


def test_the_id_of_a_triple_tells_set_split_prompt_and_row():
    row = {"input": "Is it so?", "outputs": ["Yes"], "id": "anli|train_r1|always|sometimes|#0017"}
    assert triple_row(row) == {
        **row,
        "origin": "anli",
        "split": "train_r1",
        "prompt": "always|sometimes",
        "origin_row": "anli|train_r1|#0017",
    }


@pytest.mark.parametrize("id_", ["x", "a|b|c", "a|b|#1", 5, None, ["a"]])
def test_an_id_of_another_form_tells_nothing(id_):
    assert triple_row({"input": "a", "outputs": "b", "id": id_}) == {"input": "a", "outputs": ["b"], "id": id_}


def test_a_field_of_the_row_stays_where_the_id_would_tell_another():
    row = {"input": "a", "outputs": ["b"], "id": "set|train|p|#1", "split": "mine"}
    assert triple_row(row)["split"] == "mine"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "a"}, 'the row has no field "outputs"; known: input'),
        ({"input": 1, "outputs": ["a"]}, "`input` is no text; [input, [output, ...], id] is wanted"),
        ({"input": "a", "outputs": []}, "`outputs` is no list of texts; [input, [output, ...], id] is wanted"),
        ({"input": "a", "outputs": [1]}, "`outputs` is no list of texts; [input, [output, ...], id] is wanted"),
    ],
)
def test_a_mistake_in_a_triple_is_one_line(row, message):
    assert told(triple_row, row) == message


# --- through a task file ------------------------------------------------------------------------------------


def test_a_source_reads_conversations_and_triples_by_transforms(tmp_path):
    (tmp_path / "chat.jsonl").write_text(json_lines([{"id": 1, "messages": said("a", "b", "c", "d")}]))
    rows = read(tmp_path, kind="jsonl", splits={"all": "chat.jsonl"}, transforms=[{"conversation": {"targets": "all"}}])
    assert [row["target"] for row in rows] == ["b", "d"]
    (tmp_path / "triples.json").write_text(json.dumps([["a", ["b", "c"], "s|t|p|#1"]]))
    rows = read(
        tmp_path,
        kind="json",
        splits={"all": "triples.json"},
        header=["input", "outputs", "id"],
        transforms=[{"triple": {}}],
    )
    assert rows[0]["outputs"] == ["b", "c"]
    assert rows[0]["origin_row"] == "s|t|#1"


def test_a_template_asks_a_conversation_turn_by_turn(tmp_path):
    (tmp_path / "chat.jsonl").write_text(
        json_lines([{"messages": said("Hi {{ x }}", "Hello ||| you", "Bye", "See you")}])
    )
    (tmp_path / "chat.yaml").write_text(
        "name: chat\nmetrics: [rouge1]\ntemplates: [{name: chat, conversation: {}}]\n"
        "source: {kind: jsonl, splits: {train: chat.jsonl}, transforms: [{conversation: {targets: all}}]}\n"
    )
    asked, answer = load_task(tmp_path / "chat.yaml").example(1)
    assert isinstance(asked, Conversation)
    assert asked.turns == (("user", "Hi {{ x }}"), ("assistant", "Hello ||| you"), ("user", "Bye"))
    assert answer == "See you"


def test_a_mistake_in_a_conversation_names_its_line(tmp_path):
    (tmp_path / "chat.jsonl").write_text(json_lines([{"messages": said("a", "b")}, {"messages": [{"role": "x"}]}]))
    assert told(
        read, tmp_path, kind="jsonl", splits={"all": "chat.jsonl"}, transforms=[{"conversation": {}}]
    ).startswith(
        f'{tmp_path}/chat.jsonl:2: source.transforms.0 (conversation): turn 1 of `messages` has the unknown role "x"'
    )


ALPACA = """
name: alpaca
source: {kind: jsonl, splits: {train: alpaca.jsonl}}
metrics: [rouge1]
shorten: input
templates:
  - name: preface
    text: |
      Below is an instruction that describes a task{% if input %}, paired with an input{% endif %}. Write a response.

      ### Instruction:
      {{ instruction }}
      {% if input %}
      ### Input:
      {{ input }}
      {% endif %}
      ### Response:
      ||| {{ output }}
  - name: plain
    text: "{{ instruction }}{% if input %}\\n\\n{{ input }}{% endif %} ||| {{ output }}"
  - name: input_first
    text: "{% if input %}{{ input }}\\n\\n{% endif %}{{ instruction }} ||| {{ output }}"
"""


def test_instructions_with_and_without_an_input_need_nothing_but_a_template(tmp_path):
    rows = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"instruction": "Name a colour.", "input": "", "output": "red"},
    ]
    (tmp_path / "alpaca.jsonl").write_text(json_lines(rows))
    (tmp_path / "alpaca.yaml").write_text(ALPACA)
    task = load_task(tmp_path / "alpaca.yaml")
    assert task.example(0, template="plain") == ("Add.\n\n1 and 2", "3")
    assert task.example(1, template="plain") == ("Name a colour.", "red")
    assert "### Input:\n1 and 2" in task.example(0, template="preface")[0]
    assert "Input" not in task.example(1, template="preface")[0]
