"""The learning rate as a function of how far the run is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from flantune.errors import named


@dataclass(frozen=True)
class Schedule:
    """Learning rate at a share of the run: a linear rise from 0 to the peak, then what the kind says.

    The argument is a share, not a step: the number of steps is not known while the order is still being written, and
    a run cut into other global batches has the same learning rate at the same example.

    Attributes:
        kind: A name in `KINDS`.
        peak: Highest learning rate.
        warmup: Share of the run in which it rises, in [0, 1).
        cooldown: Share of the run, its last, in which `warmup_stable_decay` falls.
    """

    kind: str
    peak: float
    warmup: float
    cooldown: float = 0.2

    def __post_init__(self) -> None:
        named(self.kind, KINDS, "schedule")

    def __call__(self, progress: float) -> float:
        """Learning rate at a share of the run's draws in (0, 1): of a step, at the middle of its draws."""
        if progress < self.warmup:
            return self.peak * progress / self.warmup
        return self.peak * KINDS[self.kind](self, progress)


def _constant(schedule: Schedule, progress: float) -> float:
    return 1.0


def _linear(schedule: Schedule, progress: float) -> float:
    return (1 - progress) / (1 - schedule.warmup)


def _cosine(schedule: Schedule, progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * (progress - schedule.warmup) / (1 - schedule.warmup)))


def _inverse_square_root(schedule: Schedule, progress: float) -> float:
    """Falls from the end of the warm-up, which sets how fast (Raffel et al. 2020, arXiv:1910.10683)."""
    return math.sqrt(schedule.warmup / progress)


def _warmup_stable_decay(schedule: Schedule, progress: float) -> float:
    """At the peak, then down to 0 as 1 - sqrt, the best of the shapes in Hägele et al. 2024, arXiv:2405.18392."""
    fallen = (progress - (1 - schedule.cooldown)) / schedule.cooldown if schedule.cooldown else 0.0
    return 1 - math.sqrt(max(0.0, fallen))


KINDS: dict[str, Callable[[Schedule, float], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "inverse_square_root": _inverse_square_root,
    "warmup_stable_decay": _warmup_stable_decay,
}
