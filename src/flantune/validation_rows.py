"""What a run is validated on: some rows of each trained task, packed for losses and asked for answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flantune.errors import FlantuneError, nearest
from flantune.mixture.permutation import key_of, permuted
from flantune.mixture.window import Member, MixtureRule, PackedRow, WindowBuilder
from flantune.recipe import Recipe

if TYPE_CHECKING:
    from flantune.evaluation.prompts import EvaluationSet
    from flantune.models.prompt_format import PromptFormat


@dataclass(frozen=True)
class ValidatedTask:
    """A trained task with its validation rows.

    Attributes:
        name: Of the task.
        packed: The rows as training would have them: phrased, shortened and packed by the same code, each row once.
        questions: The same rows, asked in phrasings that are trained on; None where only losses are asked for.
    """

    name: str
    packed: list[PackedRow]
    questions: EvaluationSet | None


def validated_tasks(
    recipe: Recipe,
    members: Sequence[Member],
    rule: MixtureRule,
    encoder: PromptFormat,
    compared: Sequence[EvaluationSet],
) -> tuple[ValidatedTask, ...]:
    """The trained tasks that have the split, in their order; none where the recipe asks for no validation.

    Rows that stand word for word among those of the final comparison are left out. Unseen tasks are never validated:
    a checkpoint that was chosen by them would have seen them.

    Args:
        recipe: Its `validation`.
        members: Trained tasks, as they are mixed.
        rule: How they are packed.
        encoder: Of the model.
        compared: Questions of the final comparison.
    Raises:
        FlantuneError: No trained task has the split, or a task has no row left.
    """
    chosen = recipe.validation
    if not chosen.every:
        return ()
    with_split = [member for member in members if chosen.split in member.task.split_names()]
    if not with_split:
        splits = {name for member in members for name in member.task.split_names()}
        others = splits - {"train", recipe.evaluation.split}
        hint = nearest(chosen.split, others) if others else "give one a part of its rows as that split in its `source`"
        raise FlantuneError(
            f'no trained task has a split "{chosen.split}"; {hint}', recipe.place("validation", "split")
        )
    taken = {_content(item.values) for each in compared for item in each.items}
    return tuple(_validated(recipe, member, rule, encoder, taken) for member in with_split)


def _content(row: object) -> str:
    return json.dumps(row, sort_keys=True, default=str)


def _validated(
    recipe: Recipe, member: Member, rule: MixtureRule, encoder: PromptFormat, taken: set[str]
) -> ValidatedTask:
    from flantune.evaluation.prompts import evaluation_set

    chosen, task = recipe.validation, member.task
    given = task.split(chosen.split)
    numbers = permuted(
        np.arange(min(chosen.rows, len(given))), len(given), key_of(recipe.seed, "validation", task.name)
    )
    kept = np.array([number for number in sorted(numbers.tolist()) if _content(given[number]) not in taken], np.int64)
    rows = given.chosen(kept) if len(given) else given
    packed = _packed(member, rule, encoder, rows) if len(kept) else []
    if not packed:
        raise FlantuneError(
            f'task {task.name}: no row of split "{chosen.split}" can be validated on (none are there, all are among '
            "those of the final comparison, or none fits a packed row)",
            task.place("source"),
        )
    if not chosen.metrics:
        return ValidatedTask(task.name, packed, None)
    asked = evaluation_set(
        task,
        split=chosen.split,
        rows=len(kept),
        templates="seen",
        seed=recipe.seed,
        exemplars=recipe.evaluation.exemplars,
        among=rows,
    )
    return ValidatedTask(task.name, packed, asked)


def _packed(member: Member, rule: MixtureRule, encoder: PromptFormat, rows: object) -> list[PackedRow]:
    """One window of the task alone, in which each row comes once."""
    alone = Member(
        member.task,
        rows,  # type: ignore[arg-type]
        inverted=member.inverted,
        options=member.options,
        few_shot=member.few_shot,
        exemplars=member.exemplars,
    )
    count = len(alone.rows)
    by_itself = MixtureRule(
        "equal", None, 1.0, count, rule.capacity, "token", rule.seed, target_capacity=rule.target_capacity
    )
    return WindowBuilder([alone], by_itself, encoder).window(0, count)[0]
