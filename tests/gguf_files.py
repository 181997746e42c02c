"""Small models as GGUF files, written with the `gguf` package as llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np


def write_llama(
    folder: Path, file: Path, *, quantized: gguf.GGMLQuantizationType | None = None, pre: str = "gpt-2"
) -> Path:
    """Writes a Llama's folder as a GGUF file.

    Args:
        folder: As `save_tiny_model` makes it.
        file: Where to.
        quantized: Type of the matrices; float32 by default.
        pre: The name of the rule by which the tokenizer cuts text.
    """
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config: Any = model.config
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_byte_level(writer, tokenizer, pre)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.float().numpy()
        if "q_proj" in name:
            array = _permuted(array, config.num_attention_heads)
        if "k_proj" in name:
            array = _permuted(array, config.num_key_value_heads)
        _add(writer, names.get_name(name, try_suffixes=(".weight", ".bias")), array, quantized)
    return _written(writer, file)


def write_t5(folder: Path, file: Path) -> Path:
    """Writes the folder of a T5 as a GGUF file."""
    import transformers

    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    config: Any = model.config
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    writer = gguf.GGUFWriter(file, "t5")
    writer.add_context_length(512)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_key_length(config.d_kv)
    writer.add_value_length(config.d_kv)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_relative_attn_buckets_count(config.relative_attention_num_buckets)
    writer.add_decoder_start_token_id(config.decoder_start_token_id)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("t5")
    vocabulary = tokenizer.backend_tokenizer.model
    pieces = [(tokenizer.convert_ids_to_tokens(n), _score(vocabulary, n)) for n in range(len(tokenizer))]
    writer.add_token_list([piece for piece, _ in pieces])
    writer.add_token_scores([score for _, score in pieces])
    writer.add_token_types([3 if n in tokenizer.all_special_ids else 1 for n in range(len(tokenizer))])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, config.num_layers)
    for name, tensor in model.state_dict().items():
        head_is_embedding = name == "lm_head.weight" and config.scale_decoder_outputs
        if head_is_embedding or name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
            continue
        _add(writer, names.get_name(name, try_suffixes=(".weight", ".bias")), tensor.float().numpy(), None)
    return _written(writer, file)


def _score(vocabulary: Any, number: int) -> float:
    import json

    return float(json.loads(vocabulary.__getstate__())["vocab"][number][1])


def _add_byte_level(writer: gguf.GGUFWriter, tokenizer: Any, pre: str) -> None:
    import json

    made = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    writer.add_token_types([3 if n in tokenizer.all_special_ids else 1 for n in range(len(tokenizer))])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in made["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in llama.cpp's order, which rotates neighbours where transformers rotates halves."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _add(writer: gguf.GGUFWriter, name: str | None, array: np.ndarray, quantized: Any) -> None:
    assert name is not None
    _, _, suffix = name.rpartition(".")
    name = name if suffix in ("weight", "bias") else f"{name}.weight"
    if quantized is not None and array.ndim == 2:
        writer.add_tensor(name, gguf.quantize(array, quantized), raw_dtype=quantized)
    else:
        writer.add_tensor(name, np.ascontiguousarray(array))


def _written(writer: gguf.GGUFWriter, file: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
