"""Templates: what a row becomes, what a template may not do, and how its mistakes are told."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks import Task
from flantune.tasks.conversation import Conversation
from flantune.tasks.jinja import LONGEST_RENDERING, check_syntax, fields_used, render_text
from flantune.tasks.schema import ConversationChoice
from flantune.tasks.template import Template

texts = st.text(st.characters(exclude_categories=["Cs", "Co"]))
# What means something to Jinja or to a template, among other text.
tricky = st.lists(
    st.sampled_from(
        ["{{", "}}", "{%", "%}", "{#", "#}", "|||", "|", "{{ x }}", "{% raw %}", "\\n", "\n", "'", '"', " "]
    )
    | texts,
    max_size=6,
).map("".join)


def rendered(template, /, **row):
    return Template("t", template).render(row)


def told(call, *arguments, **row):
    with pytest.raises(FlantuneError) as caught:
        call(*arguments, **row)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what a row becomes -------------------------------------------------------------------------------------


def test_a_template_is_the_input_then_three_bars_then_the_target():
    assert rendered("Stars of {{ text }}? ||| {{ stars }}", text="Nice!", stars=5) == ("Stars of Nice!?", "5")


@settings(deadline=None)
@given(given_text=tricky, asked=tricky)
def test_text_from_a_row_is_left_as_it_is(given_text, asked):
    assert rendered("<{{ a }}>|||<{{ b }}>", a=given_text, b=asked) == (f"<{given_text}>", f"<{asked}>")


@settings(deadline=None)
@given(text=texts)
def test_white_space_at_the_ends_is_stripped_and_inside_it_is_kept(text):
    assume(text.strip())
    assert rendered("  {{ a }}\n\n|||\t{{ a }} \n", a=text) == (text.strip(), text.strip())
    assert rendered("a \n\t b|||  x\n\n y", a=text) == ("a \n\t b", "x\n\n y")


@settings(deadline=None)
@given(text=tricky.filter(lambda text: text.strip() and not any(mark in text + " " for mark in ("{", "|||"))))
def test_words_of_a_template_without_braces_are_themselves(text):
    # Jinja knows one line end; a template written with others means the same.
    said = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    assume(said)
    assert rendered(f"{text} ||| {text}") == (said, said)


@settings(deadline=None)
@given(name=st.text(min_size=1), value=texts)
def test_a_field_of_any_name_can_be_put_in(name, value):
    assume(value.strip())
    quoted = "".join(f"\\U{ord(character):08x}" for character in name)
    assert rendered(f'{{{{ "{quoted}" | field }}}} ||| x', **{name: value})[0] == value.strip()
    assert fields_used(f'{{{{ "{quoted}" | field }}}}') == {name}


@pytest.mark.parametrize(
    ("text", "row", "pair"),
    [
        ("{{ a }} ||| {{ b }} ||| c", {"a": "x", "b": "y"}, ("x", "y ||| c")),
        ("{{ a }}|||{{ b }}", {"a": 0, "b": False}, ("0", "False")),
        ("{{ a | join(' ||| ') }} ||| b", {"a": ["x", "y"]}, ("x ||| y", "b")),
        ("{{ a | choice(b) }} ||| {{ ['no', 'yes'] | choice('1') }}", {"a": ["x", "y"], "b": 1}, ("y", "yes")),
        ("{% set who = a | upper %}{{ who }} ||| {{ who }}", {"a": "x"}, ("X", "X")),
        ("{% for e in a %}{{ e.type }};{% endfor %} ||| {{ a[0]['type'] }}", {"a": [{"type": "x"}]}, ("x;", "x")),
        ("{# why ||| #}a ||| b", {}, ("a", "b")),
        ("{% raw %}{{ a }} ||| {% endraw %}a ||| b", {}, ("{{ a }} ||| a", "b")),
        ("{{ a if a is defined else 'none' }} ||| b", {}, ("none", "b")),
        # promptsource's templates often put the bars inside a condition.
        ("{% if a %} {{ a }}? ||| yes {% else %} nothing? ||| no {% endif %}", {"a": "x"}, ("x?", "yes")),
        ("{% if a %} {{ a }}? ||| yes {% else %} nothing? ||| no {% endif %}", {"a": ""}, ("nothing?", "no")),
    ],
)
def test_jinja_means_what_it_means_elsewhere(text, row, pair):
    assert rendered(text, **row) == pair


def test_the_fields_of_a_template_are_those_of_both_sides():
    template = Template("t", "{{ a }} {% for c in d %}{{ c }}{% endfor %} {{ 'b b' | field }} ||| {{ e.f }}")
    assert template.fields() == {"a", "d", "b b", "e"}


def test_two_templates_of_the_same_text_are_equal_and_none_can_be_changed():
    assert Template("t", "a ||| b") == Template("t", "a ||| b") != Template("t", "a ||| c")
    with pytest.raises(AttributeError):
        Template("t", "a ||| b").text = "c ||| d"  # pyrefly: ignore


def test_nothing_that_changes_from_one_rendering_to_the_next_can_be_used():
    assert told(rendered, "{{ lipsum() }} ||| x") == (
        'template "t" asks for field "lipsum", which the row lacks; there are none'
    )


# --- what a template may not do -----------------------------------------------------------------------------

ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ a.__class__ }}",
    "{{ a['__class__'] }}",
    "{{ ''['__class__'].__mro__[1].__subclasses__() }}",
    "{{ a | attr('__class__') }}",
    "{{ (a | map(attribute='__class__') | list)[0].__mro__ }}",
    "{{ '{0.__class__.__mro__}'.format(a) }}",
    "{{ '%s' | format(a.__init__.__globals__) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ a.upper.__self__.__class__ }}",
    "{{ a.append('y') }}",
    "{{ b.update({'c': 1}) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends '/etc/passwd' %}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_a_template_cannot_leave_its_sandbox(text):
    row = {"a": ["x"], "b": {"c": 0}}
    with pytest.raises(FlantuneError):
        Template("t", text + " ||| x").render(row)
    assert row == {"a": ["x"], "b": {"c": 0}}


def test_an_unsafe_template_is_told_what_it_may_not_do():
    assert told(rendered, "{{ ''.__class__.__mro__ }} ||| x") == (
        "template \"t\" does what a template may not do: access to attribute '__class__' of 'str' object is unsafe."
    )


BOMBS = {
    "{% for i in range(10 ** 9) %}x{% endfor %}": "makes a range of more than 100,000; shorten it",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}": "renders more than 200,000 "
    "characters; shorten it",
    "{{ 'x' * 10 ** 10 }}": "makes a text of more than 200,000 characters; shorten it",
    "{{ 10 ** 10 * 'x' }}": "makes a text of more than 200,000 characters; shorten it",
    "{{ [1, 2] * 200000 }}": "makes a list of more than 200,000 items; shorten it",
    "{{ 10 ** (10 ** 10) }}": "makes a number of more than 2,048 bits; shorten it",
    "{{ 'x' * 199999 }}{{ a }}{{ a }}": "renders more than 200,000 characters; shorten it",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "goes too deep: a macro calls itself, or values nest, "
    "without an end",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", BOMBS)
def test_a_template_that_would_fill_the_memory_is_stopped(text):
    message = told(rendered, text + " ||| x", a="ab")
    assert message.startswith(f'template "t" {BOMBS[text]}')
    assert len(message) < 300


@settings(deadline=None)
@given(length=st.integers(LONGEST_RENDERING - 2, LONGEST_RENDERING + 2))
def test_a_rendering_may_be_just_as_long_as_the_bound(length):
    if length <= LONGEST_RENDERING:
        assert len(render_text("{{ a }}", {"a": "x" * length}, "it")) == length
    else:
        assert told(render_text, "{{ a }}", {"a": "x" * length}, "it") == (
            "it renders more than 200,000 characters; shorten it"
        )


def test_numbers_are_multiplied_as_ever():
    assert rendered("{{ 3 * 4 }} {{ 2 ** 10 }} {{ 1.5 * 2 }} {{ 'ab' * 2 }} ||| x")[0] == "12 1024 3.0 abab"


# --- mistakes -----------------------------------------------------------------------------------------------

ROW = {"body": "Hello", "subject": "Hi", "empty": " \n", "stars": "5"}
MISTAKES = {
    "{{ boddy }} ||| x": 'asks for field "boddy", which the row lacks; did you mean "body"? (body, empty, stars, '
    "subject)",
    "x ||| {{ boddy }}": 'asks for field "boddy", which the row lacks; did you mean "body"? (body, empty, stars, '
    "subject)",
    "{{ 'first name' | field }} ||| x": 'asks for field "first name", which the row lacks; known: body, empty, stars, '
    "subject",
    "{% if zzz is defined %}{{ zzz }}{% endif %}{{ boddy }} ||| x": 'asks for field "boddy", which the row lacks; did '
    'you mean "body"? (body, empty, stars, subject)',
    "{{ body.nothing }} ||| x": ": 'str object' has no attribute 'nothing'",
    "{{ body[9].upper() }} ||| x": ": str object has no element 9",
    "{{ empty }} ||| x": "renders an empty input; filter such rows or change the template",
    "x ||| {{ empty }}": "renders an empty target; filter such rows or change the template",
    "x |||": "renders an empty target; filter such rows or change the template",
    "{% if stars == '4' %}x ||| y{% endif %}": "renders an empty input; filter such rows or change the template",
    "{% if stars == '4' %}x ||| y{% else %}z{% endif %}": "renders an empty target; filter such rows or change the "
    "template",
    "{{ stars + 1 }} ||| x": 'fails on this row: TypeError: can only concatenate str (not "int") to str',
    "{{ 1 / 0 }} ||| x": "fails on this row: ZeroDivisionError: division by zero",
    "{{ [] | choice(1) }} ||| x": "fails on this row: IndexError: list index out of range",
    "{{ 5 | dictsort }} ||| x": "fails on this row: TypeError: 'int' object has no keys and values",
    "{{ {}[[1]] }} ||| x": ": dict object has no element [1]",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_template_that_a_row_does_not_fit_is_told(text):
    message = MISTAKES[text]
    assert told(rendered, text, **ROW) == f'template "t"{"" if message.startswith(":") else " "}{message}'


BROKEN = {
    "no bars": 'template "t" has no "|||" between input and target; add it',
    "{{ 'a ||| b' }}": 'template "t" has no "|||" between input and target; add it',
    "{# a ||| b #}": 'template "t" has no "|||" between input and target; add it',
    "a\n{{ b ||| c": "template \"t\" is not valid Jinja (line 2 of the text): expected token 'name', got '|'",
    "{% if a %} ||| b": 'template "t" is not valid Jinja (line 1 of the text): Unexpected end of template. Jinja was '
    "looking for the following tags: 'elif' or 'else' or 'endif'. The innermost block that needs to be closed is 'if'.",
    "{{ a | uper }} ||| b": "template \"t\" is not valid Jinja (line 1 of the text): No filter named 'uper'.",
    "{% foo %} ||| b": "template \"t\" is not valid Jinja (line 1 of the text): Encountered unknown tag 'foo'.",
    "{{ " + "(" * 2000 + " ||| b": 'template "t" is not valid Jinja (line 1 of the text): nested too deeply',
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_template_that_is_none_is_told_before_any_row(text):
    assert told(Template, "t", text) == BROKEN[text]


def test_the_syntax_of_a_text_is_told_or_nothing():
    assert check_syntax("{{ a }}") is None
    assert check_syntax("a\n{{ }}") == (
        "not valid Jinja (line 2 of the text): Expected an expression, got 'end of print statement'"
    )


# --- the choices of a row -----------------------------------------------------------------------------------


def choices(given, row):
    """What a task's templates see as answer_choices."""
    task = Task("t", {"train": [row]}, ["{{ answer_choices }} ||| x"], answer_choices=given)
    return task.values(row)["answer_choices"]


