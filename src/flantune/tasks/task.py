"""Task: one YAML file that says where rows come from, how they are asked, and how answers are scored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from flantune.errors import FlantuneError, Place, nearest
from flantune.recipe.yaml_file import Strict, YamlFile, read_yaml, validated
from flantune.tasks.source import Row, Rows, SourceChoice, expression, read_split, split_names
from flantune.tasks.template import Template, check_syntax, choices_of, render_text


def _task_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)?", name):
        raise ValueError("a name is made of a-z, 0-9, _, . and -, at most one / among them")
    return name


def _template_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise ValueError("a template's name is 1 to 64 of a-z, A-Z, 0-9, _ and -")
    return name


class TemplateChoice(Strict):
    """A template as the file states it."""

    name: Annotated[str, AfterValidator(_template_name)]
    text: str = Field(
        description='Jinja, `input ||| target`; `{{ "first name" | field }}` is a field whose name Jinja cannot read.'
    )
    inverted: bool = False
    held_out: bool = False
    weight: float = Field(1.0, gt=0)


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
    answer_choices: tuple[str, ...] | str | None = Field(
        None, description="The closed set of answers: a list, or Jinja that renders to `a ||| b`."
    )
    evaluate_by: Literal["generation", "choices"] = "generation"
    max_new_tokens: int = Field(64, ge=1)
    metrics: tuple[str, ...] = Field(min_length=1, description="Names of metrics, the main one first.")
    references: tuple[str, ...] | None = Field(
        None, description="Jinja texts that render the references of an evaluation row, where there are several."
    )
    shorten: str | None = Field(None, description="Field that gives way, from its end, when a prompt is too long.")
    templates: tuple[TemplateChoice, ...] = Field(min_length=1)

    @field_validator("answer_choices", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Whole numbers may stand without quotes; `1.50` and `True` would lose how they were written."""
        if not isinstance(value, list | tuple):
            return value
        for item in value:
            if isinstance(item, bool | float):
                raise ValueError(f"{str(item).lower()} is no text in YAML; put quotes around it")
        return tuple(str(item) if isinstance(item, int) else item for item in value)


@dataclass(frozen=True)
class Task:
    """A named source of examples with templates and metrics.

    Attributes:
        spec: What the file says.
        file: The file, for error messages and relative paths.
        templates: In the file's order.
        variables: Values for `${NAME}` in source paths.
    """

    spec: TaskFile
    file: YamlFile
    templates: tuple[Template, ...]
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """Unique within a recipe."""
        return self.spec.name

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.file.path.parent

    @cached_property
    def training_templates(self) -> tuple[Template, ...]:
        """Those that training draws from: all but the held-out ones."""
        return tuple(template for template in self.templates if not template.held_out)

    def evaluation_templates(self, kind: Literal["seen", "held_out"]) -> tuple[Template, ...]:
        """Straight templates of one kind; inverted ones ask for something else and are never evaluated."""
        return tuple(t for t in self.templates if not t.inverted and t.held_out == (kind == "held_out"))

    def split(self, name: str) -> Rows:
        """All rows of a split.

        Raises:
            FlantuneError: No such split, or its files are wrong.
        """
        names = split_names(self.spec.source)
        if name not in names:
            raise FlantuneError(f'task {self.name} has no split "{name}"; {nearest(name, names)}', self.file.path)
        try:
            return read_split(self.spec.source, name, self.folder, self.variables)
        except FlantuneError as error:
            raise FlantuneError(error.message, error.place or self.place("source")) from None

    def values(self, row: Row) -> dict[str, Any]:
        """What templates see: the row, the computed fields, `answer_choices`."""
        values = dict(row)
        for name, text in self.spec.fields.items():
            values[name] = self._rendered(text, values, f'field "{name}"', "fields", name)
        try:
            choices = choices_of(self.spec.answer_choices, values)
        except FlantuneError as error:
            raise FlantuneError(error.message, self.place("answer_choices")) from None
        if choices is not None:
            values["answer_choices"] = choices
        return values

    def render(self, template: Template, row: Row, place: str) -> tuple[str, str]:
        """Input and target of a row.

        Raises:
            FlantuneError: Task file and line of the template, what is wrong, and the row's place.
        """
        try:
            return template.render(self.values(row))
        except FlantuneError as error:
            at = error.place or self.place("templates", template)
            raise FlantuneError(f"{error.message} (row at {place})", at) from None

    def references(self, row: Row, target: str) -> list[str]:
        """The right answers of an evaluation row: the template's target, or what `references` renders."""
        if self.spec.references is None:
            return [target]
        values = self.values(row)
        return [
            self._rendered(text, values, "the reference", "references", number).strip()
            for number, text in enumerate(self.spec.references)
        ]

    def _rendered(self, text: str, values: Row, what: str, *location: str | int) -> str:
        try:
            return render_text(text, values, what)
        except FlantuneError as error:
            raise FlantuneError(error.message, Place(self.file.path, self.file.line(location))) from None

    def place(self, key: str, template: Template | None = None) -> Place:
        """The line of a key, or of one template."""
        location: list[str | int] = [key]
        if template is not None:
            location.append(self.templates.index(template))
        return Place(self.file.path, self.file.line(location))


def load_task(path: Path | str, variables: Mapping[str, str] | None = None) -> Task:
    """Reads and checks a task's YAML file; its rows are read when they are asked for.

    Raises:
        FlantuneError: `file:line: field: what is wrong`.
    """
    file = read_yaml(Path(path))
    spec = validated(TaskFile, file.data, file)
    templates = []
    for number, choice in enumerate(spec.templates):
        place = Place(file.path, file.line(["templates", number]))
        try:
            templates.append(Template(**choice.model_dump()))
        except FlantuneError as error:
            raise FlantuneError(error.message, place) from None
    names = [template.name for template in templates]
    for number, name in enumerate(names):
        if name in names[:number]:
            place = Place(file.path, file.line(["templates", number]))
            raise FlantuneError(f'template "{name}" stands twice; rename one', place)
    for what, text, location in _texts(spec):
        wrong = check_syntax(text)
        if wrong is not None:
            raise FlantuneError(f"{what} is {wrong}", Place(file.path, file.line(location)))
    if spec.evaluate_by == "choices" and spec.answer_choices is None:
        place = Place(file.path, file.line(["evaluate_by"]))
        raise FlantuneError("evaluate_by: choices needs `answer_choices`; list the possible answers", place)
    return Task(spec, file, tuple(templates), dict(variables or {}))


def _texts(spec: TaskFile) -> Iterator[tuple[str, str, list[str | int]]]:
    """The Jinja texts beside the templates: what an error calls them, the text, and where it stands."""
    for name, text in spec.fields.items():
        yield f'field "{name}"', text, ["fields", name]
    for number, text in enumerate(spec.references or ()):
        yield "the reference", text, ["references", number]
    if isinstance(spec.answer_choices, str):
        yield "answer_choices", spec.answer_choices, ["answer_choices"]
    if spec.source.where is not None:
        yield "source.where", expression(spec.source.where), ["source", "where"]
