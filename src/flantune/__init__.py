"""flantune: fine-tune one language model on many tasks at once, and prove what it gained.

>>> import flantune
>>> recipe = flantune.Recipe.load("recipe.yaml")   # doctest: +SKIP
>>> run = flantune.train(recipe)                   # doctest: +SKIP
>>> comparison = flantune.compare(run)             # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.recipe import Recipe

if TYPE_CHECKING:
    from flantune.pipeline import compare, evaluate, prepare, report, train

__all__ = ["FlantuneError", "Recipe", "compare", "evaluate", "prepare", "report", "train"]

_PIPELINE = ("compare", "evaluate", "prepare", "report", "train")


def __getattr__(name: str) -> Any:
    """The verbs are loaded when they are used, so that `import flantune` stays fast."""
    if name in _PIPELINE:
        from flantune import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'flantune' has no attribute {name!r}")
