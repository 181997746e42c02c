"""Models from GGUF files: converted once to a folder in the cache that `transformers` loads like any other.

The weights are written out in float32, which every type of a GGUF file fits into without rounding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flantune.cache import added, hold
from flantune.errors import FlantuneError, shortened
from flantune.files import digest, whole_folder
from flantune.models.embedded import only_one_process
from flantune.models.quiet import quiet_transformers
from flantune.settings import cache_folder

GGUF = ".gguf"
CONVERTER = 1
"""Raised when the converted folder changes; files are then converted again."""

BEGINS_WITH = b"GGUF"
GPT2 = ("gpt-2", "gpt2")
DIGITS_APART = ("smollm", "smollm2")  # every digit apart, then GPT-2's rule, which transformers takes alone


def from_gguf(file: Path, *, report: Callable[[str], None] = lambda line: None) -> Path:
    """The folder that a GGUF file was converted to; converted by the first call.

    Later calls know the file by its place, size and time.

    Args:
        file: A model that transformers reads: see `docs/models.md`.
        report: Is given a line before the conversion, and one about a tokenizer that may cut otherwise.
    Raises:
        FlantuneError: No GGUF file, a damaged one, or a model that transformers does not read.
    """
    stat = file.stat()
    key = digest(str(file.resolve()), stat.st_size, stat.st_mtime_ns, CONVERTER)
    target = cache_folder() / "converted" / f"{file.stem[:60]}-{key[:12]}"
    hold(target)
    if target.exists():
        return target
    with only_one_process(target, report):
        if not target.exists():
            report(f"converting {file.name} to safetensors (once)")
            with whole_folder(target) as aside:
                convert_gguf(file, aside, report=report)
        added(target)
    return target


def convert_gguf(file: Path, folder: Path, *, report: Callable[[str], None] = lambda line: None) -> None:
    """Fills a folder with a GGUF file's model: configuration, float32 safetensors, tokenizer, chat template.

    Raises:
        FlantuneError: As `from_gguf`.
    """
    with file.open("rb") as stream:
        if stream.read(4) != BEGINS_WITH:
            raise FlantuneError("not a GGUF file", file)
    try:
        with quiet_transformers():
            model, tokenizer, rule = _read(file)
    except FlantuneError:
        raise
    except Exception as error:  # readers of a damaged file fail as they like
        raise FlantuneError(_unreadable(error), file) from error
    if _may_cut_otherwise(tokenizer, rule):
        report(
            f"{file.name}: its tokenizer's rule for words and numbers is not one that transformers knows; GPT-2's is "
            "used, which may cut some text otherwise than in its training"
        )
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _read(file: Path) -> tuple[Any, Any, str]:
    """Model, tokenizer, and the rule that the file names for cutting text."""
    import torch
    import transformers

    given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    meant, tensors = _metadata(file)
    config = transformers.AutoConfig.from_pretrained(file.parent, **given)
    if config.model_type in ("t5", "umt5"):
        config = _as_t5(config, meant, tensors)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    read, found = kind.from_pretrained(
        file.parent, config=config, dtype=torch.float32, output_loading_info=True, **given
    )
    if found["missing_keys"]:
        raise FlantuneError(f"the file lacks the weights {min(found['missing_keys'])}; fetch it again", file)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(file.parent, **given)
    rule = meant.get("tokenizer.ggml.pre", GPT2[0])
    if rule in DIGITS_APART:
        _cut_digits_apart(tokenizer)
    settings = read.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "dtype"):
        settings.pop(name, None)
    # One that was read from a GGUF file refuses to be saved: its weights go into a plain one.
    with torch.device("meta"):
        model = type(read)(type(read.config)(**settings))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.config.architectures = [type(read).__name__]
    ends = [meant.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=meant.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=list(dict.fromkeys(end for end in ends if end is not None)) or None,
        pad_token_id=meant.get("tokenizer.ggml.padding_token_id"),
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
    )
    return model, tokenizer, rule


def _as_t5(config: Any, meant: dict[str, Any], tensors: set[str]) -> Any:
    """A T5's configuration: transformers takes each for a gated one with the activation of one that is not."""
    settings = config.to_dict()
    for name in ("quantization_config", "is_gated_act", "dense_act_fn", "num_decoder_layers", "scale_decoder_outputs"):
        settings.pop(name, None)
    gated, tied = "enc.blk.0.ffn_gate.weight" in tensors, "output.weight" not in tensors
    settings |= {"feed_forward_proj": "gated-gelu" if gated else "relu", "tie_word_embeddings": tied}
    if (layers := meant.get("t5.decoder_block_count")) is not None:
        settings["num_decoder_layers"] = layers
    return type(config)(**settings)


def _metadata(file: Path) -> tuple[dict[str, Any], set[str]]:
    """What a file says in single values, and the names of its tensors."""
    import gguf

    reader = gguf.GGUFReader(file)
    said = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    return said, {tensor.name for tensor in reader.tensors}


def _cut_digits_apart(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _may_cut_otherwise(tokenizer: Any, rule: str) -> bool:
    """Whether the file names another rule than GPT-2's, and the tokenizer has GPT-2's all the same."""
    from tokenizers import pre_tokenizers

    return rule not in GPT2 and isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)


def _unreadable(error: Exception) -> str:
    first = next((line for line in str(error).strip().splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, struct.error | IndexError | MemoryError | OverflowError):
        first = "the file is damaged"
    return f"cannot read this GGUF file: {shortened(first, 200)}; fetch it again, or take the model's safetensors"
