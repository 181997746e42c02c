"""What is said of a run while it trains: loss, speed and share of the machine's peak, smoothed over the last steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEMORY = 0.95  # what a smoothed value keeps of itself in a step: a mean over about the last twenty


class Smoothed:
    """A ratio of two sums that fade: of values over how many there were, or of tokens over seconds."""

    def __init__(self) -> None:
        self._above = self._below = 0.0

    def add(self, above: float, below: float = 1.0) -> float:
        """The ratio with one more part in each sum; the first parts count in full, so there is no start from 0."""
        self._above = MEMORY * self._above + above
        self._below = MEMORY * self._below + below
        return self.now

    @property
    def now(self) -> float:
        """The ratio."""
        return self._above / self._below if self._below else 0.0


class Live:
    """Smoothed figures of a run.

    Args:
        peak: Floating point operations a second that all ranks together could do; None where nobody measured it.
    """

    def __init__(self, peak: float | None) -> None:
        self._peak = peak
        self._loss, self._speed, self._flops = Smoothed(), Smoothed(), Smoothed()
        self._by_task: dict[str, Smoothed] = {}

    def step(self, line: Mapping[str, Any]) -> str:
        """Takes in a step, as `metrics.jsonl` tells of it; loss, real tokens a second, share of the peak."""
        for task, loss in line["loss_by_task"].items():
            self._by_task.setdefault(task, Smoothed()).add(loss)
        seconds = line["seconds"]
        said = f"loss {self._loss.add(line['loss']):.3f}, {self._speed.add(line['tokens'], seconds):.0f} tokens/s"
        speed = self._flops.add(1e12 * line["tflop"], seconds)
        return said if self._peak is None else f"{said}, {100 * speed / self._peak:.0f} % of peak"

    def by_task(self) -> str:
        """Each task's loss, the highest first."""
        losses = sorted(((each.now, task) for task, each in self._by_task.items()), reverse=True)
        return ", ".join(f"{task.removeprefix('starter/')} {loss:.2f}" for loss, task in losses)
