"""Writing a model's folder in the format that everyone loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flantune.models.quiet import quiet_transformers


def write_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes weights as safetensors, configuration and tokenizer; of an adapter, its own weights and configuration."""
    # PEFT would ask the hub whether the base's vocabulary was another; it never is.
    adapter = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    with quiet_transformers():
        model.config.use_cache = True
        model.save_pretrained(folder, safe_serialization=True, **adapter)
        tokenizer.save_pretrained(folder)
        model.config.use_cache = False
