"""Models between others: a share of the way from a base to what was made of it, or the mean of several.

Between a base and its tuned model there are often models that keep more of what the base knew and lose little of
what was learned (Wortsman et al. 2022, arXiv:2109.01903); the mean of several models that were tuned from one base
often does better than each (Wortsman et al. 2022, arXiv:2203.05482).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from flantune.errors import FlantuneError

MOST = 101


def shares(text: str) -> list[Fraction]:
    """Shares from a command line, exactly as written: `0:1:0.1` (first, last, step), `0.3,0.5`, or one.

    Raises:
        FlantuneError: Not such a list, a share outside 0 to 1, or too many.
    """
    try:
        if ":" in text:
            first, last, step = map(Fraction, text.split(":"))
            found = [first + i * step for i in range(min(int((last - first) / step) + 1, MOST + 1))]
        else:
            found = list(dict.fromkeys(map(Fraction, text.split(","))))
    except (ValueError, ZeroDivisionError):
        found = []
    if not found or not all(0 <= share <= 1 for share in found) or len(found) > MOST:
        raise FlantuneError(f"1 to {MOST} shares from 0 to 1 are wanted, as 0:1:0.1 or 0.3,0.5", f"--alpha {text}")
    return found


@torch.no_grad()
def interpolate(base: Any, tuned: Any, share: Fraction, into: Any) -> None:
    """Sets the weights of a third model to base + share * (tuned - base), in float32; at 0 and 1 they are the ends.

    Args:
        base: Share 0.
        tuned: Share 1.
        share: From 0 to 1.
        into: A model of the same kind; its type of numbers is kept.
    Raises:
        FlantuneError: The models have not the same weights.
    """
    start, end = _weights_of_one_kind(base, tuned)
    for name, weight in into.named_parameters():
        weight.copy_(torch.lerp(start[name].float(), end[name].float(), float(share)))


@torch.no_grad()
def add_to_mean(mean: Any, model: Any, count: int) -> None:
    """Makes the mean of `count` - 1 models that of `count`, in place.

    Args:
        mean: A float32 model whose weights are the mean so far.
        model: Another of the same kind.
        count: From 2.
    Raises:
        FlantuneError: The models have not the same weights.
    """
    so_far, added = _weights_of_one_kind(mean, model)
    for name, weight in so_far.items():
        weight.lerp_(added[name].float(), 1 / count)


def _weights_of_one_kind(one: Any, other: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    found = dict(one.named_parameters()), dict(other.named_parameters())
    for name in sorted(found[0].keys() | found[1].keys()):
        if name not in found[0] or name not in found[1] or found[0][name].shape != found[1][name].shape:
            raise FlantuneError(
                f"the two models are not of one kind: {name} is missing in one or has another shape; give a model and "
                "what was trained from it"
            )
    return found
