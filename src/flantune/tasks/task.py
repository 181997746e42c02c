"""Task: one YAML file that says where rows come from, how they are asked, and how answers are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from flantune.errors import FlantuneError, Place, nearest
from flantune.recipe.yaml_file import Strict, YamlFile, read_yaml, validated
from flantune.tasks.source import Row, Rows, SourceChoice, read_split, split_names
from flantune.tasks.template import Template, check_syntax, choices_of, render_text


class TemplateChoice(Strict):
    """A template as the file states it."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    text: str
    inverted: bool = False
    held_out: bool = False
    weight: float = Field(1.0, gt=0)


class TaskFile(Strict):
    """The fields of a task's YAML file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)?$")
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

    @field_validator("answer_choices", "metrics", "references", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(str(item) if isinstance(item, int | float) else item for item in value)
        return value


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
        return read_split(self.spec.source, name, self.folder, self.variables)

    def values(self, row: Row) -> dict[str, Any]:
        """What templates see: the row, the computed fields, `answer_choices`."""
        values = dict(row)
        for name, text in self.spec.fields.items():
            values[name] = render_text(text, values, f'field "{name}"')
        choices = choices_of(self.spec.answer_choices, values)
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
            raise FlantuneError(f"{error.message} (row at {place})", self.place("templates", template)) from None

    def references(self, row: Row, target: str) -> list[str]:
        """The right answers of an evaluation row: the template's target, or what `references` renders."""
        if self.spec.references is None:
            return [target]
        values = self.values(row)
        return [render_text(text, values, "references").strip() for text in self.spec.references]

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
    for name, text in spec.fields.items():
        wrong = check_syntax(text)
        if wrong is not None:
            raise FlantuneError(f'field "{name}" is {wrong}', Place(file.path, file.line(["fields", name])))
    if spec.evaluate_by == "choices" and spec.answer_choices is None:
        place = Place(file.path, file.line(["evaluate_by"]))
        raise FlantuneError("evaluate_by: choices needs `answer_choices`; list the possible answers", place)
    return Task(spec, file, tuple(templates), dict(variables or {}))
