"""Task: a named source of rows, how they are asked, and how answers are scored; one YAML file, or made in Python."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flantune.errors import FlantuneError, Place, nearest
from flantune.files import whole_folder, write_text
from flantune.recipe.yaml_file import StatedFile, YamlFile, read_yaml, validated
from flantune.tasks.jinja import check_syntax
from flantune.tasks.options import GAP, OptionStyle, option_style, shuffled, without_gap
from flantune.tasks.rendering import InProcess, Renderer, Text, bounded_renderer, run, run_all
from flantune.tasks.schema import TaskFile, TemplateChoice
from flantune.tasks.sources import Row, Rows, expression, read_split, split_names
from flantune.tasks.template import OPTIONS, SEPARATOR, Template, split_choices

Example = tuple[str, str]  # input and target
Location = tuple[str | int, ...]  # keys and list positions in the task's file


class Asked(NamedTuple):
    """How one row is asked.

    Attributes:
        template: The phrasing.
        row: The row.
        place: Where the row stands, for error messages.
        style: How options are written where the template says `{{ options }}`; None leaves them out.
        shuffle: What another order of the options depends on; None writes them as they stand.
    """

    template: Template
    row: Row
    place: str
    style: OptionStyle | None = None
    shuffle: int | None = None


class Task:
    """A named source of examples with templates and metrics.

    Args:
        name: a-z, 0-9, _, . and -, at most one / among them.
        rows: Split name to rows (plain dicts).
        templates: Texts of the form `input ||| target`, or whole templates.
        metrics: Names of metrics, the main one first.
        fields: Any other key of a task file: `cluster`, `answer_choices`, `license`, ...
    Attributes:
        spec: What the task's file says.
        file: The file, for error messages and relative paths.
        templates: In the file's order.
        trusted: Whether its templates are the user's own; those of others render in bounded worker processes.
        allow_code: Whether Python functions that it names may run.
        code_folder: Where modules of such functions may lie, beside its own folder.
    Raises:
        FlantuneError: A field or a template that is wrong.

    `load_task` reads one from a file; `save` writes one to a folder.
    """

    def __init__(
        self,
        name: str,
        rows: Mapping[str, Sequence[Row]],
        templates: Sequence[str | Template],
        *,
        metrics: Sequence[str] = ("rouge1",),
        **fields: Any,
    ) -> None:
        made = [
            Template(f"template_{number}", it) if isinstance(it, str) else it
            for number, it in enumerate(templates, start=1)
        ]
        stated = {
            "name": name,
            **fields,
            "source": {"kind": "jsonl", "splits": {split: f"{split}.jsonl" for split in rows}},
            "metrics": list(metrics),
            "templates": [_stated(template) for template in made],
        }
        file = YamlFile(Path(f"task {name}"), stated, None)
        self._set(validated(TaskFile, stated, file), file, made, {}, renderer=InProcess())
        self._rows = {split: Rows.of(list(given)) for split, given in rows.items()}

    @classmethod
    def from_file(
        cls,
        file: StatedFile,
        variables: Mapping[str, str],
        *,
        trusted: bool = True,
        allow_code: bool = False,
        code_folder: Path | None = None,
    ) -> Task:
        """The task that a parsed YAML file states; its rows are read when they are asked for.

        Args:
            file: The parsed file.
            variables: Values for `${NAME}` in its paths.
            trusted: Whether the file is the user's own. The templates of others render in bounded worker processes,
                and their sources may neither run Python nor ask a database in the user's name.
            allow_code: Whether the Python functions that it names may run.
            code_folder: Where modules of its metrics may lie, beside its own folder.
        Raises:
            FlantuneError: `file:line: field: what is wrong`.
        """
        spec = validated(TaskFile, file.data, file)
        if not trusted and any(source.kind == "sql" for source in (spec.source, *spec.source.also)):
            raise FlantuneError(
                "a task of others may not ask a database; copy its file, read it, and use it as your own",
                Place(file.path, file.line(["source"])),
            )
        templates = []
        for number, choice in enumerate(spec.templates):
            try:
                templates.append(Template.of(choice))
            except FlantuneError as error:
                raise FlantuneError(error.message, Place(file.path, file.line(["templates", number]))) from None
        if spec.templates_from is not None:
            templates += _templates_from(spec, file, variables)
        own = trusted and spec.templates_from is None
        task = cls.__new__(cls)
        task._set(
            spec,
            file,
            templates,
            variables,
            renderer=InProcess() if own else bounded_renderer(),
            allow_code=allow_code and trusted,
            code_folder=code_folder,
        )
        return task

    def _set(
        self,
        spec: TaskFile,
        file: StatedFile,
        templates: Sequence[Template],
        variables: Mapping[str, str],
        *,
        renderer: Renderer,
        allow_code: bool = False,
        code_folder: Path | None = None,
    ) -> None:
        self.spec, self.file, self.templates = spec, file, tuple(templates)
        self.variables, self.allow_code, self.code_folder = dict(variables), allow_code, code_folder
        self._renderer = renderer
        self._rows: dict[str, Rows] = {}
        self._locations: dict[str, Location] = {it.name: ("templates", i) for i, it in enumerate(spec.templates)}
        self._check()

    @property
    def name(self) -> str:
        """Unique within a recipe."""
        return self.spec.name

    @property
    def trusted(self) -> bool:
        """Whether its templates render in this process."""
        return isinstance(self._renderer, InProcess)

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.file.path.parent

    @property
    def code_folders(self) -> tuple[Path, ...]:
        """Where modules that it names are looked for first."""
        return (self.folder,) if self.code_folder is None else (self.folder, self.code_folder)

    @cached_property
    def training_templates(self) -> tuple[Template, ...]:
        """Those that training draws from: all but the held-out ones."""
        return tuple(template for template in self.templates if not template.held_out)

    def named_templates(self, pattern: str) -> set[str]:
        """Names of the training templates that a name or a pattern (`short*`) means.

        Raises:
            FlantuneError: None is called so.
        """
        names = [template.name for template in self.training_templates]
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise FlantuneError(f'task {self.name} has no training template "{pattern}"; {nearest(pattern, names)}')
        return found

    def trained_with(self, names: set[str]) -> Task:
        """The same task, whose training templates of other names are held out."""
        made = copy(self)
        made.templates = tuple(
            template if template.name in names else replace(template, held_out=True) for template in self.templates
        )
        made.__dict__.pop("training_templates", None)
        return made

    def evaluation_templates(self, kind: Literal["seen", "held_out"]) -> tuple[Template, ...]:
        """Straight templates of one kind; inverted ones ask for something else and are never evaluated.

        Where answers are chosen by their likelihood, those that ask for reasoning first cannot be.
        """
        by_choices = self.spec.evaluate_by == "choices"
        return tuple(
            template
            for template in self.templates
            if template.held_out == (kind == "held_out")
            and not template.inverted
            and not (by_choices and template.answer is not None)
        )

    @cached_property
    def styles(self) -> tuple[OptionStyle, ...]:
        """The ways in which options are written."""
        return tuple(option_style(name) for name in self.spec.options.styles)

    @property
    def evaluation_style(self) -> OptionStyle:
        """How options are written in an evaluation: always the same way, answered in words where a style is."""
        return next((style for style in self.styles if style.answer == "{text}"), self.styles[0])

    def split_names(self) -> list[str]:
        """Names of the splits that the task has."""
        return split_names(self.spec.source)

    def split(self, name: str) -> Rows:
        """All rows of a split.

        Raises:
            FlantuneError: No such split, or its files are wrong.
        """
        if name not in self.split_names():
            raise FlantuneError(
                f'task {self.name} has no split "{name}"; {nearest(name, self.split_names())}', self.file.path
            )
        if name not in self._rows:
            try:
                self._rows[name] = read_split(
                    self.spec.source, name, self.folder, self.variables, allow_code=self.allow_code
                )
            except FlantuneError as error:
                raise FlantuneError(error.message, error.place or self.place("source")) from None
        return self._rows[name]

    def example(self, number: int, *, template: int | str = 0, split: str | None = None) -> Example:
        """Input and target of a row, in one of the task's templates (by number or name).

        Raises:
            FlantuneError: No such row, template or split, or a row that cannot be rendered.
        """
        rows = self.split(split or self.split_names()[0])
        if not 0 <= number < len(rows):
            raise FlantuneError(f"no row {number}; the split has rows 0 to {len(rows) - 1}", self.name)
        chosen = self.template(template)
        return self.render(chosen, rows[number], rows.place(number), style=self.evaluation_style)

    def prompt(self, number: int, *, template: int | str = 0, split: str | None = None) -> str:
        """The input of a row: `example(...)[0]`."""
        return self.example(number, template=template, split=split)[0]

    def template(self, name: int | str) -> Template:
        """A template by its number or name.

        Raises:
            FlantuneError: No such template, with the nearest name.
        """
        names = [template.name for template in self.templates]
        if isinstance(name, int) and 0 <= name < len(names):
            return self.templates[name]
        if name not in names:
            raise FlantuneError(
                f'task {self.name} has no template "{name}"; {nearest(str(name), names)}', self.file.path
            )
        return self.templates[names.index(str(name))]

    def render(self, template: Template, row: Row, place: str, *, style: OptionStyle | None = None) -> Example:
        """Input and target of a row.

        Args:
            template: One of the task's templates.
            row: One of its rows.
            place: Where the row stands, for error messages.
            style: How options are written where the template says `{{ options }}`; None leaves them out.
        Raises:
            FlantuneError: Task file and line of the template, what is wrong, and the row's place.
        """
        return run(self._rendering(Asked(template, row, place, style)), self._renderer)

    def render_all(self, asked: Sequence[Asked]) -> list[Example | FlantuneError]:
        """`render` of many rows at once: what the templates of others need, since they render in other processes."""
        return run_all([self._rendering(each) for each in asked], self._renderer)

    def values(self, row: Row, template: Template | None = None) -> dict[str, Any]:
        """What templates see: the row, the computed fields, `answer_choices`.

        Raises:
            FlantuneError: A computed field or the answer choices cannot be rendered.
        """
        return run(self._values(row, template), self._renderer)

    def references(self, row: Row, target: str) -> list[str]:
        """The right answers of an evaluation row: the template's target, or what `references` renders.

        Raises:
            FlantuneError: A reference cannot be rendered.
        """
        return run(self._references(row, target), self._renderer)

    def place(self, key: str, template: Template | None = None) -> Place:
        """The line of a key, or of one template."""
        return self._at(self._location(template) if template is not None else (key,))

    def save(self, folder: Path | str) -> Path:
        """Writes the task's YAML file and the rows of all its splits as JSONL; returns the YAML file's path.

        Raises:
            FlantuneError: The folder exists already, or cannot be written.
        """
        target = Path(folder)
        if target.exists():
            raise FlantuneError("exists already; choose another folder", target)
        with whole_folder(target) as aside:
            splits = {}
            for split in self.split_names():
                splits[split] = f"{split}.jsonl"
                lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.split(split))
                write_text(aside / splits[split], "".join(lines))
            stated = self.spec.model_dump(mode="json", exclude_defaults=True, exclude={"source", "templates_from"})
            stated["source"] = {"kind": "jsonl", "splits": splits}
            stated["templates"] = [_stated(template) for template in self.templates]
            write_text(aside / "task.yaml", json.dumps(stated, ensure_ascii=False, indent=1) + "\n")  # JSON is YAML
        return target / "task.yaml"

    # What is rendered, step by step: each of these yields a text, is sent what it renders to, and returns the result.

    def _rendering(self, asked: Asked) -> Generator[Text, str, Example]:
        template, row = asked.template, asked.row
        try:
            values = yield from self._values(row, template)
            choices = self._shown_choices(asked, values)
            if template.conversation is not None:
                return template.turns(values)
            rendered = yield from self._text(template.marked, values, template.what, self._location(template))
            given, target = template.parts(rendered)
            if choices is None:
                return (without_gap(given), target) if template.uses_options else (given, target)
            assert asked.style is not None
            return given, asked.style.answered(target, choices)
        except FlantuneError as error:
            at = error.place or self.place("templates", template)
            raise type(error)(f"{error.message} (row at {asked.place})", at) from None

    def _shown_choices(self, asked: Asked, values: dict[str, Any]) -> list[str] | None:
        """Puts the list of options among the values where the template wants it; returns the options as they stand."""
        if not asked.template.uses_options or OPTIONS in asked.row:  # a row's own field of that name is the row's
            return None
        if "answer_choices" not in values:
            raise FlantuneError(f'{asked.template.what} shows options, but the task has no "answer_choices"; add them')
        if asked.style is None:
            values[OPTIONS] = GAP
            return None
        choices = list(values["answer_choices"])
        if asked.shuffle is not None:
            choices = shuffled(choices, asked.shuffle)
        values[OPTIONS] = asked.style.written(choices)
        return choices

    def _values(self, row: Row, template: Template | None) -> Generator[Text, str, dict[str, Any]]:
        values = dict(row)
        for name, text in self.spec.fields.items():
            values[name] = yield from self._text(text, values, f'field "{name}"', ("fields", name))
        given, location = self.spec.answer_choices, Location(("answer_choices",))
        if template is not None and template.answer_choices is not None:
            given, location = template.answer_choices, self._location(template)
        if isinstance(given, str):
            rendered = yield from self._text(given, values, "answer_choices", location)
            try:
                values["answer_choices"] = split_choices(rendered)
            except FlantuneError as error:
                raise FlantuneError(error.message, self._at(location)) from None
        elif given is not None:
            values["answer_choices"] = list(given)
        return values

    def _references(self, row: Row, target: str) -> Generator[Text, str, list[str]]:
        given = self.spec.references
        if given is None:
            return [target]
        values = yield from self._values(row, None)
        found: list[str] = []
        for number, text in enumerate([given] if isinstance(given, str) else given):
            location = ("references",) if isinstance(given, str) else ("references", number)
            rendered = yield from self._text(text, values, "the reference", location)
            found += rendered.split(SEPARATOR) if isinstance(given, str) else [rendered]
        found = [reference.strip() for reference in found if reference.strip()]
        if not found:
            raise FlantuneError("all references render to nothing; filter such rows", self.place("references"))
        return found

    def _text(self, text: str, values: Mapping[str, Any], what: str, location: Location) -> Generator[Text, str, str]:
        try:
            return (yield Text(text, values, what))
        except FlantuneError as error:
            raise FlantuneError(error.message, self._at(location)) from None

    def _location(self, template: Template) -> Location:
        return self._locations.get(template.name, ("templates_from",))

    def _at(self, location: Location) -> Place:
        return Place(self.file.path, self.file.line(location))

    def _check(self) -> None:
        """What can be known before any row is read."""
        names = [template.name for template in self.templates]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise FlantuneError(
                    f'template "{name}" stands twice; rename one', self.place("templates", self.templates[number])
                )
        for what, text, location in _texts(self.spec):
            wrong = check_syntax(text)
            if wrong is not None:
                raise FlantuneError(f"{what} is {wrong}", self._at(location))
        own = all(template.answer_choices is not None or template.inverted for template in self.templates)
        by_choices = {"evaluate_by": self.spec.evaluate_by == "choices", "both_scorers": self.spec.both_scorers}
        for key, wanted in by_choices.items():
            if wanted and self.spec.answer_choices is None and not own:
                told = f"{key}: {'choices' if key == 'evaluate_by' else 'true'}"
                raise FlantuneError(f"{told} needs `answer_choices`; list the possible answers", self.place(key))


def load_task(
    path: Path | str,
    variables: Mapping[str, str] | None = None,
    *,
    trusted: bool = True,
    allow_code: bool = False,
    code_folder: Path | None = None,
) -> Task:
    """Reads and checks a task's YAML file: see `Task.from_file`.

    Raises:
        FlantuneError: No such file, or `file:line: field: what is wrong`.
    """
    file = read_yaml(Path(path))
    return Task.from_file(file, variables or {}, trusted=trusted, allow_code=allow_code, code_folder=code_folder)


def _stated(template: Template) -> dict[str, Any]:
    """A template as a task file states it."""
    stated = {name: getattr(template, name) for name in TemplateChoice.model_fields}
    if template.conversation is not None:
        stated |= {"text": None, "conversation": template.conversation.model_dump()}
    return TemplateChoice.model_validate(stated).model_dump(mode="json", exclude_defaults=True)


def _templates_from(spec: TaskFile, file: StatedFile, variables: Mapping[str, str]) -> list[Template]:
    from flantune.tasks.foreign.promptsource import promptsource_templates
    from flantune.tasks.sources.files import filled

    assert spec.templates_from is not None
    at = Place(file.path, file.line(["templates_from"]))
    try:
        path = file.path.parent / filled(spec.templates_from.promptsource, variables)
        given = promptsource_templates(path, spec.templates_from.only)
        return [Template.of(TemplateChoice.model_validate(each)) for each in given]
    except FlantuneError as error:
        raise FlantuneError(error.message, error.place or at) from None


def _texts(spec: TaskFile) -> Iterator[tuple[str, str, Location]]:
    """The Jinja texts beside the templates: what an error calls them, the text, and where it stands."""
    for name, text in spec.fields.items():
        yield f'field "{name}"', text, ("fields", name)
    if isinstance(spec.references, str):
        yield "the reference", spec.references, ("references",)
    for number, text in enumerate(spec.references if isinstance(spec.references, tuple) else ()):
        yield "the reference", text, ("references", number)
    if isinstance(spec.answer_choices, str):
        yield "answer_choices", spec.answer_choices, ("answer_choices",)
    if spec.source.where is not None:
        yield "source.where", expression(spec.source.where), ("source", "where")
