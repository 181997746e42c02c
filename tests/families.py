"""Tiny random models of each family that flantune is tested with, and rows to run through them."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from flantune.models.adapters import add_adapter
from flantune.models.given_positions import give_positions
from flantune.models.packed_attention import NAME, register
from flantune.models.relative_bias import give_bias_by_distance
from flantune.recipe.schema import Adapter

VOCABULARY = 97
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LAYERS = ["sliding_attention", "full_attention"]
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    # Distances of more than four tokens share buckets, so that a distance taken wrong shows.
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,  # fewer than the tokens of a stream
    "dropout": 0.0,
    "decoder_start_token_id": 2,
}
T5GEMMA = COMMON | {
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 7,
    "layer_types": LAYERS,
    "attn_logit_softcapping": 0.5,
}
ENCODER_DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5Config", T5),
    "t5_v1_1": ("T5Config", T5 | GATED),
    "mt5": ("MT5Config", T5 | GATED),
    "umt5": ("UMT5Config", T5 | GATED),
    "t5gemma": (
        "T5GemmaConfig",
        {"encoder": T5GEMMA, "decoder": T5GEMMA, "vocab_size": VOCABULARY, "dropout_rate": 0.0, "bos_token_id": 2},
    ),
    "bart": ("BartConfig", BART),
    "mbart": ("MBartConfig", BART | {"scale_embedding": True}),
    "pegasus": ("PegasusConfig", BART),
    "marian": ("MarianConfig", BART | {"pad_token_id": 0, "activation_function": "swish"}),
    "blenderbot": ("BlenderbotConfig", BART),
    "blenderbot_small": ("BlenderbotSmallConfig", BART),
    "plbart": ("PLBartConfig", BART),
    "m2m_100": ("M2M100Config", BART | {"pad_token_id": 0}),
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", COMMON | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", COMMON),
    "qwen3": ("Qwen3Config", COMMON | {"head_dim": 16}),
    "mistral_with_window": ("MistralConfig", COMMON | {"sliding_window": 7}),
    "smollm3": ("SmolLM3Config", COMMON | {"pad_token_id": 0}),
    "gemma": ("GemmaConfig", COMMON | {"head_dim": 8}),
    "gemma2": ("Gemma2Config", COMMON | {"head_dim": 8, "sliding_window": 7, "attn_logit_softcapping": 0.5}),
    "gemma3": ("Gemma3TextConfig", COMMON | {"head_dim": 8, "sliding_window": 7, "layer_types": LAYERS}),
    "olmo2": ("Olmo2Config", COMMON),
    "phi": ("PhiConfig", COMMON),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 256,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
    ),
}


def tiny(family: str, attention: str, *, dtype: torch.dtype = torch.float32) -> Any:
    """A model of the family with the same random weights whatever its attention."""
    name, settings = (FAMILIES | ENCODER_DECODERS)[family]
    config = getattr(transformers, name)(**settings)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = kind.from_config(config, attn_implementation=attention, dtype=dtype)
        for parameter in model.parameters():  # norms and biases start alike otherwise, and hide mistakes
            parameter.data.add_(0.1 * torch.randn(parameter.shape).to(dtype))
    if attention == NAME:
        give_bias_by_distance(model)
        give_positions(model)
    return model.eval()


def adapted(family: str, method: str, **choice: Any) -> Any:
    """A tiny model with an adapter that is no longer at its start."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        model = add_adapter(tiny(family, register()), Adapter(method=method, rank=4, **choice), base_name="tiny")
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def examples(seed: int, count: int, longest: int = 24) -> list[tuple[list[int], list[int], float]]:
    """Random (input ids, target ids, weight of a target token)."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int) -> list[int]:
        size = int(torch.randint(low, longest, (1,), generator=generator))
        return torch.randint(1, VOCABULARY, (size,), generator=generator).tolist()

    return [(ids(1), ids(1), float(torch.rand(1, generator=generator)) + 0.1) for _ in range(count)]
