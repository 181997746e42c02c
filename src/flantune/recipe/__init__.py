"""What a run is: one validated, frozen object from YAML, overrides and defaults."""

from flantune.recipe.load import apply_overrides, load_recipe, recipe_from
from flantune.recipe.schema import Recipe

__all__ = ["Recipe", "apply_overrides", "load_recipe", "recipe_from"]
