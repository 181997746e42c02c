"""What a task is evaluated on: rows, phrasings and references, fixed by recipe and seed, the same for every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from flantune.errors import FlantuneError
from flantune.files import digest
from flantune.mixture.permutation import key_of, permuted
from flantune.tasks.task import Task
from flantune.tasks.template import Template, choices_of


@dataclass(frozen=True)
class Item:
    """One question to a model.

    Attributes:
        row: The row's `id`, else its number in the split.
        template: Name of the phrasing.
        template_kind: Whether training used the phrasing.
        prompt: The input text.
        references: Right answers, at least one.
        choices: The closed set of answers, or None.
        values: The row, for metrics that need more than the references.
        copied: The longest text of the row that the prompt shows: the answer of the copy-the-input baseline.
    """

    row: str
    template: str
    template_kind: Literal["seen", "held_out"]
    prompt: str
    references: tuple[str, ...]
    choices: tuple[str, ...] | None
    values: Mapping[str, Any]
    copied: str


@dataclass(frozen=True)
class EvaluationSet:
    """The items of one task, in the order of the rows."""

    task: Task
    items: tuple[Item, ...]

    def fingerprint(self) -> str:
        """Identity of the questions and of how they are decoded, for the prediction cache."""
        asked = [(item.row, item.prompt, item.choices) for item in self.items]
        return digest(asked, self.task.spec.evaluate_by, self.task.spec.max_new_tokens)


def evaluation_set(
    task: Task, *, split: str, rows: int, templates: Literal["all", "seen", "held_out"], seed: int
) -> EvaluationSet:
    """Chooses rows by seed and gives each one phrasing: seen and held-out ones in turn where there are both.

    Raises:
        FlantuneError: No such split, no row, or no phrasing of the kind asked for.
    """
    given = task.split(split)
    if not len(given):
        raise FlantuneError(f'task {task.name}: split "{split}" has no rows to evaluate', task.place("source"))
    order = permuted(np.arange(len(given)), len(given), key_of(seed, "evaluation rows", task.name))
    kinds: dict[str, tuple[Template, ...]] = {
        kind: task.evaluation_templates(kind)  # type: ignore[arg-type]
        for kind in ("seen", "held_out")
        if templates in ("all", kind)
    }
    asked = {kind: found for kind, found in kinds.items() if found}
    if not asked:
        raise FlantuneError(f"task {task.name} has no {templates} template to evaluate with", task.place("templates"))
    items = {}
    # By the place in the permutation, not in the file: in a file that alternates yes and no, each phrasing would
    # otherwise meet one answer only.
    for place, number in enumerate(int(i) for i in order[:rows]):
        kind = list(asked)[place % len(asked)]
        phrasings = asked[kind]
        offset = key_of(seed, "evaluation template", task.name, kind)
        template = phrasings[(offset + place // len(asked)) % len(phrasings)]
        items[number] = _item(task, template, kind, given.rows[number], given.places[number], number)
    return EvaluationSet(task, tuple(items[number] for number in sorted(items)))


def _item(task: Task, template: Template, kind: str, row: Mapping[str, Any], place: str, number: int) -> Item:
    prompt, target = task.render(template, dict(row), place)
    values = task.values(dict(row))
    choices = choices_of(task.spec.answer_choices, values)
    references = tuple(task.references(dict(row), target))
    if choices is not None and task.spec.evaluate_by == "choices" and references[0] not in choices:
        raise FlantuneError(
            f"the target {references[0]!r} is not among the answer_choices ({', '.join(choices[:8])}) (row at {place})",
            task.place("answer_choices"),
        )
    shown = [str(values[name]) for name in template.fields() & row.keys() if str(values[name]) in prompt]
    return Item(
        str(row.get("id", number)),
        template.name,
        kind,  # type: ignore[arg-type]
        prompt,
        references,
        tuple(choices) if choices is not None else None,
        row,
        max(shown, key=len, default=prompt),
    )
