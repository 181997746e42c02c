"""flantune: fine-tune one language model on many tasks at once, and prove what it gained.

>>> import flantune
>>> recipe = flantune.Recipe.load("recipe.yaml")   # doctest: +SKIP
>>> run = flantune.train(recipe)                   # doctest: +SKIP
>>> comparison = flantune.compare(run)             # doctest: +SKIP
>>> flantune.find_task("starter/intent").prompt(0)   # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.recipe import Recipe

if TYPE_CHECKING:
    from flantune.pipeline import compare, evaluate, prepare, report, train
    from flantune.tasks import Task, Template, find_task, load_task

__all__ = [
    "FlantuneError",
    "Recipe",
    "Task",
    "Template",
    "compare",
    "evaluate",
    "find_task",
    "load_task",
    "prepare",
    "report",
    "train",
]

_HOMES = {
    **dict.fromkeys(("compare", "evaluate", "prepare", "report", "train"), "flantune.pipeline"),
    **dict.fromkeys(("Task", "Template", "find_task", "load_task"), "flantune.tasks"),
}


def __getattr__(name: str) -> Any:
    """What takes time to load is loaded when it is used, so that `import flantune` stays fast."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flantune' has no attribute {name!r}")
