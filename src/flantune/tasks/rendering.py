"""Rendering: who turns Jinja texts into text, one at a time or many at once, here or elsewhere.

A task states what it renders as steps: a generator that yields a `Text`, is sent what the text renders to, and
returns its result. So the same steps run in this process, or many side by side through worker processes.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from flantune.errors import FlantuneError
from flantune.tasks.jinja import render_text

Result = TypeVar("Result")


class Text(NamedTuple):
    """A Jinja text and the values it is rendered with.

    Attributes:
        text: The Jinja source.
        values: Field name to value.
        what: How an error names the text, such as `template "short"`.
    """

    text: str
    values: Mapping[str, Any]
    what: str


class Renderer(Protocol):
    """Renders many texts; a text that cannot be rendered gives its error and harms no other."""

    def render_all(self, texts: Sequence[Text]) -> list[str | FlantuneError]:
        """What each text renders to."""


class InProcess:
    """Renders in this process: for templates of the user's own."""

    def render_all(self, texts: Sequence[Text]) -> list[str | FlantuneError]:
        """What each text renders to."""
        return [_rendered(text) for text in texts]


@functools.cache
def bounded_renderer() -> Renderer:
    """The worker processes, shared by all tasks, in which templates of others render."""
    from flantune.tasks.limits import BoundedRenderer

    return BoundedRenderer()


def _rendered(text: Text) -> str | FlantuneError:
    try:
        return render_text(text.text, text.values, text.what)
    except FlantuneError as error:
        return error


def run(steps: Generator[Text, str, Result], renderer: Renderer) -> Result:
    """Runs one task's steps to their result.

    Raises:
        FlantuneError: A text cannot be rendered.
    """
    result = run_all([steps], renderer)[0]
    if isinstance(result, FlantuneError):
        raise result
    return result


def run_all(steps: Sequence[Generator[Text, str, Result]], renderer: Renderer) -> list[Result | FlantuneError]:
    """Runs many side by side: all that wait for a text are rendered together."""
    results: list[Any] = [None] * len(steps)
    waiting: list[tuple[int, Any]] = [(number, None) for number in range(len(steps))]
    while waiting:
        asked = []
        for number, answer in waiting:
            go_on = steps[number].throw if isinstance(answer, FlantuneError) else steps[number].send
            try:
                asked.append((number, go_on(answer)))
            except StopIteration as done:
                results[number] = done.value
            except FlantuneError as error:
                results[number] = error
        rendered = renderer.render_all([text for _, text in asked])
        waiting = [(number, answer) for (number, _), answer in zip(asked, rendered, strict=True)]
    return results
