"""From a recipe to what a run will do: tasks, order, plan and the questions of the evaluation; no model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError, nearest
from flantune.mixture.ledger import check_origins, leaks, repeated_names
from flantune.mixture.order import Member, MixtureRule, Order, build_order
from flantune.mixture.permutation import key_of, permuted
from flantune.mixture.plan import plan as make_plan
from flantune.progress import Listener, Silent
from flantune.recipe import Recipe
from flantune.recipe.schema import TaskChoice
from flantune.settings import cache_folder
from flantune.tasks import Task, find_task
from flantune.tasks.source import Rows

if TYPE_CHECKING:
    from flantune.evaluation.prompts import EvaluationSet
    from flantune.models.prompt_format import PromptFormat


@dataclass(frozen=True)
class Prepared:
    """A recipe with its tasks and its order.

    Attributes:
        recipe: As resolved.
        members: Trained tasks with their rows.
        unseen: Tasks that are only evaluated.
        order: Packed rows on disk.
        plan: The content of `plan.json`.
    """

    recipe: Recipe
    members: tuple[Member, ...]
    unseen: tuple[Task, ...]
    rule: MixtureRule
    order: Order
    plan: dict[str, Any]


def prepare(recipe: Recipe, *, listener: Listener | None = None) -> Prepared:
    """Tasks, order and plan of a recipe: all that is decided before a model is touched.

    Args:
        recipe: What to do.
        listener: Who is told how far it is.
    Raises:
        FlantuneError: Any mistake in recipe, tasks or rows.
    """
    from flantune.models.load import load_format

    listener = listener or Silent()
    trained, unseen = tasks_of(recipe.tasks, recipe), tasks_of(recipe.unseen, recipe)
    repeated_names([*trained, *unseen])
    check_origins(trained, unseen)
    model = recipe.model
    encoder = load_format(model.name, revision=model.revision, system=model.system, report=listener.say)
    members = tuple(
        Member(
            task,
            _training_rows(task, choice, recipe.seed),
            share=choice.share,
            weight=choice.weight,
            loss_weight=choice.loss_weight,
        )
        for task, choice in zip(trained, recipe.tasks, strict=True)
    )
    mixture, training = recipe.mixture, recipe.training
    if encoder.positions is not None and mixture.capacity > encoder.positions:
        raise FlantuneError(
            f"mixture.capacity is {mixture.capacity}, but {recipe.model.name} has positions for {encoder.positions} "
            "tokens; lower it"
        )
    questions = evaluation_sets(recipe, trained, unseen)
    check_questions(questions, encoder)
    rule = MixtureRule(
        mixture.rates,
        mixture.cap,
        mixture.temperature,
        mixture.window,
        mixture.capacity,
        training.loss.per,
        recipe.seed,
    )
    draws = training.draws or draws_of(members, training.epochs)
    listener.phase("order", -(-draws // rule.window))
    order = build_order(
        members, rule, draws, encoder, cache_folder() / "orders", lambda done, total: listener.advance(1)
    )
    steps = -(-len(order) // training.rows_per_step)
    planned = make_plan(members, rule, order, draws=draws, steps=steps)
    asked = {each.task.name for each in questions}
    planned["warnings"] += [
        f'{task.name} has no split "{recipe.evaluation.split}", so it is not evaluated'
        for task in (*trained, *unseen)
        if task.name not in asked
    ]
    planned["warnings"] += leaks(members, [(q.task, [dict(i.values) for i in q.items]) for q in questions])
    planned = {"model": recipe.model.name, **planned}
    planned["evaluation"] = [{"task": q.task.name, "rows": len(q.items)} for q in questions]
    return Prepared(recipe, members, unseen, rule, order, planned)


def draws_of(members: Sequence[Member], epochs: float) -> int:
    """Draws in which the tasks without a fixed share are seen `epochs` times, on average over their rows.

    A task with a fixed share is mixed in beside them; its rows, many as they may be, do not make the run longer.
    Where all tasks have one, all rows count.
    """
    free = [member for member in members if member.share is None]
    rows = sum(len(member.rows) for member in free or members)
    left = 1.0 - sum(member.share or 0.0 for member in members) if free else 1.0
    return max(1, round(epochs * rows / left))


def tasks_of(choices: Sequence[TaskChoice], recipe: Recipe) -> tuple[Task, ...]:
    """The tasks that a recipe names, read and checked.

    Raises:
        FlantuneError: No such task, a mistake in its file, a metric that does not exist.
    """
    tasks = tuple(find_task(choice.task, recipe.variables) for choice in choices)
    for task in tasks:
        check_metrics(task)
    return tasks


def check_metrics(task: Task) -> None:
    """Whether the task's metrics exist.

    Raises:
        FlantuneError: An unknown name, with the nearest one.
    """
    from flantune.evaluation.metrics import metric

    for number, name in enumerate(task.spec.metrics):
        try:
            metric(name)
        except FlantuneError as error:
            raise FlantuneError(
                error.message, f"{task.file.path}:{task.file.line(['metrics', number])}: metrics"
            ) from None


def _training_rows(task: Task, choice: TaskChoice, seed: int) -> Rows:
    import numpy as np

    if not task.training_templates:
        raise FlantuneError(f"task {task.name} has only held-out templates; add one to train with", task.file.path)
    rows = task.split("train")
    if not len(rows):
        raise FlantuneError(f"task {task.name} has no training rows left after its filters", task.place("source"))
    if choice.train_rows is not None and choice.train_rows < len(rows):
        chosen = permuted(np.arange(choice.train_rows), len(rows), key_of(seed, "train_rows", task.name))
        rows = Rows(tuple(rows.rows[int(i)] for i in chosen), tuple(rows.places[int(i)] for i in chosen))
    return rows


def evaluation_sets(recipe: Recipe, trained: Sequence[Task], unseen: Sequence[Task]) -> list[EvaluationSet]:
    """The questions of all tasks that have the evaluation split, fixed by recipe and seed.

    Raises:
        FlantuneError: No task has the split, or two tasks have one name.
    """
    from flantune.evaluation.prompts import evaluation_set
    from flantune.tasks.source import split_names

    chosen = recipe.evaluation
    repeated_names([*trained, *unseen])
    names = [name for task in (*trained, *unseen) for name in split_names(task.spec.source)]
    if chosen.split not in names:
        raise FlantuneError(
            f'evaluation.split: no task has a split "{chosen.split}"; {nearest(chosen.split, set(names))}'
        )
    return [
        evaluation_set(task, split=chosen.split, rows=chosen.rows, templates=chosen.templates, seed=recipe.seed)
        for task in (*trained, *unseen)
        if chosen.split in split_names(task.spec.source)
    ]


def check_questions(questions: Sequence[EvaluationSet], encoder: PromptFormat) -> None:
    """Scores the right answers and measures the prompts, so that what cannot be evaluated is told before training.

    Raises:
        FlantuneError: A metric that cannot score the task's own references, or a prompt that is too long for the model.
    """
    from flantune.evaluation.metrics import metric
    from flantune.evaluation.predict import row_statistics

    for asked in questions:
        task = asked.task
        for number, name in enumerate(task.spec.metrics):
            try:
                row_statistics(metric(name), asked, [item.references[0] for item in asked.items])
            except FlantuneError as error:
                line = task.file.line(["metrics", number])
                raise FlantuneError(error.message, f"{task.file.path}:{line}: metrics") from None
        if encoder.positions is None:
            continue
        for item in asked.items:
            tokens = len(encoder.prompt_ids(item.prompt)) + task.spec.max_new_tokens
            if tokens > encoder.positions:
                raise FlantuneError(
                    f"row {item.row} of task {task.name} needs {tokens} tokens with its answer, but the model has "
                    f"positions for {encoder.positions}; leave such rows out with `where`",
                    task.place("source"),
                )
