"""What a task is evaluated on: rows, phrasings and references, fixed by recipe and seed, the same for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import Metric, metrics_of
from flantune.files import digest
from flantune.mixture.few_shot import Question, chosen_format, exemplar_split, with_exemplars
from flantune.mixture.permutation import key_of, permuted
from flantune.tasks.conversation import Conversation
from flantune.tasks.sources import Rows
from flantune.tasks.task import Asked, Example, Task
from flantune.tasks.template import EmptyText, Template, answer_in


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
        values: The row.
        copied: The longest text of the row that the prompt shows: the answer of the copy-the-input baseline.
        place: Where the row stands.
        exemplars: Number of solved examples that the prompt shows.
        answer: Regular expression that finds the answer in what a model says; None: all of it.
        repeat: Which of several sampled answers to the row this is, from 0.
        computed: The task's computed fields.
    """

    row: str
    template: str
    template_kind: Literal["seen", "held_out"]
    prompt: str
    references: tuple[str, ...]
    choices: tuple[str, ...] | None
    values: Mapping[str, Any]
    copied: str
    place: str = ""
    exemplars: int = 0
    answer: str | None = None
    repeat: int = 0
    computed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """The row and the computed fields, for metrics that need more than the references."""
        return {**self.values, **self.computed}

    def answer_in(self, text: str) -> str:
        """The part of a model's text that is scored."""
        return answer_in(text, self.answer)


@dataclass(frozen=True)
class EvaluationSet:
    """The items of one task, in the order of the rows.

    Attributes:
        task: The task.
        items: What is asked.
        sampled: Temperature, top_p and seed of sampled answers; None where they are greedy.
    """

    task: Task
    items: tuple[Item, ...]
    sampled: tuple[float, float, int] | None = None

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The task's metrics, the main one first."""
        return tuple(metrics_of(self.task))

    @property
    def answered(self) -> bool:
        """Whether a model is asked to answer, rather than only how likely it finds the right answer."""
        return any(by.measured != "target" for by in self.metrics)

    def fingerprint(self, by: str | None = None) -> str:
        """Identity of the questions and of how they are decoded, for the prediction cache.

        Args:
            by: generation or choices; as the task says by default.
        """
        turns = [item.prompt.turns if isinstance(item.prompt, Conversation) else None for item in self.items]
        asked = [(item.row, item.prompt, it, item.choices) for item, it in zip(self.items, turns, strict=True)]
        by = by or self.task.spec.evaluate_by
        drawn = [(self.sampled, [item.repeat for item in self.items])] if self.sampled and by == "generation" else []
        return digest(asked, by, self.task.spec.max_new_tokens, *drawn)


def evaluation_set(
    task: Task,
    *,
    split: str,
    rows: int,
    templates: Literal["all", "seen", "held_out", "each"],
    seed: int,
    exemplars: int = 0,
    among: Rows | None = None,
) -> EvaluationSet:
    """Chooses rows by seed and gives each one phrasing, or each of them: seen and held-out ones where there are both.

    Args:
        task: The task.
        split: Where the rows come from.
        rows: How many; all where there are fewer.
        templates: Which phrasings are used, in turn; with "each" every row is asked in all.
        seed: What the choice depends on.
        exemplars: Solved rows of another split that stand before each question; none where there is no other.
        among: Rows of the split to choose from; all by default.
    Raises:
        FlantuneError: No such split, no row, or no phrasing of the kind asked for.
    """
    given = task.split(split) if among is None else among
    if not len(given):
        raise FlantuneError(f'task {task.name}: split "{split}" has no rows to evaluate', task.place("source"))
    order = permuted(np.arange(min(rows, len(given))), len(given), key_of(seed, "evaluation rows", task.name))
    kinds: dict[str, tuple[Template, ...]] = {
        kind: task.evaluation_templates(kind)  # type: ignore[arg-type]
        for kind in ("seen", "held_out")
        if templates in ("all", "each", kind)
    }
    asked = {kind: found for kind, found in kinds.items() if found}
    if not asked:
        raise FlantuneError(f"task {task.name} has no {templates} template to evaluate with", task.place("templates"))
    questions: dict[tuple[int, int], tuple[str, Question]] = {}
    # By the place in the permutation, not in the file: in a file that alternates yes and no, each phrasing would
    # otherwise meet one answer only.
    for place, number in enumerate(map(int, order)):
        key = key_of(seed, "evaluation exemplars", task.name, number)
        for turn, (kind, template) in enumerate(_phrasings(task, asked, place, seed, each=templates == "each")):
            one = Asked(template, given[number], given.place(number), task.evaluation_style)
            questions[number, turn] = kind, Question(one, None, exemplars if template.takes_exemplars else 0, key)
    numbers = sorted(questions)
    chosen = [questions[number][1] for number in numbers]
    rendered = task.render_all([question.asked for question in chosen])
    source = exemplar_split(task, split) if exemplars else None
    pool = task.split(source) if source is not None else Rows.of([])
    solved = with_exemplars(task, pool, chosen, rendered)
    items = []
    for number, question, example, shown in zip(numbers, chosen, rendered, solved, strict=True):
        if isinstance(example, FlantuneError):
            if task.spec.empty == "skip" and isinstance(example, EmptyText):
                continue
            raise example
        items.append(_item(task, question, questions[number][0], example, shown, number[0]))
    if not items:
        raise FlantuneError(f'no row of split "{split}" gives a question', task.place("templates"))
    return EvaluationSet(task, tuple(items))


def _phrasings(
    task: Task, asked: Mapping[str, Sequence[Template]], place: int, seed: int, *, each: bool
) -> list[tuple[str, Template]]:
    """Those of one row, with their kinds. place: the row's in the permutation."""
    if each:
        return [(kind, template) for kind, phrasings in asked.items() for template in phrasings]
    kind = list(asked)[place % len(asked)]
    offset = key_of(seed, "evaluation template", task.name, kind)
    return [(kind, asked[kind][(offset + place // len(asked)) % len(asked[kind])])]


def _item(task: Task, question: Question, kind: str, example: Example, shown: Sequence[Example], number: int) -> Item:
    template, row = question.asked.template, question.asked.row
    prompt, target = example
    values = task.values(row, template)
    choices = values.get("answer_choices")
    references = tuple(template.answer_in(reference) for reference in task.references(row, target))
    if choices is not None and task.spec.evaluate_by == "choices" and references[0] not in choices:
        raise FlantuneError(
            f"the target {references[0]!r} is not among the answer_choices ({', '.join(choices[:8])}) "
            f"(row at {question.asked.place})",
            task.place("answer_choices"),
        )
    seen = [str(values[name]) for name in template.fields() & row.keys() if str(values[name]) in prompt]
    return Item(
        str(row.get("id", number)),
        template.name,
        kind,  # type: ignore[arg-type]
        chosen_format(task, question.key).prompt(shown, prompt) if shown else prompt,
        references,
        tuple(choices) if choices is not None else None,
        row,
        max(seen, key=len, default=prompt),
        question.asked.place,
        len(shown),
        template.answer,
        computed={name: values[name] for name in task.spec.fields},
    )
