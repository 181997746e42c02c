"""How far a run is, and how it is asked to stop: what a run says to whoever watches it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Listener(Protocol):
    """Who is told how far a run is: the terminal, or nobody."""

    def say(self, line: str) -> None:
        """A line of news."""

    def phase(self, title: str, total: int, done: int = 0) -> None:
        """A phase of `total` units begins; some may be done already, by a run that is gone on with."""

    def advance(self, units: int, note: str = "") -> None:
        """Units of the phase are done."""

    def detail(self, line: str) -> None:
        """What more there is to know of where the phase is."""


class Silent:
    """Tells nobody."""

    def say(self, line: str) -> None:
        """Nothing."""

    def phase(self, title: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def advance(self, units: int, note: str = "") -> None:
        """Nothing."""

    def detail(self, line: str) -> None:
        """Nothing."""


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is saved.

    Args:
        run: The run's folder.
        number: The signal.
    """

    def __init__(self, run: Path, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; go on with: flantune train --resume {run}")
        self.exit_code = 128 + number


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGUSR1, so that a step ends and a checkpoint is saved.

    A second Ctrl-C stops at once; a second signal of another kind comes from a scheduler that is in no hurry.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {number: signal.signal(number, note) for number in STOPPING}
    except ValueError:  # not the main thread: signals stay with whoever has it
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
