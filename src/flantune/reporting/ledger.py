"""What the ledger of a plan says, for report, model card and terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from flantune.reporting.formats import main_metrics, plural, short_task

NOT_STATED = "not stated"
MOST_PAIRS = 20  # of tasks that a terminal shows


def ledger_view(plan: Mapping[str, Any] | None, comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ledger with the scores that it casts doubt on; None where the plan has none."""
    ledger = (plan or {}).get("ledger")
    if ledger is None:
        return None
    pairs = [
        {**pair, "shown": [{**it, **_short_places(it)} for it in pair["shown"]]}
        for pair in ledger["contamination"] or ()
    ]
    return {
        "looked": ledger["contamination"] is not None,
        "pairs": pairs,
        "doubtful": [entry for entry in main_metrics(comparison) if entry.get("flagged")],
        "lines": [*_left_out(ledger), *_duplicates(ledger, short=True), *_allowed(ledger)],
        "licences": _by_licence(ledger),
    }


def ledger_lines(plan: Mapping[str, Any]) -> list[str]:
    """The ledger in lines of plain text, with whole places."""
    ledger = plan.get("ledger")
    if ledger is None:
        return []
    return [
        *_overlaps(ledger),
        *_left_out(ledger),
        *_duplicates(ledger),
        *_allowed(ledger),
        _licences(ledger),
    ]


def licence_of(plan: Mapping[str, Any], task: str) -> str:
    """The licence that a task states."""
    stated = {it["task"]: it["license"] for it in (plan.get("ledger") or {}).get("licences", ())}
    return stated.get(task) or NOT_STATED


def _overlaps(ledger: Mapping[str, Any]) -> Iterator[str]:
    """Of each pair of tasks the longest text in common."""
    pairs = ledger["contamination"] or ()
    for pair in pairs[:MOST_PAIRS]:
        match = pair["shown"][0]
        yield (
            f"{pair['evaluated']}, row {match['row']} ({match['place']}) and {pair['trained']} "
            f'({match["training_place"]}), {match["kind"]}, {plural(match["words"], "word")}: "{match["text"]}"'
        )
    if len(pairs) > MOST_PAIRS:
        yield f"and {plural(len(pairs) - MOST_PAIRS, 'more pair')} of tasks with text in common (flantune plan --json)"


def _left_out(ledger: Mapping[str, Any]) -> Iterator[str]:
    for it in ledger["left_out"]:
        reasons = {"hold text of evaluation rows": it["overlapping"], "repeat other rows": it["duplicates"]}
        told = ", ".join(f"{number:,} {why}" for why, number in reasons.items() if number)
        yield f"left out of {short_task(it['task'])}, of {plural(it['rows'], 'training row')}: {told}"


def _duplicates(ledger: Mapping[str, Any], *, short: bool = False) -> Iterator[str]:
    for it in ledger["duplicates"] or ():
        counts = ", ".join(
            f"{it[kind]:,} {told}" for kind, told in (("exact", "exactly"), ("near", "nearly")) if it[kind]
        )
        example = _short_places(it["shown"][0]) if short else it["shown"][0]
        yield (
            f"training rows of {short_task(it['task'])} that repeat rows of {short_task(it['of'])}: {counts} "
            f"({example['place']} repeats {example['repeats']})"
        )


def _allowed(ledger: Mapping[str, Any]) -> Iterator[str]:
    for it in ledger["allowed"]:
        yield (
            f"{short_task(it['unseen'])} is evaluated as unseen though it shares {', '.join(it['origins'])} with "
            f"{short_task(it['trained'])}, which is trained on: the recipe allows it"
        )


def _licences(ledger: Mapping[str, Any]) -> str:
    return "licences: " + "; ".join(f"{licence} ({', '.join(names)})" for licence, names in _by_licence(ledger).items())


def _by_licence(ledger: Mapping[str, Any]) -> Mapping[str, list[str]]:
    tasks = defaultdict[str, list[str]](list)
    for it in ledger["licences"]:
        tasks[it["license"] or NOT_STATED].append(short_task(it["task"]))
    return tasks


def _short_places(told: Mapping[str, Any]) -> dict[str, str]:
    """Places without their folders: a report is passed on, and folders are private."""
    return {key: told[key].rpartition("/")[2] for key in ("place", "training_place", "repeats") if key in told}
