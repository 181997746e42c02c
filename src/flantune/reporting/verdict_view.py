"""What a comparison shows, for the report: the verdict in plain words, all tasks, phrasings, averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flantune.reporting import charts
from flantune.reporting.formats import GROUPS, SYMBOLS, finite, main_metrics, plural

_LEADS = {"trained": "Trained on", "unseen": "Never trained on", "kept": "To be kept"}
_OF = {
    "trained": "Of {} that it was trained on, {}.",
    "unseen": "Of {} that it never saw, {}.",
    "kept": "Of {} that it should keep, {}.",
}
_PHRASINGS = {"seen": "phrasings trained on", "held_out": "phrasings held out"}


def verdict_view(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The parts `headline`, `sentences`, `groups`, `averages`, `phrasings`, `entries` and what their legends need."""
    mains = main_metrics(comparison)
    groups = [_group(comparison, name) for name in GROUPS if main_metrics(comparison, name)]
    return {
        "headline": headline(mains),
        "sentences": [sentence(group["key"], group["entries"]) for group in groups],
        "groups": groups,
        "averages": _averages(comparison),
        "rows_told": _range([entry["n"] for entry in mains]),
        "difference_axis": charts.axis(charts.difference_axis(mains), signed=True),
        "any_lower": any(not entry["higher_is_better"] for entry in mains),
        "entries": comparison["tasks"],
        "phrasings": [told for entry in mains if (told := _phrasings(entry)) is not None],
    }


def headline(mains: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The verdict in one line, as (word, what it says) pairs; the word is a verdict or empty.

    It tells of the tasks that were trained on or never seen; abilities to keep have a sentence of their own.
    """
    asked = [entry for entry in mains if entry["group"] != "kept"] or list(mains)
    better, worse = (sum(entry["verdict"] == word for entry in asked) for word in ("better", "worse"))
    tasks = plural(len(asked), "task")
    if not better and not worse:
        return [("", f"No difference is shown on {tasks}.")]
    if not better:
        return [("worse", f"Worse on {worse} of {tasks}"), ("", ", better on none.")]
    return [
        ("better", f"Better on {better} of {tasks}"),
        ("", ", "),
        ("worse" if worse else "", f"worse on {worse or 'none'}."),
    ]


def sentence(group: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """What became of the tasks of a group, in words."""
    said = {
        "better": "got better",
        "worse": "got worse",
        "equivalent": "stayed the same within the margin",
        "no difference shown": "{} not decided by these rows",
    }
    told = []
    for word, what in said.items():
        number = sum(entry["verdict"] == word for entry in entries)
        if number:
            told.append(f"{number} {what.format('is' if number == 1 else 'are')}")
    listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
    one = ("ability", "abilities") if group == "kept" else ("task", "tasks")
    return _OF[group].format(plural(len(entries), *one), listed)


def _group(comparison: Mapping[str, Any], name: str) -> dict[str, Any]:
    entries = main_metrics(comparison, name)
    shared = charts.difference_axis(main_metrics(comparison))
    rows = []
    for entry in entries:
        scale = shared if entry["unit"] == "0-100" else charts.own_difference_axis(entry, shared)
        place = comparison["tasks"].index(entry)
        rows.append({"entry": entry, "place": place, "forest": charts.forest(entry, scale)})
    counts = {word: sum(entry["verdict"] == word for entry in entries) for word in SYMBOLS}
    return {
        "key": name,
        "title": GROUPS[name],
        "lead": _LEADS[name],
        "counts": {word: number for word, number in counts.items() if number},
        "entries": entries,
        "rows": rows,
    }


def _phrasings(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Scores of a task by phrasing: trained and held out, then each template where the comparison tells of it."""
    kinds = {_PHRASINGS[kind]: told for kind, told in (entry.get("by_phrasing") or {}).items() if kind in _PHRASINGS}
    templates = entry.get("by_template") or {}
    if len(kinds) < 2 and len(templates) < 2:
        return None
    values = [side[key] for side in [*kinds.values(), *templates.values()] for key in ("base", "tuned")]
    scale = charts.SCORE_AXIS
    if entry["unit"] != "0-100":
        scale = charts.own_axis(values, higher_is_better=entry["higher_is_better"])
    elif not entry["higher_is_better"]:
        scale = charts.Axis(0.0, 100.0, scale.ticks, reversed=True)

    def line(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
        drawn = charts.dumbbell({**told, "unit": entry["unit"], "metric": f"{name}, {entry['metric']}"}, scale)
        return {"name": name, "n": told["n"], "held_out": bool(told.get("held_out")), "chart": drawn}

    return {
        "entry": entry,
        "axis": charts.axis(scale),
        "over": entry.get("over_phrasings"),
        "kinds": [line(name, told) for name, told in kinds.items()],
        "templates": [line(name, told) for name, told in sorted(templates.items())],
    }


def _averages(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    titles = {"seen": "trained on", "unseen": "not trained on"}
    averages = comparison.get("average") or {}
    return [
        {"title": title, **averages[kind]}
        for kind, title in titles.items()
        if averages.get(kind) and averages[kind].get("tasks")
    ]


def _range(numbers: Sequence[int]) -> str:
    known = [number for number in numbers if finite(number)]
    if not known:
        return "0"
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
