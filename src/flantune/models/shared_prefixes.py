"""Prefixes that several prompts of a micro-batch begin with: which are worth computing once, as a tree of pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

LEAST_SAVED = 16  # tokens: what a piece of its own costs in each layer's attention


@dataclass(frozen=True)
class Piece:
    """A part of one prompt that is computed once, for one example or for several.

    Attributes:
        parent: Number of the piece before it; -1 for none.
        example: Whose tokens these are; of a shared piece the first in the tree's sequence.
        start: Where it begins in that prompt.
        stop: Where it ends; None for the end of the example, target and all, which no other shares.
    """

    parent: int
    example: int
    start: int
    stop: int | None


def shared_pieces(prompts: Sequence[Sequence[int]], least_saved: int = LEAST_SAVED) -> list[Piece]:
    """Cuts prompts into pieces, so that a common beginning of several is one piece.

    Args:
        prompts: Token ids. The last token of each stays with what follows it, so that no example is without a piece.
        least_saved: Tokens that a shared piece must save.
    Returns:
        Each piece behind its parent. Each example has one whose `stop` is None, and from there back to the root all of
        its tokens.
    """
    inner = [tuple(prompt[:-1]) for prompt in prompts]
    # Sorted, prompts with a common beginning stand together, and what the first and the last share all share.
    everyone = sorted(range(len(inner)), key=inner.__getitem__)
    pieces: list[Piece] = []
    waiting = [(members, -1, 0, stop) for members, stop in _branches([everyone], inner, 0, least_saved)]
    while waiting:
        members, parent, start, stop = waiting.pop()
        pieces.append(Piece(parent, members[0], start, stop))
        if stop is not None:
            parts = _by_next_token(members, inner, stop)
            parent = len(pieces) - 1
            waiting += [(some, parent, stop, end) for some, end in _branches(parts, inner, stop, least_saved)]
    return pieces


def _branches(
    groups: Iterable[list[int]], inner: Sequence[Sequence[int]], start: int, least_saved: int
) -> list[tuple[list[int], int | None]]:
    """What goes on from `start`: groups that share a piece, with its end, and single examples; the last example first.

    Args:
        groups: Sorted, each of prompts that agree up to `start` and perhaps further.
    """
    found: list[tuple[list[int], int | None]] = []
    waiting = list(groups)
    while waiting:
        group = waiting.pop()
        common = start + _common(inner[group[0]][start:], inner[group[-1]][start:])
        if len(group) == 1:
            found.append((group, None))
        elif common - start > 1 and (len(group) - 1) * (common - start) >= least_saved:
            found.append((group, common))
        else:
            waiting += _by_next_token(group, inner, common)
    return sorted(found, key=lambda branch: -min(branch[0]))  # by number, so that tokens do not decide who comes first


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _by_next_token(group: Sequence[int], inner: Sequence[Sequence[int]], at: int) -> Iterator[list[int]]:
    """The group, in which all agree up to `at`, divided by the token there; those that end there stand alone."""
    for token, part in groupby(group, key=lambda n: None if len(inner[n]) == at else inner[n][at]):
        if token is None:
            yield from ([member] for member in part)
        else:
            yield list(part)
