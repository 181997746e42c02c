"""From rows to the kind of task that they are: every way to see them is weighed by its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from flantune.errors import FlantuneError, nearest
from flantune.tasks.init import closed, open
from flantune.tasks.init.columns import Column
from flantune.tasks.init.phrasings import OWN_WORDS, phrasings
from flantune.tasks.init.sides import Group, sampled
from flantune.tasks.init.tidy import Stated, can_change, changed, tidying
from flantune.tasks.init.view import Proposal, View, quoted

DETECTORS: tuple[Callable[[View], Iterator[Proposal]], ...] = (
    closed.labels,
    closed.pairs,
    closed.yes_or_no,
    closed.multiple_choice,
    closed.records,
    closed.numbers,
    open.conversations,
    open.exchanges,
    open.extractions,
    open.keyphrases,
    open.translations,
    open.programs,
    open.data_to_text,
    open.summaries,
    open.rewritings,
    open.answers,
    open.instructions,
)
CLEAR = 6.0  # points; beyond, no other way to see the rows is tried
WEAK = 2.0  # points; below, rows are rather no task than a bad one
NEAR = 0.8  # points between two answers that could be wanted as well
BELOW_A_LIST = 1.5  # points that a view loses for what it takes the first of
MOST_NESTED_LISTS = 6


@dataclass(frozen=True)
class Wishes:
    """What a person said on the command line."""

    kind: str | None = None
    input_: tuple[str, ...] = ()
    target: str | None = None
    instruction: str | None = None


@dataclass(frozen=True)
class Decision:
    """What the rows of a group are taken for.

    Attributes:
        proposal: Kind, columns and evidence.
        view: The rows as the proposal sees them.
        source: Of the task: the group's, with record path and transforms.
        others: Proposals with another target that are nearly as likely.
        second: One of another kind that is as sure, of the same rows: intents and slots.
    """

    proposal: Proposal
    view: View
    source: dict[str, object]
    others: tuple[Proposal, ...] = ()
    second: Proposal | None = None


def decide(group: Group, wishes: Wishes) -> Decision | None:
    """The likeliest task of a group's rows; None where nothing is likely.

    Raises:
        FlantuneError: A wished column or kind that there is not.
    """
    known = [kind for kind in phrasings() if kind != OWN_WORDS]
    if wishes.kind is not None and wishes.kind not in known:
        raise FlantuneError(f'unknown kind "{wishes.kind}"; {nearest(wishes.kind, known, show=50)}', "--kind")
    found: list[tuple[Proposal, View, dict[str, object]]] = []
    for view, source in _views(group):
        found += [(proposal, view, source) for proposal in proposals(view, wishes)]
        if any(_weight(proposal) >= CLEAR for proposal, *_ in found):
            break
    if not found:
        return None
    best, view, source = max(found, key=lambda each: _weight(each[0]))
    alike = [proposal for proposal, seen, _ in found if seen is view and proposal is not best]
    if best.score < WEAK and not wishes.target:
        return None
    second = _second(best, alike)
    return Decision(
        best,
        view,
        source,
        _others(best, [each for each in alike if second is None or each.target is not second.target]),
        second,
    )


def _weight(proposal: Proposal) -> float:
    """Its points, less some for taking only the first item of lists in which examples seem to lie."""
    given = [column for columns in proposal.given.values() for column in columns]
    return proposal.score - BELOW_A_LIST * sum(0 in column.path and column.nature != "turns" for column in given)


def proposals(view: View, wishes: Wishes) -> list[Proposal]:
    """What a view could be, likeliest first; only what agrees with the wishes."""
    found = [proposal for detector in DETECTORS for proposal in detector(view)]
    for name in (*wishes.input_, *([wishes.target] if wishes.target else [])):
        if view.column(name) is None:
            raise FlantuneError(f'no column "{name}"; {nearest(name, {c.name for c in view.columns})}')
    agreed = [_as_wished(proposal, view, wishes) for proposal in found]
    kept = [proposal for proposal in agreed if proposal is not None]
    if not kept and (wishes.target or wishes.kind or wishes.input_):
        kept = [made for made in [_made_up(view, wishes)] if made is not None]
    return sorted(kept, key=lambda proposal: -proposal.score)


def _as_wished(proposal: Proposal, view: View, wishes: Wishes) -> Proposal | None:
    """A proposal with the wished columns in its places; None where it is of another kind or target."""
    if wishes.kind is not None and proposal.kind != wishes.kind:
        return None
    if wishes.target is not None and wishes.target not in (proposal.target.name, str(proposal.target.path[0])):
        return None
    if not wishes.input_:
        return proposal
    wanted = [column for name in wishes.input_ if (column := view.column(name)) is not None]
    given = [column for columns in proposal.given.values() for column in columns]
    if set(wanted) == set(given):
        return proposal
    return (
        replace(proposal, given={next(iter(proposal.given)): tuple(wanted)})
        if set(wanted) <= set(given) and len(proposal.given) == 1
        else None
    )


def _made_up(view: View, wishes: Wishes) -> Proposal | None:
    """A task of what was wished, where no evidence speaks for it."""
    target = view.column(wishes.target) if wishes.target else None
    given = [column for name in wishes.input_ if (column := view.column(name)) is not None]
    texts = [column for column in view.prose if column is not target and column not in given]
    target = target or (texts[-1] if texts else None)
    given = given or [column for column in texts if column is not target][:1]
    if target is None or not given:
        return None
    natural = {"category": "classification", "scale": "rating", "number": "number", "labels": "multi_label"}
    kind = wishes.kind or natural.get(target.nature, "instruction")
    places = [
        name
        for name in ("input", "question", "instruction", "first", "turns", "record")
        if f"[{name}]" in str(phrasings()[kind].straight)
    ]
    why = (f"you asked for {quoted(*given)} and {quoted(target)}",)
    return Proposal(kind, {places[0] if places else "input": tuple(given)}, target, WEAK, why)


def _others(best: Proposal, alike: Sequence[Proposal]) -> tuple[Proposal, ...]:
    seen, found = {best.target.path[0], *(c.path[0] for columns in best.given.values() for c in columns)}, []
    for proposal in alike:
        whole = len(proposal.target.path) == 1 and proposal.target.share > 0.6
        if proposal.score > best.score - NEAR and proposal.target.path[0] not in seen and whole:
            seen.add(proposal.target.path[0])
            found.append(proposal)
    return tuple(found[:4])


def _second(best: Proposal, alike: Sequence[Proposal]) -> Proposal | None:
    kinds = {"classification": "extraction", "extraction": "classification"}  # intents and slots
    return next(
        (p for p in alike if p.kind == kinds.get(best.kind) and p.score > 4 and set(p.given) == set(best.given)), None
    )


# --- ways to see the rows -----------------------------------------------------------------------------------


def _views(group: Group) -> Iterator[tuple[View, dict[str, object]]]:
    """The rows under each record path that there may be, tidied; and with each list of objects as rows of its own."""
    source = dict(group.source)
    given: list[Stated] = list(source.pop("transforms", []))
    variants: list[tuple[dict[str, object], Sequence[dict[str, object]]]] = [(source, group.rows)]
    for path in group.form.paths[1:] if not group.form.splits else ():
        other = {**source, "records": path}
        variants.append((other, sampled(other, next(iter(group.source["splits"])))[0]))
    for keys, rows in variants:
        for transforms in _transforms(rows, given):
            made = changed(rows, transforms)
            stated = {**keys, **({"transforms": transforms} if transforms else {})}
            yield View(made, transforms, named=group.form.named, told=bool(group.form.words)), stated


def _transforms(rows: Sequence[dict[str, object]], given: Sequence[Stated]) -> Iterator[list[Stated]]:
    first = changed(rows, given)
    tidy = [*given, *tidying(first)]
    yield tidy
    made = changed(rows, tidy)
    for name in [
        column.path[0] for column in View(made).columns if len(column.path) == 1 and column.nature in ("items", "spans")
    ][:MOST_NESTED_LISTS]:
        exploded = [
            *tidy,
            *([] if all(name in row for row in made) else [{"filter": f"{name} is defined"}]),
            {"explode": name},
        ]
        if can_change(rows, exploded):
            inner = tidying(changed(rows, exploded)[:2000])
            yield [*exploded, *(each for each in inner if each not in tidy)]


def left_out(view: View, proposal: Proposal) -> list[tuple[Column, str]]:
    """Columns that the task does not use, with what they are."""
    used = {column.path[0] for column in proposal.columns}
    said = {
        "identifier": "tells rows apart",
        "constant": "is the same in all rows",
        "empty": "is empty",
        "time": "is a time",
        "link": "is a link or a file",
    }
    return [
        (column, said.get(column.nature, ""))
        for column in view.columns
        if len(column.path) == 1 and column.path[0] not in used
    ]
