"""The recipe of `flantune quickstart`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flantune.recipe import Recipe, load_recipe

RECIPE = Path(__file__).parent / "starter" / "quickstart.yaml"


def quickstart_recipe(overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the package, with overrides."""
    return load_recipe(RECIPE, overrides)
