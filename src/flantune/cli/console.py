"""What the person at the terminal sees while a run goes on: progress with the time left, or plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10


class Console:
    """Progress on standard error: one bar a phase on a terminal; elsewhere a line every ten seconds and at its end."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and "CI" not in os.environ
        self._bar = None
        self._title, self._total, self._first, self._done = "", 0, 0, 0
        self._began = self._said = 0.0
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        """A line of news."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def phase(self, title: str, total: int, done: int = 0) -> None:
        """A phase of `total` units begins, `done` of them long ago."""
        self._close()
        self._title, self._total, self._first, self._done = title, total, done, done
        self._began = self._said = time.monotonic()
        if self.live:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description:<14}"),
                BarColumn(30),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=RichConsole(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, completed=done, note="")
            self._bar.start()

    def advance(self, units: int, note: str = "") -> None:
        """Units of the phase are done."""
        self._done += units
        if self._bar is not None:
            self._bar.update(self._task, advance=units, note=note)
            if self._done >= self._total:
                self._close()
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES or self._done == self._total:
            self._said = time.monotonic()
            elapsed = self._said - self._began
            left = elapsed / max(1, self._done - self._first) * (self._total - self._done)
            print(
                f"{self._title}: {self._done}/{self._total}, {clock(elapsed)} elapsed, {clock(left)} left"
                + (f", {note}" if note else ""),
                file=sys.stderr,
                flush=True,
            )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def console() -> Iterator[Console]:
    """A console whose bar is put away however the command ends."""
    made = Console()
    try:
        yield made
    finally:
        made._close()


def clock(seconds: float) -> str:
    """Minutes and seconds: 4:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
