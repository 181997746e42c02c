"""Lengths, measured before the order is: of each task's draws, for shares of tokens; of all, for a target capacity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from flantune.errors import FlantuneError
from flantune.mixture.packing import fitting_target_capacity
from flantune.mixture.window import Encoder, Member, MixtureRule, WindowBuilder

WINDOWS = 8  # of a run, of SAMPLE draws each
SAMPLE = 256  # draws of each task; the mean of lengths that vary by their own size is known to 6 % then


def measured(members: Sequence[Member], rule: MixtureRule, encoder: Encoder) -> tuple[Member, ...]:
    """The members with their mean lengths, if any mixture asks for shares of tokens; else as they are.

    The lengths are those of a task's first draws, were it alone: whatever is mixed beside it, they are the same.

    Raises:
        FlantuneError: A row that cannot be rendered, or a task none of whose draws fit into a packed row.
    """
    units = {rule.share_of, *(mixture.share_of for _, mixture in rule.mixtures)}
    if units <= {"examples", None}:
        return tuple(members)
    return tuple(_measured(member, rule, encoder) for member in members)


def _measured(member: Member, rule: MixtureRule, encoder: Encoder) -> Member:
    alone = Member(
        member.task, member.rows, options=member.options, few_shot=member.few_shot, exemplars=member.exemplars
    )
    single = replace(rule, rates="equal", share_of="examples", window=SAMPLE, mixtures=(), phases=())
    rows, _ = WindowBuilder([alone], single, encoder).window(0, SAMPLE)
    targets = sum(len(segment.target_ids) for row in rows for segment in row)
    tokens = sum(segment.length for row in rows for segment in row)
    if not targets:
        raise FlantuneError(
            f"of {SAMPLE} draws of task {member.task.name} none fits into a packed row of {rule.capacity} tokens, so "
            "its share of tokens cannot be planned; raise mixture.capacity"
        )
    return replace(member, lengths={"target_tokens": Fraction(targets, SAMPLE), "tokens": Fraction(tokens, SAMPLE)})


def with_target_capacity(members: Sequence[Member], rule: MixtureRule, encoder: Encoder, draws: int) -> MixtureRule:
    """The rule with the target capacity that suits some windows of an encoder-decoder's run, spread evenly over it.

    A target longer than all in them may come later; then it is dropped and the plan tells of it, so they are many.

    Raises:
        FlantuneError: A row that cannot be rendered, or no draw that fits into a packed row.
    """
    builder = WindowBuilder(members, replace(rule, target_capacity=rule.capacity, window=SAMPLE), encoder)
    windows = [builder.window(number, draws)[0] for number in evenly(-(-draws // SAMPLE), WINDOWS)]
    segments = [segment for rows in windows for row in rows for segment in row]
    if not segments:
        raise FlantuneError(
            f"of {min(draws, SAMPLE * WINDOWS)} draws none fits into a packed row of {rule.capacity} tokens; "
            "raise mixture.capacity"
        )
    inputs, targets = [len(s.input_ids) for s in segments], [len(s.target_ids) for s in segments]
    return replace(rule, target_capacity=fitting_target_capacity(inputs, targets, rule.capacity))


def evenly(total: int, most: int) -> list[int]:
    """Numbers below `total`: all, or as many as `most`, spread evenly."""
    counted = min(total, most)
    return [number * total // counted for number in range(counted)]
