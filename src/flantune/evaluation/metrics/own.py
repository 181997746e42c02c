"""Metrics of a user's own: a function that scores one row, from an installed package or from a file of theirs."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from flantune.errors import FlantuneError, nearest
from flantune.evaluation.metrics.metric import FloatArray, Metric, mean

ENTRY_POINTS = "flantune.metrics"  # group: `name = "module:function"`
UNIT = "points"
WANTED = "(prediction, references, row)"


def installed_metrics() -> dict[str, EntryPoint]:
    """Name to entry point of each metric that an installed package brings."""
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def metric_of_package(entry: EntryPoint) -> Metric:
    """The metric behind an entry point.

    Raises:
        FlantuneError: It cannot be imported, or is no function of `WANTED`.
    """
    try:
        function = entry.load()
    except Exception as error:  # whatever the package does when it is imported
        raise FlantuneError(f'metric "{entry.name}" cannot import {entry.value}: {_told(error)}') from None
    source = f"{entry.dist.name}:{entry.dist.version}" if entry.dist is not None else entry.value
    return _metric(entry.name, function, source)


def metric_at_path(path: str, folders: Sequence[Path]) -> Metric:
    """The metric that `module:function` names.

    Args:
        path: Module and function. The module is a file in one of the folders, else an installed one.
        folders: Where to look first, in this order.
    Raises:
        FlantuneError: No such module or function, it cannot be imported, or it is no function of `WANTED`.
    """
    module_name, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise FlantuneError(f'metric "{path}" is not of the form module:function')
    try:
        module = _module(module_name, folders)
    except ModuleNotFoundError as error:
        if error.name not in (module_name, module_name.partition(".")[0]):
            raise FlantuneError(f'metric "{path}" cannot import {module_name}: {_told(error)}') from None
        looked = " or ".join(map(str, dict.fromkeys(folders)))
        told = f"no {module_name.replace('.', '/')}.py in {looked}, and no installed module of that name"
        raise FlantuneError(f'metric "{path}": {told}') from None
    except Exception as error:  # whatever the module does when it is imported
        raise FlantuneError(f'metric "{path}" cannot import {module_name}: {_told(error)}') from None
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise FlantuneError(f'metric "{path}": {module_name} has no "{name}"; {nearest(name, functions)}')
    file = Path(module.__file__) if module.__file__ else None
    source = f"{file.name}:{_hash(file)}" if file is not None else module_name
    return _metric(path, getattr(module, name), source)


def kept_metric(name: str, *, higher_is_better: bool, unit: str, signature: str) -> Metric:
    """A user's metric as kept answers know it: it scores no new answer."""

    def statistics(*given: Any) -> FloatArray:
        raise FlantuneError(f'metric "{name}" scores answers only when they are made; evaluate again')

    return Metric(name, higher_is_better, unit, signature, statistics, mean, measured="answer")


def _module(name: str, folders: Sequence[Path]) -> ModuleType:
    beside = (folder.joinpath(*name.split(".")).with_suffix(".py") for folder in folders)
    file = next((file for file in beside if file.is_file()), None)
    return _of_file(file.resolve(), _hash(file)) if file is not None else importlib.import_module(name)


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


@functools.cache
def _of_file(file: Path, content: str) -> ModuleType:
    # Under a name of its own: files of one name lie beside many recipes, and none may stand in for an installed module.
    spec = importlib.util.spec_from_file_location(f"{file.stem}_{content}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # what it imports may lie beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module


def _metric(name: str, function: Any, source: str) -> Metric:
    if not callable(function):
        raise FlantuneError(f'metric "{name}" is {type(function).__name__}, and no function of {WANTED}')
    try:
        inspect.signature(function).bind("", [], {})
    except TypeError:
        takes = inspect.signature(function)
        raise FlantuneError(f'metric "{name}" must be a function of {WANTED}, and takes {takes}') from None
    unit, stated = str(getattr(function, "unit", UNIT)), getattr(function, "signature", None)
    return Metric(
        name,
        bool(getattr(function, "higher_is_better", True)),
        unit,
        f"{stated}|{source}" if stated else source,
        _RowScore(name, function, unit),
        mean,
        measured="answer",
    )


class _RowScore:
    """(what the function says, 1) of a row."""

    def __init__(self, name: str, function: Callable[..., Any], unit: str) -> None:
        self.name, self.function, self.unit = name, function, unit

    def __call__(
        self,
        prediction: str,
        references: Sequence[str],
        row: Mapping[str, Any] | None = None,
        answer_choices: Sequence[str] | None = None,
    ) -> FloatArray:
        try:
            said = self.function(prediction, list(references), copy.deepcopy(dict(row or {})))
        except Exception as error:  # the user's code, which may raise anything
            last = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{Path(last.filename).name}:{last.lineno}"
            raise FlantuneError(f'metric "{self.name}" fails at {at}: {_told(error)}') from None
        try:
            value = float(said) if not isinstance(said, str) else math.nan
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise FlantuneError(f'metric "{self.name}" returns {said!r:.60}; a finite number is wanted')
        if self.unit == "0-100" and not 0 <= value <= 100:
            raise FlantuneError(f'metric "{self.name}" returns {value:g}, which is off its scale of 0-100')
        return np.array([value, 1.0])


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
