"""Which weights decay, and which are matrices inside the model: told from modules and shapes, not from names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Factors that start at 1 or at a norm, with the shape of a matrix; decay would pull them to 0. PEFT's file format
# fixes these names.
FACTORS = ("ia3_l", "lora_magnitude_vector")


def decaying(model: torch.nn.Module) -> set[str]:
    """Names of the trainable weights that weight decay is for.

    Matrices are; norms and biases (vectors), embeddings and what is tied to them, and factors of adapters are not.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    return {
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad
        and _is_matrix(weight)
        and id(weight) not in embeddings
        and not any(part in FACTORS for part in name.split("."))
    }


def _is_matrix(weight: Tensor) -> bool:
    """A vector is one also with axes of length 1 beside it."""
    return sum(length > 1 for length in weight.shape) >= 2


def hidden_matrices(model: Any) -> set[str]:
    """Names of the trainable matrices between the embeddings and the head, which Muon is for."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    last = getattr(head, "weight", None)
    matrices = decaying(model)
    return {n for n, weight in model.named_parameters() if n in matrices and weight.ndim == 2 and weight is not last}
