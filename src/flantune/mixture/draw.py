"""The draw function: example i of the endless mixture, as a pure function of mixture, seed and i.

No state, no shuffle buffer, no rank. A binary tree of exact splits says which task draw i belongs to and how often
that task was drawn before; a keyed permutation says which row; a second tree says which template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from flantune.mixture.permutation import Integers, key_of, permuted


@dataclass(frozen=True)
class Leaf:
    """One member of a tree."""

    index: int


@dataclass(frozen=True)
class Split:
    """Of its first n visits this node sends L(n) = (n * left_part + offset) // total to the left."""

    left: Leaf | Split
    right: Leaf | Split
    left_part: int
    total: int
    offset: int


def split_tree(rates: Sequence[Fraction], names: Sequence[str], seed_key: int) -> Leaf | Split:
    """A binary tree whose nodes divide their members' rates as evenly as can be.

    Args:
        rates: Positive, one a member.
        names: One a member; the offsets depend on the names below a node, not on their numbers.
        seed_key: 64 bits.
    """
    order = sorted(range(len(rates)), key=lambda i: (-rates[i], names[i]))

    def grow(members: list[int]) -> Leaf | Split:
        if len(members) == 1:
            return Leaf(members[0])
        left, right = [members[0]], list[int]()
        left_rate, right_rate = rates[members[0]], Fraction(0)
        for i in members[1:]:  # largest first to the lighter side: the classical even partition
            if right_rate < left_rate:
                right.append(i)
                right_rate += rates[i]
            else:
                left.append(i)
                left_rate += rates[i]
        share = left_rate / (left_rate + right_rate)
        offset = key_of(seed_key, "split", sorted(names[i] for i in members)) % share.denominator
        return Split(grow(left), grow(right), share.numerator, share.denominator, offset)

    return grow(order)


def visits_of(tree: Leaf | Split, numbers: Integers) -> tuple[Integers, Integers]:
    """For each draw number: which member it goes to, and how many earlier draws went there.

    Args:
        tree: From `split_tree`.
        numbers: Draw numbers from 0, any order, one dimension.
    Returns:
        Member indices and visit numbers, each shaped like `numbers`.

    A member is within a constant of its exact share at every prefix: a child's error is at most
    1 + (its share of its parent) x (the parent's error).
    """
    members = np.empty(len(numbers), dtype=np.int64)
    visits = np.empty(len(numbers), dtype=np.int64)
    pending: list[tuple[Leaf | Split, Integers, Integers]] = [(tree, np.arange(len(numbers)), np.asarray(numbers))]
    while pending:
        node, places, n = pending.pop()
        if not len(places):
            continue
        if isinstance(node, Leaf):
            members[places] = node.index
            visits[places] = n
            continue
        before, after = _sent_left(node, n), _sent_left(node, n + 1)
        left = after > before
        pending.append((node.left, places[left], before[left]))
        pending.append((node.right, places[~left], (n - before)[~left]))
    return members, visits


def _sent_left(node: Split, n: Integers) -> Integers:
    if max(int(n.max()) * node.left_part + node.offset, node.total) < 2**63:
        return (n * node.left_part + node.offset) // node.total
    exact = (n.astype(object) * node.left_part + node.offset) // node.total  # beyond 63 bits: Python's integers
    return exact.astype(np.int64)


@dataclass(frozen=True)
class MixedTask:
    """What the draw function knows of a task.

    Attributes:
        name: The task's name.
        rows: Number of training rows, at least 1.
        rate: Exact share of draws.
        template_weights: Relative share of each training template.
    """

    name: str
    rows: int
    rate: Fraction
    template_weights: tuple[Fraction, ...]


@dataclass(frozen=True)
class Draws:
    """Consecutive or chosen draws, one array element each.

    Attributes:
        numbers: Draw number i.
        tasks: Index of the task.
        visits: How often the task was drawn before.
        epochs: visits // rows.
        rows: Row of the task's training split.
        templates: Index among the task's training templates.
    """

    numbers: Integers
    tasks: Integers
    visits: Integers
    epochs: Integers
    rows: Integers
    templates: Integers


class DrawFunction:
    """draw(i) for a mixture and a seed.

    Args:
        tasks: The mixture's members, rates summing to 1.
        seed: Any non-negative integer.
    """

    def __init__(self, tasks: Sequence[MixedTask], seed: int) -> None:
        self.tasks = tuple(tasks)
        self.seed = seed
        self._tree = split_tree([t.rate for t in tasks], [t.name for t in tasks], key_of(seed, "tasks"))
        self._template_keys = [key_of(seed, "templates", t.name) for t in tasks]
        self._template_trees = [
            split_tree(t.template_weights, [str(i) for i in range(len(t.template_weights))], key)
            for t, key in zip(tasks, self._template_keys, strict=True)
        ]

    def draws(self, numbers: Integers | Sequence[int]) -> Draws:
        """The draws of these numbers.

        Every row of a task comes once an epoch. Its template is visit (p + epoch) of the task's template tree, where
        p is the row's place in a keyed permutation that all epochs share: over an epoch, and for a row over its
        epochs, the templates keep their shares to within a constant, and of templates that weigh the same the next
        epoch takes another. The row's own number would not do for p: in a file that alternates between two answers,
        each of two templates would always ask for the same one.
        """
        wanted = np.asarray(numbers, dtype=np.int64)
        members, visits = visits_of(self._tree, wanted)
        epochs, rows, templates = (np.empty_like(visits) for _ in range(3))
        for index in map(int, np.unique(members)):
            task = self.tasks[index]
            here = np.flatnonzero(members == index)
            epochs[here], places = np.divmod(visits[here], task.rows)
            for epoch in np.unique(epochs[here]):
                now = epochs[here] == epoch
                key = key_of(self.seed, "rows", task.name, int(epoch))
                rows[here[now]] = permuted(places[now], task.rows, key)
            asked = permuted(rows[here], task.rows, self._template_keys[index]) + epochs[here]
            templates[here] = visits_of(self._template_trees[index], asked)[0]
        return Draws(wanted, members, visits, epochs, rows, templates)
