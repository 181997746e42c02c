"""Less memory for more arithmetic: a layer's activations are computed again when its gradient is."""

from __future__ import annotations

from typing import Any

from flantune.errors import FlantuneError


def checkpoint_activations(model: Any, name: str) -> None:
    """Has the model keep each layer's input only, in training; through the model's own code (Chen et al. 2016).

    The variant is the one that does not need inputs with a gradient: with it, adapters on a frozen model get theirs.

    Raises:
        FlantuneError: The model has no code for it.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise FlantuneError(
            f"model {name} cannot compute activations again; remove it", "training.activation_checkpointing"
        )
    newer = getattr(model, "activation_checkpointing_enable", None)  # than transformers 5.22
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
