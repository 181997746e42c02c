"""Few-shot prompts: which solved examples stand before a question, and how many of them fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from flantune.errors import FlantuneError
from flantune.mixture.permutation import key_of, permuted
from flantune.tasks.exemplars import ExemplarFormat, Solved, exemplar_format
from flantune.tasks.sources import Rows
from flantune.tasks.task import Asked, Example, Task

TRIES = 64  # rows looked at for one prompt: in a task of few different rows no other may be left


@dataclass(frozen=True)
class Question:
    """A row to ask and the exemplars that its prompt should show.

    Attributes:
        asked: The row in its template.
        row: The row's number among those that exemplars are drawn from; None where it is not one of them.
        wanted: Number of exemplars.
        key: What the choice of exemplars depends on, 64 bits.
    """

    asked: Asked
    row: int | None
    wanted: int
    key: int


def candidates(key: int, rows: int, without: int | None) -> Iterator[int]:
    """Row numbers in an order that only the key decides, each once; never the question's own."""
    for start in range(0, min(rows, TRIES), 8):
        for row in permuted(np.arange(start, min(start + 8, rows)), rows, key):
            if int(row) != without:
                yield int(row)


def with_exemplars(
    task: Task, pool: Rows, questions: Sequence[Question], rendered: Sequence[Example | FlantuneError]
) -> list[list[Solved]]:
    """The exemplars of each question: solved rows of the pool, asked by the question's own template.

    Args:
        task: The task of all questions.
        pool: Rows that exemplars are drawn from: the training split.
        questions: The questions.
        rendered: Their inputs and targets; a question that failed gets no exemplars.
    Returns:
        For each question at most `wanted` pairs of input and target. None has the question's own input or repeats
        another exemplar's; a row that cannot be rendered is passed over.
    """
    chosen: list[list[Solved]] = [[] for _ in questions]
    inputs = [{_normal(it[0])} if isinstance(it, tuple) else set() for it in rendered]
    sources = [candidates(question.key, len(pool), question.row) for question in questions]
    open_ = [i for i, it in enumerate(rendered) if isinstance(it, tuple) and questions[i].wanted]
    while open_:
        asked = [
            (i, questions[i].asked._replace(row=pool[row], place=pool.place(row)))
            for i in open_
            for row in islice(sources[i], questions[i].wanted - len(chosen[i]))
        ]
        reached = {i for i, _ in asked}
        for (i, _), solved in zip(asked, task.render_all([each for _, each in asked]), strict=True):
            if isinstance(solved, tuple) and _normal(solved[0]) not in inputs[i]:
                inputs[i].add(_normal(solved[0]))
                chosen[i].append(solved)
        open_ = [i for i in open_ if i in reached and len(chosen[i]) < questions[i].wanted]
    return chosen


def exemplar_split(task: Task, asked: str) -> str | None:
    """The split that the exemplars of an evaluation come from: `train`, else another than the one asked, else none."""
    names = task.split_names()
    return "train" if "train" in names else next((name for name in names if name != asked), None)


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()


def chosen_format(task: Task, key: int) -> ExemplarFormat:
    """The format in which a question and its exemplars are written."""
    names = task.spec.exemplar_formats
    return exemplar_format(names[key_of(key, "format") % len(names)])


def fitting(
    form: ExemplarFormat, exemplars: Sequence[Solved], question: str, fits: Callable[[str], bool]
) -> tuple[str, int]:
    """The prompt with as many of the first exemplars as fit, and their number; the question alone where none does."""
    kept = list(exemplars)
    while kept:
        prompt = form.prompt(kept, question)
        if fits(prompt):
            return prompt, len(kept)
        kept.pop()
    return question, 0
