"""The training loop, top to bottom: a generator of steps, so whoever drives it decides what happens in between."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from flantune.errors import FlantuneError
from flantune.mixture.order import Order
from flantune.mixture.window import PackedRow
from flantune.models.stream import Stream, stream_of, target_logits
from flantune.training.compilation import SummedLoss
from flantune.training.loss import weighted_sum
from flantune.training.optimizer import MasterOptimizer, Schedule


@dataclass(frozen=True)
class StepResult:
    """One optimizer update.

    Attributes:
        step: From 0.
        loss: Weighted mean of the target tokens' losses over the global batch, in nats.
        loss_by_task: Mean loss of a target token, for the tasks present, by task number.
        tokens: Real tokens of the global batch (nothing is padded).
        target_tokens: Of these, tokens with a loss.
        learning_rate: Of this step.
        gradient_norm: Before clipping.
        seconds: Wall time.
    """

    step: int
    loss: float
    loss_by_task: dict[int, float]
    tokens: int
    target_tokens: int
    learning_rate: float
    gradient_norm: float
    seconds: float


def steps_of(order: Order, rows_per_step: int) -> int:
    """Steps of a run; the last one may have fewer rows, and its loss is divided by its own weight."""
    return -(-len(order) // rows_per_step)


def train(
    model: Any,
    order: Order,
    optimizer: MasterOptimizer,
    schedule: Schedule,
    *,
    rows_per_step: int,
    rows_at_once: int,
    start: int = 0,
    summed_loss: SummedLoss = weighted_sum,
) -> Iterator[StepResult]:
    """Trains over the order from step `start` to its end.

    The global batch of step s is rows [s * rows_per_step, (s + 1) * rows_per_step) of the order: a function of the
    step, so there is nothing else to resume. The loss is divided once, by the weight of the whole global batch;
    how it is cut into micro-batches changes nothing but rounding.

    Args:
        model: Decoder with attention by segment; its trainable parameters are those of the optimizer.
        order: Packed rows.
        optimizer: Updates the model after each step.
        schedule: Learning rate by step.
        rows_per_step: Packed rows of a global batch.
        rows_at_once: Packed rows of a micro-batch.
        start: First step.
        summed_loss: The loss, or what `compile_step` made of it.
    Raises:
        FlantuneError: The loss or the gradient is not finite; names the step and its draws.
    """
    device = next(model.parameters()).device
    model.train()
    for step in range(start, steps_of(order, rows_per_step)):
        began = time.perf_counter()
        rows = [order.row(r) for r in range(step * rows_per_step, min((step + 1) * rows_per_step, len(order)))]
        batch_weight = sum(s.loss_weight * len(s.target_ids) for row in rows for s in row)
        total = 0.0
        log = TaskLosses()
        for first in range(0, len(rows), rows_at_once):
            segments = [segment for row in rows[first : first + rows_at_once] for segment in row]
            stream = stream_of([(s.input_ids, s.target_ids, s.loss_weight) for s in segments]).to(device)
            summed, losses = summed_loss(target_logits(model, stream), stream.targets, stream.weights)
            share = summed / batch_weight
            share.backward()
            optimizer.collect()
            total += float(share.detach())
            log.add([s.task for s in segments], stream, losses)
        if not math.isfinite(total):
            raise FlantuneError(
                f"the loss is not finite at step {step} (draws {_draws(rows)}); lower training.learning_rate"
            )
        learning_rate = schedule(step)
        try:
            norm = optimizer.step(learning_rate)
        except FlantuneError as error:
            raise FlantuneError(f"step {step} (draws {_draws(rows)}): {error.message}") from None
        yield StepResult(
            step,
            total,
            log.means(),
            sum(s.length for row in rows for s in row),
            sum(len(s.target_ids) for row in rows for s in row),
            learning_rate,
            norm,
            time.perf_counter() - began,
        )


class TaskLosses:
    """Mean loss of a target token by task, over the micro-batches of a step."""

    def __init__(self) -> None:
        self.sums: dict[int, float] = {}
        self.counts: dict[int, int] = {}

    def add(self, tasks: Sequence[int], stream: Stream, losses: torch.Tensor) -> None:
        """Adds the token losses (N,) of a stream whose segments belong to these tasks."""
        by_segment = torch.zeros(len(tasks)).index_add_(0, stream.owners.cpu(), losses.float().cpu()).tolist()
        tokens = torch.bincount(stream.owners.cpu(), minlength=len(tasks)).tolist()
        for task, loss, count in zip(tasks, by_segment, tokens, strict=True):
            self.sums[task] = self.sums.get(task, 0.0) + loss
            self.counts[task] = self.counts.get(task, 0) + count

    def means(self) -> dict[int, float]:
        """Task number to mean loss in nats."""
        return {task: self.sums[task] / self.counts[task] for task in sorted(self.sums)}


def _draws(rows: Sequence[PackedRow]) -> str:
    numbers = sorted(segment.draw for row in rows for segment in row)
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
