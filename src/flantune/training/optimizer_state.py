"""What PyTorch optimizers remember, as plain tensors by the weight's name, and back.

Tensors are called `KEY.NAME`: by name, because positions shift when weights are added. A number of Python's becomes a
tensor of one element; a tensor of several parts (8-bit moments: codes, scales, map) becomes `KEY:PART.NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flantune.training.distributed import in_shards

COUNTERS = ("k", "weight_sum", "lr_max")  # what schedule-free AdamW counts for a group, not for a weight

Tensors = Mapping[str, Tensor]


def saved(optimizers: Sequence[torch.optim.Optimizer], names: Mapping[int, str]) -> dict[str, Tensor]:
    """All that the optimizers need to go on.

    Args:
        optimizers: Each weight belongs to one of them.
        names: Name of each weight that they update, by the weight's `id`.
    """
    tensors: dict[str, Tensor] = {}
    for optimizer in optimizers:
        for master, state in optimizer.state.items():
            for key, value in state.items():
                tensors |= {f"{part}.{names[id(master)]}": tensor for part, tensor in _parts(key, value).items()}
    for number, group in enumerate(_groups(optimizers)):
        counters = {key: group[key] for key in COUNTERS if key in group}
        tensors |= {f"group.{number}.{key}": torch.tensor(v, dtype=torch.float64) for key, v in counters.items()}
    return tensors


def put_back(optimizers: Sequence[torch.optim.Optimizer], names: Mapping[int, str], tensors: Tensors) -> None:
    """Puts back what `saved` returned; a weight that never got a gradient has no state."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for whole, tensor in tensors.items():
        key, _, name = whole.partition(".")
        by_name.setdefault(name, {})[key] = tensor
    for optimizer in optimizers:
        for master in (master for group in optimizer.param_groups for master in group["params"]):
            if found := _state(optimizer, master, by_name.get(names[id(master)], {})):
                optimizer.state[master] = found
    for number, group in enumerate(_groups(optimizers)):
        for key in COUNTERS:
            if key in group:
                group[key] = type(group[key])(tensors[f"group.{number}.{key}"].item())


def _groups(optimizers: Sequence[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def _parts(key: str, value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Tensor):
        return {key: torch.tensor(value)}
    if hasattr(value, "__tensor_flatten__") and not in_shards(value):
        return {f"{key}:{part}": getattr(value, part) for part in value.__tensor_flatten__()[0]}
    return {key: value.detach()}


def _state(optimizer: Any, master: Tensor, parts: Tensors) -> dict[str, Any]:
    """State of one weight from its saved parts. Whole numbers were numbers of Python's."""
    state: dict[str, Any] = {}
    for key, tensor in parts.items():
        key, _, part = key.partition(":")
        if part:
            if key not in state:
                state[key] = optimizer._new_buffer(master, signed=key == "exp_avg")
            getattr(state[key], part).copy_(tensor)
        elif tensor.dtype == torch.int64:
            state[key] = int(tensor)
        else:
            state[key] = tensor.to(master.device, copy=True)
    return state