def test_choices_are_a_list_as_it_is_or_a_text_with_bars():
    row = {"given": ["a", "b"]}
    assert choices(["yes", "no"], row) == ["yes", "no"]
    assert choices("{{ given | join('|||') }} ||| c", row) == ["a", "b", "c"]


@given(given=st.lists(texts.filter(lambda text: text.strip() and "|" not in text), min_size=1, max_size=5))
@settings(deadline=None)
def test_joined_choices_are_the_choices_without_white_space_at_their_ends(given):
    assert choices("{{ given | join(' ||| ') }}", {"given": given}) == [text.strip() for text in given]


def test_an_empty_choice_and_a_missing_field_are_told():
    assert told(choices, "a ||| {{ b }}", {"b": ""}) == (
        "task t: answer_choices renders an empty choice; filter such rows or change the text"
    )
    assert told(choices, "{{ chioces }}", {"choices": "a"}) == (
        'task t: answer_choices asks for field "chioces", which the row lacks; did you mean "choices"? (choices)'
    )


# --- chain of thought ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 and 3 make 5. The answer is 5.", "5"),
        ("The answer is 4. No: the answer is  7 .", "7"),
        ("5", "5"),
        ("", ""),
    ],
)
def test_the_last_answer_that_a_chain_of_thought_names_counts_and_else_all_of_it(text, answer):
    template = Template("cot", "{{ q }} ||| {{ a }}", answer=r"(?i)the answer is ([^.]*)")
    assert template.answer_in(text) == answer


