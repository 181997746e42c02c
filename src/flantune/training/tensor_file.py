"""A safetensors file written piece by piece: no second copy of the tensors is held, and the hash is made on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    about: Mapping[str, str] | None = None,
    fetched: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> str:
    """Writes contiguous tensors of the CPU in the format of `safetensors`.

    Args:
        path: The file.
        tensors: By name.
        about: What the file says of itself.
        fetched: Makes a tensor such a one when its turn comes; what it makes is let go once it is written.
    Returns:
        BLAKE2b of the file's bytes, in hexadecimal, as `flantune.files.file_digest` finds it.
    """
    ordered = in_turn(tensors)
    header: dict[str, Any] = {} if about is None else {"__metadata__": dict(about)}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    hashed = hashlib.blake2b()
    with path.open("wb") as file:
        contents = (_bytes(fetched(tensor)) for _, tensor in ordered)
        for piece in chain((len(text).to_bytes(8, "little"), text), contents):
            hashed.update(piece)
            file.write(piece)
    return hashed.hexdigest()


def in_turn(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """In the order of a file: wide types first, so that each begins at a multiple of its own element size."""
    return sorted(tensors.items(), key=lambda item: -item[1].element_size())


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data
