"""A base whose matrices are kept in 4 bits while an adapter beside them is trained: QLoRA."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from flantune.errors import FlantuneError


def check_four_bits(place: Any = "adapter.method") -> None:
    """Refuses where a base in 4 bits cannot be trained on, before any work is done.

    Raises:
        FlantuneError: No GPU, or no bitsandbytes.
    """
    if not torch.cuda.is_available():
        raise FlantuneError("qlora needs a GPU; choose lora, with `training.precision: bf16`", place)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise FlantuneError("qlora needs the package bitsandbytes; pip install 'flantune[quant]'", place)


def four_bits(compute: torch.dtype) -> Any:
    """How transformers loads such a base: NF4 with scales that are quantized too; the head stays as it is.

    QLoRA: Dettmers et al. 2023, arXiv:2305.14314.

    Args:
        compute: What the matrices become for a product.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
