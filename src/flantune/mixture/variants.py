"""In which variants a task is asked: template, options, exemplars, inverted or straight; as planned and as counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

from flantune.mixture.tally import Sums, Way
from flantune.mixture.window import Member, MixtureRule, draw_function, exemplar_counts, mixed_task, option_ways

VARIANTS = ("templates", "options", "exemplars", "inverted")
Planned = dict[str, dict[str, Fraction]]


def by_variant(member: Member, ways: Mapping[Way, Sums]) -> dict[str, dict[str, Sums]]:
    """A task's sums by each of `VARIANTS`, named as the recipe and the task's file name them."""
    named = _names(member)
    found: dict[str, dict[str, Sums]] = {variant: {} for variant in VARIANTS}
    for way, sums in ways.items():
        for variant, name in zip(VARIANTS, named(way), strict=True):
            found[variant][name] = found[variant].get(name, Sums()).plus(sums)
    return found


def _names(member: Member) -> Callable[[Way], tuple[str, str, str, str]]:
    templates, styles = member.task.training_templates, _style_names(member)

    def named(way: Way) -> tuple[str, str, str, str]:
        template = templates[way.template]
        options = styles[way.options] if template.uses_options else "none"
        return template.name, options, str(way.exemplars), _turn(template.inverted)

    return named


def _style_names(member: Member) -> list[str]:
    return [style.name if style is not None else "none" for style, _ in option_ways(member)]


def _turn(inverted: bool) -> str:
    return "inverted" if inverted else "straight"


def planned_variants(members: Sequence[Member], rule: MixtureRule, draws: int) -> list[Planned]:
    """The share of each task's draws that each of `VARIANTS` should get, over the first `draws` draws of the run."""
    schedule = draw_function(members, rule).schedule
    starts = {0, draws, *(min(start, draws) for member in members for start, _ in member.later)}
    counts = {start: schedule.counts(start).tolist() for start in starts}
    return [
        _averaged([(share, _planned(member, start)) for start, share in _stages(number, member, counts, draws)])
        for number, member in enumerate(members)
    ]


def _stages(
    number: int, member: Member, counts: Mapping[int, Sequence[int]], draws: int
) -> Iterator[tuple[int, Fraction]]:
    """First draw of each stage in which a task is asked alike, with the stage's share of the task's draws."""
    drawn = counts[draws][number]
    starts = [0, *(start for start, _ in member.later)]
    for start, end in zip(starts, [*starts[1:], draws], strict=True):
        visits = counts[min(end, draws)][number] - counts[min(start, draws)][number]
        if drawn:
            yield start, Fraction(visits, drawn)
        elif start == 0:
            yield start, Fraction(1)


def _planned(member: Member, start: int) -> Planned:
    """The shares of a member as it is asked from a draw on."""
    mixed, styles = mixed_task(member, start), _style_names(member)
    counts = [str(count) for count, _ in exemplar_counts(member)]
    shares = {variant: defaultdict[str, Fraction](Fraction) for variant in VARIANTS}
    for template, share in zip(member.task.training_templates, mixed.template_weights, strict=True):
        shares["templates"][template.name] += share
        shares["inverted"][_turn(template.inverted)] += share
        asked = zip(styles, mixed.option_weights, strict=True) if template.uses_options else [("none", Fraction(1))]
        shown = zip(counts, mixed.shot_weights, strict=True) if template.takes_exemplars else [("0", Fraction(1))]
        for variant, parts in (("options", asked), ("exemplars", shown)):
            for name, part in parts:
                shares[variant][name] += share * part
    return {variant: dict(each) for variant, each in shares.items()}


def _averaged(stages: Sequence[tuple[Fraction, Planned]]) -> Planned:
    total = {variant: defaultdict[str, Fraction](Fraction) for variant in VARIANTS}
    for weight, shares in stages:
        for variant, each in shares.items():
            for name, share in each.items():
                total[variant][name] += weight * share
    return {variant: dict(each) for variant, each in total.items()}
