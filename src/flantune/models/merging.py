"""An adapter's weights added to its base's, and whether the model still says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from flantune.errors import FlantuneError
from flantune.models.quiet import quiet_transformers
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.models.unpacked import learns_a_prompt

Precision = Literal["bf16", "fp32"]
# The largest change of a logit, as a share of the largest logit. In float32 only sums are ordered otherwise (1.6e-6
# with SmolLM2-135M); in bfloat16 each merged weight is rounded to 8 bits (5e-3).
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 3e-2}


@dataclass(frozen=True)
class Difference:
    """What two models say next to the same prompts.

    Attributes:
        prompts: How many were compared.
        changed: Of these, how many have another likeliest next token.
        largest: Largest change of a logit, as a share of the largest logit.
    """

    prompts: int
    changed: int
    largest: float


def merged(model: Any) -> Any:
    """The model that an adapter and its base are together, without the adapter; a plain model is returned as it is.

    Raises:
        FlantuneError: The merged weights are not finite, or the adapter has none to merge.
    """
    if not hasattr(model, "peft_config"):
        return model
    if learns_a_prompt(model):
        raise FlantuneError("learned tokens are no change of the base's weights; keep the adapter beside its base")
    try:
        with quiet_transformers():
            return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise FlantuneError(f"the adapter cannot be merged ({error}); keep it beside its base") from error


@torch.no_grad()
def next_logits(model: Any, prompts: Sequence[Sequence[int]]) -> Tensor:
    """(prompts, vocabulary) float32 logits of the token after each prompt, on the CPU."""
    device = next(model.parameters()).device
    streams = [stream_of([(prompt, prompt[-1:], 1.0)], start_token(model)).to(device) for prompt in prompts]
    return torch.stack([target_logits(model, stream)[0].float().cpu() for stream in streams])


def difference(before: Tensor, after: Tensor) -> Difference:
    """Compares the results of `next_logits` of two models."""
    changed = (before.argmax(-1) != after.argmax(-1)).sum()
    return Difference(len(before), int(changed), float((before - after).abs().max() / before.abs().max()))


def check_merge(found: Difference, precision: Precision) -> None:
    """Refuses a merge that changes what the model says.

    It does where an adapter is on a matrix that the model uses twice: a head that shares its weights with the
    embeddings, say. Beside the base, it acts on one of the two places; merged, on both.

    Raises:
        FlantuneError: A logit changed by more than rounding does.
    """
    if not found.largest <= TOLERANCE[precision]:
        raise FlantuneError(
            f"merging changes what the model says: of {found.prompts} prompts {found.changed} have another next token, "
            f"and a logit changes by {found.largest:.2g} of the largest; keep the adapter beside its base"
        )
