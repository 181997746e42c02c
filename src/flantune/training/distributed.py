"""The ranks of a run: one process, or several that torchrun started, each with a copy of the model.

Gradients are summed over ranks, never averaged: the loss of each micro-batch is divided by the weight of the whole
global batch already. What travels between ranks are these sums, the state that a run begins with, and a few numbers
a step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from flantune.errors import FlantuneError
from flantune.settings import Launch, launch

T = TypeVar("T")
AT_ONCE = 1 << 24  # numbers that are summed in one message: 64 MB
LONGEST_STEP = timedelta(minutes=30)
PATIENCE = timedelta(days=7)  # for what has no limit: a long order, a large model from a slow disk


class RankLost(Exception):
    """Another rank ended or cannot be reached; this one cannot go on. The launcher names the one that ended first."""

    exit_code = 1


@dataclass(frozen=True)
class Ranks:
    """This process among all of a run.

    Attributes:
        rank: From 0; rank 0 writes the run's files and speaks.
        count: Of all ranks.
        local_rank: On this machine; 0 writes what is shared there.
        local_count: Of the ranks on this machine.
        patient: Process group for waits that have no limit.
        beside: Process group for what goes on beside training: checkpoints.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    patient: Any = None
    beside: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """Every count-th of the parts, from this rank's on: the shares of all ranks are the parts."""
        return parts[self.rank :: self.count]

    def turns(self, parts: Sequence[T], *, together: bool) -> Sequence[T | None]:
        """This rank's share; where ranks compute together, with None for a turn in which only others have a part."""
        share = self.share(parts)
        return [*share, *[None] * (-(-len(parts) // self.count) - len(share))] if together else share

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replaces the weights' gradients by their sums over all ranks; a rank may have none.

        Weights in parts are left out: what keeps them so has summed their gradients in the backward pass.
        """
        weights = [weight for weight in weights if not in_shards(weight)]
        if self.count == 1 or not weights:
            return
        with lost_ranks():
            present = torch.tensor([w.grad is not None for w in weights], dtype=torch.int32, device=weights[0].device)
            dist.all_reduce(present, dist.ReduceOp.MAX)
            gradients = []
            for weight, somewhere in zip(weights, present.tolist(), strict=True):
                if somewhere:
                    weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                    gradients.append(weight.grad)
            for bucket in _buckets(gradients):
                flat = torch.cat([gradient.flatten() for gradient in bucket])
                dist.all_reduce(flat)
                for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                    gradient.copy_(summed.view_as(gradient))

    def gathered(self, value: T) -> list[T]:
        """The value of every rank, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with lost_ranks():
            dist.all_gather_object(values, value)
        return values

    def of_first(self, value: T) -> T:
        """The value of rank 0, on all ranks."""
        return self.gathered(value)[0]

    def tell(self, value: T) -> T:
        """The value of rank 0, on all ranks, beside training and for as long as it takes."""
        values = [value]
        with lost_ranks():
            dist.broadcast_object_list(values, src=0, group=self.beside)
        return values[0]

    def told(self, message: str) -> Exception:
        """The error for what all ranks find at once: rank 0 tells it, and the others end without a word."""
        return FlantuneError(message) if self.first else RankLost("rank 0 says why")

    def state_of_first(self, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """The tensors of rank 0, by name, on all ranks.

        Args:
            tensors: Read on rank 0 only.
            device: Of the result.
        """
        if self.count == 1:
            return dict(tensors)
        with lost_ranks():
            shapes: list[Any] = [[(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()]]
            dist.broadcast_object_list(shapes, src=0)
            received = {}
            for name, shape, dtype in shapes[0]:
                tensor = tensors[name].to(device) if self.first else torch.empty(shape, dtype=dtype, device=device)
                dist.broadcast(tensor, src=0)
                received[name] = tensor
        return received

    def wait(self) -> None:
        """Until all ranks are here, for as long as it takes."""
        if self.count > 1:
            with lost_ranks():
                dist.barrier(group=self.patient)


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """All ranks of the run, if a launcher started several; else this process alone."""
    started = launch()
    if started is None:
        yield ALONE
        return
    _take_part_of_machine(started)
    with lost_ranks():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=LONGEST_STEP)
        patient, beside = (dist.new_group(backend="gloo", timeout=PATIENCE) for _ in range(2))
    try:
        yield Ranks(started.rank, started.count, started.local_rank, started.local_count, patient, beside)
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(_cores())  # the others leave, and rank 0 goes on


def _take_part_of_machine(started: Launch) -> None:
    """One accelerator, or a fair part of the cores: torchrun would give each rank a single one."""
    if torch.cuda.is_available():
        torch.cuda.set_device(started.local_rank)
    else:
        torch.set_num_threads(max(1, _cores() // started.local_count))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def lost_ranks(*, computing: bool = False) -> Iterator[None]:
    """Turns what the backends raise when a rank is gone into `RankLost`.

    Args:
        computing: Not only messages are exchanged inside, so that other errors of the kind may come and stay.
    """
    try:
        yield
    except RuntimeError as error:  # dist.DistError is one; gloo raises it bare
        if computing and not isinstance(error, dist.DistError) and "gloo/" not in str(error):
            raise
        raise RankLost("another rank ended or does not answer; the launcher says which one ended first") from error


def in_shards(weight: Tensor) -> bool:
    """Whether a weight lies in parts on several ranks."""
    return isinstance(weight, DTensor)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > AT_ONCE:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
