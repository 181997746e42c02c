"""Templates: a row becomes (input, target), by Jinja in promptsource's form `input ||| target` or turn by turn.

Text from rows is put in as it is: `{{` and `|||` inside it mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flantune.errors import FlantuneError
from flantune.tasks.conversation import conversation_of
from flantune.tasks.jinja import check_syntax, environment, fields_used, render_text
from flantune.tasks.schema import ConversationChoice, TemplateChoice

SEPARATOR = "|||"
# Stands for the template's own separator while it renders: no row holds it, no filter changes it.
MARK = "\ue0f1\ue2d7\ue4c3\ue6b9\ue8a5"
OPTIONS = "options"


class EmptyText(FlantuneError):
    """A template renders an empty input or target for a row."""


@dataclass(frozen=True)
class Template:
    """One phrasing of a task.

    Attributes:
        name: Unique within its task.
        text: Jinja source of the form `input ||| target`; empty where the row's conversation is asked.
        inverted: Asks for what is usually given; trained on, never evaluated.
        held_out: Evaluated only.
        weight: Share among the task's training templates.
        few_shot: May be shown with exemplars.
        answer: Regular expression whose group is the answer in the target and in what a model says.
        answer_choices: The closed set of answers of this template alone.
        conversation: The fields of the row's turns, where the template is no text.
    Raises:
        FlantuneError: The text is not valid Jinja, or has no separator.
    """

    name: str
    text: str = ""
    inverted: bool = False
    held_out: bool = False
    weight: float = 1.0
    few_shot: bool = True
    answer: str | None = None
    answer_choices: tuple[str, ...] | str | None = None
    conversation: ConversationChoice | None = None
    marked: str = field(init=False, repr=False, compare=False)
    uses_options: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        marked, uses_options = "", False
        if self.conversation is None:
            wrong = check_syntax(self.text)
            if wrong is not None:
                raise FlantuneError(f'template "{self.name}" is {wrong}')
            marked = _marked(self.text)
            if MARK not in marked:
                raise FlantuneError(f'template "{self.name}" has no "|||" between input and target; add it')
            uses_options = OPTIONS in fields_used(self.text)
        object.__setattr__(self, "marked", marked)
        object.__setattr__(self, "uses_options", uses_options)

    @classmethod
    def of(cls, choice: TemplateChoice) -> Template:
        """The template that a task file states."""
        stated = {name: getattr(choice, name) for name in TemplateChoice.model_fields if name != "text"}
        return cls(text=choice.text or "", **stated)

    @property
    def takes_exemplars(self) -> bool:
        """Whether solved examples may stand before its question; a conversation has turns of its own there."""
        return self.few_shot and self.conversation is None

    @property
    def what(self) -> str:
        """How errors name it."""
        return f'template "{self.name}"'

    def parts(self, rendered: str) -> tuple[str, str]:
        """Input and target of a rendered text, white space around both stripped.

        Raises:
            FlantuneError: An input or target that is empty for this row.
        """
        before, _, after = rendered.partition(MARK)
        return self._both(before.strip(), after.replace(MARK, SEPARATOR).strip())

    def render(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """Input and target for a row's values.

        Raises:
            FlantuneError: A missing field, or an input or target that is empty for this row.
        """
        if self.conversation is not None:
            return self.turns(values)
        return self.parts(render_text(self.marked, values, self.what))

    def turns(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """The conversation and the turn to learn, as they stand in the row.

        Raises:
            FlantuneError: A field that the row lacks, or whose value is no conversation or no text.
        """
        assert self.conversation is not None
        history, target = self.conversation.history, self.conversation.target
        for name in (history, target):
            if name not in values:
                raise FlantuneError(f'{self.what} asks for field "{name}", which the row lacks')
        if not isinstance(values[target], str):
            raise FlantuneError(f'{self.what}: field "{target}" is no text')
        given = conversation_of(values[history], f'field "{history}"')
        return self._both(given, values[target].strip())

    def _both(self, given: str, target: str) -> tuple[str, str]:
        for name, text in (("input", given), ("target", target)):
            if not text:
                raise EmptyText(f"{self.what} renders an empty {name}; filter such rows or change the template")
        return given, target

    def answer_in(self, text: str) -> str:
        """The answer that stands in a target: all of it, or what `answer` finds."""
        return answer_in(text, self.answer)

    def described(self) -> list[Any]:
        """All that what it renders depends on, for a cache's key."""
        turns = self.conversation.model_dump() if self.conversation is not None else None
        return [self.text, self.inverted, self.weight, self.few_shot, self.answer_choices, turns]

    def fields(self) -> set[str]:
        """Names of the fields that the template uses."""
        if self.conversation is not None:
            return {self.conversation.history, self.conversation.target}
        return fields_used(self.text)


def _marked(text: str) -> str:
    """The text with a mark for each `|||` that stands in it as text, not inside `{{ }}`, `{% %}` or a raw block."""
    pieces, raw = [], False
    for _, kind, value in environment().lex(text):
        raw = raw or kind == "raw_begin"
        pieces.append(value.replace(SEPARATOR, MARK) if kind == "data" and not raw else value)
        raw = raw and kind != "raw_end"
    return "".join(pieces)


def answer_in(text: str, pattern: str | None) -> str:
    """What a pattern's group finds last in a text; a text in which it finds nothing is itself the answer.

    A pattern that takes longer than a second finds nothing.
    """
    if pattern is None:
        return text
    import regex

    try:
        found = regex.findall(pattern, text, timeout=1)
    except TimeoutError:
        return text
    return found[-1].strip() if found else text


def split_choices(rendered: str) -> list[str]:
    """The closed set of answers that a text such as `a ||| b` names.

    Raises:
        FlantuneError: An empty choice.
    """
    choices = [choice.strip() for choice in rendered.split(SEPARATOR)]
    if not all(choices):
        raise FlantuneError("answer_choices renders an empty choice; filter such rows or change the text")
    return choices
