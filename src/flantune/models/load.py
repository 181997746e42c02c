"""Loading a model and its tokenizer: the embedded one, a local folder, an adapter's folder, or a name on the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from flantune.errors import FlantuneError, nearest
from flantune.files import digest, file_digest
from flantune.models import packed_attention
from flantune.models.embedded import EMBEDDED, embedded_model
from flantune.models.prompt_format import PromptFormat
from flantune.models.quiet import quiet_transformers

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class LoadedModel:
    """A decoder-only model ready for streams.

    Attributes:
        model: A transformers model (or a PEFT model around one) with attention by segment.
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
    report: Any = lambda line: None,
) -> LoadedModel:
    """Loads a decoder-only model.

    Args:
        name: The embedded model's name, a local folder (a model or a PEFT adapter), or a name on the hub.
        precision: Type of the weights in memory.
        revision: For the hub: branch, tag or commit.
        system: System text of the prompt format.
        answering: The model will generate or choose: its head computes in float32 (see `exact_head`).
        report: Called with lines about a first download or conversion.
    Raises:
        FlantuneError: Unknown or damaged model, not decoder-only, or weights outside its folder.
    """
    import transformers

    source = str(embedded_model(name, report=report)) if name in EMBEDDED else name
    folder = Path(source)
    adapter = None
    if folder.is_dir():
        check_folder(folder)
        if (folder / "adapter_config.json").exists():
            adapter = folder
            source = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
            source = str(embedded_model(source, report=report)) if source in EMBEDDED else source
    elif folder.suffix or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FlantuneError(f"no such model folder; give a folder, a hub name, or one of: {', '.join(EMBEDDED)}", name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with quiet_transformers():
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                dtype=DTYPES[precision],
                attn_implementation=packed_attention.register(),
                trust_remote_code=False,
                use_safetensors=True,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(adapter) if adapter and (adapter / "tokenizer_config.json").exists() else source, revision=revision
            )
        except FlantuneError:
            raise
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise FlantuneError(_cannot_load(name, error)) from None
        if adapter is not None:
            import peft

            model = peft.PeftModel.from_pretrained(model, str(adapter))
    model.config.use_cache = False
    model = model.to(device).eval()
    if answering:
        exact_head(model)
    stop_ids = _stop_ids(model, tokenizer)
    return LoadedModel(model, PromptFormat(tokenizer, system, stop_ids), name, source)


def exact_head(model: Any) -> None:
    """Computes the logits in float32, whatever type the layers have.

    In bfloat16 a logit of 20 is known to 1/8 only, so that the likeliest token, or the likeliest choice, is often a
    tie decided by token number. The head runs at few places, and its float32 copy costs little beside the layers.
    """
    head = model.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        return
    weight = head.weight.detach().float()
    bias = head.bias.detach().float() if getattr(head, "bias", None) is not None else None
    head.forward = lambda hidden: torch.nn.functional.linear(hidden.float(), weight, bias)


def load_format(
    name: str, *, revision: str | None = None, system: str = "", report: Any = lambda line: None
) -> PromptFormat:
    """The prompt format alone, for a plan: no weights are read."""
    import transformers

    source = str(embedded_model(name, report=report)) if name in EMBEDDED else name
    at: dict[str, Any] = {"revision": revision} if revision is not None else {}
    with quiet_transformers():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **at)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise FlantuneError(_cannot_load(name, error)) from None
        try:
            generation = transformers.GenerationConfig.from_pretrained(source, **at)
        except OSError:  # a model without generation settings ends where its tokenizer ends
            generation = None
    return PromptFormat(tokenizer, system, _ends(generation, tokenizer))


def _cannot_load(name: str, error: Exception) -> str:
    first = next((line for line in str(error).strip().splitlines() if line.strip()), type(error).__name__)
    close = nearest(name, EMBEDDED)
    hint = close if close.startswith("did") else f"embedded: {', '.join(EMBEDDED)}"
    return f"cannot load model {name!r}: {first[:200]}; give a local folder or a hub name that can be reached ({hint})"


def _stop_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    return _ends(getattr(model, "generation_config", None), tokenizer)


def _ends(generation: Any, tokenizer: Any) -> tuple[int, ...]:
    """End tokens: what the tokenizer calls its end, then what the generation settings add. Never the padding alone."""
    given = generation.eos_token_id if generation is not None else None
    configured = [given] if isinstance(given, int) else list(given or [])
    ends = [tokenizer.eos_token_id, *configured] if tokenizer.eos_token_id is not None else configured
    if not ends:
        raise FlantuneError(
            "the model has no end token, so it could never learn to stop; set eos_token in its tokenizer"
        )
    return tuple(dict.fromkeys(int(end) for end in ends))


def check_folder(folder: Path) -> None:
    """Refuses a folder whose index leads out of it, or that holds no safe weights.

    Raises:
        FlantuneError: An entry of `weight_map` outside the folder, or no safetensors.
    """
    if not (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
        raise FlantuneError("no model in this folder: config.json is missing", folder)
    for index in folder.glob("*.index.json"):
        entries = json.loads(index.read_text()).get("weight_map", {}).values()
        for entry in entries:
            inside = (folder / entry).resolve().parent == folder.resolve()
            if not inside:
                raise FlantuneError(f"weight_map names {entry!r}, outside the model's folder; refused", index)
    if not list(folder.glob("*.safetensors")):
        raise FlantuneError("no .safetensors weights in this folder; convert the model to safetensors first", folder)


def model_digest(source: str, revision: str | None) -> str:
    """Identity of a model's weights, for the prediction cache: content for a folder, name for the hub."""
    folder = Path(source)
    if not folder.is_dir():
        return digest("hub", source, revision)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
    described = []
    for path in files:
        stat = path.stat()
        # Half a gigabyte of weights is not hashed each time: its size and time stand for it once it was hashed.
        described.append((path.name, file_digest(path) if path.suffix == ".json" else (stat.st_size, stat.st_mtime_ns)))
    return digest(described)
