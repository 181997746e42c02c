"""The order: all packed rows of a run, in training order, on disk, under a key of everything it depends on.

It need not be whole to be read: a window that is missing or damaged is fetched, awaited or made when it is needed.

    orders/KEY/window-000000-DIGEST.arrow ...
    orders/KEY/order.json    once it is whole: rows and file of each window
"""

from __future__ import annotations

import contextlib
import json
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flantune.cache import added, hold
from flantune.errors import FlantuneError
from flantune.files import digest, disk_errors, write_text
from flantune.mixture.elsewhere import Elsewhere
from flantune.mixture.shards import Dropped, Window, listed, opened, write_window
from flantune.mixture.window import (
    Encoder,
    Member,
    MixtureRule,
    PackedRow,
    WindowBuilder,
    exemplar_counts,
    mixed_task,
    option_ways,
    phases_of,
    template_shares,
)
from flantune.mixture.writing import Writers

FORMAT = 4  # raise it when the bytes of an order change for the same inputs
INDEX = "order.json"
WINDOWS_AT_HAND = 256  # memory maps that are kept
LEFT_BEHIND = 3600  # seconds after which a window that was never finished is taken for that of a killed process


def order_key(members: Sequence[Member], rule: MixtureRule, draws: int, encoder: Encoder) -> str:
    """Hash of all that an order depends on: a changed row, template, tokenizer or number gives another key."""
    described = [
        {
            "name": member.task.name,
            "max_epochs": member.max_epochs,
            "loss_weight": member.loss_weight,
            "rows": member.rows.digest,
            "templates": [
                [template.described(), str(share)]
                for template, share in zip(member.task.training_templates, template_shares(member), strict=True)
            ],
            "options": [[style and style.name, str(weight)] for style, weight in option_ways(member)],
            "later": [[start, str(mixed_task(member, start))] for start, _ in member.later],
            "few_shot": [[count, str(weight)] for count, weight in exemplar_counts(member)],
            "asked": [
                list(member.task.spec.fields.items()),  # a field may use those before it
                member.task.spec.answer_choices,
                member.task.spec.options.shuffle,
                member.task.spec.exemplar_formats,
                member.task.spec.shorten,
                member.task.spec.empty,
            ],
        }
        for member in members
    ]
    rates = [[phase.start, phase.mixture.described()] for phase in phases_of(members, rule)]
    numbers = [draws, rule.window, rule.capacity, rule.target_capacity, rule.per, rule.seed]
    return digest(FORMAT, described, rates, numbers, encoder.fingerprint())


def build_order(
    members: Sequence[Member],
    rule: MixtureRule,
    draws: int,
    encoder: Encoder,
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
    *,
    writers: int = 0,
) -> Order:
    """The whole order of a run, made window by window under `folder/KEY` where it does not lie there.

    Args:
        members: The mixture's tasks with their rows.
        rule: Rates, window, capacity, loss.
        draws: Number of draws.
        encoder: Tokenizer with the model's prompt format.
        folder: Where orders are cached.
        report: Called with windows done and windows in all.
        writers: Processes that make windows; 0 makes them in this one.
    Raises:
        FlantuneError: A row cannot be rendered, or nothing is left to train on.
    """
    order = Order(members, rule, draws, encoder, folder, writers=writers)
    order.complete(report)
    return order


