"""Tiny random models of each family that flantune is tested with, and rows to run through them."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from flantune.models.adapters import add_adapter
from flantune.models.given_positions import give_positions
from flantune.models.packed_attention import NAME, register
from flantune.models.relative_bias import give_bias_by_distance
from flantune.models.stream import start_token
from flantune.recipe.schema import PROMPT_METHODS, Adapter

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
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
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
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
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
    "gpt2": ("GPT2Config", GPT2),
}
MORE_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere2": ("Cohere2Config", COMMON | {"sliding_window": 7, "pad_token_id": 0}),
    "deepseek_v3": (
        "DeepseekV3Config",
        COMMON
        | EXPERTS
        | {"num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "n_group": 1, "topk_group": 1}
        | {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "first_k_dense_replace": 1},
    ),
    "glm4": ("Glm4Config", COMMON | {"head_dim": 8, "pad_token_id": 0}),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT2),
    "gpt_neox": ("GPTNeoXConfig", COMMON),
    "granite": ("GraniteConfig", COMMON),
    "mixtral": ("MixtralConfig", COMMON | EXPERTS),
    "olmo": ("OlmoConfig", COMMON),
    "olmo3": ("Olmo3Config", COMMON | {"sliding_window": 7, "layer_types": LAYERS}),
    "opt": (
        "OPTConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "dropout": 0.0}
        | {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64},
    ),
    "phi3": ("Phi3Config", COMMON | {"sliding_window": 7, "pad_token_id": 0}),
    "qwen3_moe": ("Qwen3MoeConfig", COMMON | EXPERTS | {"head_dim": 8}),
    "starcoder2": ("Starcoder2Config", COMMON | {"sliding_window": 7, "embedding_dropout": 0.0}),
}
# With layers of their own that mix what stands beside each other, whatever attention they are given.
UNPACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon_alibi": (
        "FalconConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
    ),
    "gptj": ("GPTJConfig", GPT2 | {"rotary_dim": 4}),
    "gpt_oss": ("GptOssConfig", COMMON | EXPERTS | {"head_dim": 8, "sliding_window": 7, "layer_types": LAYERS}),
    "lfm2": ("Lfm2Config", COMMON | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48}),
    "llama4": (
        "Llama4TextConfig",
        COMMON | EXPERTS | {"head_dim": 8, "attention_chunk_size": 8, "intermediate_size_mlp": 48},
    ),
    "mamba": (
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    ),
    "led": (
        "LEDConfig",
        BART | {"attention_window": 8, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64},
    ),
    "longt5_local": ("LongT5Config", T5 | {"local_radius": 7, "encoder_attention_type": "local"}),
    "longt5_transient_global": (
        "LongT5Config",
        T5 | {"local_radius": 7, "encoder_attention_type": "transient-global", "global_block_size": 4},
    ),
    "prophetnet": (
        "ProphetNetConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "decoder_start_token_id": 1, "max_position_embeddings": 64}
        | {f"num_{stack}_layers": 2 for stack in ("encoder", "decoder")}
        | {f"num_{stack}_attention_heads": 4 for stack in ("encoder", "decoder")}
        | {f"{stack}_ffn_dim": 48 for stack in ("encoder", "decoder")}
        | {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
    ),
    "switch": ("SwitchTransformersConfig", T5 | {"num_experts": 4, "router_jitter_noise": 0.0}),
}


def tiny(family: str, attention: str, *, dtype: torch.dtype = torch.float32) -> Any:
    """A model of the family with the same random weights whatever its attention."""
    name, settings = (FAMILIES | MORE_FAMILIES | ENCODER_DECODERS | UNPACKED)[family]
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


def padded(family: str) -> Any:
    """A tiny model with the library's attention, whose examples are computed in padded rows."""
    model = tiny(family, "eager")
    model.flantune_layout = "padded"
    return model


def adapted(family: str, method: str, **choice: Any) -> Any:
    """A tiny model with an adapter that is no longer at its start."""
    base = padded(family) if method in PROMPT_METHODS else tiny(family, register())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        model = add_adapter(base, Adapter(method=method, rank=4, **choice), base_name="tiny")
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def one_at_a_time(model: Any, rows: list[tuple[list[int], list[int], float]]) -> torch.Tensor:
    """The weighted loss by plain calls of the library: no packing, no padding, no keyword of ours."""
    total = torch.zeros(())
    for given_ids, target_ids, weight in rows:
        predicting = plain_logits(model, given_ids, target_ids)
        losses = torch.nn.functional.cross_entropy(predicting, torch.tensor(target_ids), reduction="sum")
        total = total + weight * losses
    return total


def plain_logits(model: Any, given_ids: list[int], target_ids: list[int]) -> torch.Tensor:
    """(target tokens, vocabulary) by a plain call of the library."""
    if (start := start_token(model)) is not None:
        shifted = torch.tensor([[start, *target_ids[:-1]]])
        return model(input_ids=torch.tensor([given_ids]), decoder_input_ids=shifted, use_cache=False).logits[0]
    logits = model(input_ids=torch.tensor([[*given_ids, *target_ids]]), use_cache=False).logits[0]
    return logits[-len(target_ids) - 1 : -1]  # behind learned tokens, where there are some


def same_gradients(model: Any, reference: Any) -> None:
    """Both have the same gradients, up to the order in which sums are taken.

    float32 has 24 bits, and a few hundred terms of mixed sign lose two or three of them.
    """
    largest = max(float(weight.grad.abs().max()) for weight in reference.parameters() if weight.grad is not None)
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        if theirs.grad is None or not ours.requires_grad:
            assert ours.grad is None, name
            continue
        # Biases of keys change nothing: where nothing is added but rounding, it is measured by all the rest.
        scale = max(float(theirs.grad.abs().max()), 1e-3 * largest)
        assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=2e-5 * scale), name


def examples(seed: int, count: int, longest: int = 24) -> list[tuple[list[int], list[int], float]]:
    """Random (input ids, target ids, weight of a target token)."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int) -> list[int]:
        size = int(torch.randint(low, longest, (1,), generator=generator))
        return torch.randint(1, VOCABULARY, (size,), generator=generator).tolist()

    return [(ids(1), ids(1), float(torch.rand(1, generator=generator)) + 0.1) for _ in range(count)]
