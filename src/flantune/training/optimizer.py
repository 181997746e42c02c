"""What a step does to the weights: clipping, the pull to the base, the optimizer's update, rounding, averaging."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flantune.errors import FlantuneError
from flantune.mixture.permutation import key_of
from flantune.training.algorithms import ALGORITHMS
from flantune.training.optimizer_state import put_back, saved
from flantune.training.rounding import round_stochastically
from flantune.training.sharding import whole
from flantune.training.weight_kinds import decaying, hidden_matrices

AT_ONCE = 1 << 20  # numbers of a part: 4 MB of each of weights, gradients and two moments


class MasterOptimizer:
    """An optimizer whose arithmetic is float32, whatever type the model computes in.

    A bfloat16 weight of 1.0 does not move under updates of 1e-4: 8 bits of mantissa round them away. So each trained
    weight has a float32 master; the model's own copy is rounded from it after each step. Without masters, a weight
    becomes float32 for the time of its own update only, and is rounded up or down by chance.

    Args:
        model: Its trainable parameters are optimized.
        weight_decay: On matrices only; not on norms, biases and embeddings.
        betas: Of AdamW and its kin.
        max_gradient_norm: Global norm to which gradients are clipped.
        algorithm: A name in `ALGORITHMS`.
        pull: Share of the way to its value at the start, times the learning rate, that a weight goes back in a step.
        average: What a running average of the weights keeps of itself in a step; None for no average.
        master_weights: Whether bfloat16 weights have float32 masters.
        seed: Of stochastic rounding.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        weight_decay: float,
        betas: tuple[float, float],
        max_gradient_norm: float,
        algorithm: str = "adamw",
        pull: float = 0.0,
        average: float | None = None,
        master_weights: bool = True,
        seed: int = 0,
    ) -> None:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names = list(named)
        self.parameters: list[Tensor] = list(named.values())
        self.max_gradient_norm, self.pull, self.average, self.seed = max_gradient_norm, pull, average, seed
        self.transient = not master_weights
        self.masters = [self._master(p) for p in self.parameters]
        self.bases = [p.detach().clone() for p in self.parameters] if pull else []
        self.averages = [p.detach().float().clone() for p in self.parameters] if average is not None else []
        self.steps = 0
        groups = _groups(dict(zip(self.names, self.masters, strict=True)), model, weight_decay)
        make = ALGORITHMS[algorithm]
        # Where masters come and go one by one, each has an optimizer of its own. AdamW goes through them in parts.
        at_once = 0 if self.transient else AT_ONCE if algorithm == "adamw" else None
        self.optimizers: list[torch.optim.Optimizer] = []
        self.parts: list[_Part] = []
        numbers = {id(master): number for number, master in enumerate(self.masters)}
        for part in _parts(groups, at_once):
            made = make(part, betas)
            self.optimizers += made
            self.parts.append(_Part([numbers[id(m)] for group in part for m in group["params"]], made))
        self._only: list[Tensor | None] = []  # gradients of the only micro-batch so far, in the model's own type

    def _master(self, parameter: Tensor) -> Tensor:
        if self.transient:
            return _placeholder(parameter)
        return parameter if parameter.dtype == torch.float32 else parameter.detach().float().clone()

    def collect(self) -> None:
        """Takes the model's gradients over; those of several micro-batches are summed in float32: none is rounded away.

        As long as there is one micro-batch, its gradients stay as they are, and take half the memory.
        """
        apart = [master is not parameter for parameter, master in zip(self.parameters, self.masters, strict=True)]
        taken = [p.grad if own else None for p, own in zip(self.parameters, apart, strict=True)]
        for parameter, own in zip(self.parameters, apart, strict=True):
            if own:
                parameter.grad = None
        if not self._only and all(master.grad is None for master, own in zip(self.masters, apart, strict=True) if own):
            self._only = taken
        else:
            self._add(self._only)
            self._add(taken)
            self._only = []

    def _add(self, gradients: list[Tensor | None]) -> None:
        """Adds to the masters' gradients, and lets go of each gradient that was added."""
        for number, gradient in enumerate(gradients):
            master = self.masters[number]
            if gradient is not None:
                master.grad = gradient.float() if master.grad is None else master.grad.add_(gradient)
            gradients[number] = None

    def summed(self) -> list[Tensor]:
        """The masters, whose gradients are in float32 what was collected."""
        self._add(self._only)
        self._only = []
        return self.masters

    def step(self, learning_rate: float) -> float:
        """Clips what was collected, updates the masters, rounds them into the model, clears the gradients.

        The weights are gone through once, part by part, so that a part's gradient in float32, its weights and its
        moments are in the processor's cache together.

        Returns:
            The global gradient norm before clipping.
        Raises:
            FlantuneError: The norm is not finite; nothing was changed.
        """
        norm = self._norm()
        if not torch.isfinite(norm):
            raise FlantuneError("the gradient is not finite; lower training.learning_rate")
        self.steps += 1
        _set_learning_rate(self.optimizers, learning_rate)
        kept = float(torch.clamp(self.max_gradient_norm / (norm + 1e-6), max=1.0))  # as torch's clip_grad_norm_ has it
        for part in self.parts:
            self._update(part, kept, learning_rate)
        self._only = []
        return float(norm)

    def _norm(self) -> Tensor:
        """Global norm of what was collected, in float32; the same on all ranks."""
        collected = [master.grad for master in self.masters if master.grad is not None]
        norms = [whole(torch.nn.utils.get_total_norm(collected, foreach=True))] if collected else []
        norms += [torch.linalg.vector_norm(g, dtype=torch.float32) for g in self._only if g is not None]
        return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())

    @torch.no_grad()
    def _update(self, part: _Part, kept: float, learning_rate: float) -> None:
        """One part: its gradients times the share that clipping keeps, the pull, the update, rounding, the average."""
        for number in part.numbers:
            master = self.masters[number]
            if self._only and (gradient := self._only[number]) is not None:
                master.grad = gradient.float()
                self._only[number] = None
            if master.grad is not None and kept < 1:
                master.grad.mul_(kept)
            if self.transient and self._moves(number):
                master.data = self.parameters[number].detach().float()
            if self.pull:
                self._pull_to_base(number, learning_rate)
        for optimizer in part.optimizers:
            optimizer.step()
        for number in part.numbers:
            if self._moves(number):
                self._round(number)
            self.masters[number].grad = None
            if self.average is not None:
                self._add_to_average(number, self.average)

    def _moves(self, number: int) -> bool:
        return self.masters[number].grad is not None or bool(self.pull)

    def _round(self, number: int) -> None:
        """Rounds a master into the model, by chance if it is let go of."""
        parameter, master = self.parameters[number], self.masters[number]
        if self.transient and parameter.dtype == torch.bfloat16:
            key = key_of(self.seed, "rounding", self.names[number], self.steps)
            parameter.copy_(round_stochastically(master.detach(), key))
        elif master is not parameter:
            parameter.copy_(master)
        if self.transient:
            master.data = _placeholder(parameter)

    def _pull_to_base(self, number: int, learning_rate: float) -> None:
        """L2 towards the start (Li et al. 2018, arXiv:1802.01483), decoupled from the gradient as decay is in AdamW."""
        self.masters[number].lerp_(self.bases[number].float(), learning_rate * self.pull)

    @torch.no_grad()
    def _round_into_model(self) -> None:
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    def _weights(self) -> list[Tensor]:
        """The weights that training goes on with, at the best precision there is."""
        return self.parameters if self.transient else self.masters

    def _add_to_average(self, number: int, memory: float) -> None:
        """The plain mean of all steps until that is as long as the average's memory, so the base has no part in it."""
        kept = min(memory, 1 - 1 / self.steps)
        self.averages[number].lerp_(self._weights()[number].detach().float(), 1 - kept)

    @contextlib.contextmanager
    def final_weights(self) -> Iterator[None]:
        """Inside, the model has the weights that a user gets: averaged ones, where an average is kept.

        After it, model and masters are bitwise what they were, so training goes on as if nothing had been.
        """
        switching: list[Any] = [optimizer for optimizer in self.optimizers if hasattr(optimizer, "eval")]
        if not switching and not self.averages:
            yield
            return
        kept = [weight.detach().clone() for weight in self._weights()]
        for optimizer in switching:
            optimizer.eval()
        try:
            self._copy_into_model(self.averages or self.masters)
            yield
        finally:
            for optimizer in switching:
                optimizer.train()
            with torch.no_grad():
                for weight, before in zip(self._weights(), kept, strict=True):
                    weight.copy_(before)
            if not self.transient:
                self._round_into_model()

    @torch.no_grad()
    def _copy_into_model(self, weights: Sequence[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name: weights, what the optimizer remembers, the average."""
        kept = {name: weight.detach() for name, weight in self._kept()}
        return {**kept, **saved(self.optimizers, self._names()), "count.steps": torch.tensor(self.steps)}

    def _kept(self) -> list[tuple[str, Tensor]]:
        averages = zip(self.names, self.averages, strict=True) if self.averages else ()
        weights = zip(self.names, self._weights(), strict=True)
        return [(f"master.{name}", w) for name, w in weights] + [(f"average.{name}", a) for name, a in averages]

    def _names(self) -> dict[int, str]:
        return {id(master): name for name, master in zip(self.names, self.masters, strict=True)}

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `state` returned.

        Raises:
            FlantuneError: Tensors are missing or of another shape.
        """
        rest = dict(tensors)
        for key, weight in self._kept():
            found = rest.pop(key, None)
            if found is None or found.shape != weight.shape:
                name = key.partition(".")[2]
                raise FlantuneError(f"the checkpoint does not fit the model: {name} is missing or of another shape")
            weight.copy_(found)
        self.steps = int(rest.pop("count.steps"))
        put_back(self.optimizers, self._names(), rest)
        if not self.transient:
            self._round_into_model()


@dataclass(frozen=True)
class _Part:
    """Weights that are updated together."""

    numbers: list[int]
    optimizers: list[torch.optim.Optimizer]


def _parts(groups: list[dict], at_once: int | None) -> list[list[dict]]:
    """Groups for optimizers of their own, each of so many numbers or of one weight; None for a single part."""
    if at_once is None:
        return [groups]
    parts: list[list[dict]] = []
    for group in groups:
        together: list[Tensor] = []
        for weight in group["params"]:
            if together and sum(w.numel() for w in together) + weight.numel() > at_once:
                parts.append([{**group, "params": together}])
                together = []
            together.append(weight)
        parts.append([{**group, "params": together}])
    return parts


def _groups(masters: dict[str, Tensor], model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Groups of an optimizer: matrices inside the model, other matrices, and what does not decay."""
    decays, hidden = decaying(model), hidden_matrices(model)
    groups = [
        {"params": [m for n, m in masters.items() if n in hidden], "weight_decay": weight_decay, "hidden": True},
        {"params": [m for n, m in masters.items() if n in decays - hidden], "weight_decay": weight_decay},
        {"params": [m for n, m in masters.items() if n not in decays], "weight_decay": 0.0},
    ]
    return [{"hidden": False, **group} for group in groups if group["params"]]


def _placeholder(parameter: Tensor) -> Tensor:
    """Has the shape of a float32 master, so that a gradient fits to it, and takes no memory."""
    return torch.zeros((), dtype=torch.float32, device=parameter.device).expand(parameter.shape)


def _set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], learning_rate: float) -> None:
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate
