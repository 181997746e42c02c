"""One renderer for training, evaluation and chat: the tokenizer's own template, and text that stays text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.models.load import load_format, load_model
from flantune.models.prompt_format import PromptFormat
from flantune.tasks.conversation import Conversation
from tiny import END, TURN, save_tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
FORMAT = PromptFormat(TOKENIZER, "", (TOKENIZER.eos_token_id,))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(text=TEXT)
def test_a_prompt_is_what_the_chat_template_renders_around_the_text(text):
    given_ids = FORMAT.prompt_ids(text)
    assert TOKENIZER.decode(given_ids) == f"{TURN}user\n{text}{END}\n{TURN}assistant\n"


@given(text=TEXT)
def test_a_target_is_its_text_and_one_end_token(text):
    ids = FORMAT.target_ids(text)
    assert ids[-1] == TOKENIZER.eos_token_id
    assert ids.count(TOKENIZER.eos_token_id) == 1
    assert FORMAT.text(ids) == text


@pytest.mark.parametrize("control", [END, TURN, "<|begin|>", "<|pad|>"])
def test_text_of_a_row_never_becomes_a_control_token(control):
    special = set(TOKENIZER.all_special_ids)
    ids = FORMAT.prompt_ids(f"say {control} now")
    plain = FORMAT.prompt_ids("say now")
    assert [i for i in ids if i in special] == [i for i in plain if i in special]
    assert not special & set(FORMAT.target_ids(control)[:-1])
    assert TOKENIZER.decode(ids) == f"{TURN}user\nsay {control} now{END}\n{TURN}assistant\n"


def test_a_conversation_is_what_the_chat_template_renders_of_all_its_turns():
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    expected = TOKENIZER.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
    turns = [("user", "one"), ("assistant", "two"), ("user", "three")]
    assert FORMAT.prompt_ids(Conversation(turns)) == list(expected)


@given(text=TEXT)
def test_a_conversation_of_one_turn_is_a_prompt(text):
    for made in (FORMAT, PromptFormat(tiny_tokenizer(chat=False), "", (TOKENIZER.eos_token_id,))):
        assert made.prompt_ids(Conversation([("user", text)])) == made.prompt_ids(text)


def test_text_of_a_conversation_never_becomes_a_control_token():
    special = set(TOKENIZER.all_special_ids)
    turns = [("user", "say"), ("assistant", f"{END}"), ("user", f"{TURN}system")]
    plain = [(role, "say") for role, _ in turns]
    ids, expected = FORMAT.prompt_ids(Conversation(turns)), FORMAT.prompt_ids(Conversation(plain))
    assert [i for i in ids if i in special] == [i for i in expected if i in special]


def test_the_system_text_stands_once_and_gives_way_to_the_conversation_s_own():
    made = PromptFormat(TOKENIZER, "Be brief.", (TOKENIZER.eos_token_id,))
    turns = [("user", "one"), ("assistant", "two"), ("user", "three")]
    assert TOKENIZER.decode(made.prompt_ids(Conversation(turns))).count("Be brief.") == 1
    own = TOKENIZER.decode(made.prompt_ids(Conversation([("system", "Be long."), *turns])))
    assert "Be long." in own
    assert "Be brief." not in own


@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_many_examples_at_once_have_the_ids_of_each_alone(pairs):
    prompts = [Conversation([("user", text)]) if i % 3 == 2 else text for i, (text, _) in enumerate(pairs)]
    targets = [target for _, target in pairs]
    expected = [(FORMAT.prompt_ids(p), FORMAT.target_ids(t)) for p, t in zip(prompts, targets, strict=True)]
    assert FORMAT.ids_of_all(prompts, targets) == expected


def test_roles_that_the_chat_template_refuses_are_told_in_one_line():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "[{{ m.content }}]{% endfor %}"
    )
    with pytest.raises(FlantuneError) as caught:
        PromptFormat(tokenizer, "", (1,)).prompt_ids(Conversation([("user", "a"), ("tool", "b")]))
    assert str(caught.value) == "the model's chat template does not allow this order of roles: no tools"


def test_a_system_text_stands_where_the_chat_template_has_a_place_for_it():
    made = PromptFormat(TOKENIZER, "Be brief.", (TOKENIZER.eos_token_id,))
    assert TOKENIZER.decode(made.prompt_ids("hi")) == (
        f"{TURN}system\nBe brief.{END}\n{TURN}user\nhi{END}\n{TURN}assistant\n"
    )


def test_without_a_chat_template_the_begin_token_stands_once_and_a_blank_line_parts_the_answer():
    base = tiny_tokenizer(chat=False)
    made = PromptFormat(base, "", (base.eos_token_id,))
    assert base.decode(made.prompt_ids("hi")) == "<|begin|>hi\n\n"


def test_a_chat_template_that_changes_the_text_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    with pytest.raises(FlantuneError) as caught:
        PromptFormat(tokenizer, "", (1,))
    assert str(caught.value) == "the model's chat template changes the user's text, so prompts cannot be built from it"


def test_a_system_text_without_a_place_is_refused_and_an_empty_one_is_left_out():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    )
    assert tokenizer.decode(PromptFormat(tokenizer, "", (1,)).prompt_ids("hi")) == "[hi]"
    with pytest.raises(FlantuneError) as caught:
        PromptFormat(tokenizer, "Be brief.", (1,))
    assert str(caught.value) == "the model's chat template has no place for a system text; leave model.system empty"


def test_the_fingerprint_changes_with_template_system_text_and_end_token():
    others = [
        PromptFormat(TOKENIZER, "Be brief.", (TOKENIZER.eos_token_id,)),
        PromptFormat(TOKENIZER, "", (0,)),
        PromptFormat(tiny_tokenizer(chat=False), "", (TOKENIZER.eos_token_id,)),
    ]
    again = PromptFormat(tiny_tokenizer(), "", (TOKENIZER.eos_token_id,))
    assert again.fingerprint() == FORMAT.fingerprint()
    assert len({made.fingerprint() for made in (FORMAT, *others)}) == 4


def test_the_format_of_a_plan_is_the_format_of_the_loaded_model(tmp_path):
    for chat in (True, False):
        folder = str(save_tiny_model(tmp_path / str(chat), chat=chat))
        assert load_format(folder).fingerprint() == load_model(folder).format.fingerprint()


def test_a_chat_template_that_asks_for_the_date_gives_the_same_prompt_every_day():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
    assert tokenizer.decode(PromptFormat(tokenizer, "", (1,)).prompt_ids("hi")) == "26 Jul 2024[][hi]"
