"""What stands in windows, added up by task and by how each example was asked: plan and receipt count with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flantune.mixture.shards import Window

SAMPLES = 3  # dropped and shortened draws of a task that are shown


class Sums(NamedTuple):
    """Of examples that have something in common."""

    draws: int = 0
    input_tokens: int = 0
    target_tokens: int = 0
    loss_weight: float = 0.0
    shortened: int = 0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(
            self.draws + other.draws,
            self.input_tokens + other.input_tokens,
            self.target_tokens + other.target_tokens,
            self.loss_weight + other.loss_weight,
            self.shortened + other.shortened,
        )


class Way(NamedTuple):
    """How an example was asked: numbers of its template and of its options, and how many exemplars it shows."""

    template: int
    options: int
    exemplars: int


class Tally:
    """Sums over windows.

    Args:
        tasks: How many there are.
        windows: Each with the number of its rows that count.
    Attributes:
        ways: Of each task, the sums of each way in which it was asked.
        reasons: Of each task, how many draws were dropped for which reason.
        dropped: Of each task, the first draws that were dropped, with row and reason.
        shortened: Of each task, the first draws whose prompt was shortened, with row and the tokens cut.
        rows: Packed rows.
    """

    def __init__(self, tasks: int, windows: Iterable[tuple[Window, int]]) -> None:
        self.ways: list[dict[Way, Sums]] = [{} for _ in range(tasks)]
        self.reasons: list[Counter[str]] = [Counter() for _ in range(tasks)]
        self.dropped: list[list[dict[str, Any]]] = [[] for _ in range(tasks)]
        self.shortened: list[list[dict[str, Any]]] = [[] for _ in range(tasks)]
        self.rows = 0
        for window, rows in windows:
            self.rows += rows
            self._add_segments(window.columns(rows))
            self._add_dropped(window.dropped)

    def _add_segments(self, said: Mapping[str, np.ndarray]) -> None:
        keys = np.stack([said[name] for name in ("task", "template", "options", "exemplars")], axis=1)
        found, which = np.unique(keys, axis=0, return_inverse=True)
        losses = said["loss_weight"] * said["target_length"]
        values = (np.ones(len(keys)), said["input_length"], said["target_length"], losses, said["cut"] > 0)
        sums = np.stack([np.bincount(which.ravel(), each, len(found)) for each in values], axis=1)
        for (task, *way), (draws, inputs, targets, weight, cut) in zip(found.tolist(), sums.tolist(), strict=True):
            here = Sums(int(draws), int(inputs), int(targets), weight, int(cut))
            self.ways[task][Way(*way)] = self.ways[task].get(Way(*way), Sums()).plus(here)
        for i in np.flatnonzero(said["cut"]).tolist():
            shown = self.shortened[said["task"][i]]
            if len(shown) < SAMPLES:
                shown.append({name: int(said[name][i]) for name in ("draw", "row", "cut")})

    def _add_dropped(self, dropped: Sequence[Mapping[str, Any]]) -> None:
        for item in dropped:
            self.reasons[item["task"]][item["reason"]] += 1
            shown = self.dropped[item["task"]]
            if len(shown) < SAMPLES:
                shown.append({name: item[name] for name in ("draw", "row", "reason")})

    def task(self, number: int) -> Sums:
        """A task's sums, however it was asked."""
        return added(self.ways[number].values())


def added(sums: Iterable[Sums]) -> Sums:
    """All of them together."""
    total = Sums()
    for each in sums:
        total = total.plus(each)
    return total
