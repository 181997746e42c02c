"""Loading a model and its tokenizer: the embedded one, a folder, an adapter's folder, a GGUF file, or a hub name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from flantune.errors import FlantuneError, nearest
from flantune.files import digest, file_digest
from flantune.models import packed_attention
from flantune.models.embedded import EMBEDDED, embedded_model
from flantune.models.exact_head import exact_head
from flantune.models.four_bits import four_bits
from flantune.models.from_gguf import GGUF, from_gguf
from flantune.models.given_positions import WITH_POSITIONS, give_positions
from flantune.models.prompt_format import PromptFormat
from flantune.models.quiet import quiet_transformers
from flantune.models.relative_bias import give_bias_by_distance
from flantune.models.self_check import packs_exactly, pads_exactly
from flantune.models.stream import named_start
from flantune.models.weight_files import ADAPTER_SETTINGS, check_folder, check_hub, check_named, read_json
from flantune.settings import keep_few_kernels, keep_memory, load_as_published

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# In other encoder-decoders positions do not restart, or layers mix segments.
PACKED_ENCODER_DECODERS = ("mt5", "t5", "t5gemma", "umt5", *WITH_POSITIONS)
BY_LOAD = ("nllb-moe", "switch_transformers")  # an expert takes so many tokens: it depends on what else is computed
PROMPT_TYPES = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for streams.

    Attributes:
        model: A transformers model (or a PEFT model around one), with attention by segment where that is exact.
        format: Prompt format with the tokenizer.
        name: As the user named it.
        source: What transformers loaded it from.
    """

    model: Any
    format: PromptFormat
    name: str
    source: str


def load_model(
    name: str,
    *,
    precision: Literal["bf16", "fp32"] = "bf16",
    revision: str | None = None,
    system: str = "",
    answering: bool = False,
    packed: bool = True,
    on_cpu: bool = False,
    in_four_bits: bool = False,
    report: Any = lambda line: None,
) -> LoadedModel:
    """Loads a decoder or an encoder-decoder, and finds out how its examples can be computed: see `layout_of`.

    Args:
        name: The embedded model's name, a local folder (a model or a PEFT adapter), a GGUF file, or a name on the hub.
        precision: Type of the weights in memory.
        revision: For the hub: branch, tag or commit.
        system: System text of the prompt format.
        answering: The model will generate or choose: its head computes in float32 (see `exact_head`).
        packed: Whether streams are wanted; an adapter of learned tokens has no place in them.
        on_cpu: Whether it stays in the CPU's memory where there is an accelerator.
        in_four_bits: Whether the matrices inside the model are quantized (see `four_bits`).
        report: Called with lines about a first download or conversion, and about a model that streams do not fit.
    Raises:
        FlantuneError: Unknown or damaged model, or weights outside its folder.
    """
    keep_few_kernels()
    keep_memory()
    load_as_published()
    source, adapter = _source(name, report)
    device = "cuda" if torch.cuda.is_available() and not on_cpu else "cpu"
    given: dict[str, Any] = {"revision": revision, "dtype": DTYPES[precision], "device": device}
    if in_four_bits:
        given |= {"quantization_config": four_bits(DTYPES[precision]), "device_map": {"": device}}
    told: list[str] = []  # what is said where the library is quiet is not heard
    with quiet_transformers(), _loading(name):
        if not Path(source).is_dir():
            check_hub(source, revision)
        model = _packed(source, name, given) if packed and not _of_a_prompt(adapter) else None
        if model is None:
            model = _unpacked(source, name, given, told.append)
        if adapter is not None:
            import peft

            model = peft.PeftModel.from_pretrained(model, str(adapter))
    for line in told if not answering else ():  # once, when it is trained
        report(line)
    model = model.eval()
    if answering:
        exact_head(model)
    return LoadedModel(model, load_format(name, revision=revision, system=system, report=report), name, source)


def _packed(source: str, name: str, given: dict[str, Any]) -> Any:
    """The model with attention by segment; None where that does not give what the library's own attention gives."""
    config = _config(source, given["revision"])
    if config.is_encoder_decoder and config.model_type not in PACKED_ENCODER_DECODERS:
        return None
    try:
        model = _from_library(config, source, name, {**given, "attn_implementation": packed_attention.register()})
        give_bias_by_distance(model)
        give_positions(model)
        return model if packs_exactly(model) else None
    except (AttributeError, FlantuneError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Code of a model that no stream fits fails as it likes; without a stream it is called as it was written for.
        if isinstance(error, FlantuneError) and error.place:
            raise
        return None


def _unpacked(source: str, name: str, given: dict[str, Any], report: Any) -> Any:
    """The model with the library's own attention, in rows that are padded where that changes nothing."""
    model = _from_library(_config(source, given["revision"]), source, name, given)
    model.flantune_layout = "padded"
    if model.config.model_type in BY_LOAD or not pads_exactly(model):
        model.flantune_layout = "alone"
    how = "rows padded to like lengths" if model.flantune_layout == "padded" else "one at a time"
    report(f"model {name} does not fit packed streams: its examples are computed {how}, with the same result")
    return model


def _from_library(config: Any, source: str, name: str, given: dict[str, Any]) -> Any:
    import transformers

    check_named(config.to_dict(), name)
    device = given["device"]
    given = {key: value for key, value in given.items() if key != "device"}
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    model, found = kind.from_pretrained(
        source, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **given
    )
    if found["missing_keys"]:
        raise FlantuneError(f"the model's files lack the weights {min(found['missing_keys'])}; fetch it again", name)
    model.config.use_cache = False
    return model.eval() if "device_map" in given else model.to(device).eval()


def _config(source: str, revision: str | None) -> Any:
    import transformers

    at: dict[str, Any] = {"revision": revision} if revision is not None else {}
    return transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **at)


