"""promptsource's template files, read in place: https://github.com/bigscience-workshop/promptsource.

A file holds the templates of one data set: Jinja of the form `input ||| target`, answer choices, and metadata. Its tags
(`!Template`, `!TemplateMetadata`) are read as plain data. A template that does not do the data set's original task
(`original_task: false`) becomes an inverted one: it is trained on, and never evaluated as the task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError, nearest
from flantune.tasks.foreign.foreign_task import SEPARATOR, ForeignTask, task_name, template_names
from flantune.tasks.foreign.tagged_yaml import Location, TaggedYaml, read_tagged_yaml
from flantune.tasks.jinja import check_syntax

TAGS = ("!Template", "!TemplateMetadata")
# What its metrics are called here; the first of several leads. What is not listed is told and left out.
METRICS = {
    "accuracy": ("accuracy",),
    "rouge": ("rouge1", "rouge2", "rougeL"),
    "bleu": ("bleu",),
    "squad": ("token_f1", "exact_match"),
    "trivia qa": ("token_f1", "exact_match"),
    "coqa f1": ("token_f1",),
}


def promptsource_templates(path: Path, only: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The templates of a file as a task file states them: `name`, `text`, `inverted`, `answer_choices`.

    Args:
        path: A `templates.yaml`, or the folder it stands in.
        only: Which ones, in this order: by promptsource's name, the name made from it, or the id; all by default.
    Raises:
        FlantuneError: A file or a template that is none, a name that no template has; with the line.
    """
    file = _read(path)
    return [stated for stated, _ in _chosen(file, only)]


def promptsource_task(path: Path) -> ForeignTask:
    """A file as a task whose rows are the data set's on the Hugging Face hub.

    Raises:
        FlantuneError: As `promptsource_templates`.
    """
    file = _read(path)
    chosen = _chosen(file, None)
    data_set, subset = _text(file, "dataset"), _text(file, "subset")
    if not data_set:
        raise FlantuneError("has no `dataset`; promptsource's files name the data set of their templates", file.path)
    full_name = "/".join(filter(None, (data_set, subset)))
    straight = [each for each in chosen if not each[0].get("inverted")] or chosen
    closed = all("answer_choices" in stated for stated, _ in straight)
    metrics, notes = _metrics(file, [location for _, location in straight])
    data = {
        "name": task_name("promptsource", full_name),
        "description": f"promptsource's templates for {full_name}",
        "origins": [full_name],
        **_language(file, [location for _, location in chosen]),
        "source": {
            "kind": "huggingface",
            "path": data_set,
            **({"config": subset} if subset else {}),
            "splits": {split: split for split in ("train", "validation", "test")},
        },
        "evaluate_by": "choices" if closed else "generation",
        "metrics": metrics or (["accuracy"] if closed else ["rouge1"]),
        "empty": "skip",  # a template that renders nothing for a row does not apply to it, as in T0
        "templates": [stated for stated, _ in chosen],
    }
    lines: dict[Location, int] = {
        ("templates", number): file.lines[location] for number, (_, location) in enumerate(chosen)
    }
    return ForeignTask(file.path, data, lines, tuple(notes))


def _read(path: Path) -> TaggedYaml:
    file = read_tagged_yaml(path / "templates.yaml" if path.is_dir() else path, plain=TAGS)
    templates = file.data.get("templates")
    if not isinstance(templates, dict) or not templates:
        raise FlantuneError("has no `templates`; a templates.yaml of promptsource is wanted", file.path)
    return file


def _chosen(file: TaggedYaml, only: Sequence[str] | None) -> list[tuple[dict[str, Any], Location]]:
    """Templates as a task file states them, each with its location in promptsource's file."""
    locations: list[Location] = [("templates", id_) for id_ in file.data["templates"]]
    given = [_given(file, location) for location in locations]
    names = template_names(str(each["name"]) for each in given)
    stated = [
        (_stated(file, each, name, location), location)
        for each, name, location in zip(given, names, locations, strict=True)
    ]
    if only is None:
        return stated
    known = {str(each["name"]): number for number, each in reversed(list(enumerate(given)))}
    known |= {name: number for number, name in enumerate(names)}
    ids = {str(location[-1]): number for number, location in enumerate(locations)}
    for name in only:
        if name not in known and name not in ids:
            raise FlantuneError(f'no template "{name}"; {nearest(name, names)}', file.path)
    return [stated[known[name] if name in known else ids[name]] for name in only]


def _given(file: TaggedYaml, location: Location) -> Mapping[str, Any]:
    given = file.data["templates"][location[-1]]
    if not isinstance(given, dict):
        raise FlantuneError("no template; `name`, `jinja` and more are wanted", file.place(*location))
    for key in ("name", "jinja"):
        if not isinstance(given.get(key), str) or not given[key].strip():
            raise FlantuneError(f"a template without a text in `{key}`; add it", file.place(*location, key))
    return given


def _stated(file: TaggedYaml, given: Mapping[str, Any], name: str, location: Location) -> dict[str, Any]:
    text, choices = given["jinja"], given.get("answer_choices")
    if choices is not None and not isinstance(choices, str):
        raise FlantuneError(
            f"answer_choices of template {given['name']!r} is no text; `a ||| b` is wanted",
            file.place(*location, "answer_choices"),
        )
    if SEPARATOR not in text:
        raise FlantuneError(
            f'template {given["name"]!r} has no "|||" between input and target', file.place(*location, "jinja")
        )
    for key, source in (("jinja", text), ("answer_choices", choices or "")):
        wrong = check_syntax(source)
        if wrong is not None:
            raise FlantuneError(f"{key} of template {given['name']!r} is {wrong}", file.place(*location, key))
    stated: dict[str, Any] = {"name": name, "text": text}
    if _metadata(given).get("original_task") is False:
        stated["inverted"] = True
    if choices is not None and choices.strip():
        stated["answer_choices"] = _choices(choices)
    return stated


def _choices(text: str) -> list[str] | str:
    """Choices that no row changes as a list; others as the Jinja they are."""
    if any(mark in text for mark in ("{{", "{%", "{#")):
        return text
    return [choice.strip() for choice in text.split(SEPARATOR)]


def _metadata(given: Mapping[str, Any]) -> Mapping[str, Any]:
    found = given.get("metadata")
    return found if isinstance(found, dict) else {}


def _listed(file: TaggedYaml, locations: Sequence[Location], key: str) -> list[str]:
    """The items of a list in the metadata of templates, as often as they stand."""
    lists = [_metadata(file.data["templates"][location[-1]]).get(key) for location in locations]
    return [str(item) for items in lists if isinstance(items, list) for item in items]


def _metrics(file: TaggedYaml, locations: Sequence[Location]) -> tuple[list[str], list[str]]:
    """Metrics of all templates that do the task, in the order of how many want them; and what has no equal here."""
    ordered = [name for name, _ in Counter(_listed(file, locations, "metrics")).most_common()]
    known = list(dict.fromkeys(ours for name in ordered for ours in METRICS.get(name.lower(), ())))
    unknown = [name for name in ordered if name.lower() not in METRICS and name != "Other"]
    notes = [f'its metric "{name}" has no equal here and is left out' for name in unknown]
    return known, notes


def _language(file: TaggedYaml, locations: Sequence[Location]) -> dict[str, str]:
    spoken = set(_listed(file, locations, "languages"))
    return {"language": spoken.pop()} if len(spoken) == 1 else {}


def _text(file: TaggedYaml, key: str) -> str:
    value = file.data.get(key)
    return str(value).strip() if isinstance(value, str | int | float) else ""
