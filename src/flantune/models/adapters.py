"""Low-rank adapters through the `peft` library."""

from __future__ import annotations

from typing import Any

from flantune.errors import FlantuneError, nearest
from flantune.recipe.schema import Adapter


def add_lora(model: Any, choice: Adapter, *, base_name: str) -> Any:
    """The model with a trainable LoRA adapter (Hu et al. 2021, arXiv:2106.09685) and all other weights frozen.

    Args:
        model: A transformers model.
        choice: Rank, scale, dropout and layers.
        base_name: What the adapter's folder names as its base.
    Raises:
        FlantuneError: A name among the target modules that no layer of the model has.
    """
    import peft
    import torch
    from transformers.pytorch_utils import Conv1D

    linear = {
        name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear | Conv1D)
    }
    if choice.target_modules != "all-linear":
        for name in choice.target_modules:
            if name not in linear:
                raise FlantuneError(f'adapter.target_modules: the model has no layer "{name}"; {nearest(name, linear)}')
    config = peft.LoraConfig(
        r=choice.rank,
        lora_alpha=choice.alpha,  # type: ignore[arg-type]
        lora_dropout=choice.dropout,
        target_modules=choice.target_modules if isinstance(choice.target_modules, str) else list(choice.target_modules),
        task_type="CAUSAL_LM",
    )
    wrapped = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    wrapped.peft_config["default"].base_model_name_or_path = base_name
    return wrapped
