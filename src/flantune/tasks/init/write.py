"""Task and recipe as YAML that a person edits: in the order of reading, with a word beside what is not plain."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError
from flantune.files import write_text
from flantune.tasks.init.draft import Draft
from flantune.tasks.init.tidy import shared_beginning

MANY = 5  # files that are rather named by a pattern
MOST_UP = 3  # folders that a relative path may go up
DRAWS = 3000  # of a first run; a quarter of an hour on two cores where texts are short
LONG = 2600  # characters of an example that 1,024 tokens may not hold
BESIDE = {
    "fractions": "by a hash of each row: appending rows moves none",
    "metrics": "the first one decides the verdict",
    "shorten": "gives way when a prompt is too long",
    "where": "other rows are left out",
}


def write_all(drafts: Sequence[Draft], folder: Path, recipe: str) -> list[Path]:
    """Writes NAME.yaml of each task and recipe.yaml, all or none.

    Raises:
        FlantuneError: One of the files exists.
    """
    texts = {folder / f"{draft.name}.yaml": task_text(draft, folder) for draft in drafts}
    texts[folder / "recipe.yaml"] = recipe
    for path in texts:
        if path.exists():
            raise FlantuneError("exists already; give another folder with --out, or move it away", path)
    written: list[Path] = []
    try:
        for path, text in texts.items():
            written.append(path)
            write_text(path, text)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return written


def task_text(draft: Draft, folder: Path) -> str:
    """A task file."""
    first = f"# Made by flantune init; edit freely, then: flantune tasks lint {draft.name}.yaml"
    lines = [first]
    for key, value in draft.keys.items():
        if key == "source":
            lines += ["source:", *_source_lines(value, folder)]
        elif key == "fields":
            lines += [
                "fields:   # made of others, for use in the phrasings",
                *(f"  {flow(name)}: {flow(text)}" for name, text in value.items()),
            ]
        else:
            lines.append(f"{key}: {flow(value)}{_beside(key)}")
    lines.append("templates:   # several phrasings, so that the model learns the task and not one sentence")
    for template in draft.templates:
        lines += _template_lines(template)
    return "\n".join(lines) + "\n"


def _beside(key: str) -> str:
    return f"   # {BESIDE[key]}" if key in BESIDE else ""


def _source_lines(source: Mapping[str, Any], folder: Path) -> list[str]:
    lines = [f"  kind: {source['kind']}", "  splits:"]
    lines += [f"    {flow(split)}: {flow(_relative(files, folder))}" for split, files in source["splits"].items()]
    for key, value in source.items():
        if key == "transforms":
            lines += ["  transforms:", *(f"    - {flow(each)}" for each in value)]
        elif key == "beside":
            lines.append(f"  beside: {flow({name: _relative(files, folder) for name, files in value.items()})}")
        elif key not in ("kind", "splits"):
            lines.append(f"  {key}: {flow(value)}{_beside(key)}")
    return lines


def _relative(files: Any, folder: Path) -> Any:
    """Paths from the task's folder where that is near, else as they are."""
    if isinstance(files, dict):
        return {name: _relative(each, folder) for name, each in files.items()}
    if isinstance(files, list):
        return (
            _relative(pattern, folder) if (pattern := _pattern(files)) else [_relative(each, folder) for each in files]
        )
    near = os.path.relpath(files, folder.absolute())
    return near if Path(near).parts.count("..") <= MOST_UP else files


def _pattern(files: Sequence[str]) -> str | None:
    """One pattern that names just these files, where there are many."""
    if len(files) < MANY:
        return None
    shared, suffix = os.path.commonpath(files), shared_beginning([name[::-1] for name in files])[::-1]
    pattern = f"{shared}/**/*{suffix[suffix.find('.') :]}" if "." in suffix else None
    if pattern is None or set("*?[]#!") & set(shared):
        return None
    found = sorted(map(str, Path(shared).glob(pattern.removeprefix(f"{shared}/"))))
    return pattern if found == sorted(files) else None


def _template_lines(template: Mapping[str, Any]) -> list[str]:
    lines = [f"  - name: {template['name']}"]
    for key, value in template.items():
        if key == "held_out":
            lines.append("    held_out: true   # never trained on: does it understand other words too?")
        elif key == "inverted":
            lines.append("    inverted: true   # asks for what is usually given; trained on, never evaluated")
        elif key != "name":
            lines.append(f"    {key}: {flow(value)}")
    return lines


def flow(value: Any) -> str:
    """A value as YAML on one line: names plain, texts in double quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(str(key))}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(each) for each in value) + "]"
    if isinstance(value, bool) or value is None or isinstance(value, int | float):
        return json.dumps(value)
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) and text.lower() not in _WORDS
    return text if plain else quoted(text)


_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


def quoted(text: str) -> str:
    """Text as YAML in double quotes: JSON, with what YAML reads otherwise or not at all as escapes."""
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]",
        lambda found: f"\\u{ord(found[0]):04x}",
        json.dumps(text, ensure_ascii=False),
    )


def recipe_text(name: str, drafts: Sequence[Draft]) -> str:
    """A recipe that trains the embedded model on the tasks, with replay, and looks after what should be kept."""
    rows = sum(draft.rows.get("train", 0) for draft in drafts)
    many = 3 * rows > DRAWS
    if many:
        amount = [
            f"  draws: {DRAWS}                    "
            f"# a first result on a laptop; `epochs: 3` instead sees all {rows:,} rows three times"
        ]
    else:
        amount = ["  epochs: 3"]
    tasks = [f"  - {quoted(f'{draft.name}.yaml')}" for draft in drafts]
    tasks[-1] += "   # add more tasks: one model learns them all"
    mixture = []
    if len(drafts) > 1:
        mixture.append(
            "  rates: temperature             # small tasks come more often than their rows alone would have it"
        )
    if max(draft.longest for draft in drafts) > LONG:
        mixture.append("  capacity: 2048                 # texts are long")
    return "\n".join(
        [
            "# flantune plan recipe.yaml   shows what it will do; flantune train recipe.yaml   does it.",
            f"name: {quoted(name)}",
            "model: smollm2-135m-instruct      # or a folder, or a name on the hub",
            "tasks:",
            *tasks,
            "  - task: starter/instructions    # general instructions, so that it stays an assistant",
            "    share: 0.2",
            "unseen:                           # only evaluated: what should not be forgotten",
            "  - starter/kept_knowledge",
            "  - starter/kept_behaviour",
            *(["mixture:", *mixture] if mixture else []),
            "training:",
            *amount,
            "  learning_rate: 2e-4",
            "  loss: {per: square_root}",
            "",
        ]
    )
