"""From a recipe to what a run will do: tasks, order, plan and the questions of the evaluation; no model is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError, nearest
from flantune.mixture.audit import Audit, Evaluated, audit
from flantune.mixture.elsewhere import Elsewhere
from flantune.mixture.ledger import Allowed, Listed, check_licences, check_names, check_origins
from flantune.mixture.lengths import measured, with_target_capacity
from flantune.mixture.order import Order
from flantune.mixture.permutation import key_of, permuted
from flantune.mixture.plan import PLANNED_WINDOWS, planned_windows
from flantune.mixture.plan import plan as make_plan
from flantune.mixture.rates import as_written
from flantune.mixture.round_trips import round_trips
from flantune.mixture.shape import MixturePart, TaskPart, parts_of, rated
from flantune.mixture.warnings import learning_rate, lost_in_tokens, warm_up
from flantune.mixture.window import Member, MixtureRule, draw_function, shape_from, shape_of
from flantune.progress import Listener, Silent
from flantune.recipe import Recipe
from flantune.recipe.mixing import ASKED, MixtureChoice, Placed, TaskChoice, inner_mixtures, with_replay
from flantune.recipe.schema import PROMPT_METHODS
from flantune.settings import cache_folder
from flantune.tasks import Task, find_task
from flantune.tasks.sources import Rows
from flantune.validation_rows import ValidatedTask, validated_tasks

if TYPE_CHECKING:
    from flantune.evaluation.prompts import EvaluationSet, Item
    from flantune.models.prompt_format import PromptFormat

ROWS_TO_WAIT_FOR = 20_000  # a few seconds


@dataclass(frozen=True)
class Prepared:
    """A recipe with its tasks and its order.

    Attributes:
        recipe: As resolved.
        members: Trained tasks with their rows.
        unseen: Tasks that are only evaluated.
        order: Packed rows on disk.
        plan: The content of `plan.json`.
        validated: What the run is validated on.
    """

    recipe: Recipe
    members: tuple[Member, ...]
    unseen: tuple[Task, ...]
    rule: MixtureRule
    order: Order
    plan: dict[str, Any]
    validated: tuple[ValidatedTask, ...]


@dataclass(frozen=True)
class Mixed:
    """A recipe with all that its order depends on.

    Attributes:
        trained: Tasks that are trained on.
        unseen: Tasks that are only evaluated.
        allowed: Pairs of tasks that share an origin, as the recipe allows.
        encoder: The model's prompt format.
        questions: Of the evaluation.
        audited: What was found in rows, and the members without what the recipe leaves out.
        members: Trained tasks with their rows.
        rule: How they are mixed and packed.
        draws: Of the whole run.
        validated: What the run is validated on.
    """

    recipe: Recipe
    trained: tuple[Task, ...]
    unseen: tuple[Task, ...]
    allowed: list[dict[str, Any]]
    encoder: PromptFormat
    questions: list[EvaluationSet]
    audited: Audit
    members: tuple[Member, ...]
    rule: MixtureRule
    draws: int
    validated: tuple[ValidatedTask, ...]

    def order(self, *, workers: int | None = None, orders: str | None = None, awaited: bool = False) -> Order:
        """The order, none of whose windows need be there yet; see `prepare`."""
        return Order(
            self.members,
            self.rule,
            self.draws,
            self.encoder,
            cache_folder() / "orders",
            writers=_writers(self.draws // self.rule.window, workers),
            elsewhere=Elsewhere(orders) if orders is not None else None,
            awaited=awaited,
        )


def prepare(
    recipe: Recipe,
    *,
    listener: Listener | None = None,
    workers: int | None = None,
    orders: str | None = None,
    awaited: bool = False,
) -> Prepared:
    """Tasks, order and plan of a recipe: all that is decided before a model is touched.

    Of a long order only as much is made as the plan needs; `order.write_ahead()` has the rest written.

    Args:
        recipe: What to do.
        listener: Who is told how far it is.
        workers: Processes that write the order; 0 makes it in this one; None for as many as there are cores to spare.
        orders: Where orders were prepared: a folder or an address that fsspec knows.
        awaited: Whether another process on this machine writes the order, and this one waits for it.
    Raises:
        FlantuneError: Any mistake in recipe, tasks or rows.
    """
    listener = listener or Silent()
    mixed = mix(recipe, listener=listener)
    members, rule, draws = mixed.members, mixed.rule, mixed.draws
    order = mixed.order(workers=workers, orders=orders, awaited=awaited)
    numbers = planned_windows(order.windows)
    listener.phase("order" if len(numbers) == order.windows else "order, a sample", len(numbers))
    if len(numbers) == order.windows:
        order.complete(lambda done, total: listener.advance(1))
    else:
        for _ in order.made(numbers):
            listener.advance(1)
    counted = make_plan(members, rule, order, draws=draws, rows_per_step=recipe.training.rows_per_step)
    planned: dict[str, Any] = {"model": recipe.model.name, **counted}
    planned["warnings"] = [*counted["warnings"], *_warnings(mixed)]
    planned["evaluation"] = [{"task": q.task.name, "rows": len(q.items)} for q in mixed.questions]
    licences = _licences(mixed.trained, mixed.unseen)
    planned["ledger"] = {**licences, "allowed": mixed.allowed, **mixed.audited.told}
    return Prepared(recipe, members, mixed.unseen, rule, order, planned, mixed.validated)


def _warnings(mixed: Mixed) -> list[str]:
    """What is to be thought about besides what the order says."""
    asked = {each.task.name for each in mixed.questions}
    split = mixed.recipe.evaluation.split
    ended = draw_function(mixed.members, mixed.rule).schedule.exhausted(mixed.draws)
    training, adapter = mixed.recipe.training, mixed.recipe.adapter
    told = [
        learning_rate(training.learning_rate, adapter.method, training.optimizer),
        warm_up(training.warmup, training.optimizer),
        *(
            lost_in_tokens(member.task.name, pairs, mixed.recipe.model.name)
            for member, pairs in zip(mixed.members, round_trips(mixed.members, mixed.encoder), strict=True)
        ),
    ]
    return [
        *(line for line in told if line is not None),
        *(
            f'{task.name} has no split "{split}", so it is not evaluated'
            for task in (*mixed.trained, *mixed.unseen)
            if task.name not in asked
        ),
        *(
            f'{task.name} has no split "{mixed.recipe.validation.split}", so it is not validated'
            for task in mixed.trained
            if mixed.validated and task.name not in {each.name for each in mixed.validated}
        ),
        *(
            f"{name} comes for the last time, by its max_epochs, with draw {number}; then others get its draws"
            for name, number in ended.items()
        ),
        *mixed.audited.warnings,
    ]


def mix(recipe: Recipe, *, listener: Listener | None = None) -> Mixed:
    """Tasks and rows of a recipe, checked, and the rule by which they are mixed and packed.

    Raises:
        FlantuneError: Any mistake in recipe, tasks or rows.
    """
    from flantune.evaluation.plain_text import read_plain_text
    from flantune.models.load import load_format

    listener = listener or Silent()
    trained, unseen = trained_tasks(recipe), tasks_of(recipe.unseen, recipe)
    allowed = check_ledger(recipe, trained, unseen)
    _check_mixture_names(recipe, trained)
    model = recipe.model
    encoder = load_format(model.name, revision=model.revision, system=model.system, report=listener.say)
    members = members_of(recipe, trained)
    mixture, training = recipe.mixture, recipe.training
    learned = recipe.adapter.virtual_tokens if recipe.adapter.method in PROMPT_METHODS else 0
    if encoder.positions is not None and mixture.capacity + learned > encoder.positions:
        beside = f", and {learned} tokens are learned" if learned else ""
        raise FlantuneError(
            f"mixture.capacity is {mixture.capacity}{beside}, but {recipe.model.name} has positions for "
            f"{encoder.positions} tokens; lower it"
        )
    if mixture.target_capacity is not None and not encoder.paired:
        raise FlantuneError(
            f"{model.name} reads input and target in one sequence, whose length is mixture.capacity; leave it out",
            recipe.place("mixture", "target_capacity"),
        )
    questions = evaluation_sets(recipe, trained, unseen)
    check_questions(questions, encoder)
    read_plain_text(recipe.evaluation.plain_text, recipe.place("evaluation", "plain_text"))
    audited = _audited(recipe, members, questions, listener)
    rule = rule_of(recipe)
    if encoder.paired:
        rule = replace(rule, target_capacity=mixture.target_capacity or mixture.capacity)
    members = measured(audited.members, rule, encoder)
    draws = training.draws or draws_of(shape_of(members, rule), training.epochs)
    rule = replace(rule, phases=phases_at(recipe, draws))
    members = in_phases(recipe, members, [start for start, _ in rule.phases])
    if encoder.paired and mixture.target_capacity is None:
        rule = with_target_capacity(members, rule, encoder, draws)
    validated = validated_tasks(recipe, members, rule, encoder, questions)
    check_questions([task.questions for task in validated if task.questions is not None], encoder)
    return Mixed(recipe, trained, unseen, allowed, encoder, questions, audited, members, rule, draws, validated)


def _writers(windows: int, workers: int | None) -> int:
    """How many processes write an order: those asked for, else one a core but one, where it takes more than seconds."""
    if workers is not None:
        return workers
    return min(8, max(1, (os.cpu_count() or 1) - 1)) if windows > PLANNED_WINDOWS else 0


def check_ledger(recipe: Recipe, trained: Sequence[Task], unseen: Sequence[Task]) -> list[dict[str, Any]]:
    """Whether the tasks of a recipe may stand beside each other: names, origins, licences.

    Returns:
        The pairs of tasks that share an origin, as the recipe allows.
    Raises:
        FlantuneError: They may not; see `flantune.mixture.ledger`.
    """
    listed, held = _listed(recipe, trained, unseen)
    check_names([*listed, *held])
    check_licences(listed, recipe.ledger.licences.allow)
    pairs = [Allowed(pair, recipe.place("ledger", "allow", i)) for i, pair in enumerate(recipe.ledger.allow)]
    return check_origins(listed, held, pairs)


def _listed(recipe: Recipe, trained: Sequence[Task], unseen: Sequence[Task]) -> tuple[list[Listed], list[Listed]]:
    """Trained and unseen tasks, each with its line in the recipe."""
    listed = [Listed(task, recipe.place(*it.location)) for task, it in zip(trained, recipe.trained(), strict=True)]
    return listed, [Listed(task, recipe.place("unseen", number)) for number, task in enumerate(unseen)]


def _licences(trained: Sequence[Task], unseen: Sequence[Task]) -> dict[str, Any]:
    stated = {task.name: task.spec.license for task in (*trained, *unseen)}
    return {"licences": [{"task": name, "license": license_} for name, license_ in stated.items()]}


def _audited(
    recipe: Recipe, members: Sequence[Member], questions: Sequence[EvaluationSet], listener: Listener
) -> Audit:
    """The members without what the recipe leaves out, and what was found."""
    evaluated = [
        Evaluated(
            asked.task,
            [item.row for item in asked.items],
            [dict(item.values) for item in asked.items],
            [item.place for item in asked.items],
        )
        for asked in questions
    ]
    rows = sum(len(member.rows) for member in members)
    if rows > ROWS_TO_WAIT_FOR:
        listener.say(f"looking for evaluation rows and duplicates in {rows:,} training rows (`ledger` can skip it)")
    chosen = recipe.ledger
    folder = cache_folder() / "ledgers"
    return audit(members, evaluated, folder, decontaminate=chosen.decontaminate, duplicates=chosen.duplicates)


def _check_mixture_names(recipe: Recipe, trained: Sequence[Task]) -> None:
    tasks = {task.name for task in trained}
    for _, inner in inner_mixtures(with_replay(recipe.tasks, recipe.mixture)):
        if inner.mixture in tasks:
            raise FlantuneError(f'a mixture and a task are both called "{inner.mixture}"; rename the mixture', "tasks")


def members_of(recipe: Recipe, trained: Sequence[Task]) -> tuple[Member, ...]:
    """The trained tasks with their rows and their part in the mixture.

    Raises:
        FlantuneError: A task without training rows or training templates.
    """
    return tuple(_member(task, placed, recipe.seed) for task, placed in zip(trained, recipe.trained(), strict=True))


def _member(task: Task, placed: Placed, seed: int) -> Member:
    choice = placed.choice
    return Member(
        task,
        _training_rows(task, choice, seed),
        share=choice.share,
        weight=choice.weight,
        loss_weight=choice.loss_weight,
        cap=choice.cap,
        floor=choice.floor,
        max_epochs=placed.max_epochs,
        inside=placed.inside,
        **_asked(placed),
    )


def _asked(placed: Placed) -> dict[str, Any]:
    """How a task is asked, as a member says it."""
    few_shot = placed.few_shot
    return {
        "inverted": placed.inverted,
        "options": placed.options,
        "few_shot": few_shot.share,
        "exemplars": few_shot.exemplars,
    }


def in_phases(recipe: Recipe, members: Sequence[Member], starts: Sequence[int]) -> tuple[Member, ...]:
    """The members, each with how it is asked in the recipe's phases, which begin at these draws."""
    names = [member.task.name for member in members]
    stages = [recipe.trained(), *(recipe.trained_in(phase, names) for phase in range(len(starts)))]
    made = []
    for member, asked in zip(members, zip(*(map(_asked, stage) for stage in stages), strict=True), strict=True):
        changes = [(start, now) for start, before, now in zip(starts, asked, asked[1:], strict=False) if now != before]
        made.append(replace(member, later=tuple((start, replace(member, **now)) for start, now in changes)))
    return tuple(made)


