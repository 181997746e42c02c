"""Writing a model's folder in the format that everyone loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from flantune.models.quiet import quiet_transformers


def write_model(model: Any, tokenizer: Any, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Writes weights as safetensors, configuration and tokenizer; of an adapter, its own weights and configuration.

    Args:
        model: A transformers model, or a PEFT model around one.
        tokenizer: Its own.
        folder: Where to.
        state: Weights by name, in place of the model's.
    """
    # PEFT would ask the hub whether the base's vocabulary was another; it never is.
    adapter = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    with quiet_transformers():
        model.config.use_cache = True
        model.save_pretrained(folder, state_dict=state, **adapter)
        tokenizer.save_pretrained(folder)
        model.config.use_cache = False
