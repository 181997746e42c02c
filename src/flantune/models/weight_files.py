"""Which files of a model's folder, or of a repository on the hub, weights may be read from: safetensors inside it."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from flantune.errors import FlantuneError, shortened

SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_SETTINGS = "adapter_model.safetensors", "adapter_config.json"
PICKLES = ("pytorch_model*.bin", "adapter_model.bin")


def check_folder(folder: Path) -> None:
    """Refuses a folder whose weights lie elsewhere, or are not safetensors.

    Raises:
        FlantuneError: No model; weights outside the folder, by an index or by a link; none that are safe to read.
    """
    is_adapter = (folder / ADAPTER_SETTINGS).exists()
    if not is_adapter and not (folder / "config.json").exists():
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"; name the file itself: {ggufs[0]}" if ggufs else ""
        raise FlantuneError(f"no model in this folder: config.json is missing{hint}", folder)
    for index in folder.glob("*.index.json"):
        files = weight_map(index)
        pickled_index = index.name.startswith("pytorch_model.")  # is not read
        check_entries(files, index, ending=".bin" if pickled_index else ".safetensors")
        for entry in files.values():
            if not is_inside(folder / entry, folder):
                raise FlantuneError(f"weight_map names {entry!r}, a link out of the model's folder; refused", index)
    for path in folder.glob("*.safetensors"):
        if not is_inside(path, folder):
            raise FlantuneError("a link out of the model's folder; refused: put the file itself there", path)
    named = None if is_adapter else check_named(read_json(folder / "config.json"), folder / "config.json")
    wanted = (ADAPTER,) if is_adapter else (named,) if named else (SAFE, SAFE_INDEX)
    if not any((folder / name).is_file() for name in wanted):
        pickled = pickles(folder)
        raise FlantuneError(
            f"its weights are pickled ({pickled[0].name}), and to read a pickle can run code; `flantune model convert "
            f"{folder} OUT --allow-pickle` writes them as safetensors"
            if pickled
            else f"no .safetensors weights in this folder ({' or '.join(wanted)}); fetch the model again",
            folder,
        )


def pickles(folder: Path) -> list[Path]:
    """Files of a folder that hold weights as Python's pickles."""
    return sorted(path for pattern in PICKLES for path in folder.glob(pattern))


def weight_map(index: Path) -> dict[str, str]:
    """What an index says: the file of each weight.

    Raises:
        FlantuneError: It is no JSON, or says no such thing.
    """
    found = read_json(index).get("weight_map", {})
    if not isinstance(found, dict) or not all(isinstance(entry, str) for entry in found.values()):
        raise FlantuneError("weight_map does not give a file's name for each weight; fetch the model again", index)
    return found


def check_entries(files: dict[str, str], place: Path | str, ending: str = ".safetensors") -> None:
    """Refuses an index that leads out of its folder, or to files of another kind.

    Raises:
        FlantuneError: The first such file.
    """
    for entry in files.values():
        # As transformers joins it to the folder: a drive or a backslash is another way out on other systems.
        parts = PurePosixPath(entry)
        if parts.is_absolute() or ".." in parts.parts or "\\" in entry or ":" in entry:
            raise FlantuneError(f"weight_map names {shortened(entry)!r}, outside the model's folder; refused", place)
        if not entry.endswith(ending):
            raise FlantuneError(f"weight_map names {shortened(entry)!r}, which is not {ending}; refused", place)


def check_named(config: dict[str, Any], place: Path | str) -> str | None:
    """The file that a configuration names in place of the usual ones.

    Raises:
        FlantuneError: It is none of the folder, or not safetensors.
    """
    named = config.get("transformers_weights")
    if named is None:
        return None
    if not isinstance(named, str) or "\\" in named or Path(named).name != named or not named.endswith(".safetensors"):
        raise FlantuneError(
            f"transformers_weights is {named!r}; only a .safetensors file of the model's folder is read", place
        )
    return named


def check_hub(name: str, revision: str | None) -> None:
    """Refuses a repository on the hub whose index leads elsewhere, before a weight is fetched.

    Raises:
        FlantuneError: As `check_folder`, of what an index names.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        index = Path(hf_hub_download(name, SAFE_INDEX, revision=revision))
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return  # there is none; what else is wrong is told when the model is loaded
    check_entries(weight_map(index), f"{name}/{SAFE_INDEX}")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder once links are followed; those of the hub's cache lead to its own blobs."""
    real, root = path.resolve(), folder.resolve()
    blobs = [root.parent.parent / "blobs"] if root.parent.name == "snapshots" else []
    return any(real.is_relative_to(place) for place in (root, *blobs))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a model's file.

    Raises:
        FlantuneError: It is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FlantuneError(f"not valid JSON ({error}); fetch the model again", path) from None
    if not isinstance(found, dict):
        raise FlantuneError("not a JSON object; fetch the model again", path)
    return found
