"""Templates: a row becomes (input, target) by sandboxed Jinja in promptsource's form `input ||| target`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from flantune.errors import FlantuneError, nearest

SEPARATOR = "|||"
LONGEST_RENDERING = 200_000  # characters; a template cannot fill the memory by mistake


@functools.cache
def environment() -> jinja2.Environment:
    """The one Jinja environment: sandboxed, undefined fields are errors, white space kept as written."""
    made = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    made.filters["choice"] = lambda choices, number: choices[int(number)]
    made.globals.pop("lipsum", None)
    return made


@functools.lru_cache(maxsize=20_000)
def _compiled(text: str) -> jinja2.Template:
    return environment().from_string(text)


def check_syntax(text: str) -> str | None:
    """What is wrong with a Jinja text, or None."""
    try:
        _compiled(text)
    except jinja2.TemplateSyntaxError as error:
        return f"not valid Jinja (line {error.lineno} of the text): {error.message}"
    return None


def fields_used(text: str) -> set[str]:
    """Names that a Jinja text takes from the row."""
    return jinja2.meta.find_undeclared_variables(environment().parse(text))


def render_text(text: str, values: Mapping[str, Any], what: str) -> str:
    """Renders one Jinja text with the values of a row.

    Args:
        text: The Jinja source.
        values: Field name to value.
        what: How an error names this text, such as `template "short"`.
    Raises:
        FlantuneError: A field that the row lacks, an unsafe operation, an operation that fails on this row.
    """
    try:
        rendered = _compiled(text).render(values)
    except jinja2.UndefinedError as error:
        missing = sorted(fields_used(text) - values.keys() - environment().globals.keys())
        if missing:
            raise FlantuneError(
                f'{what} asks for field "{missing[0]}", which the row lacks; {nearest(missing[0], values)}'
            ) from None
        raise FlantuneError(f"{what}: {error.message}") from None
    except jinja2.sandbox.SecurityError as error:
        raise FlantuneError(f"{what} does what a template may not do: {error}") from None
    except (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError, OverflowError, MemoryError) as error:
        raise FlantuneError(f"{what} fails on this row: {type(error).__name__}: {error}") from None
    if len(rendered) > LONGEST_RENDERING:
        raise FlantuneError(
            f"{what} renders {len(rendered):,} characters; at most {LONGEST_RENDERING:,} are allowed, so shorten it"
        )
    return rendered


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
    halves: tuple[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        before, separator, after = self.text.partition(SEPARATOR)
        if not separator:
            raise FlantuneError(f'template "{self.name}" has no "|||" between input and target; add it')
        for half in (before, after):
            wrong = check_syntax(half)
            if wrong is not None:
                raise FlantuneError(f'template "{self.name}" is {wrong}')
        object.__setattr__(self, "halves", (before, after))

    def render(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """Input and target for a row's values, white space around both stripped.

        Raises:
            FlantuneError: A missing field, or an input or target that is empty for this row.
        """
        what = f'template "{self.name}"'
        rendered = tuple(render_text(half, values, what).strip() for half in self.halves)
        for name, text in zip(("input", "target"), rendered, strict=True):
            if not text:
                raise FlantuneError(f"{what} renders an empty {name}; filter such rows or change the template")
        return rendered[0], rendered[1]

    def fields(self) -> set[str]:
        """Names of the fields that the template uses."""
        return fields_used(self.halves[0]) | fields_used(self.halves[1])


def choices_of(given: str | Sequence[str] | None, values: Mapping[str, Any]) -> list[str] | None:
    """The closed set of answers for a row: a list as it is, or a Jinja text that renders to `a ||| b`."""
    if given is None:
        return None
    if not isinstance(given, str):
        return list(given)
    return [choice.strip() for choice in render_text(given, values, "answer_choices").split(SEPARATOR)]
