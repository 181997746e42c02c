"""AdamW on float32 master weights, whatever type the model computes in; the learning rate is a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flantune.errors import FlantuneError


@dataclass(frozen=True)
class Schedule:
    """Learning rate at a step: linear warm-up from 0, then constant, linear to 0, or half a cosine to 0.

    Attributes:
        peak: Highest learning rate.
        steps: Steps of the whole run.
        warmup_steps: Steps of the rise.
    """

    kind: Literal["linear", "cosine", "constant"]
    peak: float
    steps: int
    warmup_steps: int

    def __call__(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        if self.kind == "constant":
            return self.peak
        left = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.peak * (left if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


class MasterOptimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) whose state and weights are float32.

    A bfloat16 weight of 1.0 does not move under updates of 1e-4: 8 bits of mantissa round them away. So each trained
    parameter has a float32 master; the model's own copy is rounded from it after each step.

    Args:
        model: Its trainable parameters are optimized.
        weight_decay: On matrices only; not on norms, biases and embeddings.
        betas: Of AdamW.
        max_gradient_norm: Global norm to which gradients are clipped.
    """

    def __init__(
        self, model: torch.nn.Module, *, weight_decay: float, betas: tuple[float, float], max_gradient_norm: float
    ) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.masters = [p if p.dtype == torch.float32 else p.detach().float().clone() for p in self.parameters]
        self.max_gradient_norm = max_gradient_norm
        decays = [p.ndim >= 2 and id(p) not in embeddings for p in self.parameters]
        groups = [
            {"params": [m for m, d in zip(self.masters, decays, strict=True) if d == flag], "weight_decay": decay}
            for flag, decay in ((True, weight_decay), (False, 0.0))
        ]
        self.adamw = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=betas, fused=True)

    def collect(self) -> None:
        """Adds the model's gradients to the masters' in float32 and clears them: no micro-batch is rounded away."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is parameter or parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

    def step(self, learning_rate: float) -> float:
        """Clips what was collected, updates the masters, rounds them into the model, clears the gradients.

        Returns:
            The global gradient norm before clipping.
        Raises:
            FlantuneError: The norm is not finite; nothing was changed.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.max_gradient_norm, foreach=True)
        if not torch.isfinite(norm):
            raise FlantuneError("the gradient is not finite; lower training.learning_rate")
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self._round_into_model()
        return float(norm)

    @torch.no_grad()
    def _round_into_model(self) -> None:
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name: master weights and both moments."""
        tensors = {}
        for name, master in zip(self.names, self.masters, strict=True):
            tensors[f"master.{name}"] = master.detach()
            for key, value in self.adamw.state[master].items():
                tensors[f"{key}.{name}"] = value
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `state` returned.

        Raises:
            FlantuneError: Tensors are missing or of another shape.
        """
        for name, master in zip(self.names, self.masters, strict=True):
            saved = tensors.get(f"master.{name}")
            if saved is None or saved.shape != master.shape:
                raise FlantuneError(f"the checkpoint does not fit the model: {name} is missing or of another shape")
            with torch.no_grad():
                master.copy_(saved)
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"step.{name}" in tensors:  # a weight that never got a gradient has no moments
                self.adamw.state[master] = {key: tensors[f"{key}.{name}"].to(master.device, copy=True) for key in keys}
        self._round_into_model()
