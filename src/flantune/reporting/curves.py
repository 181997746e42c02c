"""Training curves of a run's log of steps, by task, with what its validations found, for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flantune.evaluation.validation_lines import Line, best_line
from flantune.reporting import charts
from flantune.reporting.formats import finite, short_task

_WHOLE = (
    ("Learning rate", "learning_rate", False),
    ("Tokens per second", "tokens_per_second", True),
    ("Gradient norm", "gradient_norm", True),
    ("Memory, GB", "memory_gb", False),
)


def training_view(
    lines: Sequence[Mapping[str, Any]], known: Sequence[str], validations: Sequence[Line] = ()
) -> dict[str, Any] | None:
    """Curves of the loss, of all tasks and of each, and of what else is told of steps; None without steps.

    Args:
        lines: The records of `metrics.jsonl`; those without a loss are not steps and are left out.
        known: Tasks in the order in which they should stand.
        validations: The records of `validation.jsonl`. A validation after n steps stands at step n, whose loss is
            that of the same weights.
    """
    lines = [line for line in lines if "step" in line and "loss" in line]
    if not lines:
        return None
    steps = [line["step"] for line in lines]
    span = (steps[0], max(steps[-1], *(line["step"] for line in validations), 0))
    best = best_line(validations)
    at = best["step"] if best is not None else None

    def whole_run(key: str, **look: Any) -> charts.Curve | None:
        if not any(finite(line.get(key)) for line in lines):
            return None
        return charts.curve(steps, [line.get(key) for line in lines], span, **look)

    means = [(line["step"], line["loss"]) for line in validations]
    losses = [("All tasks", whole_run("loss", width=700, height=210, validated=means, best=at), means)]
    trained = {task for line in lines for task in line.get("loss_by_task") or {}}
    trained |= {task for line in validations for task in line["loss_by_task"]}
    order = [*(task for task in known if task in trained), *sorted(trained.difference(known))]
    for task in order:
        present = [line for line in lines if task in (line.get("loss_by_task") or {})]
        its_steps, its_losses = [line["step"] for line in present], [line["loss_by_task"][task] for line in present]
        found = [(line["step"], line["loss_by_task"][task]) for line in validations if task in line["loss_by_task"]]
        drawn = charts.curve(its_steps, its_losses, span, validated=found, best=at)
        losses.append((short_task(task), drawn, found))
    small = [
        {"title": title, "curve": drawn}
        for title, key, smooth in _WHOLE
        if (drawn := whole_run(key, smooth=smooth, width=250, height=110)) is not None
    ]
    shown = [(title, curve, found) for title, curve, found in losses if curve is not None]
    return {
        "steps": len(lines),
        "losses": [{"title": title, "curve": curve, "validated": _ends(found, at)} for title, curve, found in shown],
        "small": small,
        "rising": [title for title, curve, _ in shown if curve.rises],
        "validation": _validation_view(validations, best, order, span) if validations else None,
    }


def _validation_view(
    validations: Sequence[Line], best: Line | None, order: Sequence[str], span: tuple[int, int]
) -> dict[str, Any]:
    """Curves of the scores of generated answers, and every number of the first, the best and the last validation."""
    at = best["step"] if best is not None else None
    metrics = {task: list(validations[-1]["scores"].get(task, ())) for task in order}
    series = [
        ("All tasks", "average, 0 to 100", [(line["step"], line["average"]) for line in validations]),
        ("Worst task", "0 to 100", [(line["step"], line["worst"]) for line in validations]),
    ]
    for task in order:
        for main in metrics[task][:1]:
            points = [(line["step"], line["scores"].get(task, {}).get(main)) for line in validations]
            series.append((short_task(task), main, points))
    told = {line["step"]: line for line in (validations[0], *([best] if best is not None else []), validations[-1])}
    columns = [told[step] for step in sorted(told)]
    rows = [("All tasks", "loss", [line["loss"] for line in columns])]
    if validations[-1]["average"] is not None:
        rows.append(("All tasks", "average, 0 to 100", [line["average"] for line in columns]))
    for task in order:
        rows.append((short_task(task), "loss", [line["loss_by_task"].get(task) for line in columns]))
        rows += [
            (short_task(task), metric, [line["scores"].get(task, {}).get(metric) for line in columns])
            for metric in metrics[task]
        ]
    return {
        "count": len(validations),
        "best": at,
        "scores": [
            {"title": title, "metric": metric, "curve": charts.curve([], [], span, validated=points, best=at)} | ends
            for title, metric, points in series
            if (ends := _ends(points, at)) is not None
        ],
        "columns": [line["step"] for line in columns],
        "rows": [row for row in rows if any(finite(value) for value in row[2])],
    }


def _ends(points: Sequence[tuple[int, float | None]], best: int | None) -> dict[str, float | None] | None:
    """The first, the last and the best validation's value; None where there is none."""
    known = [(step, value) for step, value in points if finite(value)]
    if not known:
        return None
    at_best = next((value for step, value in known if step == best), None)
    return {"first": known[0][1], "last": known[-1][1], "at_best": at_best}
