"""A flat stream of segments through a decoder: several examples, no padding, logits only where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flantune.errors import FlantuneError


@dataclass(frozen=True)
class Stream:
    """One micro-batch of T tokens in several segments.

    Attributes:
        input_ids: (T,).
        position_ids: (T,), from 0 in each segment.
        lengths: (segments,), on the CPU.
        predicting: (N,), the stream places whose logits predict target tokens.
        targets: (N,), the target tokens.
        weights: (N,) float32, factor of each target token's loss.
        owners: (N,), number of the segment of each target token.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: Tensor
    predicting: Tensor
    targets: Tensor
    weights: Tensor
    owners: Tensor

    def to(self, device: torch.device) -> Stream:
        """The stream on a device; the lengths stay on the CPU, where the attention loop reads them."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("input_ids", "position_ids", "predicting", "targets", "weights", "owners")
        }
        return Stream(lengths=self.lengths, **moved)


def stream_of(examples: Sequence[tuple[Sequence[int], Sequence[int], float]]) -> Stream:
    """Joins (input ids, target ids, weight of a target token) one after the other.

    The token before a target token predicts it, so the last input token predicts the first target token, and
    nothing predicts across the border of two segments.
    """
    ids, positions, lengths, predicting, targets, weights, owners = [], [], [], [], [], [], []
    for number, (input_ids, target_ids, weight) in enumerate(examples):
        start = len(ids)
        length = len(input_ids) + len(target_ids)
        first = start + len(input_ids) - 1
        ids += [*input_ids, *target_ids]
        positions += range(length)
        lengths.append(length)
        predicting += range(first, first + len(target_ids))
        targets += target_ids
        weights += [weight] * len(target_ids)
        owners += [number] * len(target_ids)
    return Stream(
        input_ids=torch.tensor(ids, dtype=torch.long),
        position_ids=torch.tensor(positions, dtype=torch.long),
        lengths=torch.tensor(lengths, dtype=torch.long),
        predicting=torch.tensor(predicting, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        weights=torch.tensor(weights, dtype=torch.float32),
        owners=torch.tensor(owners, dtype=torch.long),
    )


def target_logits(model: Any, stream: Stream) -> Tensor:
    """(N, vocabulary) logits at the predicting places only."""
    return model(
        input_ids=stream.input_ids[None],
        position_ids=stream.position_ids[None],
        use_cache=False,
        logits_to_keep=stream.predicting,
        segment_lengths=stream.lengths,
    ).logits[0]


@torch.no_grad()
def check_isolation(model: Any, name: str) -> None:
    """Refuses a model whose examples influence each other in a stream, before anything is trained.

    Two rows of different length are computed together, alone, and with the other row's tokens replaced.

    Raises:
        FlantuneError: The logits of a row depend on its neighbour.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    size = int(model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    first, second, other = (torch.randint(0, size, (n,), generator=generator).tolist() for n in (19, 30, 19))

    def logits(*rows: list[int]) -> Tensor:
        return target_logits(model, stream_of([(row[:-8], row[-8:], 1.0) for row in rows]).to(device)).float()

    together, alone, poisoned = logits(first, second)[8:], logits(second), logits(other, second)[8:]
    model.train(training)
    scale = alone.abs().max().clamp(min=1e-6)
    # Sums are grouped by the number of tokens, and those of experts by their load: rounding may differ, a leak is more.
    rounding = 1e-4 if next(model.parameters()).dtype == torch.float32 else 4e-2
    leaks = (together - poisoned).abs().max() / scale > rounding / 4
    if leaks or (together - alone).abs().max() / scale > rounding:
        raise FlantuneError(
            f"examples of one packed row see each other in model {name}, so it cannot be trained packed; "
            "choose a decoder-only model with causal attention and position ids"
        )
