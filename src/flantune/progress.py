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


class Interrupted(BaseException):
    """The run was asked to stop; what it had done is on the disk. As with Ctrl-C, no `except Exception` is in its way.

    Args:
        run: The run's folder.
        number: The signal.
        remedy: How to go on; by default how a run is gone on with.
    """

    def __init__(self, run: Path, number: int, remedy: str | None = None) -> None:
        if remedy is None:
            begun = (run / "recipe.yaml").exists()
            remedy = f"go on with: flantune train --resume {run}" if begun else "nothing was trained yet; start again"
        super().__init__(f"stopped by {signal.Signals(number).name}; {remedy}")
        self.exit_code = 128 + number


class StopSignals:
    """SIGINT, SIGTERM and SIGUSR1 of a run: they end it at once or, where there is something to lose, when it is saved.

    A second signal changes nothing: it may come from a scheduler that is in no hurry. A second Ctrl-C stops at once.

    Args:
        run: The run's folder.
        remedy: As of `Interrupted`.
    Attributes:
        received: Signals that came while they were collected.
    """

    def __init__(self, run: Path, remedy: str | None = None) -> None:
        self._run, self._remedy = run, remedy
        self._collects = self._leaving = False
        self.received: list[int] = []

    def collect(self) -> list[int]:
        """From now on whoever trains looks at the signals received, and leaves when all is saved."""
        self._collects = True
        return self.received

    def leave(self) -> None:
        """Raises what was asked for while signals were collected; from now on they end the run at once again.

        Raises:
            Interrupted: A signal came.
        """
        self._collects = False
        if self.received:
            self._leaving = True
            raise Interrupted(self._run, self.received[0], self._remedy)

    def note(self, number: int, frame: object) -> None:
        """A signal came."""
        if (self.received or self._leaving) and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._collects:
            self.received.append(number)
        elif not self._leaving:
            self._leaving = True
            raise Interrupted(self._run, number, self._remedy)


@contextmanager
def stop_signals(run: Path, remedy: str | None = None) -> Iterator[StopSignals]:
    """SIGINT, SIGTERM and SIGUSR1 are asked to go to a run while the block lasts.

    Raises:
        Interrupted: One came while nothing was to be saved.
    """
    signals = StopSignals(run, remedy)
    try:
        before = {number: signal.signal(number, signals.note) for number in STOPPING}
    except ValueError:  # not the main thread: signals stay with whoever has it
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
