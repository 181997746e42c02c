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
from flantune.mixture.permutation import key_of
from flantune.mixture.window import PackedRow, Segment
from flantune.models.stream import Stream, start_token, stream_of, target_logits
from flantune.training.distributed import ALONE, Ranks, in_shards, lost_ranks
from flantune.training.loss import SummedLoss, weighted_sum
from flantune.training.optimizer import MasterOptimizer
from flantune.training.position import START, Position
from flantune.training.schedule import Schedule


@dataclass(frozen=True)
class StepResult:
    """One optimizer update.

    Attributes:
        before: Where the run was.
        after: Where it is.
        loss: Weighted mean of the target tokens' losses over the global batch, in nats.
        loss_by_task: Mean loss of a target token, for the tasks present, by task number.
        tokens: Real tokens of the global batch (nothing is padded).
        target_tokens: Of these, tokens with a loss.
        learning_rate: Of this step.
        gradient_norm: Before clipping.
        seconds: Wall time.
        lengths: Input and target tokens of each example of the global batch.
    """

    before: Position
    after: Position
    loss: float
    loss_by_task: dict[int, float]
    tokens: int
    target_tokens: int
    learning_rate: float
    gradient_norm: float
    seconds: float
    lengths: list[tuple[int, int]]

    @property
    def speed(self) -> float:
        """Real tokens a second."""
        return self.tokens / self.seconds


def train(
    model: Any,
    order: Order,
    optimizer: MasterOptimizer,
    schedule: Schedule,
    *,
    rows_per_step: int,
    rows_at_once: int,
    seed: int = 0,
    start: Position = START,
    ranks: Ranks = ALONE,
    summed_loss: SummedLoss = weighted_sum,
    share_prefixes: bool = False,
) -> Iterator[StepResult]:
    """Trains over the order from a position to its end.

    The global batch of a step is the next `rows_per_step` rows of the order: a function of the position, so there is
    nothing else to resume. It is cut into micro-batches, which the ranks share out; the loss is divided once, by the
    weight of the whole global batch, and gradients are summed. So neither the number of ranks nor that of
    micro-batches changes anything but the rounding of sums.

    Args:
        model: With attention by segment; its trainable parameters are those of the optimizer.
        order: Packed rows.
        optimizer: Updates the model after each step.
        schedule: Learning rate by share of the run's draws.
        rows_per_step: Packed rows of a global batch; the last one may have fewer.
        rows_at_once: Packed rows of a micro-batch.
        seed: Of dropout, with the number of a micro-batch's first row: the same on any rank, and after a resume.
        start: Where to begin.
        ranks: Who shares the work.
        summed_loss: The loss, or what `compile_step` made of it.
        share_prefixes: Whether prefixes that prompts of a micro-batch have in common are computed once.
    Raises:
        FlantuneError: The loss or the gradient is not finite; names the step and its draws.
        RankLost: Another rank ended.
    """
    device, target_start = next(model.parameters()).device, start_token(model)
    together = in_shards(optimizer.masters[0])
    model.train()
    before = start
    while rows := order.rows(before.row, rows_per_step):
        began = time.perf_counter()
        after = before.after(rows)
        batch_weight = sum(s.loss_weight * len(s.target_ids) for row in rows for s in row)
        log = LossLog()
        for first in ranks.turns(range(0, len(rows), rows_at_once), together=together):
            if first is None:
                _take_part(model, rows[0][0], target_start, summed_loss)
                continue
            segments = [segment for row in rows[first : first + rows_at_once] for segment in row]
            examples = [(s.input_ids, s.target_ids, s.loss_weight) for s in segments]
            stream = stream_of(examples, target_start, share_prefixes=share_prefixes).to(device)
            torch.manual_seed(key_of(seed, "dropout", before.row + first))
            with lost_ranks(computing=True):
                summed, losses = summed_loss(target_logits(model, stream), stream.targets, stream.weights)
                share = summed / batch_weight
                share.backward()
            optimizer.collect()
            log.add(float(share.detach()), [s.task for s in segments], stream, losses)
        total = LossLog.joined(ranks.gathered(log))
        if not math.isfinite(total.loss):
            raise ranks.told(
                f"the loss is not finite at step {before.step} (draws {draws_named(rows)}); "
                "lower training.learning_rate"
            )
        ranks.sum_gradients(optimizer.masters)
        learning_rate = schedule(order.progress(before.row, after.row))
        try:
            norm = optimizer.step(learning_rate)
        except FlantuneError as error:
            raise ranks.told(f"step {before.step} (draws {draws_named(rows)}): {error.message}") from None
        yield StepResult(
            before,
            after,
            total.loss,
            total.means(),
            sum(s.length for row in rows for s in row),
            sum(len(s.target_ids) for row in rows for s in row),
            learning_rate,
            norm,
            time.perf_counter() - began,
            [(len(s.input_ids), len(s.target_ids)) for row in rows for s in row],
        )
        before = after


def _take_part(model: Any, segment: Segment, target_start: int | None, summed_loss: SummedLoss) -> None:
    """Gathers weights for the micro-batches of other ranks by one of weight 0, whose gradient is 0."""
    stream = stream_of([(segment.input_ids, segment.target_ids, 0.0)], target_start)
    stream = stream.to(next(model.parameters()).device)
    with lost_ranks(computing=True):
        summed_loss(target_logits(model, stream), stream.targets, stream.weights)[0].backward()


class LossLog:
    """The loss of a step, and of each task in it, over the micro-batches of one rank or of all.

    Attributes:
        loss: Sum of the micro-batches' shares of the step's loss.
    """

    def __init__(self) -> None:
        self.loss = 0.0
        self._sums: dict[int, float] = {}
        self._counts: dict[int, int] = {}

    def add(self, share: float, tasks: Sequence[int], stream: Stream, losses: torch.Tensor) -> None:
        """Adds a micro-batch: its share, and the token losses (N,) of a stream whose segments belong to these tasks."""
        self.loss += share
        by_segment = torch.zeros(len(tasks)).index_add_(0, stream.owners.cpu(), losses.float().cpu()).tolist()
        tokens = torch.bincount(stream.owners.cpu(), minlength=len(tasks)).tolist()
        for task, loss, count in zip(tasks, by_segment, tokens, strict=True):
            self._sums[task] = self._sums.get(task, 0.0) + loss
            self._counts[task] = self._counts.get(task, 0) + count

    @classmethod
    def joined(cls, logs: Sequence[LossLog]) -> LossLog:
        """The log of all ranks from the log of each."""
        joined = cls()
        for log in logs:
            joined.loss += log.loss
            for task, loss in log._sums.items():
                joined._sums[task] = joined._sums.get(task, 0.0) + loss
                joined._counts[task] = joined._counts.get(task, 0) + log._counts[task]
        return joined

    def means(self) -> dict[int, float]:
        """Task number to mean loss of a target token, in nats."""
        return {task: self._sums[task] / self._counts[task] for task in sorted(self._sums)}


def draws_named(rows: Sequence[PackedRow]) -> str:
    """The draws of a step, for a message."""
    numbers = sorted(segment.draw for row in rows for segment in row)
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
