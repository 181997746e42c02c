"""Answers of both models for the report, row by row: every number written out, the texts as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from flantune.files import digest
from flantune.reporting.formats import GROUPS, finite, main_metrics, score, short_task, visible

MOST_ROWS = 20_000  # of all tasks together that one page holds
_PROMPT, _ANSWER = 8000, 4000  # characters shown of a prompt, of an answer

Records = Sequence[Mapping[str, Any]]


def answers_view(
    comparison: Mapping[str, Any],
    predictions: Callable[[str], tuple[Records, Records]],
    flagged: Mapping[str, Collection[str]],
) -> list[dict[str, Any]]:
    """One entry a task whose answers are there.

    Args:
        comparison: The content of `comparison.json`.
        predictions: Gives a task's records of the base and of the tuned model, in the same order.
        flagged: Ids of each task's rows that have text in common with training rows.
    """
    found = []
    for entry in main_metrics(comparison):
        base, tuned = predictions(entry["task"])
        if base and len(base) == len(tuned):
            found.append((entry, base, tuned))
    most = even_limit([len(base) for _, base, _ in found], MOST_ROWS)
    return [
        _task(entry, base, tuned, comparison["tasks"], most, flagged.get(entry["task"], ()))
        for entry, base, tuned in found
    ]


def even_limit(sizes: Collection[int], most: int) -> int:
    """The largest number of rows that each task may have so that all together have at most `most`.

    >>> even_limit([60, 60], 200), even_limit([10, 500, 500], 110), even_limit([], 9)
    (60, 50, 0)
    """
    left, waiting = most, sorted(sizes)
    while waiting:
        if waiting[0] * len(waiting) > left:
            return left // len(waiting)
        left -= waiting[0]
        if len(waiting) == 1:
            return waiting[0]
        waiting.pop(0)
    return 0


def _task(
    entry: Mapping[str, Any],
    base: Records,
    tuned: Records,
    entries: Records,
    most: int,
    flagged: Collection[str],
) -> dict[str, Any]:
    task, name = entry["task"], entry["metric"]
    units = {other["metric"]: other["unit"] for other in entries if other["task"] == task}
    # Not the first rows, and not every n-th, which could be of one phrasing: those with the smallest hashes.
    places: Sequence[int] = range(len(base))
    if len(base) > most:
        places = sorted(sorted(places, key=lambda place: digest(task, str(base[place]["row"]), place))[:most])
    templates = {visible(str(row["template"])): row["template_kind"] == "held_out" for row in base}
    numbers = {template: number for number, template in enumerate(templates)}
    rows = []
    for place in places:
        before, after = base[place], tuned[place]
        scores = (before.get("scores") or {}, after.get("scores") or {})
        told = {
            "line": place + 1,
            "row": visible(str(before["row"])),
            "template": numbers[visible(str(before["template"]))],
            "prompt": _cut(before["prompt"], _PROMPT),
            "references": [_cut(text, _ANSWER) for text in before["references"]],
            "base": _cut(before["prediction"], _ANSWER),
            "tuned": _cut(after["prediction"], _ANSWER),
            "scores": [[score(side.get(metric), unit) for side in scores] for metric, unit in units.items()],
            "gain": _gain(entry, *(side.get(name) for side in scores)),
        }
        marks = {"unfinished": [not before["finished"], not after["finished"]], "leak": before["row"] in flagged}
        if any(marks["unfinished"]) or marks["leak"]:
            told |= marks
        rows.append(told)
    return {
        "about": {
            "name": visible(task),
            "title": visible(short_task(task)),
            "group": GROUPS[entry["group"]],
            "metrics": [visible(metric) for metric in units],
            "lower": not entry["higher_is_better"],
            "templates": list(templates.items()),
            "total": len(base),
            "kept": len(rows),
        },
        "rows": rows,
    }


def _gain(entry: Mapping[str, Any], was: float | None, now: float | None) -> float:
    """How much better the tuned model's score is, to three decimals; 0 where one is missing."""
    if not finite(was) or not finite(now):
        return 0
    return round((1 if entry["higher_is_better"] else -1) * (now - was), 3)


def _cut(text: object, most: int) -> str:
    text = visible(str(text))
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"
