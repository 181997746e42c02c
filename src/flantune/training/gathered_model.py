"""A model of which each rank has a part, as one Hugging Face folder: gathered weight by weight on rank 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flantune.models.quiet import quiet_transformers
from flantune.models.save import write_model
from flantune.training.sharding import whole
from flantune.training.tensor_file import in_turn, write_tensors

LARGEST = "5GB"  # of a file; a larger weight has one of its own


def write_gathered(model: Any, tokenizer: Any, folder: Path | None) -> None:
    """Writes what `write_model` writes of a whole model; all ranks call it, and each weight is whole on one at a time.

    Of adapters, which are small, and of models whose weights have other shapes in files (mixtures of experts), all
    weights are gathered in the CPU's memory of rank 0 first.

    Args:
        model: In parts.
        tokenizer: Written with it.
        folder: On rank 0; None on the others.
    Raises:
        RankLost: Another rank ended.
    """
    dtype = model.config.dtype
    if hasattr(model, "peft_config") or _reshaped(model):
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        only = trained if hasattr(model, "peft_config") else None
        state = {name: _fetched(t, dtype) for name, t in model.state_dict().items() if only is None or name in only}
        if folder is not None:
            write_model(model, tokenizer, folder, state)
        return
    # A weight with several names is written once, as the library does.
    weights = dict(model.named_parameters())
    buffers = {name: tensor for name, tensor in model.named_buffers() if name in model.state_dict()}
    _write_weights(weights | buffers, folder, dtype)
    if folder is not None:
        with quiet_transformers():
            model.config.architectures = [type(model).__name__]
            model.config.use_cache = True
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            model.config.use_cache = False


def _reshaped(model: Any) -> bool:
    from transformers.core_model_loading import WeightRenaming

    return any(not isinstance(each, WeightRenaming) for each in getattr(model, "_weight_conversions", None) or ())


def _fetched(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return whole(tensor.detach().to(dtype) if tensor.is_floating_point() else tensor).cpu().contiguous()


def _write_weights(tensors: Mapping[str, Tensor], folder: Path | None, dtype: torch.dtype) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards

    sizes = {
        name: torch.empty(tensor.shape, dtype=dtype if tensor.is_floating_point() else tensor.dtype, device="meta")
        for name, tensor in tensors.items()
    }
    files = split_torch_state_dict_into_shards(
        sizes, filename_pattern="model{suffix}.safetensors", max_shard_size=LARGEST
    )
    for file, names in files.filename_to_tensors.items():
        inside = {name: tensors[name].detach() for name in names}
        inside = {name: t.to(dtype) if t.is_floating_point() else t for name, t in inside.items()}
        if folder is not None:
            write_tensors(folder / file, inside, about={"format": "pt"}, fetched=lambda t: _fetched(t, t.dtype))
        else:
            for _, tensor in in_turn(inside):
                whole(tensor)
    if folder is not None and files.is_sharded:
        index = {"metadata": files.metadata, "weight_map": files.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
