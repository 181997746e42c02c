"""The draw function: example i of the endless mixture, as a pure function of mixture, seed and i.

No state, no shuffle buffer, no rank. A tree of exact splits says which task draw i belongs to and how often that task
was drawn before; a keyed permutation says which row; further trees say which template, options and exemplars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from flantune.mixture.permutation import Integers, Keys, derived, key_of, permuted, unpermuted
from flantune.mixture.schedule import FOREVER, Phase, Schedule
from flantune.mixture.tree import Rated, forest_of

KEYS_KEPT = 2**17
HAND = 16  # draws within which the options of a task are shuffled


@dataclass(frozen=True)
class MixedTask:
    """What the draw function knows of a task.

    Attributes:
        name: The task's name.
        rows: Number of training rows, at least 1.
        template_weights: Relative share of each training template; 0 for one that is not used.
        option_weights: Relative share of each way in which options are written, or left out.
        shot_weights: Relative share of each entry of the task's few-shot distribution.
        max_epochs: A row comes at most so often, or half of the rows once more than the others (1.5); None: for ever.
    """

    name: str
    rows: int
    template_weights: tuple[Fraction, ...]
    option_weights: tuple[Fraction, ...] = (Fraction(1),)
    shot_weights: tuple[Fraction, ...] = (Fraction(1),)
    max_epochs: Fraction | None = None

    @property
    def most_draws(self) -> int | None:
        """How often the task can be drawn, at least once."""
        return None if self.max_epochs is None else max(1, int(self.rows * self.max_epochs))


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
        options: Index into the task's `option_weights`.
        shots: Index into the task's `shot_weights`.
    """

    numbers: Integers
    tasks: Integers
    visits: Integers
    epochs: Integers
    rows: Integers
    templates: Integers
    options: Integers
    shots: Integers


COORDINATES = ("templates", "options", "shots")


class Coordinates:
    """What varies from draw to draw of a task: which template, which options, how many exemplars.

    In epoch e a row makes visit p + e + (e div round) mod steps of a coordinate's tree, with p its place in an order
    of the rows that all epochs share. So over an epoch, and for a row over its epochs, the choices keep their shares
    to within a constant, and of choices that weigh the same the next epoch takes another. The row's own number would
    not do for p: in a file that alternates between two answers, each of two templates would always ask for the same.

    Each coordinate has an order of its own, so within an epoch they meet like decks that were shuffled apart. That of
    templates is a permutation. That of shots is the order in which rows first come, so that their shares hold at every
    prefix of the first epoch too, however early a run ends; that of options is the same, shuffled in hands of 16.

    Over its epochs a row would meet the same combinations for ever if coordinates whose periods have a common divisor
    went on side by side. A round is over when a coordinate and those before it have come round together; one step more
    then, as often as that divisor says, leads through all combinations: in the product of the periods each comes
    exactly in its share.

    Args:
        tasks: Whose choices they are.
        seed: Of the draw function.
    """

    def __init__(self, tasks: Sequence[MixedTask], seed: int) -> None:
        weights = [
            [task.template_weights for task in tasks],
            [task.option_weights for task in tasks],
            [task.shot_weights for task in tasks],
        ]
        keys = [[key_of(seed, name, task.name) for task in tasks] for name in COORDINATES]
        self._template_keys, self._option_keys, _ = np.array(keys, dtype=np.uint64)
        rounds = [_rounds(each) for each in zip(*weights, strict=True)]
        self._rounds, self._steps = np.array(rounds, dtype=np.int64).transpose(2, 1, 0)  # each by coordinate and task
        planted = [(_choices(w), k) for each in zip(weights, keys, strict=True) for w, k in zip(*each, strict=True)]
        most = max(len(each) for ways in weights for each in ways)
        names = {str(i): i for i in range(most)}
        self._trees = forest_of(planted, names)

    def chosen(self, tasks: Integers, sizes: Integers, rows: Integers, epochs: Integers, first: Integers) -> Integers:
        """Indices of the choices, one row a coordinate.

        Args:
            tasks: Of each draw.
            sizes: The task's number of rows.
            rows: The row.
            epochs: The epoch.
            first: When the row came in its first epoch.
        """
        hand, card = np.divmod(first, HAND)
        held, dealt_by = np.minimum(HAND, sizes - hand * HAND), derived(self._option_keys[tasks], hand)
        places, cards = permuted(
            np.stack([rows, card]), np.stack([sizes, held]), np.stack([self._template_keys[tasks], dealt_by])
        )
        asked = np.stack([places, hand * HAND + cards, first]) + epochs
        asked += epochs // self._rounds[:, tasks] % self._steps[:, tasks]
        trees = np.arange(len(COORDINATES))[:, None] * self._rounds.shape[1] + tasks
        return self._trees.visits(trees.reshape(-1), asked.reshape(-1))[0].reshape(asked.shape)


