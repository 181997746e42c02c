"""Conversation: an input of several turns, each in a role, where other inputs are one text."""

from __future__ import annotations

from collections.abc import Sequence

from flantune.errors import FlantuneError

ROLES = ("system", "user", "assistant", "tool")
Turn = tuple[str, str]  # role and text


class Conversation(str):
    """The turns before an answer; as text it reads `User: ...`, a line each, for people and for metrics."""

    turns: tuple[Turn, ...]

    def __new__(cls, turns: Sequence[Turn]) -> Conversation:
        """From turns as (role, text)."""
        made = super().__new__(cls, "\n".join(f"{role.capitalize()}: {text}" for role, text in turns))
        made.turns = tuple((role, text) for role, text in turns)
        return made


def conversation_of(value: object, what: str) -> Conversation:
    """A conversation from a row's value: a list of [role, text].

    Raises:
        FlantuneError: Not such a list, an unknown role, or no turn at all.
    """
    if not isinstance(value, list | tuple) or not value:
        raise FlantuneError(f"{what} is no list of [role, text]; map the row's turns with the transform `conversation`")
    turns = []
    for number, turn in enumerate(value, start=1):
        whole = isinstance(turn, list | tuple) and len(turn) == 2 and all(isinstance(part, str) for part in turn)
        if not whole or turn[0] not in ROLES:
            raise FlantuneError(
                f"turn {number} of {what} is no [role, text] with a role among {', '.join(ROLES)}; "
                "map the row's turns with the transform `conversation`"
            )
        turns.append((turn[0], turn[1]))
    return Conversation(turns)
