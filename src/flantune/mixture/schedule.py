"""The schedule of a mixture: which rates hold from which draw on, in the phases of a run and as tasks run out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flantune.errors import FlantuneError
from flantune.mixture.permutation import Integers
from flantune.mixture.pruned import PrunedTree
from flantune.mixture.tree import Climb, Forest, Rated

FOREVER = 2**62
FURTHEST = 3.0  # draws from an exact share; a tree that has lost so many tasks that it would allow more is planted anew


@dataclass(frozen=True)
class Phase:
    """From draw `start` on the rates are those of `mixture`."""

    start: int
    mixture: Rated


@dataclass(frozen=True)
class Stretch:
    """Draws that one tree divides.

    Attributes:
        start: First draw.
        end: The draw after the last.
        tree: Of visits counted from `start`.
        before: Draws of each task before `start`.
    """

    start: int
    end: int
    tree: Forest
    before: Integers


class Schedule:
    """Stretches of draws, made as far as they are asked for.

    A task's visits are counted on across stretches, so it goes on with its rows where it was. A stretch ends where
    the next phase begins, or after the draw with which a task has had as many draws as it may; from there on the
    others of its mixture divide its draws by their rates. Within a stretch each task is within a constant of its
    exact share.

    Args:
        names: The tasks' names; members of the trees are numbered so.
        limits: The most draws of each task, or None.
        phases: By start, the first at 0.
        seed_key: 64 bits.
    """

    def __init__(
        self, names: Sequence[str], limits: Sequence[int | None], phases: Sequence[Phase], seed_key: int
    ) -> None:
        self._names, self._phases = list(names), list(phases)
        self._trees = _Trees(self._names, self._phases, seed_key)
        self._limits = np.array([FOREVER if limit is None else limit for limit in limits], dtype=np.int64)
        self._stretches: list[Stretch] = [self._stretch(0, np.zeros(len(names), dtype=np.int64))]

    def upto(self, draws: int) -> list[Stretch]:
        """The stretches of at least the first `draws` draws.

        Raises:
            FlantuneError: The tasks do not have so many draws.
        """
        while (last := self._stretches[-1]).end < draws:
            self._stretches.append(self._stretch(last.end, self._counted(last, last.end)))
        return self._stretches

    def counts(self, draws: int) -> Integers:
        """How many of the first `draws` draws each task gets, without drawing them.

        Raises:
            FlantuneError: The tasks do not have so many draws.
        """
        stretches = self.upto(draws)
        return self._counted(stretches[bisect_right(stretches, draws, key=lambda it: it.start) - 1], draws)

    def exhausted(self, draws: int) -> dict[str, int]:
        """The tasks that get their last draw before draw `draws`, and the number of that draw."""
        gone = dict[str, int]()
        for stretch in self.upto(draws):
            if stretch.end < draws:
                for member in np.flatnonzero(self._counted(stretch, stretch.end) == self._limits).tolist():
                    gone.setdefault(self._names[member], stretch.end - 1)
        return gone

    def _counted(self, stretch: Stretch, draws: int) -> Integers:
        return stretch.before + stretch.tree.counts(draws - stretch.start, len(self._names))

    def _stretch(self, start: int, before: Integers) -> Stretch:
        number = bisect_right(self._phases, start, key=lambda phase: phase.start) - 1
        tree, standing = self._trees.without(number, before >= self._limits, start)
        end = self._phases[number + 1].start if number + 1 < len(self._phases) else FOREVER
        limited = standing[self._limits[standing] < FOREVER]
        if limited.size:
            lasts = Climb(tree, len(before)).numbers(limited, (self._limits - before)[limited] - 1)
            end = min(end, start + int(lasts.min()) + 1)
        return Stretch(start, end, tree, before)


class _Trees:
    """The tree of one stretch after the other."""

    def __init__(self, names: Sequence[str], phases: Sequence[Phase], seed_key: int) -> None:
        self._names, self._phases, self._seed_key = names, phases, seed_key
        self._members = {name: member for member, name in enumerate(names)}
        self._phase, self._standing, self._furthest = -1, set[int](), 0.0
        self._tree: PrunedTree

    def without(self, phase: int, ended: NDArray[np.bool_], start: int) -> tuple[Forest, Integers]:
        """The tree of a phase without the tasks that have ended, and the tasks in it.

        Raises:
            FlantuneError: None is left.
        """
        if phase != self._phase or not self._pruned(ended):
            self._plant(phase, ended, start)
        return self._tree.forest(), np.array(sorted(self._standing), dtype=np.int64)

    def _pruned(self, ended: NDArray[np.bool_]) -> bool:
        """Takes out what has ended; whether the tree is even enough then."""
        gone = {member for member in self._standing if ended[member]}
        self._standing -= gone
        if not self._standing:
            return False
        for member in sorted(gone):
            self._tree.take(member)
        return self._tree.furthest() <= self._furthest

    def _plant(self, phase: int, ended: NDArray[np.bool_], start: int) -> None:
        mixture = self._phases[phase].mixture.without({self._names[it] for it in np.flatnonzero(ended).tolist()})
        if mixture is None:
            raise FlantuneError(
                f"from draw {start} on no task is left to draw from: each has come max_epochs times; "
                "ask for fewer draws or raise max_epochs"
            )
        self._phase, self._standing = phase, {self._members[name] for name in mixture.names()}
        self._tree = PrunedTree(mixture, self._seed_key, self._members)
        self._furthest = max(FURTHEST, self._tree.furthest())
