"""The receipt after training: what was trained on, by task, template and variant, beside what was planned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from flantune.mixture.order import Order
from flantune.mixture.tally import Sums, Tally, added
from flantune.mixture.variants import VARIANTS, Planned, by_variant, planned_variants
from flantune.mixture.window import Member, MixtureRule, planned_shares


def receipt(members: Sequence[Member], rule: MixtureRule, order: Order, rows_trained: int) -> dict[str, Any]:
    """What was really trained on, up to packed row `rows_trained`: the content of `mixture.json`.

    Returns:
        Totals, shares of variants over all tasks, and one entry a task. A share is one of draws; planned shares are
        those of as many draws as came up to there.
    """
    whole = order.windows == 0 or rows_trained >= len(order)
    tally = Tally(len(members), order.opened(None if whole else rows_trained))
    counted = [by_variant(member, ways) for member, ways in zip(members, tally.ways, strict=True)]
    sums = [tally.task(number) for number in range(len(members))]
    total = added(sums)
    drawn = max(1, total.draws + sum(each.total() for each in tally.reasons))
    shares, planned = planned_shares(members, rule, drawn), planned_variants(members, rule, drawn)
    return {
        **_quantities(total),
        "packed_rows": rows_trained,
        "variants": _over_tasks(shares, planned, counted, total),
        "tasks": [
            {
                "task": member.task.name,
                **_compared(shares[i], sums[i], total),
                "epochs": (sums[i].draws + tally.reasons[i].total()) / len(member.rows),
                "shortened": sums[i].shortened,
                "dropped": dict(tally.reasons[i]),
                **{variant: _entries(planned[i][variant], counted[i][variant], sums[i]) for variant in VARIANTS},
            }
            for i, member in enumerate(members)
        ],
    }


def _quantities(sums: Sums) -> dict[str, Any]:
    return {
        "draws": sums.draws,
        "input_tokens": sums.input_tokens,
        "target_tokens": sums.target_tokens,
        "loss_weight": sums.loss_weight,
    }


def _compared(planned: Fraction, part: Sums, whole: Sums) -> dict[str, Any]:
    """Planned and realised share of draws, and what came of it in tokens and loss."""
    return {
        "planned_share": float(planned),
        "share": part.draws / (whole.draws or 1),
        **_quantities(part),
        "input_token_share": part.input_tokens / (whole.input_tokens or 1),
        "target_token_share": part.target_tokens / (whole.target_tokens or 1),
        "loss_share": part.loss_weight / (whole.loss_weight or 1),
    }


def _entries(planned: Mapping[str, Fraction], counted: Mapping[str, Sums], whole: Sums) -> dict[str, Any]:
    """What was planned or came: a prompt that is too long, say, shows fewer exemplars than were asked for."""
    return {
        name: _compared(planned.get(name, Fraction(0)), counted.get(name, Sums()), whole)
        for name in dict.fromkeys([*planned, *counted])
        if planned.get(name) or name in counted
    }


def _over_tasks(
    rates: Sequence[Fraction],
    planned: Sequence[Planned],
    counted: Sequence[Mapping[str, Mapping[str, Sums]]],
    total: Sums,
) -> dict[str, Any]:
    """Variants that mean the same in every task."""
    said = {}
    for variant in ("options", "exemplars", "inverted"):
        wanted, came = defaultdict[str, Fraction](Fraction), dict[str, Sums]()
        for rate, shares, sums in zip(rates, planned, counted, strict=True):
            for name, share in shares[variant].items():
                wanted[name] += rate * share
            for name, each in sums[variant].items():
                came[name] = came.get(name, Sums()).plus(each)
        said[variant] = _entries(wanted, came, total)
    return said
