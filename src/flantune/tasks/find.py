"""Where a task's name leads: the starter collection inside the package, or a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flantune.errors import FlantuneError, nearest
from flantune.tasks.task import Task, load_task

STARTER = Path(__file__).parent.parent / "starter"


def starter_files() -> dict[str, Path]:
    """Name to YAML file of each starter task."""
    found = {}
    for path in sorted(STARTER.glob("*/*.yaml")):
        stem = path.parent.name if path.stem == "task" else f"kept_{path.stem}"
        found[f"starter/{stem}"] = path
    return found


def starter_tasks() -> list[Task]:
    """All tasks of the starter collection."""
    return [load_task(path) for path in starter_files().values()]


def find_task(name: str, variables: Mapping[str, str] | None = None) -> Task:
    """The task of a starter name or of a path.

    Raises:
        FlantuneError: Unknown name (with the nearest), missing file, or a file with mistakes.
    """
    if name.endswith((".yaml", ".yml")):
        return load_task(Path(name), variables)
    known = starter_files()
    if name in known:
        return load_task(known[name], variables)
    raise FlantuneError(
        f"unknown task {name!r}; {nearest(name, known)}; your own task is named by the path of its .yaml file"
    )
