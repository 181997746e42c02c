"""The mixture as planned and as trained on, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flantune.reporting import charts
from flantune.reporting.formats import finite


def mixture_view(mixture: Mapping[str, Any] | None, plan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Planned and realised by task; from either file alone where the other is missing."""
    if mixture is None and plan is None:
        return None
    planned = {task["task"]: task for task in (plan or {"tasks": []})["tasks"]}
    realised = {task["task"]: task for task in (mixture or {"tasks": []})["tasks"]}
    tasks = []
    for name in dict.fromkeys([*planned, *realised]):
        before, after = planned.get(name, {}), realised.get(name, {})
        told = {
            "task": name,
            "cluster": before.get("cluster"),
            "origins": before.get("origins", []),
            "rows": before.get("rows"),
            "planned_share": after.get("planned_share", before.get("rate")),
            "share": after.get("share"),
            "input_tokens": after.get("input_tokens"),
            "target_tokens": after.get("target_tokens"),
            "dropped": after.get("dropped", before.get("reasons", {})),
            "templates": sorted(after.get("templates", {}).items(), key=lambda item: (-item[1]["draws"], item[0])),
        }
        for key in ("draws", "epochs", "target_token_share", "loss_share", "shortened"):
            told[key] = after.get(key, before.get(key))
        tasks.append(told)
    known = [task[key] for task in tasks for key in ("planned_share", "share") if finite(task[key])]
    most = charts.nice(max(known, default=1.0), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10))
    for task in tasks:
        task["bars"] = charts.bars(task["planned_share"], task["share"], most)
    return {"realised": mixture is not None, "tasks": tasks, "asked": _asked(mixture)}


def _asked(mixture: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """How the examples of all tasks were asked: each kind of variant of which there is more than one."""
    titles = {"options": "options", "exemplars": "solved examples", "inverted": "direction"}
    return [
        {"title": titles.get(variant, variant), "name": name, **told}
        for variant, entries in (mixture or {}).get("variants", {}).items()
        for name, told in entries.items()
        if len(entries) > 1
    ]
