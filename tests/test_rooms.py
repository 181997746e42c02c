"""The rooms of the package: imports go up only, and what should start fast loads no torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import flantune

PACKAGE = Path(flantune.__file__).parent
BELOW = "the story"  # pipeline.py and the other modules at the top of the package

# A room imports rooms above it, none below; two rooms of one line do not know each other.
ROOMS = [
    {"errors.py, files.py, settings.py, cache.py"},
    {"recipe"},
    {"tasks"},
    {"mixture"},
    {"models"},
    {"training", "evaluation"},
    {"reporting"},
    {BELOW},
    {"ui"},
    {"cli"},
]
HEIGHT = {room: height for height, rooms in enumerate(ROOMS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module):
    """The room of a module's dotted name, such as flantune.mixture.draw."""
    first = (*module.split("."), "")[1]
    if first in ("errors", "files", "settings", "cache"):
        return "errors.py, files.py, settings.py, cache.py"
    if first == "__main__":
        return "cli"
    return first if first in HEIGHT else BELOW


def module_of(path):
    return ".".join(("flantune", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def is_module(name):
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").exists()


def imports(source, module, *, is_package=False):
    """Absolute names of all that a file imports, also inside functions, as (line, name)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for name in node.names:
                whole = f"{base}.{name.name}"
                yield node.lineno, whole if base == "flantune" and is_module(whole) else base


def all_imports(path):
    return list(imports(path.read_text(encoding="utf-8"), module_of(path), is_package=path.stem == "__init__"))


def test_imports_inside_functions_and_relative_ones_are_found():
    source = (
        "import a.b\ndef f():\n    from flantune import cli, Recipe\n    from .draw import x\n    from . import y\n"
    )
    assert [name for _, name in imports(source, "flantune.mixture.order")] == [
        "a.b",
        "flantune.cli",
        "flantune",
        "flantune.mixture.draw",
        "flantune.mixture",
    ]
    assert [name for _, name in imports("from . import y", "flantune.mixture", is_package=True)] == ["flantune.mixture"]


def test_every_folder_of_code_is_a_room():
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == HEIGHT.keys() - {BELOW} - ROOMS[0]
    assert not list((PACKAGE / "starter").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_imports_only_its_own_room_and_rooms_above(path):
    room = room_of(module_of(path))
    wrong = [
        f"line {line}: {name}"
        for line, name in all_imports(path)
        if name.split(".")[0] == "flantune" and room_of(name) != room and HEIGHT[room_of(name)] >= HEIGHT[room]
    ]
    assert not wrong, f"{path.relative_to(PACKAGE)} ({room}) imports what is not above it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "reporting").glob("*.py")), ids=module_of)
def test_reporting_formats_numbers_and_computes_none(path):
    known = {".".join(name.split(".")[:2]) for _, name in all_imports(path)}
    assert not known & {"torch", "transformers", "flantune.models", "flantune.training"}
    assert "torch" not in {name.split(".")[0] for name in known}


@pytest.mark.parametrize("path", sorted((PACKAGE / "mixture").glob("*.py")), ids=module_of)
def test_mixture_imports_no_torch_even_inside_functions(path):
    assert not {name.split(".")[0] for _, name in all_imports(path)} & {"torch", "transformers"}


def in_a_fresh_process(code):
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


HEAVY = 'sorted({"torch", "transformers", "datasets", "scipy", "peft"} & sys.modules.keys())'


@pytest.mark.parametrize("module", ["flantune", "flantune.mixture", "flantune.cli", "flantune.reporting"])
def test_importing_loads_no_torch(module):
    assert in_a_fresh_process(f"import json, sys, {module}; print(json.dumps({HEAVY}))") == []


HELP = f"""
import contextlib, io, json, sys
from typer.main import get_command
from flantune.cli import app, main

def paths(command, path=()):
    yield path
    for name, member in getattr(command, "commands", {{}}).items():
        yield from paths(member, (*path, name))

texts = {{}}
for path in paths(get_command(app)):
    sys.argv = ["flantune", *path, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    texts[" ".join(sys.argv[:-1])] = out.getvalue()
print(json.dumps([texts, {HEAVY}]))
"""


def test_the_help_of_every_command_shows_an_example_of_it_and_loads_no_torch():
    texts, heavy = in_a_fresh_process(HELP)
    assert heavy == []
    assert {"flantune", "flantune plan", "flantune train", "flantune tasks", "flantune init"} <= texts.keys()
    for command, text in texts.items():
        assert f"Usage: {command}" in text
        assert f"Example: {command}" in " ".join(text.split()), f"{command} --help has no example of itself"