def _rounds(ways: Sequence[Sequence[Fraction]]) -> list[tuple[int, int]]:
    """For each coordinate of a task the epochs of a round, and the rounds until it begins anew."""
    made, before = list[tuple[int, int]](), 1
    for weights in ways:
        period = _period(weights)
        made.append((min(lcm(before, period), FOREVER), min(gcd(before, period), FOREVER)))
        before *= period
    return made


def _choices(weights: Sequence[Fraction]) -> Rated:
    total = sum(weights, Fraction(0))
    return Rated.of_tasks({str(i): weight / total for i, weight in enumerate(weights) if weight})


def _period(weights: Sequence[Fraction]) -> int:
    """After how many visits a tree of these weights has given each exactly its share."""
    total = sum(weights, Fraction(0))
    return lcm(*((weight / total).denominator for weight in weights))


class DrawFunction:
    """draw(i) for a mixture and a seed.

    Args:
        tasks: The mixture's tasks.
        mixture: Their rates; or the phases of a run, each with its rates.
        seed: Any non-negative integer.
        asked: Draws from which on they are asked in other shares, in order, each with the tasks as they are then.
    """

    def __init__(
        self,
        tasks: Sequence[MixedTask],
        mixture: Rated | Sequence[Phase],
        seed: int,
        asked: Sequence[tuple[int, Sequence[MixedTask]]] = (),
    ) -> None:
        self.tasks = tuple(tasks)
        self.seed = seed
        phases = [Phase(0, mixture)] if isinstance(mixture, Rated) else mixture
        names, limits = [task.name for task in tasks], [task.most_draws for task in tasks]
        self.schedule = Schedule(names, limits, phases, key_of(seed, "tasks"))
        self._sizes = np.array([task.rows for task in tasks], dtype=np.int64)
        self._asked_from = [0, *(start for start, _ in asked)]
        self._coordinates = [Coordinates(each, seed) for each in (tasks, *(later for _, later in asked))]
        self._row_keys: dict[tuple[int, int], int] = {}

    def draws(self, numbers: Integers | Sequence[int]) -> Draws:
        """The draws of these numbers. Every row of a task comes once an epoch.

        Raises:
            FlantuneError: The tasks do not have so many draws.
        """
        wanted = np.asarray(numbers, dtype=np.int64)
        tasks, visits = self._visits(wanted)
        sizes = self._sizes[tasks]
        epochs, places = np.divmod(visits, sizes)
        rows = permuted(places, sizes, self._keys_of_rows(tasks, epochs))
        again = np.flatnonzero(epochs)
        first = places.copy()
        first[again] = unpermuted(rows[again], sizes[again], self._keys_of_rows(tasks[again], np.zeros_like(again)))
        ways = np.empty((len(COORDINATES), len(wanted)), dtype=np.int64)
        which = np.searchsorted(self._asked_from, wanted, side="right") - 1
        for at in np.unique(which).tolist():
            here = which == at
            ways[:, here] = self._coordinates[at].chosen(*(it[here] for it in (tasks, sizes, rows, epochs, first)))
        return Draws(wanted, tasks, visits, epochs, rows, *ways)

    def _visits(self, numbers: Integers) -> tuple[Integers, Integers]:
        """The task of each draw, and how often it was drawn before."""
        tasks, visits = np.empty_like(numbers), np.empty_like(numbers)
        stretches = self.schedule.upto(int(numbers.max()) + 1) if numbers.size else []
        which = np.searchsorted([it.start for it in stretches], numbers, side="right") - 1
        for at in np.unique(which).tolist():
            here, stretch = which == at, stretches[at]
            tasks[here], visits[here] = stretch.tree.visits(0, numbers[here] - stretch.start)
            visits[here] += stretch.before[tasks[here]]
        return tasks, visits

    def _keys_of_rows(self, tasks: Integers, epochs: Integers) -> Keys:
        """The key of the permutation of each task's rows in each epoch."""
        pairs = list(zip(tasks.tolist(), epochs.tolist(), strict=True))
        if len(self._row_keys) > KEYS_KEPT:
            self._row_keys.clear()
        for task, epoch in set(pairs).difference(self._row_keys):
            self._row_keys[task, epoch] = key_of(self.seed, "rows", self.tasks[task].name, epoch)
        return np.array([self._row_keys[pair] for pair in pairs], dtype=np.uint64)
