"""A judge's second opinion, for the report, the model card and the page of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flantune.reporting.formats import count, plural, share


def opinion_view(read: Callable[[str], Any]) -> dict[str, Any] | None:
    """The opinion as it was kept; None where there is none, or where it is of other models than are compared now.

    Args:
        read: The content of a JSON file of the run by its name; None where there is none.
    """
    made = read("second_opinion.json")
    if made is None:
        return None
    for side in ("base", "tuned"):
        kept = read(f"evaluation/{side}/settings.json") or {}
        if made["of"][side] != kept.get("identity"):
            return None
    return dict(made)


def opinion_in_short(made: Mapping[str, Any]) -> str:
    """An opinion over all its tasks in a few sentences: pairs, wins, interval, flips, and what it is not."""
    told = made["all"]
    asked = f"{plural(told['rows'], 'pair')} of answers from {plural(len(made['tasks']), 'task')}, each in both orders"
    if told["identical"]:
        asked += f" ({count(told['identical'])} of equal answers not asked, and tied)"
    counted = "" if told["n"] == told["rows"] else f" of {plural(told['n'], 'row')} with several pairs each"
    won = f"tuned won {count(told['wins'])}, lost {count(told['losses'])}, tied {count(told['ties'])}{counted}"
    if told["ci"]:
        low, high = map(share, told["ci"])
        won += f"; of those decided it won {share(told['share'])} (95 % interval {low} to {high})"
    unread = f" and its replies could not be read in {count(told['unparsable'])}" if told["unparsable"] else ""
    flips = f"The winner flipped with the order in {plural(told['flips'], 'pair')}{unread}; such pairs are ties"
    return (
        f"{made['judge']['model']} was asked which answer is better in {asked}; a win needs both: {won}. {flips}. "
        "It says what one other model prefers, beside the scores."
    )
