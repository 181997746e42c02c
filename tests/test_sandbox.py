"""A template reaches plain data and nothing else, and none takes all time or memory, whatever it says."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
from jinja2.runtime import LoopContext, Macro
from jinja2.utils import Namespace

import bombs
import escapes
import expressions
from flantune.errors import FlantuneError
from flantune.tasks.jinja import check_syntax, environment, render_text
from flantune.tasks.jinja_values import Function, Group, Method

PLAIN = {str, int, float, bool, type(None), list, tuple, dict, range, Group}
# What a template may hold for a moment, but neither look into nor write.
OPAQUE = {Function, Method, Macro, LoopContext, Namespace, jinja2.StrictUndefined, jinja2.Undefined}


# What Python writes for what is no data.
SIGNS = ("<class", "<function", "<built-in", "<bound", "<method", " at 0x", "root:")


def outcome(text, row=escapes.ROW):
    try:
        return render_text(text, row, "it")
    except FlantuneError as error:
        return error


# --- escapes --------------------------------------------------------------------------------------------------------


def test_the_jinja_installed_has_the_repairs_of_all_known_escapes():
    assert tuple(int(part) for part in jinja2.__version__.split(".")[:3]) >= (3, 1, 6)


def watched(call, seen):
    @functools.wraps(call)
    def watching(*args, **kwargs):
        result = call(*args, **kwargs)
        level = [result]
        while level:
            seen.update(map(type, level))
            nested = [item for item in level if isinstance(item, (list, tuple)) and len(item) < 100]
            level = [inside for item in nested for inside in item] if len(level) < 1000 else []
        return result

    return watching


def test_fifteen_hundred_attempts_reach_nothing_but_plain_data(monkeypatch):
    sandbox, seen = environment(), set()
    for name in ("getattr", "getitem", "call", "call_binop", "call_filter"):
        monkeypatch.setattr(sandbox, name, watched(getattr(sandbox, name), seen))
    for kind in ("filters", "tests"):
        watching = {name: watched(call, seen) for name, call in getattr(sandbox, kind).items()}
        monkeypatch.setattr(sandbox, kind, watching)
    attempts = escapes.attempts()
    written = [text for text in map(outcome, attempts) if isinstance(text, str)]
    assert len(attempts) >= 1500
    assert seen <= PLAIN | OPAQUE
    for text in written:
        assert type(text) is str
        assert not any(
            sign in text for sign in ("<class", "<function", "<built-in", "<bound", "<method", " at 0x", "root:")
        )


class Unguarded(jinja2.Environment):
    """Jinja as it is, with a note of all that a template reaches."""

    def __init__(self):
        self.reached = []
        super().__init__(finalize=lambda value: self.reached.append(value) or value)

    def getattr(self, obj, attribute):
        self.reached.append(super().getattr(obj, attribute))
        return self.reached[-1]

    def getitem(self, obj, argument):
        self.reached.append(super().getitem(obj, argument))
        return self.reached[-1]


def test_the_attempts_reach_python_where_there_is_no_sandbox():
    """Without this, a corpus of misspelled attempts would pass."""
    unguarded, successes = Unguarded(), 0
    for text in escapes.generated():
        unguarded.reached.clear()
        with contextlib.suppress(Exception):  # whatever Python raises out there
            unguarded.from_string(text).render(escapes.ROW)
        reached = [value for value in unguarded.reached if not isinstance(value, (*PLAIN, *OPAQUE))]
        successes += bool(reached) or any("<class" in value for value in unguarded.reached if isinstance(value, str))
    assert successes > 400


AUDIT = """
import json, sys
sys.path.insert(0, {tests!r})
import escapes
from flantune.errors import FlantuneError
from flantune.tasks.jinja import check_syntax, render_text

attempts = [text for text in escapes.attempts() if check_syntax(text) is None]
events, listening = [], False

def hook(event, args):
    if listening:
        events.append(event)

sys.addaudithook(hook)
told = 0
listening = True
for text in attempts:
    try:
        render_text(text, escapes.ROW, "it")
    except FlantuneError:
        told += 1
