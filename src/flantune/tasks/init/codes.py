"""What the numbers of classes stand for, where something says it: a person, a file of names, columns of votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flantune.tasks.init.columns import Column
from flantune.tasks.init.view import Proposal, View, quoted

CODED = ("classification", "pair_classification", "entailment", "same_meaning")


def are_codes(proposal: Proposal) -> bool:
    """Whether the answers of a task are numbers that stand for classes."""
    return proposal.kind in CODED and proposal.target.nature == "scale" and len(proposal.target.path) == 1


def meanings(
    proposal: Proposal, view: View, names: Sequence[str], told: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    """The class of each number, and what says so; nothing where nothing does.

    Args:
        proposal: A task whose answers are codes.
        view: Its rows.
        names: Of classes, in a file beside the rows.
        told: What a person said.
    """
    target = proposal.target
    kinds = sorted(target.counts, key=float)
    if told:
        return {code: told.get(code, code) for code in kinds}, "the classes are named as you said"
    first, last = int(float(kinds[0])), int(float(kinds[-1]))
    if first in (0, 1) and len(names) > last - first and len(set(names)) == len(names):
        why = f"the numbers of {quoted(target)} are the classes of the file beside it, in its order"
        return {str(number): name for number, name in enumerate(names, start=first)}, why
    counted = _counted(target, view, kinds)
    if counted:
        classes = {code: column.name.replace("_", " ") for code, column in zip(kinds, counted, strict=True)}
        return classes, f"{quoted(target)} is the number of the largest of {quoted(*counted)}"
    return {}, ""


def _counted(target: Column, view: View, kinds: Sequence[str]) -> list[Column]:
    """Neighbouring columns of votes, the largest of which the code tells."""
    if list(kinds) != [str(number) for number in range(len(kinds))]:
        return []
    votes = [c for c in view.columns if len(c.path) == 1 and c.nature in ("scale", "number") and c is not target]
    for start in range(len(votes) - len(kinds) + 1):
        some = votes[start : start + len(kinds)]
        beside = some[-1].position - some[0].position == len(some) - 1
        if beside and all(c.numbers is not None for c in some) and _tells_largest(target, some):
            return some
    return []


def _tells_largest(target: Column, votes: Sequence[Column]) -> bool:
    rows = list(zip(target.values, *(column.values for column in votes), strict=True))
    right = 0
    for code, *counts in rows:
        numbers = [float(count) for count in counts if count not in (None, "")]
        right += len(numbers) == len(counts) and str(numbers.index(max(numbers))) == str(code)
    return right > 0.97 * len(rows)