def test_a_pattern_that_would_take_for_ever_finds_nothing():
    template = Template("cot", "{{ q }} ||| {{ a }}", answer=r"((?:x|x)*)y")
    assert template.answer_in("x" * 40) == "x" * 40


# --- conversations ------------------------------------------------------------------------------------------

TURNS = {"history": [["system", "Be kind."], ["user", "{{ hi }}"]], "target": " hello "}


def test_a_conversation_keeps_its_turns_as_they_are():
    template = Template("chat", conversation=ConversationChoice())
    given, target = template.render(TURNS)
    assert isinstance(given, Conversation)
    assert given.turns == (("system", "Be kind."), ("user", "{{ hi }}"))
    assert given == "System: Be kind.\nUser: {{ hi }}"
    assert target == "hello"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"target": "x"}, 'template "chat" asks for field "history", which the row lacks'),
        (
            {"history": "x", "target": "x"},
            'field "history" is no list of [role, text]; map the row\'s turns with the transform `conversation`',
        ),
        (
            {"history": [["human", "x"]], "target": "x"},
            'turn 1 of field "history" is no [role, text] with a role among system, user, assistant, tool; '
            "map the row's turns with the transform `conversation`",
        ),
        ({**TURNS, "target": 3}, 'template "chat": field "target" is no text'),
        (
            {**TURNS, "target": "  "},
            'template "chat" renders an empty target; filter such rows or change the template',
        ),
    ],
)
def test_a_row_that_is_no_conversation_is_told(row, message):
    assert told(Template("chat", conversation=ConversationChoice()).render, row) == message


# --- references ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, ["a"]),
        (["{{ all[0] }}", "{{ all[1] }}", "{{ all[2] or '' }}"], ["a", "b"]),
        ("{{ all | join(' ||| ') }}", ["a", "b"]),
    ],
)
def test_references_are_texts_or_one_text_with_bars_and_empty_ones_are_left_out(stated, expected):
    task = Task("t", {"test": [{"x": "q", "all": ["a", "b", ""]}]}, ["{{ x }} ||| {{ all[0] }}"], references=stated)
    assert task.references(task.split("test")[0], "a") == expected


def test_a_row_without_any_reference_is_told():
    task = Task("t", {"test": [{"x": "q"}]}, ["{{ x }} ||| y"], references=["{{ '' }}"])
    assert told(task.references, {"x": "q"}, "y") == ("task t: all references render to nothing; filter such rows")