def rule_of(recipe: Recipe) -> MixtureRule:
    """How the recipe mixes and packs, but for the phases, which depend on the length of the run."""
    mixture = recipe.mixture
    return MixtureRule(
        mixture.rates,
        mixture.cap,
        mixture.temperature,
        mixture.window,
        mixture.capacity,
        recipe.training.loss.per,
        recipe.seed,
        floor=mixture.floor,
        share_of=mixture.share_of,
        mixtures=tuple(
            (around, _inner(choice)) for around, choice in inner_mixtures(with_replay(recipe.tasks, mixture))
        ),
    )


def shape_by_counts(recipe: Recipe, rows: Mapping[str, int]) -> MixturePart:
    """The mixture of a recipe from numbers of rows alone, before there are any texts.

    Args:
        recipe: Its tasks are called here as the recipe calls them.
        rows: Training rows of each task.
    """
    tasks = []
    for placed in recipe.trained():
        it = placed.choice
        tasks.append((placed.inside, TaskPart(it.task, rows[it.task], it.share, it.weight, it.cap, it.floor)))
    return shape_from(tasks, rule_of(recipe))


def _inner(choice: MixtureChoice) -> MixturePart:
    return MixturePart(
        choice.mixture,
        (),
        share=choice.share,
        weight=choice.weight,
        rates=choice.rates,
        cap=choice.cap,
        floor=choice.floor,
        temperature=choice.temperature,
        share_of=choice.share_of,
    )


