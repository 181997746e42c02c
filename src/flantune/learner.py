"""What learns in a run: the model that a recipe names, with its adapter, optimizer, learning rate and loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.progress import Listener
from flantune.recipe import Recipe
from flantune.recipe.schema import PROMPT_METHODS

if TYPE_CHECKING:
    from flantune.models.load import LoadedModel
    from flantune.training.distributed import Ranks
    from flantune.training.loss import SummedLoss
    from flantune.training.optimizer import MasterOptimizer
    from flantune.training.schedule import Schedule


@dataclass(frozen=True)
class Learner:
    """A model ready to be trained.

    Attributes:
        loaded: As it was loaded, with its prompt format.
        model: The same, or an adapter around it.
        optimizer: Of the model's trainable weights.
        schedule: Learning rate by share of the run's draws.
        summed_loss: Of a micro-batch; compiled, where the recipe says so.
        share_prefixes: Whether prefixes that prompts have in common are computed once.
    """

    loaded: LoadedModel
    model: Any
    optimizer: MasterOptimizer
    schedule: Schedule
    summed_loss: SummedLoss
    share_prefixes: bool


def learner_of(recipe: Recipe, capacity: int, listener: Listener, ranks: Ranks | None = None) -> Learner:
    """Loads, checks and compiles what the recipe trains; the same weights on every rank.

    Args:
        recipe: Its model, adapter and training.
        capacity: Tokens of a packed row.
        listener: Told of a first download, and of compiling.
        ranks: Among which weights are shared out, where the recipe says so.
    Raises:
        FlantuneError: A model that cannot be loaded, or that cannot be shared out as the recipe wants it.
        RankLost: Another rank ended.
    """
    import torch

    from flantune.models.adapters import add_adapter
    from flantune.models.load import load_model
    from flantune.models.self_check import shares_prefixes
    from flantune.models.unpacked import layout_of
    from flantune.training.activation_checkpointing import checkpoint_activations
    from flantune.training.compilation import compile_step
    from flantune.training.loss import regularized_sum
    from flantune.training.optimizer import MasterOptimizer
    from flantune.training.schedule import Schedule
    from flantune.training.sharding import shard

    choice, training, adapter = recipe.model, recipe.training, recipe.adapter
    sharing = ranks if ranks is not None and ranks.count > 1 and training.sharding != "none" else None
    torch.manual_seed(recipe.seed)
    loaded = load_model(
        choice.name,
        precision=training.precision,
        revision=choice.revision,
        system=choice.system,
        packed=adapter.method not in PROMPT_METHODS,
        on_cpu=sharing is not None,
        in_four_bits=adapter.method == "qlora",
        report=listener.say,
    )
    if sharing is not None and layout_of(loaded.model) != "packed":
        raise sharing.told(
            f"model {choice.name} computes rows apart, so ranks cannot gather its weights together; "
            "set training.sharding: none"
        )
    if hasattr(loaded.model, "peft_config"):
        raise FlantuneError("is an adapter; train from a whole model (merge the adapter first)", choice.name)
    model = loaded.model if adapter.method == "none" else add_adapter(loaded.model, adapter, base_name=choice.name)
    if training.activation_checkpointing:
        checkpoint_activations(model, choice.name)
    share_prefixes = training.share_prefixes and shares_prefixes(model)
    if sharing is not None:
        shard(model, choice.name, sharing, hybrid=training.sharding == "hybrid", seed=recipe.seed)
    optimizer = MasterOptimizer(
        model,
        algorithm=training.optimizer,
        weight_decay=training.weight_decay,
        betas=training.betas,
        max_gradient_norm=training.max_gradient_norm,
        pull=training.pull,
        average=training.average,
        master_weights=training.master_weights,
        seed=recipe.seed,
    )
    schedule = Schedule(training.schedule, training.learning_rate, training.warmup, training.cooldown)
    loss = regularized_sum(training.loss.label_smoothing, training.loss.z_loss, len(loaded.format.tokenizer))
    if training.compile:
        listener.say("compiling the model, once: up to a minute on two cores")
        loss = compile_step(model, capacity, listener.say, loss)
    return Learner(loaded, model, optimizer, schedule, loss, share_prefixes)
