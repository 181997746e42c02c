"""Compiling what a step computes, before the first step, so that no step waits and a resumed run has the same kernels.

A compiler chooses kernels by the shapes it sees first. A run that is resumed sees other rows first than the run that
began; so the choice is made on one made-up micro-batch that depends on the recipe alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flantune.models.packed_attention import compile_softmax
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.models.unpacked import layout_of
from flantune.training.loss import SummedLoss, weighted_sum


def compile_step(
    model: Any, capacity: int, report: Callable[[str], None], loss: SummedLoss = weighted_sum
) -> SummedLoss:
    """Compiles each layer, the softmax and the loss for streams of any length, and computes one step without effect.

    Args:
        model: Its layers' `forward` is replaced; one without attention by segment stays as it is.
        capacity: Tokens of the made-up micro-batch.
        report: Told when there is no working compiler; the run then goes on uncompiled.
        loss: Of a micro-batch.
    Returns:
        The loss function to train with.
    """
    if layout_of(model) != "packed":  # each new length of rows would be compiled for
        return loss
    layers = layers_of(model)
    plain = [layer.forward for layer in layers]
    compile_softmax(True)
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    summed: SummedLoss = torch.compile(loss, dynamic=True)
    try:
        _rehearse(model, summed, capacity)
    except Exception as error:  # the compiler's own kinds differ between releases; without it all goes on, slower
        if "torch._" not in f"{type(error).__module__}.":
            raise
        compile_softmax(False)
        for layer, forward in zip(layers, plain, strict=True):
            layer.forward = forward
        torch._dynamo.reset()
        report(f"training uncompiled, which is slower: no working compiler ({_first_line(error)})")
        return loss
    return summed


def layers_of(model: Any) -> list[Any]:
    """The layers of a decoder, or those of the encoder and then of the decoder."""
    if not model.config.is_encoder_decoder:
        return list(max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len, default=[]))
    stacks = (model.get_encoder(), model.get_decoder())
    return [
        layer for stack in stacks for layer in next(m for m in stack.modules() if isinstance(m, torch.nn.ModuleList))
    ]


def _rehearse(model: Any, summed: SummedLoss, capacity: int) -> None:
    """Forward and backward of two made-up streams; random state and gradients are as before."""
    device = next(model.parameters()).device
    size = int(model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    training = model.training
    model.train()
    with torch.random.fork_rng(devices=[]):
        for lengths in ((capacity // 2, capacity // 3), (capacity // 3, capacity // 4, capacity // 5)):
            begin = [0] * min(24, capacity // 8)  # that they have in common: what goes on from it has another shape
            rows = [begin + torch.randint(0, size, (max(8, n),), generator=generator).tolist() for n in lengths]
            examples = [(row[:-3], row[-3:], 1.0) for row in rows]
            stream = stream_of(examples, start_token(model), share_prefixes=True).to(device)
            summed(target_logits(model, stream), stream.targets, stream.weights)[0].backward()
    for parameter in model.parameters():
        parameter.grad = None
    model.train(training)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:120]
