"""Training curves of a run's log of steps, by task, for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flantune.reporting import charts
from flantune.reporting.formats import finite, short_task

_WHOLE = (
    ("Learning rate", "learning_rate", False),
    ("Tokens per second", "tokens_per_second", True),
    ("Gradient norm", "gradient_norm", True),
    ("Memory, GB", "memory_gb", False),
)


def training_view(lines: Sequence[Mapping[str, Any]], known: Sequence[str]) -> dict[str, Any] | None:
    """Curves of the loss, of all tasks and of each, and of what else is told of steps; None without steps.

    Args:
        lines: The records of `metrics.jsonl`; those without a loss are not steps and are left out.
        known: Tasks in the order in which they should stand.
    """
    lines = [line for line in lines if "step" in line and "loss" in line]
    if not lines:
        return None
    steps = [line["step"] for line in lines]
    span = (steps[0], steps[-1])

    def whole_run(key: str, **look: Any) -> charts.Curve | None:
        if not any(finite(line.get(key)) for line in lines):
            return None
        return charts.curve(steps, [line.get(key) for line in lines], span, **look)

    losses = [("All tasks", whole_run("loss", width=700, height=210))]
    trained = {task for line in lines for task in line.get("loss_by_task") or {}}
    for task in [*(task for task in known if task in trained), *sorted(trained.difference(known))]:
        present = [line for line in lines if task in (line.get("loss_by_task") or {})]
        its_steps, its_losses = zip(*((line["step"], line["loss_by_task"][task]) for line in present), strict=True)
        losses.append((short_task(task), charts.curve(its_steps, its_losses, span)))
    small = [
        {"title": title, "curve": drawn}
        for title, key, smooth in _WHOLE
        if (drawn := whole_run(key, smooth=smooth, width=250, height=110)) is not None
    ]
    shown = [(title, curve) for title, curve in losses if curve is not None]
    return {
        "steps": len(lines),
        "losses": [{"title": title, "curve": curve} for title, curve in shown],
        "small": small,
        "rising": [title for title, curve in shown if curve.rises],
    }
