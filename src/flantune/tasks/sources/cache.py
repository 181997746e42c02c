"""The cache of rows: a folder under a key of all that the rows depend on, made where it is not there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from flantune.cache import added, hold
from flantune.files import digest, disk_errors, path_lock, whole_folder
from flantune.settings import cache_folder
from flantune.tasks.sources.row_file import (
    SUMMARY,
    Damaged,
    Record,
    StoredRows,
    checksum_of,
    read_summary,
    write_rows,
    write_summary,
)
from flantune.tasks.sources.rows import Numbers, Rows

NUMBERS = "numbers.bin"
ATTEMPTS = 3

Opened = TypeVar("Opened")

_answers: dict[str, Path] = {}  # of this process: where what was asked for lies


def rows_folder() -> Path:
    """Where the rows of all sources are kept."""
    return cache_folder() / "rows"


def cached_rows(key: str, files: Sequence[Path], records: Callable[[], Iterable[Record]]) -> Rows:
    """The rows under a key: opened where they lie undamaged, else made.

    Args:
        key: Changes with all that the rows depend on.
        files: Those that places begin with.
        records: Gives the rows.
    Raises:
        FlantuneError: What `records` raises; a row that cannot be kept; a full disk.
    """
    target = rows_folder() / key

    def make() -> None:
        with whole_folder(target, synced=False) as aside:
            write_rows(aside, files, records())
        added(target)

    return Rows(_opened(target, lambda: StoredRows(target, files, make), make))


def _opened(target: Path, open_it: Callable[[], Opened], make: Callable[[], None]) -> Opened:
    """What lies in a folder, which is made if it is not there or damaged.

    Of several processes that want it at once one makes it and the others wait; on a file system without locks each
    makes it, and one may look just while another puts its own in place, hence the attempts.
    """
    hold(target)
    for _ in range(ATTEMPTS):
        with contextlib.suppress(Damaged):
            return open_it()
        with _alone(target):
            with contextlib.suppress(Damaged):
                return open_it()
            make()
    return open_it()


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Holds one of 256 locks, which are never removed: a lock that others may remove protects nothing."""
    lock = target.parent / ".locks" / target.name[:2]
    with disk_errors(target):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    with path_lock(lock):
        yield


def asked_rows(key: str, records: Callable[[], Iterable[Record]]) -> Rows:
    """Rows that nothing can name before they are read: asked for once in every process, kept under their content.

    Args:
        key: Of what is asked for.
        records: Asks.
    """
    if key not in _answers:
        asked = rows_folder() / f"{key}-{os.getpid()}-{secrets.token_hex(4)}"
        with whole_folder(asked, synced=False) as aside:
            write_rows(aside, (), records())
        _answers[key] = _settled(asked, rows_folder() / digest(key, StoredRows(asked, ()).digest))
        added(_answers[key])
    return Rows(StoredRows(_answers[key], ()))


def _settled(asked: Path, target: Path) -> Path:
    """Where an answer is kept: where the same answer lies already, or else under a name that the next one will have."""
    hold(target)
    with contextlib.suppress(Damaged):
        StoredRows(target, ())
        shutil.rmtree(asked)
        return target
    shutil.rmtree(target, ignore_errors=True)
    try:
        return asked.rename(target)
    except OSError:  # another process has just put the same answer there
        return asked


def selected_rows(rows: Rows, key: str, choose: Callable[[], Numbers]) -> Rows:
    """Some of the rows; their numbers are kept under a key, memory-mapped too.

    Args:
        rows: All.
        key: Changes with all that the choice depends on.
        choose: Computes the numbers.
    """
    target = rows_folder() / key

    def make() -> None:
        numbers = choose()
        with whole_folder(target, synced=False) as aside:
            numbers.astype("<i8", copy=False).tofile(aside / NUMBERS)
            summary = {"count": len(numbers), "checksum": checksum_of(aside / NUMBERS)}
            write_summary(aside / SUMMARY, {**summary, "rows": rows.chosen(numbers).digest})
        added(target)

    return _opened(target, lambda: _selection(rows, target), make)


def _selection(rows: Rows, folder: Path) -> Rows:
    summary = read_summary(folder / SUMMARY)
    if checksum_of(folder / NUMBERS) != summary["checksum"]:
        raise Damaged(folder)
    numbers = np.memmap(folder / NUMBERS, "<i8", "r") if summary["count"] else np.empty(0, np.int64)
    return rows.chosen(numbers, digest=summary["rows"])
