"""The plan before training and the receipt after it: shares, tokens, epochs, drops, by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from flantune.mixture.order import Order
from flantune.mixture.window import Member, MixtureRule, PackedRow, option_ways, planned_shares


def plan(members: Sequence[Member], rule: MixtureRule, order: Order, *, draws: int, steps: int) -> dict[str, Any]:
    """What will be trained on, counted from the order itself: the content of `plan.json`.

    Returns:
        Totals, one entry a task, and warnings in plain words.
    """
    tasks = _counted(members, rule, (order.row(r) for r in range(len(order))), order.dropped)
    tokens = sum(task["input_tokens"] + task["target_tokens"] for task in tasks)
    listed = []
    for task, member in zip(tasks, members, strict=True):
        kept = max(1, task["draws"])
        listed.append(
            {
                "task": task["task"],
                "cluster": member.task.spec.cluster,
                "origins": list(member.task.spec.origins),
                "rows": len(member.rows),
                "rate": task["planned_share"],
                "draws": task["draws"],
                "epochs": task["epochs"],
                "mean_input_tokens": task["input_tokens"] / kept,
                "mean_target_tokens": task["target_tokens"] / kept,
                "target_token_share": task["target_token_share"],
                "loss_share": task["loss_share"],
                "dropped": sum(task["dropped"].values()),
            }
        )
    return {
        "draws": draws,
        "steps": steps,
        "packed_rows": len(order),
        "capacity": rule.capacity,
        "fill": tokens / (len(order) * rule.capacity),
        "tokens": tokens,
        "target_tokens": sum(task["target_tokens"] for task in tasks),
        "warnings": warnings(listed),
        "tasks": listed,
    }


def receipt(members: Sequence[Member], rule: MixtureRule, order: Order, rows_trained: int) -> dict[str, Any]:
    """What was really trained on, up to packed row `rows_trained`: the content of `mixture.json`."""
    begun = order.window_of(rows_trained - 1) + 1 if rows_trained else 0
    dropped = [item for item in order.dropped if item["draw"] < begun * rule.window]
    tasks = _counted(members, rule, (order.row(r) for r in range(rows_trained)), dropped)
    return {"draws": sum(task["draws"] for task in tasks), "packed_rows": rows_trained, "tasks": tasks}


def _counted(
    members: Sequence[Member], rule: MixtureRule, rows: Iterable[PackedRow], dropped: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    draws, inputs, targets = ([0] * len(members) for _ in range(3))
    loss = [0.0] * len(members)
    templates = [dict.fromkeys((t.name for t in member.task.training_templates), 0) for member in members]
    ways = [[style.name if style is not None else "none" for style, _ in option_ways(member)] for member in members]
    options = [dict.fromkeys(["none", *names], 0) for names in ways]
    exemplars: list[Counter[int]] = [Counter() for _ in members]
    for row in rows:
        for segment in row:
            task = segment.task
            draws[task] += 1
            inputs[task] += len(segment.input_ids)
            targets[task] += len(segment.target_ids)
            loss[task] += segment.loss_weight * len(segment.target_ids)
            template = members[task].task.training_templates[segment.template]
            templates[task][template.name] += 1
            options[task][ways[task][segment.options] if template.uses_options else "none"] += 1
            exemplars[task][segment.exemplars] += 1
    reasons: list[Counter[str]] = [Counter() for _ in members]
    for item in dropped:
        reasons[item["task"]][item["reason"]] += 1
    shares = planned_shares(members, rule, max(1, sum(draws) + len(dropped)))
    return [
        {
            "task": member.task.name,
            "planned_share": float(share),
            "share": draws[i] / (sum(draws) or 1),
            "draws": draws[i],
            "epochs": draws[i] / len(member.rows),
            "input_tokens": inputs[i],
            "target_tokens": targets[i],
            "target_token_share": targets[i] / (sum(targets) or 1),
            "loss_share": loss[i] / (sum(loss) or 1),
            "dropped": dict(reasons[i]),
            "templates": templates[i],
            "options": {name: count for name, count in options[i].items() if count},
            "exemplars": {str(count): exemplars[i][count] for count in sorted(exemplars[i])},
        }
        for i, (member, share) in enumerate(zip(members, shares, strict=True))
    ]


def warnings(tasks: Sequence[dict[str, Any]]) -> list[str]:
    """What a careful colleague would point at before the training starts."""
    told = []
    for task in tasks:
        if task["dropped"]:
            told.append(
                f"{task['task']}: {task['dropped']} of {task['draws'] + task['dropped']} draws are too long for a "
                "packed row and dropped; raise mixture.capacity or name a field in the task's `shorten`"
            )
        if task["epochs"] > 4:
            told.append(
                f"{task['task']}: each row is seen {task['epochs']:.1f} times; past four, more epochs mostly memorize"
            )
        if len(tasks) > 1 and task["loss_share"] < 0.02:
            told.append(
                f"{task['task']}: only {100 * task['loss_share']:.1f} % of the loss; it may hardly learn "
                "(training.loss.per: example or square_root counts short targets more)"
            )
    return told
