"""What tuning may have cost, for the report and the model card: kept abilities, the form of answers, plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flantune.reporting import charts
from flantune.reporting.formats import finite, main_metrics

SHARES = {
    "one_word": "one word alone",
    "empty": "empty",
    "unfinished": "cut at the length limit",
    "refusals": "begin like a refusal",
}
ARROWS = {"rose": "↑", "fell": "↓"}
_GROUPS = {False: "Answers, not trained", True: "Answers, trained"}


def forgetting_view(comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parts `kept`, `drift` and what their heads need; None where nothing of it was measured."""
    made = comparison.get("forgetting")
    if made is None:
        return None
    mains = main_metrics(comparison)
    shared = charts.difference_axis(mains)
    kept = [_kept(entry, shared) for entry in main_metrics(comparison, "kept")]
    if made["plain_text"] is not None:
        text = {**made["plain_text"], "task": "plain text", "higher_is_better": False}
        kept.append(_kept(text, shared))
    scale = charts.own_axis(_lengths(made["drift"]), higher_is_better=True)
    by_task = forms_by_task(made["drift"])
    groups = []
    for trained, title in _GROUPS.items():
        lines = [_form(forms, scale) for forms in by_task if (forms["words"]["group"] == "trained") == trained]
        if lines:
            groups.append({"title": title, "lines": lines})
    text = made["plain_text"]
    return {"kept": kept, "difference_axis": charts.axis(shared, signed=True), "text": text} | {
        "drift": groups,
        "length_axis": charts.axis(scale),
        "summary": made["summary"],
    }


def forms_by_task(drift: Sequence[Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """The entries of each task by the form that they tell of, in order of the tasks."""
    tasks: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in drift:
        tasks.setdefault(entry["task"], {})[entry["metric"]] = entry
    return list(tasks.values())


def _kept(entry: Mapping[str, Any], shared: charts.Axis) -> dict[str, Any]:
    scale = shared if entry["unit"] == "0-100" else charts.own_difference_axis(entry, shared)
    return {"entry": entry, "forest": charts.forest(entry, scale)}


def _form(forms: Mapping[str, Mapping[str, Any]], scale: charts.Axis) -> dict[str, Any]:
    words = forms["words"]
    told = [
        {"name": name, "entry": forms[key], "arrow": ARROWS.get(forms[key]["change"], "")}
        for key, name in SHARES.items()
        if forms[key]["base"] or forms[key]["tuned"]
    ]
    drawn = charts.dumbbell(words, scale, reference=words["references"])
    return {"entry": words, "chart": drawn, "shares": told, "arrow": ARROWS.get(words["change"], "")}


def _lengths(drift: Sequence[Mapping[str, Any]]) -> list[float]:
    words = [entry for entry in drift if entry["metric"] == "words"]
    return [entry[key] for entry in words for key in ("base", "tuned", "references") if finite(entry[key])]
