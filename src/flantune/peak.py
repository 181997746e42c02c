"""The peak matrix speed of this machine, measured: what a share of it is a share of."""

from __future__ import annotations

import time
from typing import Any

import torch

SECONDS = 0.4


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Floating point operations a second of the fastest of a few products of square matrices.

    They have 2,048 rows on a CPU and 8,192 on an accelerator, in the type that the model computes in, with the threads
    that training has. It takes about half a second.
    """
    size = 2048 if device.type == "cpu" else 8192
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < SECONDS or best == float("inf"):
        before = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - before)
    return 2 * size**3 / best


def computing_type(model: Any) -> torch.dtype:
    """The type that a model's products are in; its weights are float32 where they lie in parts on several ranks."""
    return model.config.dtype