def phases_at(recipe: Recipe, draws: int) -> tuple[tuple[int, dict[str, dict[str, Any]]], ...]:
    """The recipe's phases, each with its first draw and which rates are other, by name; the whole has an empty name.

    Raises:
        FlantuneError: A phase does not begin after the one before and within the run.
    """
    phases, before = [], 0
    for number, phase in enumerate(recipe.mixture.phases):
        start = phase.from_draw if phase.from_draw is not None else int(as_written(phase.from_share or 0.0) * draws)
        if not before < start < draws:
            raise FlantuneError(
                f"begins at draw {start}; it must begin after draw {before} and before the run ends at draw {draws}",
                f"mixture.phases.{number}",
            )
        whole = phase.model_dump(exclude={"from_draw", "from_share", "tasks", *ASKED}, exclude_none=True)
        parts = {name: each.model_dump(exclude={*ASKED}, exclude_none=True) for name, each in phase.tasks.items()}
        phases.append((start, {"": whole, **parts}))
        before = start
    return tuple(phases)


def draws_of(mixture: MixturePart, epochs: float) -> int:
    """Draws in which the tasks without a fixed share are seen `epochs` times, on average over their rows.

    What has a fixed share is mixed in beside them; its rows, many as they may be, do not make the run longer.
    Where everything has one, all rows count.
    """
    fixed = [part for part in (mixture, *parts_of(mixture)) if part.share is not None]
    inside = [part for each in fixed if isinstance(each, MixturePart) for part in parts_of(each)]
    rows = {part.name: part.rows for part in parts_of(mixture) if isinstance(part, TaskPart)}
    free = rows.keys() - {part.name for part in (*fixed, *inside)} or rows.keys()
    rates = rated(mixture).tasks()
    return max(1, round(as_written(epochs) * sum(rows[name] for name in free) / sum(rates[name] for name in free)))