def _of_a_prompt(adapter: Path | None) -> bool:
    """Whether an adapter's folder holds learned tokens, which have no place in a stream."""
    return adapter is not None and read_json(adapter / ADAPTER_SETTINGS).get("peft_type") in PROMPT_TYPES


def _source(name: str, report: Any) -> tuple[str, Path | None]:
    """What transformers loads a model from, and the adapter that goes on top of it."""
    if name in EMBEDDED:
        return str(embedded_model(name, report=report)), None
    folder = Path(name)
    if folder.is_dir():
        check_folder(folder)
        if not (folder / ADAPTER_SETTINGS).exists():
            return name, None
        base = read_json(folder / ADAPTER_SETTINGS).get("base_model_name_or_path")
        if not isinstance(base, str) or (Path(base) / ADAPTER_SETTINGS).exists():
            raise FlantuneError("the adapter names no model that it belongs to (base_model_name_or_path)", folder)
        return _source(base, report)[0], folder
    if folder.suffix == GGUF and folder.is_file():
        return str(from_gguf(folder, report=report)), None
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FlantuneError(
            f"no such model folder; give a folder, a GGUF file, a hub name, or one of: {', '.join(EMBEDDED)}", name
        )
    return name, None


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    """What the libraries raise about a model that is missing, damaged or of another kind, as one line."""
    from safetensors import SafetensorError

    try:
        yield
    except FlantuneError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise FlantuneError(_cannot_load(name, error)) from error


def load_format(
    name: str, *, revision: str | None = None, system: str = "", report: Any = lambda line: None
) -> PromptFormat:
    """The prompt format alone, for a plan: no weights are read.

    Raises:
        FlantuneError: Unknown or damaged model, or a tokenizer without an end token.
    """
    import transformers

    source, adapter = _source(name, report)
    own = adapter is not None and (adapter / "tokenizer_config.json").exists()
    at: dict[str, Any] = {"revision": revision} if revision is not None else {}
    with quiet_transformers(), _loading(name):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(adapter) if own else source, trust_remote_code=False, **at
        )
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **at)
        try:
            generation: Any = transformers.GenerationConfig.from_pretrained(source, **at)
        except OSError:  # a model without generation settings ends where its tokenizer or its configuration says
            generation = config
    positions = getattr(config, "max_position_embeddings", None)
    ends = _ends(generation, tokenizer)
    paired = bool(config.is_encoder_decoder)
    start = named_start(config, generation) if paired else None
    return PromptFormat(tokenizer, system, ends, positions, paired=paired, start=start)


def _cannot_load(name: str, error: Exception) -> str:
    first = next((line for line in str(error).strip().splitlines() if line.strip()), type(error).__name__)
    close = nearest(name, EMBEDDED)
    hint = close if close.startswith("did") else f"embedded: {', '.join(EMBEDDED)}"
    return f"cannot load model {name!r}: {first[:200]}; give a local folder or a hub name that can be reached ({hint})"


def _ends(generation: Any, tokenizer: Any) -> tuple[int, ...]:
    """End tokens: what the tokenizer calls its end, then what the generation settings add. Never the padding alone."""
    given = getattr(generation, "eos_token_id", None)
    configured = [given] if isinstance(given, int) else list(given or [])
    ends = [tokenizer.eos_token_id, *configured] if tokenizer.eos_token_id is not None else configured
    if not ends:
        raise FlantuneError(
            "the model has no end token, so it could never learn to stop; set eos_token in its tokenizer"
        )
    return tuple(dict.fromkeys(int(end) for end in ends))


def model_digest(loaded: LoadedModel, revision: str | None) -> str:
    """Identity of a model's weights, for the prediction cache: of its files, its base's, or its commit on the hub."""
    parts = [loaded.source] if loaded.name in EMBEDDED else [loaded.name, loaded.source]
    commit = getattr(loaded.model.config, "_commit_hash", None)
    return digest([_files(Path(part)) if Path(part).is_dir() else (part, commit or revision) for part in parts])


def _files(folder: Path) -> list[Any]:
    described = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json")):
        stat = path.stat()
        # Half a gigabyte of weights is not hashed each time: its size and time stand for it.
        described.append((path.name, file_digest(path) if path.suffix == ".json" else (stat.st_size, stat.st_mtime_ns)))
    return described
