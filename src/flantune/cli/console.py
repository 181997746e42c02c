"""What the person at the terminal sees while a run goes on: progress with the time left, or plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10
LONGEST_DETAIL = 160  # characters of it in a log


class Console:
    """Progress on standard error: on a terminal a bar and a line below it, elsewhere a line every ten seconds.

    A phase that ends is told in any case.
    """

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and "CI" not in os.environ
        self._bar: Progress | None = None
        self._display: Live | None = None
        self._title, self._total, self._first, self._done, self._detail = "", 0, 0, 0, ""
        self._began = self._said = 0.0
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        """A line of news."""
        if self._display is not None:
            self._display.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def phase(self, title: str, total: int, done: int = 0) -> None:
        """A phase of `total` units begins, `done` of them long ago."""
        self._close()
        self._title, self._total, self._first, self._done, self._detail = title, total, done, done, ""
        self._began = self._said = time.monotonic()
        if self.live:
            from rich.console import Console as RichConsole
            from rich.console import Group
            from rich.live import Live
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.text import Text

            bar = self._bar = Progress(
                TextColumn("{task.description:<14}"),
                BarColumn(30),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._task = bar.add_task(title, total=total, completed=done, note="")
            self._display = Live(
                get_renderable=lambda: Group(bar, Text(self._detail, style="dim", no_wrap=True, overflow="ellipsis")),
                console=RichConsole(stderr=True),
            )
            self._display.start()

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
                + (f", {note}" if note else "")
                + (f"; {shortened(self._detail)}" if self._detail else ""),
                file=sys.stderr,
                flush=True,
            )

    def detail(self, line: str) -> None:
        """What more there is to know, below the bar or at the end of the line."""
        self._detail = line

    def _close(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._bar = self._display = None


@contextmanager
def console() -> Iterator[Console]:
    """A console whose bar is put away however the command ends."""
    made = Console()
    try:
        yield made
    finally:
        made._close()


def shortened(detail: str) -> str:
    """As much of it as a line in a log may have."""
    return detail if len(detail) <= LONGEST_DETAIL else f"{detail[: LONGEST_DETAIL - 3]}..."


def clock(seconds: float) -> str:
    """Minutes and seconds: 4:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
