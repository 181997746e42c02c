"""What a step does to the weights: clipping, the pull to the base, the optimizer's update, rounding, averaging."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from flantune.errors import FlantuneError
from flantune.mixture.permutation import key_of
from flantune.training.algorithms import ALGORITHMS
from flantune.training.optimizer_state import put_back, saved
from flantune.training.rounding import master_of, round_stochastically
from flantune.training.sharding import whole
from flantune.training.weight_kinds import decaying, hidden_matrices


class MasterOptimizer:
    """An optimizer whose arithmetic is float32, whatever type the model computes in.

    A bfloat16 weight of 1.0 does not move under updates of 1e-4: 8 bits of mantissa round them away. So each trained
    weight has a float32 master (see `spread_masters`); the model's own copy is rounded from it after each step. Without
    masters, a weight becomes float32 for the time of its own update only, and is rounded up or down by chance.

    Args:
        model: Its trainable parameters are optimized.
        weight_decay: On matrices only; not on norms, biases and embeddings.
        betas: Of AdamW and its kin.
        max_gradient_norm: Global norm to which gradients are clipped.
        algorithm: A name in `ALGORITHMS`.
        pull: Share of the way to its value at the start, times the learning rate, that a weight goes back in a step.
        average: What a running average of the weights keeps of itself in a step; None for no average.
        master_weights: Whether bfloat16 weights have float32 masters.
        seed: Of the places where masters begin, and of stochastic rounding.
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
        self.masters = [master_of(p, name, seed) if master_weights else _placeholder(p) for name, p in named.items()]
        self.bases = [p.detach().clone() for p in self.parameters] if pull else []
        self.averages = [p.detach().float().clone() for p in self.parameters] if average is not None else []
        self.steps = 0
        groups = _groups(dict(zip(self.names, self.masters, strict=True)), model, weight_decay)
        make = ALGORITHMS[algorithm]
        # Where masters come and go one by one, each has an optimizer of its own.
        parts = [[{**g, "params": [m]}] for g in groups for m in g["params"]] if self.transient else [groups]
        self.optimizers = [optimizer for part in parts for optimizer in make(part, betas)]

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
        total = torch.nn.utils.get_total_norm([m.grad for m in self.masters if m.grad is not None], foreach=True)
        norm = whole(total)
        if not torch.isfinite(norm):
            raise FlantuneError("the gradient is not finite; lower training.learning_rate")
        if norm > self.max_gradient_norm:
            torch.nn.utils.clip_grads_with_norm_(self.masters, self.max_gradient_norm, total, foreach=True)
        self.steps += 1
        _set_learning_rate(self.optimizers, learning_rate)
        if self.transient:
            self._update_one_by_one(learning_rate)
        else:
            self._pull_to_base(range(len(self.masters)), learning_rate)
            for optimizer in self.optimizers:
                optimizer.step()
            self._round_into_model()
        for master in self.masters:
            master.grad = None
        self._add_to_average()
        return float(norm)

    @torch.no_grad()
    def _update_one_by_one(self, learning_rate: float) -> None:
        """Makes each master, updates it, rounds it by chance into the model and lets it go."""
        own = {id(optimizer.param_groups[0]["params"][0]): optimizer for optimizer in self.optimizers}
        for number, (parameter, master) in enumerate(zip(self.parameters, self.masters, strict=True)):
            if master.grad is None and not self.pull:
                continue
            master.data = parameter.detach().float()
            self._pull_to_base([number], learning_rate)
            own[id(master)].step()
            if parameter.dtype == torch.bfloat16:
                key = key_of(self.seed, "rounding", self.names[number], self.steps)
                parameter.copy_(round_stochastically(master.detach(), key))
            else:
                parameter.copy_(master)
            master.data = _placeholder(parameter)

    @torch.no_grad()
    def _pull_to_base(self, numbers: Sequence[int], learning_rate: float) -> None:
        """L2 towards the start (Li et al. 2018, arXiv:1802.01483), decoupled from the gradient as decay is in AdamW."""
        for number in numbers if self.pull else ():
            self.masters[number].lerp_(self.bases[number].float(), learning_rate * self.pull)

    @torch.no_grad()
    def _round_into_model(self) -> None:
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    def _weights(self) -> list[Tensor]:
        """The weights that training goes on with, at the best precision there is."""
        return self.parameters if self.transient else self.masters

    @torch.no_grad()
    def _add_to_average(self) -> None:
        """The plain mean of all steps until that is as long as the average's memory, so the base has no part in it."""
        if self.average is not None:
            kept = min(self.average, 1 - 1 / self.steps)
            for average, weight in zip(self.averages, self._weights(), strict=True):
                average.lerp_(weight.detach().float(), 1 - kept)

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
