"""The cache: what was made once and can be made again, kept below a limit; what a running process holds stays.

Entries are the files and folders right below `orders/`, `rows/`, `predictions/` and so on in the cache's folder. When
one was used last is its modification time. Which ones a process holds stands in a file of its own below `.held/`, whose
lock it keeps until it ends; so neither a killed process nor a fork leaves anything behind that is believed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flantune.errors import FlantuneError, nearest
from flantune.files import disk_errors, path_lock
from flantune.settings import cache_folder, cache_limit

KINDS = {
    "orders": "packed rows, ready to train on",
    "rows": "rows of sources, ready to read",
    "ledgers": "overlaps and duplicates of mixtures",
    "predictions": "answers of models",
    "converted": "models of GGUF files, converted",
    "judgements": "replies of judges",
    "models": "embedded models, converted",
    "wheels": "embedded models, as fetched",
}
AUTOMATIC = ("orders", "rows", "ledgers", "predictions", "converted")  # to get a model again takes the network
HELD = ".held"


@dataclass(frozen=True)
class Entry:
    """A file or folder of the cache.

    Attributes:
        kind: One of KINDS.
        path: Where it is.
        size: Bytes of all files in it.
        used: When it was made or used last, in seconds since 1970.
        held: Whether a running process holds it.
    """

    kind: str
    path: Path
    size: int
    used: float
    held: bool


def entries() -> list[Entry]:
    """All that lies in the cache, least recently used first."""
    held = cache_folder() / HELD
    with path_lock(held) if held.exists() else contextlib.nullcontext():
        return _entries()


def _entries() -> list[Entry]:
    held, found = _held(), []
    for kind in KINDS:
        with contextlib.suppress(FileNotFoundError):
            for item in os.scandir(cache_folder() / kind):
                with contextlib.suppress(FileNotFoundError):  # removed or replaced by another process meanwhile
                    if not item.name.startswith(".") and not item.name.endswith(".lock"):
                        path = Path(item.path)
                        found.append(Entry(kind, path, _size(path), item.stat().st_mtime, _name(path) in held))
    return sorted(found, key=lambda entry: (entry.used, str(entry.path)))


def hold(entry: Path) -> None:
    """Notes that an entry is used now and by this process, so that none removes it before this process ends.

    To be called before the entry is opened: one that is missing afterwards was removed before, and is to be made.
    Nothing is noted of what is missing already or lies elsewhere, nor on a cache that cannot be written.
    """
    if not _is_inside(entry) or not entry.exists():
        return
    with contextlib.suppress(OSError):
        folder = cache_folder() / HELD
        folder.mkdir(parents=True, exist_ok=True)
        with path_lock(folder):
            _note(folder).add(_name(entry))
            os.utime(entry)


def used(entry: Path) -> None:
    """Notes that an entry is used now; for one that is read at once and not held."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def added(entry: Path) -> None:
    """Notes a new entry as held, and makes room if the cache has passed its limit (`FLANTUNE_CACHE_LIMIT`).

    Models are left alone: to get one again takes the network.

    Raises:
        FlantuneError: The limit is no size.
    """
    hold(entry)
    limit = size_limit()
    if limit is None or not _is_inside(entry):
        return
    folder = cache_folder()
    size = _known_size.get(folder)
    size = sum(each.size for each in entries()) if size is None else size + _size(entry)
    if size > limit:
        clean(keep=round(0.9 * limit), kinds=AUTOMATIC)  # some room ahead, not a new look at everything each time
        size = sum(each.size for each in entries())
    _known_size[folder] = size


