"""A judge's second opinion, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def opinion_view(made: Mapping[str, Any] | None, identities: Mapping[str, Any]) -> dict[str, Any] | None:
    """The opinion as it was kept; None where there is none, or where it is of other models than are compared now."""
    if made is None or any(made["of"][side] != identities[side] for side in ("base", "tuned")):
        return None
    return dict(made)
