"""A model folder small enough for any test: random weights, a real tokenizer, everything on disk as on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END, PAD, TURN = "<|begin|>", "<|end|>", "<|pad|>", "<|turn|>"
VOCABULARY = 300
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.content %}"
    f"{TURN}{{{{ message.role }}}}\n{{{{ message.content }}}}{END}\n"
    "{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{TURN}assistant\n{{% endif %}}"
)
TEXT = (
    "How many stars did this reviewer give, from 1 to 5? Answer with the number only.",
    "Summarize this conversation in one to three sentences.",
    "Translate this Python function to JavaScript: def add(a, b): return a + b",
    "List every person, organization, location, product and date named above.",
    "The quick brown fox jumps over the lazy dog, and then the other one does the same thing again.",
)


def save_tiny_model(folder: Path, *, chat: bool = True) -> Path:
    """Saves a Llama of two layers and 300 tokens; the same bytes each time.

    Args:
        folder: Where to; made where it is missing.
        chat: With a chat template, and no begin token of its own, as instructed models have it. Without: no chat
            template, and a begin token before each text, as base models have it.
    Returns:
        The folder: config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json.
    """
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(chat=chat)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    _save_random(transformers.LlamaForCausalLM, config, folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer(*, chat: bool = True):
    """A byte-level BPE tokenizer of 300 tokens: any text becomes ids and comes back as it was."""
    import tokenizers
    import transformers
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BEGIN, END, TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    if not chat:
        begin = made.token_to_id(BEGIN)
        made.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, begin)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BEGIN, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [TURN]})
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_tiny_t5(folder: Path, **settings: Any) -> Path:
    """Saves a T5 of two layers on each side, with a tokenizer like T5's own: no line breaks, no braces.

    Args:
        folder: Where to; made where it is missing.
        settings: Of the configuration, other than here.
    Returns:
        The folder.
    """
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_t5_tokenizer()
    shape: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    shape |= {
        "vocab_size": len(tokenizer),
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        **settings,
    }
    _save_random(transformers.T5ForConditionalGeneration, transformers.T5Config(**shape), folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_bart(folder: Path) -> Path:
    """Saves a BART of two layers on each side, with begin and end tokens around inputs and targets as BART has them."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(chat=False)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = _around(BEGIN, begin, END, end)
    shape: dict[str, Any] = {
        "d_model": 32,
        "max_position_embeddings": 256,
        "vocab_size": VOCABULARY,
        "decoder_start_token_id": end,
    }
    for stack in ("encoder", "decoder"):
        shape |= {f"{stack}_layers": 2, f"{stack}_attention_heads": 4, f"{stack}_ffn_dim": 64}
    ends: dict[str, Any] = {"bos_token_id": begin, "eos_token_id": end, "forced_eos_token_id": end, "pad_token_id": 0}
    _save_random(transformers.BartForConditionalGeneration, transformers.BartConfig(**shape, **ends), folder)
    tokenizer.save_pretrained(folder)
    return folder


def _around(begin: str, begin_id: int, end: str, end_id: int):
    from tokenizers import processors

    return processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=[(begin, begin_id), (end, end_id)])


def _save_random(kind: Any, config: Any, folder: Path) -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        kind(config).save_pretrained(folder)


def tiny_t5_tokenizer():
    """A sentencepiece-like unigram tokenizer of the words above, with an end token behind each text."""
    import tokenizers
    import transformers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator([*TEXT, "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789"], trainer)
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
