"""How fast training is on this machine, measured on its first steps with a model that is thrown away afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from flantune.mixture.order import Order
from flantune.training.loop import StepResult, train
from flantune.training.loss import SummedLoss, weighted_sum
from flantune.training.optimizer import MasterOptimizer
from flantune.training.schedule import Schedule

MICRO_BATCHES = 4  # of a measured step at most
FEWEST, MOST = 3, 16  # measured steps
SECONDS, PATIENCE = 8.0, 60.0  # after which no further one is begun: with the fewest, with any


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        steps: How many steps were measured.
        tokens: Of them.
        tokens_per_second: Of forward and backward passes.
        update_seconds: Of one update of the weights.
        state_bytes: Of what a checkpoint copies.
    """

    steps: int
    tokens: int
    tokens_per_second: float
    update_seconds: float
    state_bytes: int

    def seconds(self, tokens: int, steps: int) -> float:
        """How long so many tokens in so many steps take."""
        return tokens / self.tokens_per_second + steps * self.update_seconds


def measure(
    model: Any,
    order: Order,
    optimizer: MasterOptimizer,
    schedule: Schedule,
    *,
    rows_per_step: int,
    rows_at_once: int,
    seed: int = 0,
    summed_loss: SummedLoss = weighted_sum,
    share_prefixes: bool = False,
) -> Measured:
    """Trains a few steps on the first rows of the order; changes the model. Arguments as of `loop.train`.

    The first step pays for what later ones find ready and does not count, if there is another. Steps of many
    micro-batches are measured with few, and the update of the weights by itself.
    """
    began = time.monotonic()
    results: list[StepResult] = []
    for result in train(
        model,
        order,
        optimizer,
        schedule,
        rows_per_step=min(rows_per_step, MICRO_BATCHES * rows_at_once),
        rows_at_once=rows_at_once,
        seed=seed,
        summed_loss=summed_loss,
        share_prefixes=share_prefixes,
    ):
        results.append(result)
        measured, elapsed = len(results) - 1, time.monotonic() - began
        if measured == MOST or (measured and elapsed > (SECONDS if measured >= FEWEST else PATIENCE)):
            break
    counted = results[1:] or results
    tokens, update = sum(result.tokens for result in counted), _update_seconds(optimizer)
    passes = sum(result.seconds for result in counted) - len(counted) * update
    return Measured(
        len(counted),
        tokens,
        tokens / max(passes, 1e-9),
        update,
        sum(tensor.numel() * tensor.element_size() for tensor in optimizer.state().values()),
    )


def _update_seconds(optimizer: MasterOptimizer) -> float:
    """Of an update with gradients of zero, which takes as long as any other."""
    for master in optimizer.masters:
        master.grad = torch.zeros_like(master)
    _synchronize()
    began = time.perf_counter()
    optimizer.step(0.0)
    _synchronize()
    return time.perf_counter() - began


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
