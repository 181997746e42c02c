"""Whether the loss of a run explodes: far above what its tasks' losses have been, for several steps in a row."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

TIMES, NATS = 3.0, 1.0  # a step is suspect above so many times its usual loss, and by so much
STEPS = 8  # suspect steps in a row that are an explosion
REMEMBERED, KNOWN = 50, 10  # losses that make a task's level: the last ones, and how many at least


class Divergence:
    """Follows the losses of each task over the steps of a run.

    A task's level is the lowest that the median of its last 50 losses has been; a task with fewer than ten has none. A
    step is suspect if the losses of its tasks with a level, added up, are more than three times their levels and lie
    more than a nat above them on average. Eight suspect steps in a row are an explosion. So a hard example, a task that
    is new, or a phase with other tasks is none, whatever their losses are; and a loss that climbs slowly is one in the
    end, since the level does not climb with it. What a suspect step says does not enter the levels.

    Attributes:
        suspects: Suspect steps in a row, the last one among them; 0 if that was none.
        since: The first of these, and its first packed row.
    """

    def __init__(self) -> None:
        self.suspects = 0
        self.since = (0, 0)
        self._last: dict[str, deque[float]] = {}
        self._levels: dict[str, float] = {}

    def exploded(self, line: Mapping[str, Any]) -> bool:
        """Takes in a step, as `metrics.jsonl` tells of it. Whether it completes an explosion."""
        losses: Mapping[str, float] = line["loss_by_task"]
        known = [task for task in losses if task in self._levels]
        excess = sum(losses[task] for task in known)
        usual = sum(self._levels[task] for task in known)
        if known and excess > TIMES * usual and excess - usual > NATS * len(known):
            self.suspects += 1
            self.since = (line["step"], line["rows"][0]) if self.suspects == 1 else self.since
            return self.suspects >= STEPS
        if known:
            self.suspects = 0
        for task, loss in losses.items():
            last = self._last.setdefault(task, deque(maxlen=REMEMBERED))
            last.append(loss)
            if len(last) >= KNOWN:
                self._levels[task] = min(self._levels.get(task, math.inf), median(last))
        return False
