"""Writes docs/reference.md and the JSON Schemas from the code, so that they cannot say something else.

python scripts/write_reference.py            writes the files
python scripts/write_reference.py --check    fails where they are stale
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from flantune.cli import app
from flantune.evaluation.metrics import METRICS
from flantune.recipe.schema import Recipe
from flantune.tasks.schema import TaskFile

DOCS = Path(__file__).resolve().parent.parent / "docs"


def fields(kind: type[BaseModel]) -> str:
    """Tables of the keys of a pydantic class and of all objects below it, one a heading."""
    schema = kind.model_json_schema()
    objects = {kind.__name__: schema, **{k: v for k, v in schema.get("$defs", {}).items() if "properties" in v}}
    parts = []
    for name, found in objects.items():
        lines = [f"### {name}", "", found.get("description", "").split("\n")[0], "", "| key | type | default | |"]
        lines.append("|---|---|---|---|")
        for key, value in found["properties"].items():
            default = "required" if key in found.get("required", []) else f"`{_default(value)}`"
            lines.append(f"| `{key}` | {_type(value)} | {default} | {value.get('description', '')} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    return "{...}" if isinstance(default, dict) and default else json.dumps(default)


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if "enum" in value:
        return ", ".join(f"`{item}`" for item in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if several := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(each) for each in several if each.get("type") != "null"))
    if value.get("type") == "array":
        inner = value.get("items") or {}
        return f"list of {_type(inner)}" if inner else "list"
    if value.get("type") == "object":
        return "mapping"
    return str(value.get("type", "any"))


def metrics() -> str:
    """All metrics with what is needed to get the same number elsewhere."""
    lines = ["| metric | better | unit | signature |", "|---|---|---|---|"]
    for name, metric in METRICS.items():
        better = "higher" if metric.higher_is_better else "lower"
        lines.append(f"| `{name}` | {better} | {metric.unit} | {metric.signature} |")
    return "\n".join(lines)


def commands() -> str:
    """The help of each command as it prints."""
    parts = []
    root = typer.main.get_command(app)
    for path, command in _commands("flantune", root):
        context = command.make_context(path, [], resilient_parsing=True, terminal_width=80)
        context.info_name = path
        parts.append(f"### {path}\n\n```\n{command.get_help(context).rstrip()}\n```")
    return "\n\n".join(parts)


def _commands(path: str, command: Any) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(path, command)]
    return [found for name, each in inner.items() for found in _commands(f"{path} {name}", each)]


def documents() -> dict[Path, str]:
    """Path to content."""
    text = f"""\
# Reference

Written by `python scripts/write_reference.py` from the code; a test fails when it is stale.
The same as JSON Schema, for editors: [recipe.schema.json](recipe.schema.json), [task.schema.json](task.schema.json).

## Recipe

A YAML file. Unknown keys are errors. Any key can be set on the command line: `training.learning_rate=1e-4`,
`tasks.0.share=0.2`. A task given as a string stands for `{{task: ...}}`, a model for `{{name: ...}}`.

{fields(Recipe)}

## Task

A YAML file. Templates are sandboxed Jinja over a row's fields, `input ||| target`.

{fields(TaskFile)}

## Metrics

{metrics()}

## Commands

{commands()}
"""
    schemas = {"recipe.schema.json": Recipe, "task.schema.json": TaskFile}
    return {
        DOCS / "reference.md": text,
        **{
            DOCS / name: json.dumps(kind.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
            for name, kind in schemas.items()
        },
    }


def main() -> int:
    """Writes or checks."""
    stale = []
    for path, text in documents().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print("stale, run scripts/write_reference.py:", *stale)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
