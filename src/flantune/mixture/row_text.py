"""Row texts: what of a row a task shows, as question and as answer, without the words of its templates."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes

from flantune.tasks.jinja import environment, fields_used
from flantune.tasks.sources import Row, Rows
from flantune.tasks.task import Task
from flantune.tasks.template import MARK, OPTIONS, Template


@dataclass(frozen=True)
class RowText:
    """The texts of a row that are compared.

    Attributes:
        question: One text a field of the input, in the row's order.
        answer: The same of the target, and of the references.
    """

    question: tuple[str, ...]
    answer: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskTexts:
    """The texts of a task's rows.

    Attributes:
        task: The task's name.
        rows: Walked from beginning to end, and a few asked for again.
    """

    task: str
    rows: Sequence[RowText]


class Texts(Sequence[RowText]):
    """The texts of rows, made as they are asked for.

    Args:
        rows: The rows.
        shown: Which of their fields are shown.
    """

    def __init__(self, rows: Sequence[Row] | Rows, shown: ShownFields) -> None:
        self._rows, self._shown = rows, shown

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> RowText:  # type: ignore[override]
        return self._shown.text(self._rows[number])

    def __iter__(self) -> Iterator[RowText]:
        return map(self._shown.text, self._rows)


@dataclass(frozen=True)
class ShownFields:
    """Fields of a task's rows that its templates show.

    Attributes:
        question: Those that the input shows.
        answer: Those that only the target or the references show.
    """

    question: frozenset[str]
    answer: frozenset[str]

    @classmethod
    def of(cls, task: Task, templates: Collection[Template]) -> ShownFields:
        """What some of a task's templates show; the straight ones among them, if there are any."""
        question, answer = set[str](), set[str]()
        for template in [t for t in templates if not t.inverted] or templates:
            before, after = sides(template)
            question |= _in_row(task, template, before)
            answer |= _in_row(task, template, after)
        for text in task.spec.references or ():
            answer |= fields_used(text)
        return cls(frozenset(question), frozenset(answer - question))

    def text(self, row: Row) -> RowText:
        """The texts of a row, one a field; a list or an object gives all texts in it as one."""
        return RowText(
            tuple(text_of(value) for name, value in row.items() if name in self.question),
            tuple(text_of(value) for name, value in row.items() if name in self.answer),
        )


def text_of(value: Any) -> str:
    """All texts and numbers in a value, in order, with spaces between.

    >>> text_of([["user", "Hi!"], {"content": 7, "seen": None}])
    'user Hi! 7'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(text_of, value)))
    return "" if value is None or isinstance(value, bool) else str(value)


def sides(template: Template) -> tuple[set[str], set[str]]:
    """The names that a template uses before its separator, and after it."""
    if template.conversation is not None:
        return {template.conversation.history}, {template.conversation.target}
    known, found = template.fields(), (set[str](), set[str]())

    def walk(node: nodes.Node, after: bool) -> bool:
        """Notes the names in a node; whether the separator has come by its end."""
        if isinstance(node, nodes.TemplateData):
            return after or MARK in node.data
        if isinstance(node, nodes.Name | nodes.Const):
            name = node.name if isinstance(node, nodes.Name) else node.value
            if name in known:
                found[after].add(name)
        if isinstance(node, nodes.If):
            walk(node.test, after)
            branches = [walk_all(part, after) for part in (node.body, *([each] for each in node.elif_), node.else_)]
            return any(branches)
        return walk_all(node.iter_child_nodes(), after)

    def walk_all(inside: Any, after: bool) -> bool:
        for node in inside:
            after = walk(node, after)
        return after

    walk(environment().parse(template.marked), False)
    return found


def _in_row(task: Task, template: Template, names: Collection[str]) -> set[str]:
    """Names with those behind them, where they are computed fields or the list of choices."""
    choices = task.spec.answer_choices if template.answer_choices is None else template.answer_choices
    computed = dict(task.spec.fields)
    if isinstance(choices, str):
        computed |= {"answer_choices": choices, OPTIONS: choices}
    found, left = set[str](), set(names)
    while left:
        name = left.pop()
        found.add(name)
        left |= (fields_used(computed[name]) if name in computed else set()) - found
    return found
