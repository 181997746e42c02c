"""Hashes of files by their content, remembered for as long as a file does not change."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

from flantune.errors import FlantuneError
from flantune.files import digest, file_digest, write_text
from flantune.settings import cache_folder
from flantune.tasks.sources.streams import read_errors

HASH = "sha256"  # processors compute it twice as fast as BLAKE2
SMALL = 2**16  # bytes; hashing them costs no more than looking up what they hashed to
RECENT = 2_000_000_000  # nanoseconds; the coarsest clock of a file system ticks every two seconds


def content_digest(path: Path) -> str:
    """32 digits from a file's bytes.

    What a large file hashed to is kept beside its size, times and number, and holds while these stay. A file that was
    written just before it was hashed is hashed again: another write in the same tick of the clock would not show (the
    "racy" entries of git's index).

    Raises:
        FlantuneError: No such file, a folder, a device, not readable.
    """
    with read_errors(str(path)):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(found.st_mode):
            raise FlantuneError("is no ordinary file; copy what it gives into one", path)
        if found.st_size <= SMALL:
            return file_digest(path, HASH)[:32]
        return _remembered(path, found) or _computed(path, found)


def _remembered(path: Path, found: os.stat_result) -> str | None:
    try:
        kept = json.loads(_memo(path).read_text(encoding="utf-8"))
        return kept["digest"] if kept["state"] == _state(found) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _computed(path: Path, found: os.stat_result) -> str:
    now = time.time_ns()
    computed = file_digest(path, HASH)[:32]
    if _state(path.stat()) == _state(found) and max(found.st_mtime_ns, found.st_ctime_ns) < now - RECENT:
        write_text(_memo(path), json.dumps({"path": str(path), "state": _state(found), "digest": computed}))
    return computed


def _state(found: os.stat_result) -> list[int]:
    """The time of the last change of any kind is among it: a file can be given back its old time of writing."""
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def digests_folder() -> Path:
    """Where it is kept what files hashed to."""
    return cache_folder() / "digests"


def _memo(path: Path) -> Path:
    return digests_folder() / f"{digest(str(path.absolute()))}.json"