listening = False
print(json.dumps([len(attempts), told, sorted(set(events))]))
"""


def test_no_attempt_makes_python_open_run_import_or_connect_anything():
    code = AUDIT.format(tests=str(Path(__file__).parent))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    attempts, told, events = json.loads(run.stdout)
    assert events == []
    assert attempts > 1000
    assert told > attempts * 0.8


def test_text_in_a_row_that_reads_like_a_template_is_text():
    for attempt in escapes.attempts():
        assert render_text("{{ x }}|{{ [x] | first }}|{{ x ~ '' }}", {"x": attempt}, "it") == "|".join([attempt] * 3)


def test_a_row_is_the_same_after_all_attempts():
    row = json.loads(json.dumps(escapes.ROW))
    for text in escapes.attempts():
        outcome(text, row)
    assert row == escapes.ROW


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{{ ''.__class__ }}",
            "it does what a template may not do: access to attribute '__class__' of 'str' object is unsafe.",
        ),
        ("{{ a.encode() }}", "it: 'str object' has no attribute 'encode'"),
        ("{{ a.upper }}", "it would write the method upper into the text; call it: upper()"),
        ("{{ range }}", "it would write the function range into the text; call it: range()"),
        ("{% macro f() %}{% endmacro %}{{ f }}", "it would write the macro f into the text; call it: f()"),
        ("{% for x in xs %}{{ loop }}{% endfor %}", "it would write the loop into the text"),
        ("{{ namespace() }}", "it would write a namespace into the text"),
        ("{{ [range] }}", "it fails on this row: TypeError: the function range is no plain value"),
        ("{{ a() }}", "it fails on this row: TypeError: a value of type str cannot be called"),
        (
            "{% include 'x' %}",
            "it is not valid Jinja (line 1 of the text): {% include %} is not for templates of tasks",
        ),
        (
            "\n{% autoescape true %}{% endautoescape %}",
            "it is not valid Jinja (line 2 of the text): {% autoescape %} is not for templates of tasks",
        ),
        (
            "{{ self }}",
            "it is not valid Jinja (line 1 of the text): a field of this name is written {{ 'self' | field }}",
        ),
        ("{{ a | attr('upper') }}", "it is not valid Jinja (line 1 of the text): No filter named 'attr'."),
        ("{{ [1] | map('= spend') }}", "it fails on this row: TemplateRuntimeError: No filter named '= spend'."),
    ],
)
def test_what_is_out_of_reach_is_told_in_one_line(text, message):
    assert str(outcome(text)) == message


# --- bombs ----------------------------------------------------------------------------------------------------------


BOUNDED = """
import json, resource, sys
sys.path.insert(0, {tests!r})
import bombs
from flantune.errors import FlantuneError
from flantune.tasks.jinja import render_text

resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
told = {{}}
for name, (text, refusal) in bombs.BOMBS.items():
    before = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(before.ru_utime + before.ru_stime) + 6, resource.RLIM_INFINITY))
    try:
        render_text(text, {{}}, "it")
    except FlantuneError as error:
        told[name] = str(error)
print(json.dumps(told))
"""


@pytest.mark.timeout(300)
def test_each_bomb_is_refused_in_one_line_within_5_seconds_and_600_mb():
    """The system would end the process: by `RLIMIT_AS` with another message, by `RLIMIT_CPU` without any."""
    code = BOUNDED.format(tests=str(Path(__file__).parent))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {name: f"it {refusal}" for name, (_, refusal) in bombs.BOMBS.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_made_of_jinjas_words_is_rendered_or_refused_in_one_short_line(seed):
    for text in expressions.templates(seed, 500):
        said = outcome(text, expressions.ROW)
        assert " at 0x" not in str(said)
        if isinstance(said, FlantuneError):
            assert str(said).startswith("it")
            assert "\n" not in str(said)
            assert len(str(said)) < 600


def test_what_a_rendering_costs_depends_on_nothing_but_template_and_row():
    """Refused here means refused everywhere: a loop just within the bound, and one turn more."""
    text = "{% for i in range(n) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
    assert outcome(text, {"n": 22}) == ""
    assert str(outcome(text, {"n": 23})) == f"it {bombs.WORK}"


@pytest.mark.parametrize("size", [10, 1_000, 20_000])
def test_long_rows_of_ordinary_templates_are_rendered(size):
    row = {
        "turns": [{"speaker": "A" if turn % 2 else "B", "text": f"Turn {turn}."} for turn in range(size // 10)],
        "text": "word " * size,
        "labels": ["yes", "no"],
    }
    text = (
        "{% for turn in turns[-50:] %}{{ loop.index }}. {{ turn.speaker }}: {{ turn.text | trim }}\n{% endfor %}"
        "{% if text.split() | length > 5 %}{{ text | truncate(1000) }}{% endif %}"
        "{{ turns | selectattr('speaker', 'equalto', 'A') | map(attribute='text') | join(' ') | length }}"
        "{{ labels | join(', ') }}"
    )
    assert check_syntax(text) is None
    assert isinstance(outcome(text, row), str)
