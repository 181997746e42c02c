"""The plan before training: shares, epochs, tokens, drops and what to think about, by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flantune.mixture.draw import DrawFunction
from flantune.mixture.lengths import evenly
from flantune.mixture.order import Order
from flantune.mixture.tally import Tally, added
from flantune.mixture.variants import planned_variants
from flantune.mixture.warnings import warnings
from flantune.mixture.window import Member, MixtureRule, draw_function, planned_shares

PLANNED_WINDOWS = 32  # whose tokens a plan counts; it is exact for orders that have no more


def planned_windows(windows: int) -> list[int]:
    """The windows that a plan counts: all, or as many as `PLANNED_WINDOWS`, spread evenly over the run."""
    return evenly(windows, PLANNED_WINDOWS)


def plan(
    members: Sequence[Member], rule: MixtureRule, order: Order, *, draws: int, rows_per_step: int
) -> dict[str, Any]:
    """What will be trained on: the content of `plan.json`.

    Counted from the order itself. Of a long order some windows are counted, and the rest is taken to be like them; how
    often each task is drawn is exact in any case, since the draw function tells it without drawing.

    Args:
        members: The mixture's tasks with their rows.
        rule: How they are mixed and packed.
        order: Of which the windows `planned_windows` are made where they are missing.
        draws: Of the whole run.
        rows_per_step: Packed rows of an optimizer step.
    Returns:
        Totals, one entry a task, and warnings in plain words.
    """
    numbers = planned_windows(order.windows)
    windows = [order.window(number) for number in numbers]
    tally = Tally(len(members), [(window, len(window)) for window in windows])
    if not tally.rows:
        order.complete()  # says so, where nothing is left to train on
    lengths = _lengths([window.columns() for window in windows])
    function = draw_function(members, rule)
    drawn = function.schedule.counts(draws).tolist()
    shares, variants = planned_shares(members, rule, draws), planned_variants(members, rule, draws)
    tasks: list[dict[str, Any]] = [
        {
            "task": member.task.name,
            "cluster": member.task.spec.cluster,
            "origins": list(member.task.spec.origins),
            "rows": len(member.rows),
            "rate": float(shares[i]),
            **_scaled(tally, i, drawn[i]),
            "epochs": drawn[i] / len(member.rows),
            **_spread(lengths, i),
            "samples": _samples(member, tally, i, function),
            "planned": {
                variant: {name: float(share) for name, share in each.items() if share}
                for variant, each in variants[i].items()
            },
        }
        for i, member in enumerate(members)
    ]
    for name, of in (("target_token_share", "target_tokens"), ("loss_share", "loss_weight")):
        total = sum(task[of] for task in tasks) or 1
        for task in tasks:
            task[name] = task[of] / total
    totals = _totals(tasks, tally, rule, exact=len(numbers) == order.windows)
    return {
        "draws": draws,
        "steps": -(-totals["packed_rows"] // rows_per_step),
        **totals,
        "windows": order.windows,
        "counted_windows": len(numbers),
        "warnings": warnings(tasks),
        "tasks": tasks,
    }


def _scaled(tally: Tally, number: int, drawn: int) -> dict[str, Any]:
    """A task's sums over the whole run, of which `drawn` draws are its own; as counted, where all were counted."""
    sums, reasons = tally.task(number), tally.reasons[number]
    counted = sums.draws + reasons.total()
    lost = {reason: _part(drawn, lost, counted) for reason, lost in reasons.items()}
    kept = drawn - sum(lost.values())
    return {
        "draws": kept,
        "input_tokens": _part(kept, sums.input_tokens, sums.draws),
        "target_tokens": _part(kept, sums.target_tokens, sums.draws),
        "loss_weight": sums.loss_weight * (kept / sums.draws) if sums.draws else 0.0,
        "shortened": _part(kept, sums.shortened, sums.draws),
        "dropped": sum(lost.values()),
        "reasons": lost,
    }


def _part(whole: int, counted: int, of: int) -> int:
    """The part of a whole that was found in a sample; exactly what was counted, where the sample is the whole."""
    return (whole * counted + of // 2) // of if of else 0


def _lengths(columns: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    names = ("task", "input_length", "target_length")
    return {name: np.concatenate([said[name] for said in columns] or [np.zeros(0, np.int32)]) for name in names}


def _spread(lengths: Mapping[str, np.ndarray], number: int) -> dict[str, float | None]:
    """Mean and 95th percentile of a task's input and target tokens; None where none of it was counted."""
    own = lengths["task"] == number
    told: dict[str, float | None] = {}
    for kind in ("input", "target"):
        tokens = lengths[f"{kind}_length"][own]
        told[f"mean_{kind}_tokens"] = float(tokens.mean()) if len(tokens) else None
        told[f"p95_{kind}_tokens"] = float(np.percentile(tokens, 95)) if len(tokens) else None
    return told


def _samples(member: Member, tally: Tally, number: int, function: DrawFunction) -> dict[str, list[dict[str, Any]]]:
    """Some dropped and some shortened examples, with place and template."""
    return {
        kind: [_sample(member, item, function) for item in found[number]]
        for kind, found in (("dropped", tally.dropped), ("shortened", tally.shortened))
    }


def _sample(member: Member, item: Mapping[str, Any], function: DrawFunction) -> dict[str, Any]:
    template = member.task.training_templates[int(function.draws([item["draw"]]).templates[0])]
    return {"place": member.rows.place(item["row"]), "template": template.name, **item}


def _totals(tasks: Sequence[Mapping[str, Any]], tally: Tally, rule: MixtureRule, *, exact: bool) -> dict[str, Any]:
    """Of the run; packed rows of a sample are scaled by tokens."""
    inputs, targets = (sum(task[f"{kind}_tokens"] for task in tasks) for kind in ("input", "target"))
    sample = added(tally.task(number) for number in range(len(tasks)))
    sampled = sample.input_tokens + sample.target_tokens
    rows = tally.rows if exact else max(1, _part(inputs + targets, tally.rows, sampled))
    told: dict[str, Any] = {
        "exact": exact,
        "packed_rows": rows,
        "capacity": rule.capacity,
        "tokens": inputs + targets,
        "target_tokens": targets,
    }
    counted_rows = max(1, tally.rows)
    if rule.target_capacity is None:
        return {**told, "fill": sampled / (counted_rows * rule.capacity)}
    return {
        **told,
        "target_capacity": rule.target_capacity,
        "fill": sampled / (counted_rows * (rule.capacity + rule.target_capacity)),
        "input_fill": sample.input_tokens / (counted_rows * rule.capacity),
        "target_fill": sample.target_tokens / (counted_rows * rule.target_capacity),
    }
