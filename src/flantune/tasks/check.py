"""Checking a task: every template on every row, before any training."""

from __future__ import annotations

from flantune.errors import FlantuneError
from flantune.tasks.source import split_names
from flantune.tasks.task import Task


def check_task(task: Task) -> tuple[int, int]:
    """Renders all templates on all rows of all splits.

    Returns:
        Number of rows and of renderings.
    Raises:
        FlantuneError: The first mistake, with the places of template and row.
    """
    rows = renderings = 0
    for split in split_names(task.spec.source):
        given = task.split(split)
        if not len(given):
            raise FlantuneError(f'split "{split}" has no rows left after its filters', task.place("source"))
        for row, place in zip(given.rows, given.places, strict=True):
            rows += 1
            for template in task.templates:
                task.render(template, row, place)
                renderings += 1
    return rows, renderings
