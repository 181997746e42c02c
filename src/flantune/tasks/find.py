"""Where a task's name leads: a starter task, a YAML file, a file of another project, or an installed task pack."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from flantune.errors import FlantuneError, nearest
from flantune.tasks.foreign import FOREIGN, foreign_task
from flantune.tasks.task import Task, load_task

STARTER = Path(__file__).parent.parent / "starter"
PACKS = "flantune.tasks"  # group of entry points: `name = "package"`, whose folder holds the tasks


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


@functools.cache
def pack_folders() -> dict[str, Path]:
    """Name to folder of each installed task pack; the package itself is not imported."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    found = {}
    for entry in entry_points(group=PACKS):
        spec = find_spec(entry.value)
        if spec is not None and spec.submodule_search_locations:
            found[entry.name] = Path(next(iter(spec.submodule_search_locations)))
    return found


def pack_files(pack: str) -> dict[str, Path]:
    """Name to YAML file of each task of a pack: `PACK/NAME` for NAME.yaml or NAME/task.yaml in its folder."""
    folder = pack_folders()[pack]
    found = {f"{pack}/{path.stem}": path for path in sorted(folder.glob("*.yaml"))}
    return found | {f"{pack}/{path.parent.name}": path for path in sorted(folder.glob("*/task.yaml"))}


def task_names() -> list[str]:
    """Names of the starter tasks and of those of all installed packs."""
    return [*starter_files(), *(name for pack in sorted(pack_folders()) for name in pack_files(pack))]


def find_task(
    name: str,
    variables: Mapping[str, str] | None = None,
    *,
    allow_code: bool = False,
    code_folder: Path | None = None,
) -> Task:
    """The task of a name.

    Args:
        name: A starter task's name, the path of a YAML file, `PACK/NAME` of an installed pack, or a file of another
            project: `super_ni:PATH`, `promptsource:PATH`, `lm_eval:PATH`.
        variables: Values for `${NAME}` in paths.
        allow_code: Whether the Python functions that a task names may run; never those of a pack.
        code_folder: Where modules of a task's metrics may lie, beside its own folder.
    Raises:
        FlantuneError: Unknown name (with the nearest), missing file, or a file with mistakes.
    """
    scheme, colon, path = name.partition(":")
    if colon and scheme in FOREIGN:
        foreign = foreign_task(scheme, path, variables)
        return Task.from_file(foreign, variables or {}, trusted=foreign.trusted)
    if name.endswith((".yaml", ".yml")):
        return load_task(Path(name), variables, allow_code=allow_code, code_folder=code_folder)
    known = starter_files()
    if name in known:
        return load_task(known[name], variables)
    pack = name.partition("/")[0]
    if pack in pack_folders():
        known = pack_files(pack)
        if name in known:
            return load_task(known[name], variables, trusted=False)
    raise FlantuneError(
        f"unknown task {name!r}; {nearest(name, known)}; your own task is named by the path of its .yaml file"
    )