def trained_tasks(recipe: Recipe) -> tuple[Task, ...]:
    """The tasks that a recipe trains on, read and checked, each with the training templates that it chooses.

    Raises:
        FlantuneError: See `tasks_of`; or a template that a task does not have.
    """
    tasks = tasks_of([placed.choice for placed in recipe.trained()], recipe)
    return tuple(_trained_with(task, it, recipe) for task, it in zip(tasks, recipe.trained(), strict=True))


def _trained_with(task: Task, placed: Placed, recipe: Recipe) -> Task:
    """The task with the templates that the recipe chooses."""
    if placed.choice.templates is None:
        return task
    names = set[str]()
    for number, pattern in enumerate(placed.choice.templates):
        try:
            names |= task.named_templates(pattern)
        except FlantuneError as error:
            raise FlantuneError(error.message, recipe.place(*placed.location, "templates", number)) from None
    return task.trained_with(names)


def tasks_of(choices: Sequence[TaskChoice], recipe: Recipe) -> tuple[Task, ...]:
    """The tasks that a recipe names, read and checked.

    Raises:
        FlantuneError: No such task, a mistake in its file, a metric that does not exist.
    """
    from flantune.evaluation.metrics import metrics_of

    folder = None if recipe.code_folder is None else Path(recipe.code_folder)
    tasks = tuple(
        find_task(choice.task, recipe.variables, allow_code=recipe.allow_code, code_folder=folder) for choice in choices
    )
    for task in tasks:
        metrics_of(task)
    return tasks


