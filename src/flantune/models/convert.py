"""Models whose weights are pickles, written as safetensors, once their user has said that the pickles may be read."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flantune.errors import FlantuneError, shortened
from flantune.files import whole_folder, write_json
from flantune.models.from_gguf import GGUF, convert_gguf
from flantune.models.weight_files import check_entries, check_folder, is_inside, pickles, weight_map

INDEX = "pytorch_model.bin.index.json"
BESIDE = ("*.json", "*.txt", "*.model", "*.jinja", "*.md", "LICENSE*")  # configuration and tokenizer: no code
OF_WEIGHTS = "*.index.json"


def convert(name: str, out: Path, *, allow_pickle: bool = False, revision: str | None = None, report: Any) -> None:
    """Writes a model as a folder of safetensors with configuration and tokenizer.

    Pickles are read by PyTorch's reader of tensors alone, which refuses whatever else a pickle asks for.

    Args:
        name: A GGUF file; or a folder, or a name on the hub, whose weights are pickled.
        out: A folder that is made.
        allow_pickle: Whether pickles may be read.
        revision: For the hub: branch, tag or commit.
        report: Called with lines about what is done.
    Raises:
        FlantuneError: Nothing to convert, no consent, a pickle that holds more than tensors, or a folder that is there.
    """
    if out.exists():
        raise FlantuneError("is there already; name a new folder", out)
    source = Path(name)
    if source.suffix == GGUF and source.is_file():
        with whole_folder(out) as aside:
            convert_gguf(source, aside, report=report)
        return
    if not source.is_dir() and (source.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise FlantuneError("no such model; give a GGUF file, a folder, or a name on the hub", name)
    if source.is_dir():
        _check_convertible(source)
    if not allow_pickle:
        raise FlantuneError(
            "to read pickled weights can run code that is in them; if you trust who made them, add --allow-pickle", name
        )
    folder = source if source.is_dir() else _fetched(name, revision)
    _check_convertible(folder)
    with whole_folder(out) as aside:
        _convert(folder, aside)
        check_folder(aside)


def _check_convertible(folder: Path) -> None:
    if list(folder.glob("*.safetensors")):
        raise FlantuneError("has safetensors already; use it as it is", folder)
    if not pickles(folder):
        raise FlantuneError("no weights to convert in this folder (pytorch_model.bin, adapter_model.bin)", folder)
    for path in pickles(folder):
        if not is_inside(path, folder):
            raise FlantuneError("a link out of the model's folder; refused: put the file itself there", path)
    if (folder / INDEX).exists():
        check_entries(weight_map(folder / INDEX), folder / INDEX, ending=".bin")


def _fetched(name: str, revision: str | None) -> Path:
    """The files of a repository on the hub, without what is not needed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    wanted = [*BESIDE, "pytorch_model*.bin", "adapter_model.bin", "*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise FlantuneError(f"cannot be fetched from the hub: {shortened(str(error), 200)}", name) from error


def _convert(folder: Path, out: Path) -> None:
    from safetensors.torch import save_file

    placed: dict[str, str] = {}
    total = 0
    for path in pickles(folder):
        tensors = _tensors(path)
        safe = path.name.replace("pytorch_model", "model").removesuffix(".bin") + ".safetensors"
        save_file(tensors, out / safe, metadata={"format": "pt"})
        placed |= dict.fromkeys(tensors, safe)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if (folder / INDEX).exists():
        write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": placed})
    for pattern in BESIDE:
        for path in folder.glob(pattern):
            if path.is_file() and is_inside(path, folder) and not path.match(OF_WEIGHTS):
                shutil.copyfile(path, out / path.name)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The weights by name, none of them sharing memory with another, as safetensors wants them."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FlantuneError("the pickle asks for more than tensors, so it is not read", path) from error
    except (EOFError, OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise FlantuneError(f"cannot be read ({shortened(str(error), 120)}); fetch it again", path) from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise FlantuneError("not a table of tensors by name, as a model's weights are", path)
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in found.items():
        shared = tensor.untyped_storage().data_ptr() in seen
        seen.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor.clone() if shared else tensor.contiguous()
    return tensors
