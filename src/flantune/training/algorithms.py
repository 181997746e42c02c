"""The optimizers by name, each from the library that maintains it. The learning rate is set before each step."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from flantune.errors import FlantuneError

Group = dict[str, Any]
Optimizers = list[torch.optim.Optimizer]
Betas = tuple[float, float]


def adamw(groups: Sequence[Group], betas: Betas) -> Optimizers:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), one kernel for all weights."""
    return [torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)]


def adafactor(groups: Sequence[Group], betas: Betas) -> Optimizers:
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235), its second moment one row and one column a matrix.

    A step is the learning rate times the weight's own size. The relative step is off: the schedule is the recipe's.
    PyTorch's own has no such switch (it takes the smaller of the learning rate and one over the root of the step).
    """
    from transformers.optimization import Adafactor

    return [Adafactor(groups, lr=0.0, scale_parameter=True, relative_step=False, warmup_init=False)]


def muon(groups: Sequence[Group], betas: Betas) -> Optimizers:
    """Muon for the matrices inside the model, AdamW for the rest, with one learning rate.

    Updates of Muon are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982).
    """
    inside = [group for group in groups if group["hidden"]]
    rest = [group for group in groups if not group["hidden"]]
    made: Optimizers = adamw(rest, betas) if rest else []
    return [*made, torch.optim.Muon(inside, lr=0.0, adjust_lr_fn="match_rms_adamw")] if inside else made


def schedule_free(groups: Sequence[Group], betas: Betas) -> Optimizers:
    """Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682): an average of the weights instead of a schedule.

    Raises:
        FlantuneError: The package `schedulefree` is not installed.
    """
    made = _module("schedulefree", "schedule_free", "schedule-free").AdamWScheduleFree(groups, lr=0.0, betas=betas)
    made.train()
    return [made]


def adamw_8bit(groups: Sequence[Group], betas: Betas) -> Optimizers:
    """AdamW with both moments in 8 bits a weight, by blocks (Dettmers et al. 2022, arXiv:2110.02861).

    Raises:
        FlantuneError: The package `torchao` is not installed.
    """
    return [_module("torchao.optim", "adamw_8bit", "quant").AdamW8bit(groups, lr=0.0, betas=betas)]


def _module(name: str, algorithm: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise FlantuneError(
            f"{algorithm} needs the package {package}; pip install 'flantune[{extra}]'", "training.optimizer"
        ) from error


ALGORITHMS: dict[str, Callable[[Sequence[Group], Betas], Optimizers]] = {
    "adamw": adamw,
    "adafactor": adafactor,
    "muon": muon,
    "schedule_free": schedule_free,
    "adamw_8bit": adamw_8bit,
}
