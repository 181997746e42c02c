"""The files of a run: its recipe, its environment, its model, its log of steps."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.files import whole_folder, write_text
from flantune.recipe import Recipe

if TYPE_CHECKING:
    from flantune.models.load import LoadedModel

PACKAGES = ("flantune", "torch", "transformers", "peft", "tokenizers", "numpy", "scipy", "sacrebleu", "rouge-score-rs")


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
    if run.exists() and any(run.iterdir()):
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


def read_recipe(run: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        FlantuneError: Not a run's folder.
    """
    from flantune.recipe.yaml_file import read_yaml, validated

    if not (run / "recipe.yaml").exists():
        raise FlantuneError("not a run: recipe.yaml is missing; give a folder that flantune train made", run)
    file = read_yaml(run / "recipe.yaml")
    return validated(Recipe, file.data, file).written_in(file)


def read_json(path: Path) -> Any:
    """The content of a JSON file that flantune wrote; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def log_before(path: Path, step: int) -> None:
    """Cuts a log of steps to those before `step`: a resumed run writes the rest again, a torn last line too."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if step and path.exists() else []
    write_text(path, "".join(f"{line}\n" for line in lines[:step]))


def save_model(model: Any, loaded: LoadedModel, run: Path) -> None:
    """Writes `model/`: a Hugging Face folder, or a PEFT adapter, with the tokenizer; whole or absent."""
    from flantune.models.quiet import quiet_transformers

    with whole_folder(run / "model") as folder, quiet_transformers():
        model.config.use_cache = True
        model.save_pretrained(folder, safe_serialization=True)
        loaded.format.tokenizer.save_pretrained(folder)
        model.config.use_cache = False


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
