"""How much arithmetic a model's training needs: counted from the shapes of its layers and the lengths of examples.

Useful is what the result depends on and no more: an example costs the same however it is packed, padded or computed
again. So a share of a machine's peak by this count is a model FLOPs utilization (Chowdhery et al. 2022,
arXiv:2204.02311, appendix B), with logits at target tokens only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

READS_INPUT = re.compile(r"(EncDecAttention|cross_attn|encoder_attn)\.[kv](_proj)?(\.|$)")  # of a decoder's layers


@dataclass(frozen=True)
class UsefulFlops:
    """Floating point operations of one forward and backward pass; a multiplication and an addition are two.

    Counted are the products of matrices: in linear layers 2 for each weight and token that goes through it, as many
    again for the gradient by the layer's input, and as many again for that by its weight if it is trained; in
    attention 4 for each head's size, query and key of an example, twice as many backward. A key counts whether it is
    masked or not, as is usual. Not counted are what is computed again (activation checkpointing), norms, activations,
    softmax, the optimizer, and weights that are in no linear layer (embeddings; experts kept in one tensor). The
    gradient by the input of each layer counts, though with an adapter the first layer needs none.

    Attributes:
        input_token: For each token of an input, attention aside.
        target_token: For each token of a target, the head included.
        pairs: For each pair of tokens of a whole example, in the self-attention of a decoder.
        input_pairs: For each pair of input tokens, in an encoder.
        target_pairs: For each pair of target tokens, in the decoder of an encoder-decoder.
        crossed: For each pair of a target and an input token, in its cross-attention.
    """

    input_token: int
    target_token: int
    pairs: int = 0
    input_pairs: int = 0
    target_pairs: int = 0
    crossed: int = 0

    def of(self, lengths: Iterable[tuple[int, int]]) -> int:
        """Of examples with so many input and target tokens."""
        return sum(
            given * self.input_token
            + wanted * self.target_token
            + (given + wanted) ** 2 * self.pairs
            + given**2 * self.input_pairs
            + wanted**2 * self.target_pairs
            + given * wanted * self.crossed
            for given, wanted in lengths
        )


def useful_flops(model: Any) -> UsefulFlops:
    """What training the model needs, from its layers' shapes and which of its weights are trained.

    Args:
        model: A decoder or an encoder-decoder of the T5 kind, or an adapter around one.
    """
    head = model.get_output_embeddings()
    head_modules = set(head.modules())
    paired = model.config.is_encoder_decoder
    encoder = set(model.get_encoder().modules()) if paired else set()
    by_input = by_target = 0
    for name, layer in model.named_modules():
        if layer in head_modules or not _is_linear(layer):
            continue
        cost = _linear(layer)
        if not paired:
            by_input, by_target = by_input + cost, by_target + cost
        elif layer in encoder or READS_INPUT.search(name):
            by_input += cost
        else:
            by_target += cost
    by_target += sum(_linear(layer) for layer in head_modules if _is_linear(layer))
    config = model.config
    if not paired:
        return UsefulFlops(by_input, by_target, pairs=_attention(config, config.num_hidden_layers))
    reader, writer = getattr(config, "encoder", config), getattr(config, "decoder", config)
    layers = getattr(config, "num_decoder_layers", None) or writer.num_hidden_layers
    deep = _attention(writer, layers)
    read = _attention(reader, reader.num_hidden_layers)
    return UsefulFlops(by_input, by_target, input_pairs=read, target_pairs=deep, crossed=deep)


def _is_linear(layer: torch.nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, torch.nn.Linear | Conv1D)


def _linear(layer: Any) -> int:
    """For each token: forward, gradient by the input, gradient by the weight if it is trained."""
    return layer.weight.numel() * (6 if layer.weight.requires_grad else 4)


def _attention(config: Any, layers: int) -> int:
    """For each query and key: two products of a head's size forward, four backward, in all heads and layers."""
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    size = size or config.hidden_size // config.num_attention_heads
    return 12 * size * config.num_attention_heads * layers
