"""Texts that have a form: lists of entities, JSON, code."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flantune.errors import FlantuneError
from flantune.evaluation.metrics.answers import answer_of
from flantune.evaluation.metrics.metric import FloatArray, Metric, divide, percent


def _entities(text: str, *, strict: bool) -> Counter[tuple[str, str]]:
    """The (type, text) pairs of lines `type: text`; `none` stands for no pair.

    A predicted line of another form is a pair of no type, which no reference has, so it counts as a false
    alarm.
    """
    entities: Counter[tuple[str, str]] = Counter()
    for line in filter(None, map(str.strip, text.splitlines())):
        if answer_of(line) == "none":
            continue
        kind, _, entity = line.partition(":")
        pair = (" ".join(kind.casefold().split()), " ".join(entity.split()))
        if not all(pair):
            if strict:
                raise FlantuneError(f'metric "entity_f1": the target line "{line}" is neither "type: text" nor "none"')
            pair = ("", line)
        entities[pair] += 1
    return entities


def _entity_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(tp, fp, fn) against the reference with the best F1 (the first of equals): k = 3."""
    predicted = _entities(prediction, strict=False)
    candidates = []
    for reference in references:
        wanted = _entities(reference, strict=True)
        tp = (predicted & wanted).total()
        candidates.append(np.array([tp, predicted.total() - tp, wanted.total() - tp], dtype=np.float64))
    return max(candidates, key=lambda counts: float(_entity_f1(counts)))


def _entity_f1(sums: FloatArray) -> FloatArray:
    tp, fp, fn = sums[..., 0], sums[..., 1], sums[..., 2]
    return 100.0 * divide(2.0 * tp, 2.0 * tp + fp + fn, empty=1.0)


def _partial_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(correct, predicted, wanted) entities of the best reference, where one that overlaps counts half: k = 3.

    Overlap: the same type, and the words of one text stand in a row in the other. Equal ones are paired first, then
    each predicted one with the first wanted one that is left and overlaps. It is the partial score of SemEval-2013
    task 9 (Segura-Bedmar et al. 2013), where texts stand for places.
    """
    predicted, found = _entities(prediction, strict=False), []
    for reference in references:
        wanted = _entities(reference, strict=True)
        correct = float((predicted & wanted).total())
        left = list((wanted - predicted).elements())
        for kind, text in (predicted - wanted).elements():
            overlapping = next((pair for pair in left if pair[0] == kind and _overlap(pair[1], text)), None)
            if overlapping is not None:
                left.remove(overlapping)
                correct += 0.5
        found.append(np.array([correct, predicted.total(), wanted.total()], dtype=np.float64))
    return max(found, key=lambda counts: float(_partial_f1(counts)))


def _overlap(one: str, other: str) -> bool:
    short, long = sorted((f" {one} ", f" {other} "), key=len)
    return short in long


def _partial_f1(sums: FloatArray) -> FloatArray:
    return 100.0 * divide(2.0 * sums[..., 0], sums[..., 1] + sums[..., 2], empty=1.0)


# --- JSON ---


def json_in(text: str) -> Any:
    """The value that a text is as JSON; a markdown fence around it is allowed.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return json.loads(_unfenced(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unfenced(text: str) -> str:
    fenced = re.fullmatch(r"```[\w+-]*\s*\n(.*?)```", text.strip(), re.DOTALL)
    return fenced.group(1) if fenced else text


def _is_json(prediction: str, answer_choices: Sequence[str] | None = None) -> bool:
    try:
        json_in(prediction)
    except ValueError:
        return False
    return True


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of path and value; items of a list have one path, so that their order does not count."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}/{key}")
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    else:
        yield path, json.dumps(value)


def _json_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(tp, fp, fn) of fields against the reference with the best F1: k = 3. What is no JSON is one false alarm."""
    try:
        predicted = Counter(_leaves(json_in(prediction)))
    except ValueError:
        predicted = Counter({("", "no JSON"): 1})
    found = []
    for reference in references:
        try:
            wanted = Counter(_leaves(json_in(reference)))
        except ValueError:
            raise FlantuneError(f'metric "json_field_f1": the target "{reference}" is no JSON') from None
        tp = (predicted & wanted).total()
        found.append(np.array([tp, predicted.total() - tp, wanted.total() - tp], dtype=np.float64))
    return max(found, key=lambda counts: float(_entity_f1(counts)))


def _json_valid(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(1 if it is JSON, 1)."""
    return np.array([float(_is_json(prediction)), 1.0])


# --- code ---


def _code_parses(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(1 if it parses, 1); a markdown fence around it is allowed, an empty text does not count as code."""
    code = _unfenced(prediction)
    language = str((row or {}).get("language") or "python").lower()
    return np.array([float(bool(code.strip()) and _parses(code, language)), 1.0])


def _parses(code: str, language: str) -> bool:
    if language == "python":
        try:
            with warnings.catch_warnings(action="ignore"):  # of odd escapes and comparisons in a model's code
                ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
        return True
    return not _parser(language).parse(code.encode("utf-8", "surrogatepass")).root_node.has_error


@functools.cache
def _parser(language: str) -> Any:
    name = re.sub(r"[^a-z0-9]+", "_", language)
    try:
        tree_sitter, grammar = (importlib.import_module(each) for each in ("tree_sitter", f"tree_sitter_{name}"))
    except ImportError:
        packages = f"tree-sitter tree-sitter-{name.replace('_', '-')}"
        raise FlantuneError(f'metric "code_parses": no parser for "{language}"; pip install {packages}') from None
    return tree_sitter.Parser(tree_sitter.Language(grammar.language()))


def _code_passes(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(1 if the row's `setup`, the answer and the row's `tests` run to their end, 1); each is a text or a list."""
    from flantune.evaluation.metrics.code_runner import program_runner

    parts = [(row or {}).get(name) for name in ("setup", "tests")]
    setup, tests = ([part] if isinstance(part, str) else list(part or ()) for part in parts)
    if not any(map(str.strip, tests)):
        raise FlantuneError('metric "code_passes" needs code in the field "tests" of each row')
    code = _unfenced(prediction)
    return np.array([float(bool(code.strip()) and program_runner().passes([*setup, code, *tests])), 1.0])


STRUCTURE_METRICS = (
    Metric("entity_f1", True, "0-100", "micro|exact type and text", _entity_counts, _entity_f1),
    Metric(
        "entity_f1_partial",
        True,
        "0-100",
        "micro|exact type|overlapping text counts half",
        _partial_counts,
        _partial_f1,
    ),
    Metric("json_valid", True, "0-100", "fence allowed", _json_valid, percent),
    Metric(
        "json_field_f1",
        True,
        "0-100",
        "micro|exact path and value|order in lists free",
        _json_counts,
        _entity_f1,
        _is_json,
    ),
    Metric(
        "code_parses",
        True,
        "0-100",
        "fence allowed|language: the row's, else python|python: ast, others: tree-sitter",
        _code_parses,
        percent,
        fields=("language",),
    ),
    Metric(
        "code_passes",
        True,
        "0-100",
        f"fence allowed|python {sys.version_info.major}.{sys.version_info.minor}|5 s|512 MiB|no files",
        _code_passes,
        percent,
        fields=("setup", "tests"),
        measured="answer",
        runs_answers=True,
    ),
)
