"""Templates: a row becomes (input, target) by sandboxed Jinja in promptsource's form `input ||| target`.

Text from rows is put in as it is: `{{` and `|||` inside it mean nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from flantune.errors import FlantuneError, nearest

SEPARATOR = "|||"
LONGEST_RENDERING = 200_000  # characters; a template cannot fill the memory by mistake
# Stands for the template's own separator while it renders: no row holds it, no filter changes it.
MARK = "\ue0f1\ue2d7\ue4c3\ue6b9\ue8a5"

FAILURES = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, MemoryError)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja in a sandbox, where `*` and `**` make no value larger than a rendering may be."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        long = left if isinstance(left, str | list | tuple) else right
        if operator == "*" and isinstance(long, str | list | tuple):
            times = right if long is left else left
            if isinstance(times, int) and len(long) * times > LONGEST_RENDERING:
                raise OverflowError(f"a repetition of more than {LONGEST_RENDERING:,}")
        elif operator == "**" and (abs(right) > 64 or abs(left) > 10**6):
            raise OverflowError("a power of more than 1,000,000 ** 64")
        return super().call_binop(context, operator, left, right)


@functools.cache
def environment() -> jinja2.Environment:
    """The one Jinja environment: sandboxed, undefined fields are errors, white space kept as written.

    `{{ "first name" | field }}` is the field of a name that Jinja could not read otherwise; `choices | choice(2)` is
    one of a list. What would differ from one rendering to the next is left out.
    """
    made = _Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    made.filters["choice"] = lambda choices, number: choices[int(number)]
    made.filters["field"] = _field
    made.filters.pop("random", None)
    made.globals.pop("lipsum", None)
    return made


@jinja2.pass_context
def _field(context: jinja2.runtime.Context, name: str) -> Any:
    if name not in context:
        raise jinja2.UndefinedError(f"{name!r} is undefined")
    return context[name]


@functools.lru_cache(maxsize=20_000)
def _compiled(text: str) -> jinja2.Template:
    return environment().from_string(text)


def check_syntax(text: str) -> str | None:
    """What is wrong with a Jinja text, or None."""
    try:
        _compiled(text)
    except jinja2.TemplateSyntaxError as error:
        return f"not valid Jinja (line {error.lineno} of the text): {error.message}"
    except RecursionError:
        return "not usable Jinja: nested too deeply"
    return None


def fields_used(text: str) -> set[str]:
    """Names that a Jinja text takes from the row."""
    tree = environment().parse(text)
    quoted = {
        node.node.value
        for node in tree.find_all(jinja2.nodes.Filter)
        if node.name == "field" and isinstance(node.node, jinja2.nodes.Const)
    }
    return jinja2.meta.find_undeclared_variables(tree) | quoted


def render_text(text: str, values: Mapping[str, Any], what: str) -> str:
    """Renders one Jinja text with the values of a row.

    Args:
        text: The Jinja source.
        values: Field name to value.
        what: How an error names this text, such as `template "short"`.
    Raises:
        FlantuneError: A field that the row lacks, an unsafe operation, an operation that fails on this row, or more
            than `LONGEST_RENDERING` characters.
    """
    pieces, length = [], 0
    try:
        for piece in _compiled(text).generate(values):
            length += len(piece)
            if length > LONGEST_RENDERING:
                break
            pieces.append(piece)
    except jinja2.UndefinedError as error:
        name = re.fullmatch(r"(['\"])(.*)\1 is undefined", error.message or "", re.DOTALL)
        if name is not None and name[2] not in values:
            raise FlantuneError(
                f'{what} asks for field "{name[2]}", which the row lacks; {nearest(name[2], values)}'
            ) from None
        raise FlantuneError(f"{what}: {error.message}") from None
    except jinja2.sandbox.SecurityError as error:
        raise FlantuneError(f"{what} does what a template may not do: {error}") from None
    except (jinja2.TemplateError, *FAILURES) as error:
        raise FlantuneError(f"{what} fails on this row: {type(error).__name__}: {error}") from None
    if length > LONGEST_RENDERING:
        raise FlantuneError(f"{what} renders more than {LONGEST_RENDERING:,} characters; shorten it")
    return "".join(pieces)


@dataclass(frozen=True)
class Template:
    """One phrasing of a task.

    Attributes:
        name: Unique within its task.
        text: Jinja source of the form `input ||| target`.
        inverted: Asks for what is usually given; trained on, never evaluated.
        held_out: Evaluated only.
        weight: Share among the task's training templates.
    """

    name: str
    text: str
    inverted: bool = False
    held_out: bool = False
    weight: float = 1.0
    marked: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wrong = check_syntax(self.text)
        if wrong is not None:
            raise FlantuneError(f'template "{self.name}" is {wrong}')
        marked = _marked(self.text)
        if MARK not in marked:
            raise FlantuneError(f'template "{self.name}" has no "|||" between input and target; add it')
        object.__setattr__(self, "marked", marked)

    def render(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """Input and target for a row's values, white space around both stripped.

        Raises:
            FlantuneError: A missing field, or an input or target that is empty for this row.
        """
        what = f'template "{self.name}"'
        before, _, after = render_text(self.marked, values, what).partition(MARK)
        rendered = before.strip(), after.replace(MARK, SEPARATOR).strip()
        for name, text in zip(("input", "target"), rendered, strict=True):
            if not text:
                raise FlantuneError(f"{what} renders an empty {name}; filter such rows or change the template")
        return rendered

    def fields(self) -> set[str]:
        """Names of the fields that the template uses."""
        return fields_used(self.text)


def _marked(text: str) -> str:
    """The text with a mark for each `|||` that stands in it as text, not inside `{{ }}`, `{% %}` or a raw block."""
    pieces, raw = [], False
    for _, kind, value in environment().lex(text):
        raw = raw or kind == "raw_begin"
        pieces.append(value.replace(SEPARATOR, MARK) if kind == "data" and not raw else value)
        raw = raw and kind != "raw_end"
    return "".join(pieces)


def choices_of(given: str | Sequence[str] | None, values: Mapping[str, Any]) -> list[str] | None:
    """The closed set of answers for a row: a list as it is, or a Jinja text that renders to `a ||| b`.

    Raises:
        FlantuneError: An empty choice.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        return list(given)
    choices = [choice.strip() for choice in render_text(given, values, "answer_choices").split(SEPARATOR)]
    if not all(choices):
        raise FlantuneError("answer_choices renders an empty choice; filter such rows or change the text")
    return choices
