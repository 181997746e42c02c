"""The files of a run: its recipe, its environment, its model."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.files import digest, disk_errors, whole_folder, write_json, write_text
from flantune.recipe import Recipe

if TYPE_CHECKING:
    from flantune.models.load import LoadedModel
    from flantune.training.distributed import Ranks

PACKAGES = ("flantune", "torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "sacrebleu", "rouge-score-rs")
# What a run may be gone on with otherwise than it began: none of it changes what a step computes.
MAY_CHANGE: Any = {
    "output": True,
    "code_folder": True,
    "evaluation": True,
    "validation": {"every", "patience", "model"},
    "loggers": True,
    "training": {
        "rows_per_step",
        "rows_at_once",
        "sharding",
        "compile",
        "activation_checkpointing",
        "checkpoint_every",
        "keep_checkpoints",
        "stop_when_exploding",
    },
}


def output_folder(recipe: Recipe) -> Path:
    """Where the run is written."""
    return Path(recipe.output).expanduser() if recipe.output is not None else Path("runs") / recipe.name


def claim(run: Path) -> None:
    """Refuses a folder that holds something, before any work is done for it.

    Raises:
        FlantuneError: The folder is there and not empty, or is a file.
    """
    for above in (run, *run.parents):
        if above.is_file():
            raise FlantuneError("is a file; choose another output folder with output=...", above)
    if run.exists() and any(not path.name.startswith(".recipe.yaml.") for path in run.iterdir()):  # killed at once
        remedy = f", or go on with it: flantune train --resume {run}" if (run / "recipe.yaml").exists() else ""
        raise FlantuneError(f"the output folder exists already; choose another with output=...{remedy}", run)


def write_recipe(run: Path, recipe: Recipe) -> None:
    """The recipe as resolved: `flantune train RUN/recipe.yaml output=...` repeats the run."""
    from ruamel.yaml import YAML

    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 110
    data = recipe.model_dump(mode="json", exclude_none=True)
    yaml.allow_unicode = "\x85" not in json.dumps(data, ensure_ascii=False)  # YAML would read it as a line's end
    yaml.dump(data, stream)
    write_text(run / "recipe.yaml", stream.getvalue())


def read_recipe(run: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a run, with overrides put over it.

    Raises:
        FlantuneError: Not a run's folder, or a wrong override.
    """
    from flantune.recipe.load import apply_overrides
    from flantune.recipe.yaml_file import read_yaml, validated

    if not (run / "recipe.yaml").exists():
        raise FlantuneError("not a run: recipe.yaml is missing; give a folder that flantune train made", run)
    file = read_yaml(run / "recipe.yaml")
    data, overridden = apply_overrides(file.data, overrides)
    return validated(Recipe, data, file, overridden).written_in(file, overridden)


def recipe_of(path: Path) -> Recipe:
    """The recipe in a file, or of a run.

    Raises:
        FlantuneError: The recipe is wrong, or the folder is not a run's.
    """
    return read_recipe(path) if path.is_dir() else Recipe.load(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file that flantune wrote; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def lasting_digest(recipe: Recipe) -> str:
    """Hash of all that must stay as it is while a run goes on from a checkpoint."""
    return digest(recipe.model_dump(mode="json", exclude=MAY_CHANGE))


def begin(run: Path, recipe: Recipe, plan: Mapping[str, Any]) -> None:
    """Makes the run's folder, or brings it up to date.

    Raises:
        FlantuneError: The disk is full or cannot be written.
    """
    with disk_errors(run):
        run.mkdir(parents=True, exist_ok=True)
    write_recipe(run, recipe)  # first: a folder with a recipe can be gone on with
    write_json(run / "environment.json", environment())
    write_json(run / "plan.json", plan)


def save_model(model: Any, loaded: LoadedModel, target: Path, ranks: Ranks | None = None) -> None:
    """Writes a Hugging Face folder, or a PEFT adapter, with the tokenizer; whole or absent.

    Where weights are sharded all ranks call it: the first writes, and the others give it their parts.
    """
    from flantune.models.save import write_model
    from flantune.training.distributed import in_shards
    from flantune.training.gathered_model import write_gathered

    writes = ranks is None or ranks.first
    with whole_folder(target) if writes else contextlib.nullcontext() as folder:
        if in_shards(next(model.parameters())):
            write_gathered(model, loaded.format.tokenizer, folder)
        elif folder is not None:
            write_model(model, loaded.format.tokenizer, folder)


def best_folder(run: Path, step: int) -> Path:
    """Where the model of a step is kept while it is the best so far."""
    return run / "best" / f"step-{step}"


def clear_best(run: Path) -> None:
    """Removes the best models so far: the run is complete and its model saved."""
    shutil.rmtree(run / "best", ignore_errors=True)


def environment() -> dict[str, Any]:
    """What the run ran on: an allow-list, nothing else of the environment."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "packages": packages,
        "git": _commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _commit() -> str | None:
    """The commit of a checkout that flantune runs from; None for an installed one, or where git is missing."""
    here = Path(__file__).parent
    if not (here.parent.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return asked.stdout.strip() or None


def is_encoder_decoder(model: Path) -> bool:
    """Whether the folder of a model, or of an adapter, holds an encoder-decoder or an adapter of one."""
    if (adapter := read_json(model / "adapter_config.json")) is not None:
        return adapter.get("task_type") == "SEQ_2_SEQ_LM"
    return bool((read_json(model / "config.json") or {}).get("is_encoder_decoder"))
