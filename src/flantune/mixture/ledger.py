"""The ledger: which tasks may stand beside each other in a recipe, by their names, origins and licences."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError, Place, nearest
from flantune.tasks.task import Task

Where = Place | str | Path | None


@dataclass(frozen=True)
class Listed:
    """A task of a recipe, and where the recipe names it."""

    task: Task
    place: Where = None


@dataclass(frozen=True)
class Allowed:
    """Two tasks that may share an origin, by name and in any order, and where the recipe says so."""

    pair: tuple[str, str]
    place: Where = None


def check_names(tasks: Sequence[Listed]) -> None:
    """Refuses a task that stands twice in a recipe, and two tasks of one name.

    Raises:
        FlantuneError: Names the task and, of two, both files.
    """
    seen: dict[str, Task] = {}
    for listed in tasks:
        task, other = listed.task, seen.get(listed.task.name)
        if other is not None and _is_same(task, other):
            raise FlantuneError(
                f"task {task.name} stands twice among `tasks` and `unseen`; trained tasks are evaluated anyway, so "
                "remove one",
                listed.place,
            )
        if other is not None:
            raise FlantuneError(
                f"two tasks are called {task.name}; rename one (the other is in {other.file.path})", task.file.path
            )
        seen[task.name] = task


def _is_same(one: Task, other: Task) -> bool:
    try:
        return one is other or one.file.path.samefile(other.file.path)
    except OSError:  # made in Python: there is no file
        return False


def check_origins(
    trained: Sequence[Listed], unseen: Sequence[Listed], allowed: Sequence[Allowed] = ()
) -> list[dict[str, Any]]:
    """Refuses an unseen task whose rows come from a data set that is trained on.

    Tasks are held out by origin, not by name, as in Super-NaturalInstructions: a task of a held-out cluster is not
    unseen if its texts were trained on in another task. Names of origins are compared without case and punctuation.

    Args:
        trained: Tasks that are trained on.
        unseen: Tasks that are only evaluated.
        allowed: Pairs that may share an origin all the same.
    Returns:
        The pairs that share an origin and are allowed to: `trained`, `unseen`, `origins`.
    Raises:
        FlantuneError: Names both tasks and the origin; or a name in `allowed` that no task has.
    """
    _check_allowed([listed.task.name for listed in (*trained, *unseen)], allowed)
    pairs = {frozenset(each.pair) for each in allowed}
    clusters = {listed.task.spec.cluster for listed in trained}
    told = []
    for held in unseen:
        for other in trained:
            shared = _shared_origins(held.task, other.task)
            if not shared:
                continue
            if frozenset((held.task.name, other.task.name)) not in pairs:
                raise FlantuneError(_shares(held.task, other, shared[0], clusters), held.place)
            told.append({"trained": other.task.name, "unseen": held.task.name, "origins": shared})
    return told


def _shares(held: Task, other: Listed, origin: str, clusters: Collection[str]) -> str:
    cluster = held.spec.cluster
    of_cluster = f" of the held-out cluster {cluster}" if cluster not in clusters and cluster != "other" else ""
    at = f" ({other.place})" if other.place is not None else ""
    return (
        f"unseen task {held.name}{of_cluster} shares its origin {origin} with the trained task {other.task.name}{at}; "
        "hold both out, do not call it unseen, or allow it: "
        f"ledger: {{allow: [[{other.task.name}, {held.name}]]}}"
    )


def _shared_origins(one: Task, other: Task) -> list[str]:
    theirs = {_normal(origin) for origin in other.spec.origins}
    return [origin for origin in one.spec.origins if _normal(origin) in theirs]


def _normal(origin: str) -> str:
    return re.sub(r"[\W_]+", "", origin.casefold()) or origin


def _check_allowed(names: Collection[str], allowed: Sequence[Allowed]) -> None:
    for each in allowed:
        for name in each.pair:
            if name not in names:
                raise FlantuneError(f"ledger.allow: no task is called {name}; {nearest(name, names)}", each.place)


def check_licences(trained: Sequence[Listed], allow: Collection[str] | None) -> None:
    """Refuses a trained task whose licence is not among those that a recipe allows.

    Raises:
        FlantuneError: Names the task, its licence, and the line of the task's file.
    """
    known = {_plain(licence) for licence in allow or ()}
    for listed in trained if allow is not None else ():
        task, licence = listed.task, listed.task.spec.license
        if licence is None or _plain(licence) not in known:
            at = f" ({listed.place})" if listed.place is not None else ""
            raise FlantuneError(
                f"task {task.name}{at} has {f'the licence {licence}' if licence else 'no `license`'}, which "
                f"ledger.licences.allow does not name ({', '.join(allow or ()) or 'it is empty'}); remove the task, or "
                f"{'allow its licence' if licence else 'state its licence'}",
                task.place("license") if licence is not None else task.file.path,
            )


def _plain(licence: str) -> str:
    return " ".join(licence.casefold().split())
