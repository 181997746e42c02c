"""How long a run takes on this machine and how much memory, from a few steps of it."""

from __future__ import annotations

import time
from typing import Any

from flantune.memory import peak_memory
from flantune.preparation import Prepared
from flantune.progress import Listener, Silent


def estimate(prepared: Prepared, *, listener: Listener | None = None) -> dict[str, Any]:
    """Loads and compiles what the recipe trains, as training would, measures a few steps and forgets the model.

    Best in a process of its own: what else the process did counts as memory of the run.

    Args:
        prepared: Its plan tells how much there is to do.
        listener: Told of compiling.
    Returns:
        Seconds of the whole training (`seconds`: setting up, steps) and its memory, without evaluation; the
        content of `estimate` in `flantune plan --probe --json`.
    Raises:
        FlantuneError: A model that cannot be loaded, or cannot be trained packed.
    """
    import torch

    from flantune.learner import learner_of
    from flantune.training.probe import measure

    listener = listener or Silent()
    recipe, plan = prepared.recipe, prepared.plan
    training = recipe.training
    began = time.perf_counter()
    learner = learner_of(recipe, prepared.rule.capacity, listener)
    setup = time.perf_counter() - began
    listener.say("measuring a few steps")
    measured = measure(
        learner.model,
        prepared.order,
        learner.optimizer,
        learner.schedule,
        rows_per_step=training.rows_per_step,
        rows_at_once=training.rows_at_once,
        seed=recipe.seed,
        summed_loss=learner.summed_loss,
        share_prefixes=learner.share_prefixes,
    )
    device = next(learner.model.parameters()).device
    on_gpu = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory()
    if not on_gpu and 0 < training.checkpoint_every <= plan["steps"]:
        memory += measured.state_bytes  # a checkpoint is written from a copy, while training goes on
    steps_seconds = measured.seconds(plan["tokens"], plan["steps"])
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "seconds": setup + steps_seconds,
        "setup_seconds": setup,
        "steps_seconds": steps_seconds,
        "tokens_per_second": plan["tokens"] / steps_seconds,
        "update_seconds": measured.update_seconds,
        "memory_gb": memory / 2**30,
        "measured_steps": measured.steps,
        "measured_tokens": measured.tokens,
    }
