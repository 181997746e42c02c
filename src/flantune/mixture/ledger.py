"""The ledger: what was trained on must not be what is called unseen, and test rows must not stand in training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flantune.errors import FlantuneError
from flantune.mixture.order import Member
from flantune.tasks.source import Row
from flantune.tasks.task import Task


def check_origins(trained: Sequence[Task], unseen: Sequence[Task]) -> None:
    """Refuses an unseen task whose rows come from a data set that is trained on.

    Raises:
        FlantuneError: Names both tasks and the origin.
    """
    owners = {origin: task.name for task in trained for origin in task.spec.origins}
    for task in unseen:
        for origin in task.spec.origins:
            if origin in owners:
                raise FlantuneError(
                    f"unseen task {task.name} shares its origin {origin} with the trained task {owners[origin]}; "
                    "hold both out, or do not call it unseen"
                )


def repeated_names(tasks: Iterable[Task]) -> None:
    """Refuses a task that stands twice in a recipe, and two tasks of one name.

    Raises:
        FlantuneError: Names the task and, of two, both files.
    """
    seen: dict[str, Task] = {}
    for task in tasks:
        other = seen.get(task.name)
        if other is not None and other.file.path.samefile(task.file.path):
            raise FlantuneError(
                f"task {task.name} stands twice among `tasks` and `unseen`; trained tasks are evaluated anyway, so "
                "remove one"
            )
        if other is not None:
            raise FlantuneError(
                f"two tasks are called {task.name}; rename one (the other is in {other.file.path})", task.file.path
            )
        seen[task.name] = task


def leaks(members: Sequence[Member], evaluated: Iterable[tuple[Task, Sequence[Row]]]) -> list[str]:
    """Warnings about evaluation rows whose texts stand in a training row, word for word.

    Compared are whole text fields of at least eight words, whatever their case and white space.
    """
    trained: dict[str, str] = {}
    for member in members:
        for row in member.rows.rows:
            for text in _texts(row):
                trained.setdefault(text, member.task.name)
    told = []
    for task, rows in evaluated:
        found = [next((trained[t] for t in _texts(row) if t in trained), None) for row in rows]
        owners = sorted({owner for owner in found if owner is not None})
        if owners:
            count = sum(owner is not None for owner in found)
            told.append(
                f"{task.name}: {count} of {len(rows)} evaluation rows share a text with training rows of "
                + ", ".join(owners)
            )
    return told


def _texts(row: Row) -> list[str]:
    normal = (" ".join(value.split()).casefold() for value in row.values() if isinstance(value, str))
    return [text for text in normal if text.count(" ") >= 7]
