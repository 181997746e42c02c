"""Checking a task: every template on every row, before any training."""

from __future__ import annotations

from flantune.errors import FlantuneError, nearest
from flantune.tasks.source import Row, split_names
from flantune.tasks.task import Task
from flantune.tasks.template import Template


def check_task(task: Task) -> tuple[int, int]:
    """Renders all templates and references on all rows of all splits.

    Returns:
        Number of rows and of renderings.
    Raises:
        FlantuneError: The first mistake, with the places of template and row: what a template cannot render, a target
            that is not among the answer choices, a `shorten` that names no field.
    """
    rows = renderings = 0
    for split in split_names(task.spec.source):
        given = task.split(split)
        if not len(given):
            raise FlantuneError(f'split "{split}" has no rows left after its filters', task.place("source"))
        _check_shorten(task, split, given.rows)
        for row, place in zip(given.rows, given.places, strict=True):
            rows += 1
            for template in task.templates:
                _check_rendering(task, template, row, place)
                renderings += 1
    return rows, renderings


def _check_rendering(task: Task, template: Template, row: Row, place: str) -> None:
    _, target = task.render(template, row, place)
    if template.inverted:
        return
    try:
        right = task.references(row, target)
    except FlantuneError as error:
        raise FlantuneError(f"{error.message} (row at {place})", error.place) from None
    choices = task.values(row).get("answer_choices") if task.spec.evaluate_by == "choices" else None
    if choices is not None and right[0] not in choices:
        raise FlantuneError(
            f"the target {right[0]!r} is not among the answer_choices ({', '.join(choices[:8])}) (row at {place})",
            task.place("answer_choices"),
        )


def _check_shorten(task: Task, split: str, rows: tuple[Row, ...]) -> None:
    field = task.spec.shorten
    if field is not None and not any(field in row for row in rows):
        known = dict.fromkeys(name for row in rows for name in row)
        raise FlantuneError(
            f'shorten names field "{field}", which no row of split "{split}" has; {nearest(field, known)}',
            task.place("shorten"),
        )