def clean(
    *, keep: int | None = None, older_than: float | None = None, kinds: Collection[str] = tuple(KINDS)
) -> list[Entry]:
    """Removes the least recently used entries that no running process holds.

    Args:
        keep: Bytes that the whole cache may have afterwards; None removes whatever `older_than` allows.
        older_than: Only what was not used for this many seconds is removed; None: of any age.
        kinds: Kinds that may be removed.
    Returns:
        What was removed.
    Raises:
        FlantuneError: The cache cannot be written.
    """
    folder = cache_folder()
    if not folder.exists():
        return []
    removed: list[Entry] = []
    with disk_errors(folder):
        (folder / HELD).mkdir(exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder))
        try:
            with path_lock(folder / HELD):  # no process can take hold of an entry while it goes
                found = _entries()
                left = sum(entry.size for entry in found)
                for entry in found:
                    fresh = older_than is not None and entry.used > time.time() - older_than
                    if fresh or entry.held or entry.kind not in kinds or (keep is not None and left <= keep):
                        continue
                    os.replace(entry.path, aside / str(len(removed)))
                    removed.append(entry)
                    left -= entry.size
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return removed


def size_limit() -> int | None:
    """Bytes that the cache may have before room is made; None: any number.

    Raises:
        FlantuneError: `FLANTUNE_CACHE_LIMIT` is no size.
    """
    text = cache_limit()
    return None if text == "none" else parse_size(text, "FLANTUNE_CACHE_LIMIT")


UNITS = {
    unit + suffix: base**power
    for power, unit in enumerate(("", "k", "m", "g", "t"))
    for suffix, base in (("", 1000), ("b", 1000), ("ib", 1024))
}


def parse_size(text: str, place: str) -> int:
    """Bytes from a size such as 5GB, 500 MB or 2GiB.

    Raises:
        FlantuneError: Not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    if found is None or found[2].lower() not in UNITS:
        raise FlantuneError(f'"{text}" is no size; write for example 5GB, 500MB or 2GiB', place)
    return round(float(found[1]) * UNITS[found[2].lower()])


SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_age(text: str, place: str) -> float:
    """Seconds from an age such as 12h, 30d or 2w.

    Raises:
        FlantuneError: Not an age.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mhdw])\s*", text)
    if found is None:
        raise FlantuneError(f'"{text}" is no age; write for example 12h, 30d or 2w (minutes are m)', place)
    return float(found[1]) * SECONDS[found[2]]


def parse_kinds(names: Collection[str], place: str) -> Collection[str]:
    """Kinds of entries; all where none is named.

    Raises:
        FlantuneError: An unknown kind.
    """
    for name in names:
        if name not in KINDS:
            raise FlantuneError(f'unknown kind "{name}"; {nearest(name, KINDS)}', place)
    return names or tuple(KINDS)


_known_size: dict[Path, int] = {}  # of the cache as this process saw it last, with what it has added since
_notes: dict[Path, _Note] = {}


class _Note:
    """What this process holds, in a file that is locked as long as the process, or a fork of it, lives."""

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=folder)
        with contextlib.suppress(OSError):  # a file system without locks: then it counts as held for ever
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor  # no file object: the system is to close it, when the process ends
        self._path, self._names = Path(name), set[str]()
        atexit.register(self._end)

    def add(self, name: str) -> None:
        if name not in self._names:
            os.write(self._descriptor, f"{name}\n".encode())
            self._names.add(name)

    def _end(self) -> None:
        os.close(self._descriptor)
        with contextlib.suppress(OSError), path_lock(self._path, wait=False) as nobody_lives:  # no fork either
            if nobody_lives:
                self._path.unlink()


def _note(folder: Path) -> _Note:
    if folder not in _notes:
        _notes[folder] = _Note(folder)
    return _notes[folder]


def _held() -> set[str]:
    """Names of the entries that running processes hold; lists of dead processes are removed."""
    held = set[str]()
    with contextlib.suppress(FileNotFoundError):
        for note in (cache_folder() / HELD).iterdir():
            with contextlib.suppress(OSError), path_lock(note, wait=False) as nobody_lives:
                if nobody_lives:
                    note.unlink()
                else:
                    held.update(note.read_text(encoding="utf-8").split("\n"))
    return held


def _is_inside(entry: Path) -> bool:
    return entry.parent.parent == cache_folder()


def _name(entry: Path) -> str:
    return "/".join(entry.parts[-2:])


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        if not path.is_dir():
            return path.stat().st_size
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return 0
