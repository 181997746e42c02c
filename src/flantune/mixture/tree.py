"""Trees of exact splits: which member visit n goes to, how often that member was visited before, and back again.

Integers only, so any visit can be computed alone and every machine computes the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, lcm
from typing import Any, NamedTuple

import numpy as np

from flantune.mixture.permutation import Integers, key_of

LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Rated:
    """A task, or a mixture of parts, with its exact share of the draws of the mixture that it is part of.

    Attributes:
        name: Of the task or mixture; the offsets of a tree depend on it.
        rate: Positive; the rates of the parts of a mixture sum to 1.
        parts: What the mixture is made of; empty for a task.
    """

    name: str
    rate: Fraction
    parts: tuple[Rated, ...] = ()

    @staticmethod
    def of_tasks(rates: dict[str, Fraction]) -> Rated:
        """A mixture of tasks alone."""
        return Rated("", Fraction(1), tuple(Rated(name, rate) for name, rate in rates.items()))

    def tasks(self) -> dict[str, Fraction]:
        """The exact share of draws of each task in it, counted by its own draws."""
        shares: dict[str, Fraction] = {}
        for part in self.parts:
            inner = part.tasks() if part.parts else {part.name: Fraction(1)}
            shares |= {name: part.rate * share for name, share in inner.items()}
        return shares

    def names(self) -> list[str]:
        """Names of the tasks in it."""
        return [name for part in self.parts for name in (part.names() if part.parts else [part.name])]

    def described(self) -> list[Any]:
        """All that a tree of it depends on but the seed, as plain values."""
        return [self.name, str(self.rate), [part.described() for part in self.parts]]

    def without(self, names: set[str]) -> Rated | None:
        """What is left of a mixture when tasks have gone: in each mixture the others divide their draws by their rates.

        Returns:
            None where nothing is left.
        """
        left = [part.without(names) if part.parts else part for part in self.parts if part.name not in names]
        kept = [part for part in left if part is not None]
        if not kept:
            return None
        amounts = _whole([part.rate for part in kept])
        total = sum(amounts)
        parts = [Rated(part.name, Fraction(n, total), part.parts) for part, n in zip(kept, amounts, strict=True)]
        return Rated(self.name, self.rate, tuple(parts))


@dataclass(frozen=True)
class Forest:
    """Binary trees as arrays, walked many visits at once.

    Of its first n visits a node sends L(n) = (n * left_part + offset) // total to the left. Visit n goes left if
    L(n + 1) > L(n), as visit L(n) of the left child, else right, as visit n - L(n). A member is within a constant of
    its exact share at every prefix: a child's error is at most 1 + (its share of its parent) x (the parent's error).

    Attributes:
        roots: One a tree: a node, or ~member for a tree of one member.
        left, right: One a node: a node, or ~member.
        left_part, total, offset: One a node; Python's integers where a total is beyond 63 bits.
    """

    roots: Integers
    left: Integers
    right: Integers
    left_part: Any
    total: Any
    offset: Any

    def visits(self, trees: Integers | int, numbers: Integers) -> tuple[Integers, Integers]:
        """Which member each visit of a tree goes to, and how many earlier visits went there.

        Args:
            trees: Tree of each visit.
            numbers: Visit numbers from 0, any order, one dimension.
        Returns:
            Members and their visit numbers, each shaped like `numbers`.
        """
        at, n = np.array(np.broadcast_to(self.roots[trees], np.shape(numbers))), np.array(numbers, dtype=np.int64)
        walking = np.flatnonzero(at >= 0)
        while walking.size:
            node, here = at[walking], n[walking]
            sent, goes_left = self._sent(node, here)
            at[walking] = np.where(goes_left, self.left[node], self.right[node])
            n[walking] = np.where(goes_left, sent, here - sent)
            walking = walking[at[walking] >= 0]
        return ~at, n

    def counts(self, number: int, members: int) -> Integers:
        """How many of the first `number` visits of the first tree go to each of `members` members."""
        counted = np.zeros(members, dtype=np.int64)
        at, n = self.roots[:1], np.array([number], dtype=np.int64)
        while at.size:
            counted[~at[at < 0]] = n[at < 0]
            node, here = at[at >= 0], n[at >= 0]
            sent = self._sent(node, here)[0] if node.size else here
            at, n = np.concatenate([self.left[node], self.right[node]]), np.concatenate([sent, here - sent])
        return counted

    def _sent(self, node: Integers, n: Integers) -> tuple[Integers, Any]:
        """L(n) at each node, and whether visit n itself goes left."""
        part, total, offset = self.left_part[node], self.total[node], self.offset[node]
        if int(n.max()) * int(part.max()) + int(total.max()) > LARGEST:
            n = n.astype(object)  # Python's integers; the results fit again
        scaled = n * part + offset
        sent = scaled // total
        return sent.astype(np.int64), scaled - sent * total >= total - part


class Climb:
    """The way back up a forest of one tree: from a member's visits to the tree's.

    Args:
        tree: The forest.
        members: Number of members, those that do not stand in the tree among them.
    """

    def __init__(self, tree: Forest, members: int) -> None:
        self._tree, self._nodes = tree, len(tree.left)
        self._above = np.full(self._nodes + members, -1)  # of each node, then of each member
        self._is_left = np.zeros(self._nodes + members, dtype=bool)
        for is_left, children in ((True, tree.left), (False, tree.right)):
            at = np.where(children >= 0, children, self._nodes + ~children)
            self._above[at], self._is_left[at] = np.arange(self._nodes), is_left

    def numbers(self, members: Integers, visits: Integers) -> Integers:
        """The visit of the tree that is visit `visits[i]` of member `members[i]`, for members that stand in it."""
        at, n = self._nodes + members, np.array(visits, dtype=np.int64)
        climbing = np.flatnonzero(self._above[at] >= 0)
        while climbing.size:
            node, is_left = self._above[at[climbing]], self._is_left[at[climbing]]
            part, total, offset = self._tree.left_part[node], self._tree.total[node], self._tree.offset[node]
            # n - L(n) = (n * right_part + total - 1 - offset) // total: the right side has the same form.
            part, offset = np.where(is_left, part, total - part), np.where(is_left, offset, total - 1 - offset)
            n[climbing] = _first_beyond(n[climbing], part, total, offset)
            at[climbing] = node
            climbing = climbing[self._above[node] >= 0]
        return n


def _first_beyond(visits: Integers, part: Any, total: Any, offset: Any) -> Integers:
    """The smallest n with (n + 1) * part + offset >= (visits + 1) * total: where that visit of a child comes."""
    if (int(visits.max()) + 1) * int(total.max()) > LARGEST:
        visits = visits.astype(object)
    return (-(((visits + 1) * total - offset) // -part) - 1).astype(np.int64)


class Node(NamedTuple):
    """A node of a tree.

    Attributes:
        sides: Left and right: a node, or ~member.
        amounts: What the two sides have of the draws of the mixture that they are parts of, in whole numbers.
        key: 64 bits that its offset depends on.
    """

    sides: tuple[int, int]
    amounts: tuple[int, int]
    key: int


EMPTY = Node((0, 0), (0, 0), 0)


@dataclass
class Grown:
    """Trees as lists.

    Attributes:
        nodes: A node before those below it.
        roots: One a tree: a node, or ~member.
        tops: The nodes at the top of a mixture inside.
    """

    nodes: list[Node] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    tops: set[int] = field(default_factory=set)

    def forest(self) -> Forest:
        """The trees as arrays."""
        split = [split_at(node.amounts, node.key) for node in self.nodes]
        kind = object if any(total > LARGEST // 2 for _, total, _ in split) else np.int64
        sides = np.array([node.sides for node in self.nodes], dtype=np.int64).reshape(-1, 2)
        columns = list(zip(*split, strict=True)) or [()] * 3
        return Forest(np.array(self.roots), *sides.T.copy(), *(np.array(column, dtype=kind) for column in columns))


def split_at(amounts: tuple[int, int], key: int) -> tuple[int, int, int]:
    """Left part, total and offset of a node; one that has one side only sends all there."""
    left, right = amounts
    divisor = gcd(left, right)
    total = (left + right) // divisor
    return left // divisor, total, key % total


def forest_of(mixtures: Iterable[tuple[Rated, int]], members: Mapping[str, int]) -> Forest:
    """A tree for each mixture, whose nodes divide the rates of its parts as evenly as can be.

    Args:
        mixtures: Each with a key of 64 bits: the offset of a node depends on it and on the names below the node.
        members: Number of each task by name.

    A mixture inside another is a subtree, the same whatever stands beside it.
    """
    return grown(mixtures, members).forest()


def grown(mixtures: Iterable[tuple[Rated, int]], members: Mapping[str, int]) -> Grown:
    """The trees of `forest_of` as lists."""
    made = Grown()
    made.roots += [_grow(made, mixture.parts, key, members) for mixture, key in mixtures]
    return made


def _grow(made: Grown, parts: Sequence[Rated], seed_key: int, members: Mapping[str, int]) -> int:
    """Adds the nodes of a tree; its root."""
    amounts = _whole([part.rate for part in parts])
    by_amount = sorted(zip(amounts, parts, strict=True), key=lambda it: (-it[0], it[1].name))
    amounts, ordered = [amount for amount, _ in by_amount], [part for _, part in by_amount]
    names = [part.name for part in ordered]

    def grow(chosen: list[int]) -> int:
        if len(chosen) == 1:
            part = ordered[chosen[0]]
            root = _grow(made, part.parts, seed_key, members) if part.parts else ~members[part.name]
            if part.parts and root >= 0:
                made.tops.add(root)
            return root
        left, right, *sums = _halved(chosen, amounts)
        key = key_of(seed_key, "split", sorted([names[i] for i in chosen]))
        number = len(made.nodes)
        made.nodes.append(EMPTY)  # keeps the place of a node before those below it
        made.nodes[number] = Node((grow(left), grow(right)), (sums[0], sums[1]), key)
        return number

    return grow(list(range(len(ordered))))


def _whole(rates: Sequence[Fraction]) -> list[int]:
    """Integers in the proportion of the rates; they are added and compared ten times as fast."""
    unit = lcm(*(rate.denominator for rate in rates))
    return [rate.numerator * (unit // rate.denominator) for rate in rates]


def _halved(chosen: Sequence[int], amounts: Sequence[int]) -> tuple[list[int], list[int], int, int]:
    """Two sides of nearly the same amount: the largest first, each to the lighter side."""
    left, right = [chosen[0]], list[int]()
    left_amount, right_amount = amounts[chosen[0]], 0
    for i in chosen[1:]:
        if right_amount < left_amount:
            right.append(i)
            right_amount += amounts[i]
        else:
            left.append(i)
            left_amount += amounts[i]
    return left, right, left_amount, right_amount