def _training_rows(task: Task, choice: TaskChoice, seed: int) -> Rows:
    import numpy as np

    if not task.training_templates:
        raise FlantuneError(f"task {task.name} has only held-out templates; add one to train with", task.file.path)
    rows = task.split("train")
    if not len(rows):
        raise FlantuneError(f"task {task.name} has no training rows left after its filters", task.place("source"))
    if choice.train_rows is not None and choice.train_rows < len(rows):
        chosen = permuted(np.arange(choice.train_rows), len(rows), key_of(seed, "train_rows", task.name))
        rows = rows.chosen(chosen)
    return rows


def evaluation_sets(recipe: Recipe, trained: Sequence[Task], unseen: Sequence[Task]) -> list[EvaluationSet]:
    """The questions of all tasks that have the evaluation split, fixed by recipe and seed.

    Raises:
        FlantuneError: No task has the split, or two tasks have one name.
    """
    from flantune.evaluation.prompts import evaluation_set
    from flantune.tasks.sources import split_names

    chosen = recipe.evaluation
    listed, held = _listed(recipe, trained, unseen)
    check_names([*listed, *held])
    names = [name for task in (*trained, *unseen) for name in split_names(task.spec.source)]
    if chosen.split not in names:
        raise FlantuneError(
            f'evaluation.split: no task has a split "{chosen.split}"; {nearest(chosen.split, set(names))}'
        )
    return [
        evaluation_set(
            task,
            split=chosen.split,
            rows=chosen.rows,
            templates=chosen.templates,
            seed=recipe.seed,
            exemplars=chosen.exemplars,
        )
        for task in (*trained, *unseen)
        if chosen.split in split_names(task.spec.source)
    ]


def shown_solved(recipe: Recipe, sets: Sequence[EvaluationSet], encoder: PromptFormat) -> list[EvaluationSet]:
    """The same questions behind `evaluation.few_shot_baseline` solved examples each, or as many as fit the model."""
    from flantune.evaluation.prompts import evaluation_set

    chosen, found = recipe.evaluation, []
    for asked in sets:
        items = list(asked.items)
        waiting, count = set(range(len(items))), chosen.few_shot_baseline
        while waiting and count:
            given = {"rows": chosen.rows, "templates": chosen.templates, "seed": recipe.seed, "exemplars": count}
            shown = evaluation_set(asked.task, split=chosen.split, **given).items
            for number in sorted(waiting):
                tokens = tokens_needed(shown[number], asked.task, encoder)
                if encoder.positions is None or tokens <= encoder.positions:
                    items[number] = shown[number]
                    waiting.remove(number)
            count -= 1
        found.append(replace(asked, items=tuple(items)))
    return found


def tokens_needed(item: Item, task: Task, encoder: PromptFormat) -> int:
    """Positions that a model needs for a question and its longest answer."""
    given, answered = len(encoder.prompt_ids(item.prompt)), task.spec.max_new_tokens
    return max(given, len(encoder.target_head) + answered) if encoder.paired else given + answered


def check_questions(questions: Sequence[EvaluationSet], encoder: PromptFormat) -> None:
    """Scores the right answers and measures the prompts, so that what cannot be evaluated is told before training.

    Raises:
        FlantuneError: A metric that cannot score the task's own references, or a prompt that is too long for the model.
    """
    from flantune.evaluation.predict import row_statistics

    for asked in questions:
        task = asked.task
        for number, by in enumerate(asked.metrics):
            if by.measured == "target":
                continue
            try:
                row_statistics(by, asked, [item.references[0] for item in asked.items])
            except FlantuneError as error:
                line = task.file.line(["metrics", number])
                raise FlantuneError(error.message, f"{task.file.path}:{line}: metrics") from None
        if encoder.positions is None:
            continue
        for item in asked.items:
            tokens = tokens_needed(item, task, encoder)
            if tokens > encoder.positions:
                raise FlantuneError(
                    f"row {item.row} of task {task.name} needs {tokens} tokens with its answer, but the model has "
                    f"positions for {encoder.positions}; leave such rows out with `where`",
                    task.place("source"),
                )
