"""From a YAML file and `key=value` arguments to a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError, nearest
from flantune.recipe.schema import Recipe
from flantune.recipe.yaml_file import parse_value, read_yaml, validated


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe, with overrides such as `training.learning_rate=1e-4` put over it.

    Raises:
        FlantuneError: The file or an override is wrong; says where, what, and what to do.
    """
    source = read_yaml(Path(path))
    data, overridden = apply_overrides(source.data, overrides)
    if "name" not in data:
        data["name"] = Path(path).stem.lower().replace(" ", "-")
    recipe = validated(Recipe, data, source, overridden)
    return _beside(recipe, Path(path).parent)


def recipe_from(data: dict[str, Any], overrides: Sequence[str] = (), folder: Path | None = None) -> Recipe:
    """A recipe from plain values; task paths are relative to `folder`."""
    changed, overridden = apply_overrides(data, overrides)
    return _beside(validated(Recipe, changed, None, overridden), folder or Path())


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
        for part in parts[:-1]:
            node = _child(node, part, argument)
        _set(node, parts[-1], parse_value(text), argument)
        by_key[".".join(parts)] = argument
    return changed, by_key


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _child(node: Any, part: str, argument: str) -> Any:
    if isinstance(node, dict):
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if isinstance(child, str):  # `model: NAME` and a task given by its path are short forms
            child = node[part] = {"name": child}
        return child
    index = _index(node, part, argument)
    if isinstance(node[index], str):
        node[index] = {"task": node[index]}
    return node[index]


def _set(node: Any, part: str, value: Any, argument: str) -> None:
    if isinstance(node, dict):
        node[part] = value
    else:
        node[_index(node, part, argument)] = value


def _index(node: Any, part: str, argument: str) -> int:
    if not isinstance(node, list):
        raise FlantuneError(f'"{part}" is below a value that has no keys', argument)
    if not part.isdigit() or int(part) >= len(node):
        raise FlantuneError(f"no item {part}; {nearest(part, [str(i) for i in range(len(node))])}", argument)
    return int(part)


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """Task paths and path variables made absolute, so that a resolved recipe works from anywhere."""

    def absolute(text: str) -> str:
        looks_like_path = text.endswith((".yaml", ".yml"))
        return str((folder / text).resolve()) if looks_like_path else text

    def choices(given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(choice.model_copy(update={"task": absolute(choice.task)}) for choice in given)

    def variable(text: str) -> str:
        return str((folder / text).resolve()) if (folder / text).exists() else text

    model = recipe.model
    if (folder / model.name).is_dir():
        model = model.model_copy(update={"name": str((folder / model.name).resolve())})
    return recipe.model_copy(
        update={
            "tasks": choices(recipe.tasks),
            "unseen": choices(recipe.unseen),
            "variables": {key: variable(text) for key, text in recipe.variables.items()},
            "model": model,
        }
    )
