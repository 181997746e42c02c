"""From a YAML file and `key=value` arguments to a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError
from flantune.recipe.mixing import TaskChoice
from flantune.recipe.schema import Recipe
from flantune.recipe.yaml_file import parse_value, read_yaml, validated

SHORT_FORMS = {"model": "name", "tasks": "task", "unseen": "task"}  # bare text stands for an object with this key


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, with overrides such as `training.learning_rate=1e-4` put over it.

    Raises:
        FlantuneError: The file or an override is wrong; says where, what, and what to do.
    """
    source = read_yaml(Path(path))
    data, overridden = apply_overrides(source.data, overrides)
    if "name" not in data:
        data["name"] = run_name(Path(path).stem)
    recipe = validated(Recipe, data, source, overridden).written_in(source, overridden)
    return _beside(recipe, Path(path).parent)


def run_name(text: str) -> str:
    """A name for a run from any text, such as that of a file."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower())[:64].strip("-._") or "run"


def recipe_from(data: dict[str, Any], overrides: Sequence[str] = (), folder: Path | None = None) -> Recipe:
    """A recipe from plain values; task paths are relative to `folder`."""
    changed, overridden = apply_overrides(data, overrides)
    return _beside(validated(Recipe, changed, None, overridden).written_in(None, overridden), folder or Path())


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A copy of the data with each `dotted.key=value` set, and which argument set which key.

    List items are named by number (`tasks.0.share=0.2`).

    Raises:
        FlantuneError: An argument without "=", or a key below a value that has no keys.
    """
    changed, by_key = _copied(data), {}
    for argument in overrides:
        key, equals, text = argument.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise FlantuneError("not of the form key=value; write for example training.epochs=2", argument)
        node: Any = changed
        for depth, part in enumerate(parts[:-1]):
            inside = depth < 2 or parts[depth - 1] == "tasks"  # of a mixture inside a mixture
            node = _child(node, part, argument, SHORT_FORMS.get(parts[0]) if inside else None)
        _set(node, parts[-1], parse_value(text), argument)
        by_key[".".join(parts)] = argument
    return changed, by_key


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _child(node: Any, part: str, argument: str, short: str | None) -> Any:
    """The value below a key or list position, made where it is missing; `short` names what bare text stands for."""
    at: Any = part if isinstance(node, dict) else _index(node, part, argument)
    if isinstance(node, dict) and node.get(at) is None:
        node[at] = {}
    if isinstance(node[at], str) and short is not None:
        node[at] = {short: node[at]}
    return node[at]


def _set(node: Any, part: str, value: Any, argument: str) -> None:
    node[part if isinstance(node, dict) else _index(node, part, argument)] = value


def _index(node: Any, part: str, argument: str) -> int:
    if not isinstance(node, list):
        above = argument.partition("=")[0].partition(f".{part}")[0]
        raise FlantuneError(f'"{part}" is below a value that has no keys; write {above}=...', argument)
    if not re.fullmatch("[0-9]+", part) or int(part) >= len(node):
        items = f"its items are numbered 0 to {len(node) - 1}" if node else "the list is empty"
        raise FlantuneError(f'no item "{part}"; {items}', argument)
    return int(part)


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """Task paths and path variables made absolute, so that a resolved recipe works from anywhere."""

    def absolute(text: str) -> str:
        scheme, path = re.fullmatch("([a-z_]{2,}:)?(.*)", text, re.DOTALL).groups("")  # type: ignore[union-attr]
        looks_like_path = bool(scheme) or path.endswith((".yaml", ".yml"))
        return scheme + str((folder / path).resolve()) if looks_like_path and not path.startswith("${") else text

    def placed(choice: Any) -> Any:
        if isinstance(choice, TaskChoice):
            return choice.model_copy(update={"task": absolute(choice.task)})
        return choice.model_copy(update={"tasks": choices(choice.tasks)})  # a mixture inside, or what is replayed

    def choices(given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(placed(choice) for choice in given)

    def variable(text: str) -> str:
        looks_like_path = "/" in text or text.startswith((".", "~"))
        path = Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)
        return str((folder / path).resolve()) if looks_like_path else text

    model, mixture, code, evaluation = recipe.model, recipe.mixture, recipe.code_folder, recipe.evaluation
    if code is not None or recipe.allow_code:
        code = str((folder / (code or "")).resolve())
    if mixture.replay is not None:
        mixture = mixture.model_copy(update={"replay": placed(mixture.replay)})
    if isinstance(evaluation.plain_text, str):
        own = str((folder / Path(evaluation.plain_text).expanduser()).resolve())
        evaluation = evaluation.model_copy(update={"plain_text": own})
    if (folder / model.name).is_dir():
        model = model.model_copy(update={"name": str((folder / model.name).resolve())})
    return recipe.model_copy(
        update={
            "tasks": choices(recipe.tasks),
            "unseen": choices(recipe.unseen),
            "mixture": mixture,
            "variables": {key: variable(text) for key, text in recipe.variables.items()},
            "model": model,
            "evaluation": evaluation,
            "code_folder": code,
        }
    )