class Order:
    """Packed row r at random, and what they were made of; windows are made when they are needed.

    Args:
        members: The mixture's tasks with their rows.
        rule: Rates, window, capacity, loss.
        draws: Number of draws.
        encoder: Tokenizer with the model's prompt format.
        folder: Where orders are cached.
        writers: Processes that make windows ahead; 0 makes each in this one, when it is read.
        elsewhere: Where orders were prepared; a window is fetched from there before it is made.
        awaited: Whether another process on this machine makes the windows, and this one waits for them.
    Attributes:
        key: Of everything it depends on.
        folder: `folder/KEY`.
        elsewhere: As given.
        windows: How many there are.
    """

    def __init__(
        self,
        members: Sequence[Member],
        rule: MixtureRule,
        draws: int,
        encoder: Encoder,
        folder: Path,
        *,
        writers: int = 0,
        elsewhere: Elsewhere | None = None,
        awaited: bool = False,
    ) -> None:
        self.rule, self.draws = rule, draws
        self.key = order_key(members, rule, draws, encoder)
        self.folder = folder / self.key
        self.windows = -(-draws // rule.window)
        self.elsewhere, self._awaited = elsewhere, awaited
        self._builder = WindowBuilder(members, rule, encoder)
        self._writers = Writers(self._builder, self.folder, draws, writers) if writers and not awaited else None
        if self._writers is not None:
            weakref.finalize(self, self._writers.close)
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        hold(self.folder)
        _remove_unfinished(self.folder)
        self._files = listed(self.folder)
        self._starts, self._open = [0], OrderedDict[int, Window]()
        self._read_index()

    # --- windows

    def window(self, number: int) -> Window:
        """A window: opened, or fetched, awaited or made.

        Raises:
            FlantuneError: A row of it cannot be rendered, or the disk is full.
        """
        if number not in self._open:
            found = self._found(number)
            while found is None:
                self._make(number)
                found = self._found(number)
            self._open[number] = found
            if len(self._open) > WINDOWS_AT_HAND:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]

    def _found(self, number: int) -> Window | None:
        return opened(self._files.get(number, ()), number)

    def _make(self, number: int) -> None:
        """Has the window's file in the folder."""
        fetched = self.elsewhere.fetch(self.key, number, self.folder) if self.elsewhere is not None else None
        if fetched is not None:
            self._files[number] = [fetched]
        elif self._awaited and number not in self._files:  # a damaged one nobody makes again but who finds it
            time.sleep(0.05)
            self._files = listed(self.folder)
        elif self._writers is not None:
            self._writers.wait(number)
            self._files = listed(self.folder)
        else:
            self._files[number] = [write_window(self.folder, number, *self._builder.window(number, self.draws))]

    def missing(self) -> list[int]:
        """Windows that do not lie in the folder, as far as names tell."""
        return [number for number in range(self.windows) if number not in self._files]

    def write_ahead(self) -> None:
        """Has the writers make all that is missing, the first windows first, while others are read."""
        if self._writers is not None:
            self._writers.ask(self.missing())

    def made(self, numbers: Sequence[int]) -> Iterator[Path]:
        """The files of some windows, each when it is there; what is damaged is made again.

        Raises:
            FlantuneError: A row cannot be rendered, or the disk is full.
        """
        if self._writers is not None:
            self._writers.ask(number for number in numbers if number not in self._files)
        for number in numbers:
            self.window(number)
            yield self._files[number][0]

    def complete(self, report: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Makes all that is missing and writes the index.

        Raises:
            FlantuneError: A row cannot be rendered, the disk is full, or nothing is left to train on.
        """
        if len(self._starts) <= self.windows:
            self.write_ahead()
            while len(self._starts) <= self.windows:
                self._starts.append(self._starts[-1] + len(self.window(len(self._starts) - 1)))
                report(len(self._starts) - 1, self.windows)
            self._write_index()
        self._check_some()

    def _check_some(self) -> None:
        if len(self) == 0:
            reasons = Counter(item["reason"] for item in self.dropped())
            raise FlantuneError(
                f"nothing is left to train on: {', '.join(f'{n} x {why}' for why, n in reasons.items())}; "
                f"raise mixture.capacity (now {self.rule.capacity})"
            )

    # --- rows

    def __len__(self) -> int:
        if len(self._starts) <= self.windows:
            self.complete()
        return self._starts[-1]

    def rows(self, first: int, count: int) -> list[PackedRow]:
        """Packed rows [first, first + count), fewer or none at the end; makes the windows up to there and no more."""
        return [self._at(number) for number in range(first, first + count) if self._reaches(number)]

    def row(self, number: int) -> PackedRow:
        """Packed row `number`: its segments.

        Raises:
            IndexError: There is none.
        """
        self._check(number)
        return self._at(number)

    def window_of(self, number: int) -> int:
        """The window that packed row `number` belongs to.

        Raises:
            IndexError: There is no such row.
        """
        self._check(number)
        return int(np.searchsorted(self._starts, number, side="right")) - 1

    def progress(self, first: int, last: int) -> float:
        """Share of the run's draws that lies before the middle of the rows [first, last), in (0, 1).

        A row counts as an equal part of its window's draws: known as soon as the window is, whatever comes after it.
        """
        return (self._drawn(first) + self._drawn(last)) / 2 / self.draws

    def _drawn(self, number: int) -> float:
        """Draws before packed row `number`; all of them past the last one."""
        if not self._reaches(number):
            return self.draws
        window = self.window_of(number)
        part = (number - self._starts[window]) / len(self.window(window))
        begin = window * self.rule.window
        return begin + part * (min(begin + self.rule.window, self.draws) - begin)

    def _at(self, number: int) -> PackedRow:
        window = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.window(window).row(number - self._starts[window])

    def _check(self, number: int) -> None:
        if number < 0 or not self._reaches(number):
            raise IndexError(f"no packed row {number}; the order has {len(self)}")

    def _reaches(self, number: int) -> bool:
        """Whether there is such a row; opens the windows up to it, which is what it takes to know."""
        while self._starts[-1] <= number and len(self._starts) <= self.windows:
            self._starts.append(self._starts[-1] + len(self.window(len(self._starts) - 1)))
            if len(self._starts) > self.windows:
                self._write_index()
        return number < self._starts[-1]

    # --- what it is made of

    def opened(self, rows: int | None = None) -> Iterator[tuple[Window, int]]:
        """Each window with the number of its rows that are among the first `rows`, all by default."""
        for number in range(self.windows):
            if rows is not None and rows <= 0:
                return
            window = self.window(number)
            yield window, len(window) if rows is None else min(len(window), rows)
            rows = None if rows is None else rows - len(window)

    def dropped(self) -> Dropped:
        """All draws that are in no row, each with its task, row and reason."""
        return [item for window, _ in self.opened() for item in window.dropped]

    # --- the index

    def _read_index(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            written = index.pop("digest")
            if written == digest(index) and len(index["rows"]) == self.windows and not self.missing():
                self._starts = np.cumsum([0, *index["rows"]], dtype=np.int64).tolist()

    def _write_index(self) -> None:
        index: dict[str, Any] = {"format": FORMAT, "key": self.key, "rows": np.diff(self._starts).tolist()}
        write_text(self.folder / INDEX, json.dumps({**index, "digest": digest(index)}))
        added(self.folder)


def _remove_unfinished(folder: Path) -> None:
    for left in folder.glob(".window-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > LEFT_BEHIND:
                left.unlink()
