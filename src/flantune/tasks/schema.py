"""The fields of a task's YAML file, what each means, and its default."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flantune.errors import FlantuneError
from flantune.recipe.yaml_file import Strict, WrongAt
from flantune.tasks.exemplars import FORMATS, exemplar_format
from flantune.tasks.options import BY_DEFAULT, option_style
from flantune.tasks.sources import SourceChoice


def _task_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)?", name):
        raise ValueError("a name is made of a-z, 0-9, _, . and -, at most one / among them")
    return name


def _template_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise ValueError("a template's name is 1 to 64 of a-z, A-Z, 0-9, _ and -")
    return name


def _choices_as_text(value: Any) -> Any:
    """Whole numbers may stand without quotes; `1.50` and `True` would lose how they were written."""
    if not isinstance(value, list | tuple):
        return value
    for item in value:
        if isinstance(item, bool | float):
            raise ValueError(f"{str(item).lower()} is no text in YAML; put quotes around it")
    return tuple(str(item) if isinstance(item, int) else item for item in value)


AnswerChoices = Annotated[tuple[str, ...] | str | None, BeforeValidator(_choices_as_text)]


def _known(name: str, find: Any) -> str:
    try:
        find(name)
    except FlantuneError as error:
        raise ValueError(error.message) from None
    return name


StyleName = Annotated[str, AfterValidator(lambda name: _known(name, option_style))]
FormatName = Annotated[str, AfterValidator(lambda name: _known(name, exemplar_format))]


class ConversationChoice(Strict):
    """Which fields hold a row's conversation."""

    history: str = Field("history", description="Field with the turns so far: a list of [role, text].")
    target: str = Field("target", description="Field with the turn that is learned.")


class TemplateChoice(Strict):
    """A template as the file states it."""

    name: Annotated[str, AfterValidator(_template_name)]
    text: str | None = Field(
        None,
        description="Jinja, `input ||| target`; `{{ options }}` is the list of answer_choices in one of its styles; "
        '`{{ "first name" | field }}` is a field whose name Jinja cannot read.',
    )
    conversation: ConversationChoice | None = Field(
        None, description="Instead of a text: the row's turns, each in its own role of the model's chat template."
    )
    inverted: bool = Field(False, description="Asks for what is usually given: trained on, never evaluated.")
    held_out: bool = Field(False, description="Evaluated only.")
    weight: float = Field(1.0, gt=0, description="Share among the task's training templates.")
    few_shot: bool = Field(True, description="May be shown with solved examples, where the recipe asks for them.")
    answer: str | None = Field(
        None,
        description="Chain of thought: a regular expression whose first group is the answer in the target and in what "
        'a model says, such as "the answer is (.*)"; the last match counts, and it alone is scored.',
    )
    answer_choices: AnswerChoices = Field(None, description="The closed set of answers of this template alone.")

    @model_validator(mode="after")
    def _one_kind(self) -> TemplateChoice:
        if (self.text is None) == (self.conversation is None):
            raise WrongAt(["text"], "a template has either `text` or `conversation`; give one of them")
        if self.answer is not None:
            import regex

            try:
                groups = regex.compile(self.answer).groups
            except regex.error as error:
                raise WrongAt(["answer"], f"not a regular expression: {error}") from None
            if groups != 1:
                raise WrongAt(["answer"], f"has {groups} groups; one, around the answer, is wanted")
        return self


class TemplatesFrom(Strict):
    """Templates read from a collection of others."""

    promptsource: str = Field(description="Path of a `templates.yaml`; `${NAME}` is a variable of the recipe.")
    only: tuple[str, ...] | None = Field(None, description="Names of the templates to take; all by default.")


class Options(Strict):
    """How the list of answer_choices is written where a template says `{{ options }}`."""

    styles: tuple[StyleName, ...] = Field(
        BY_DEFAULT, min_length=1, description="Names of styles; each draw takes one of them in turn."
    )
    shuffle: bool = Field(False, description="Another order of the options for each row and epoch.")


class TaskFile(Strict):
    """The fields of a task's YAML file."""

    name: Annotated[str, AfterValidator(_task_name)]
    description: str = ""
    cluster: str = Field("other", description="Tasks of one kind, held out together.")
    origins: tuple[str, ...] = Field((), description="Data sets that the rows come from, for leak checks.")
    license: str | None = None
    language: str | None = None
    source: SourceChoice
    fields: dict[str, str] = Field({}, description="Computed fields: Jinja over the row, for use in templates.")
    answer_choices: AnswerChoices = Field(
        None, description="The closed set of answers: a list, or Jinja that renders to `a ||| b`."
    )
    options: Options = Options()
    exemplar_formats: tuple[FormatName, ...] = Field(
        tuple(FORMATS), min_length=1, description="How solved examples may stand before a question (few-shot prompts)."
    )
    evaluate_by: Literal["generation", "choices"] = "generation"
    both_scorers: bool = Field(
        False, description="Also answer the other way than `evaluate_by` says, and show the gap; needs answer_choices."
    )
    max_new_tokens: int = Field(64, ge=1)
    metrics: tuple[str, ...] = Field(
        min_length=1, description="Names of metrics, the main one first; `module:function` is one of your own."
    )
    references: tuple[str, ...] | str | None = Field(
        None,
        description="The right answers of an evaluation row, where there are several: Jinja texts, or one that renders "
        "to `a ||| b`; what renders to nothing is left out.",
    )
    empty: Literal["error", "skip"] = Field(
        "error", description="What a row is for which a template renders nothing: a mistake, or one to leave out."
    )
    shorten: str | None = Field(None, description="Field that gives way, from its end, when a prompt is too long.")
    templates: tuple[TemplateChoice, ...] = ()
    templates_from: TemplatesFrom | None = None

    @model_validator(mode="after")
    def _some_templates(self) -> TaskFile:
        if not self.templates and self.templates_from is None:
            raise WrongAt(["templates"], "a task needs at least one template; add `templates` or `templates_from`")
        return self
