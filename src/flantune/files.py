"""Files that are whole or absent, and hashes of what they hold."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError

DISK_ERRORS = {
    errno.ENOSPC: "no space left on the disk; free some, or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some, or choose another folder",
    errno.EACCES: "not allowed to write here; choose another folder",
    errno.EIO: "the disk cannot be read or written here; check it, or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EINTR: "the file system was interrupted; start again",
    errno.EFBIG: "a file may not become as large as it has to (ulimit -f); allow it, or choose another folder",
}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full or read-only disk into one line that names the path.

    Raises:
        FlantuneError: No space left, quota exceeded, no permission, read-only file system, a disk that fails.
    """
    try:
        yield
    except Exception as error:
        # Closing what could not be closed is an error of its own (EBADF), which hides the first.
        for number in (_error_number(error), _error_number(error.__context__)):
            if number in DISK_ERRORS:
                raise FlantuneError(DISK_ERRORS[number], path) from error
        raise


def _error_number(error: BaseException | None) -> int | None:
    """The operating system's number of an error; libraries written in Rust or C++ tell it in their message only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    told = re.search(r"\((?:os )?error (\d+)\)|errno (\d+)\]", str(error))
    return int(told[1] or told[2]) if told else None


@contextlib.contextmanager
def whole_folder(target: Path, *, synced: bool = True) -> Iterator[Path]:
    """A folder that appears complete or not at all: filled beside the target, synced, then renamed.

    Two processes may fill the same target at once: each fills a folder of its own, and the later one stays. What a
    killed process left is removed by the next call for its target.

    Args:
        target: Where it appears.
        synced: False for what is checked whenever it is read and can be made again: a machine that loses its power may
            then lose some of it, and thousands of small folders are made ten times as fast.

    Yields:
        The folder to fill. It takes the target's name when the block ends without an error.
    """
    unfinished = f".{target.name}.unfinished-"
    with disk_errors(target), contextlib.ExitStack() as held:
        target.parent.mkdir(parents=True, exist_ok=True)
        with path_lock(target.parent):
            for left in target.parent.glob(glob.escape(unfinished) + "*"):
                with contextlib.suppress(OSError), path_lock(left, wait=False) as nobody_fills_it:
                    if nobody_fills_it:
                        shutil.rmtree(left, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(prefix=unfinished, dir=target.parent))
            held.enter_context(path_lock(aside))
        try:
            yield aside
            if synced:
                for path in aside.rglob("*"):
                    _sync(path)
                _sync(aside)
            aside.chmod(0o755)  # made for this user alone; a model or a cache may be shared
            with path_lock(target.parent):
                if target.exists():
                    replaced = tempfile.mkdtemp(prefix=unfinished, dir=target.parent)
                    held.callback(shutil.rmtree, replaced, ignore_errors=True)
                    os.replace(target, replaced)
                os.replace(aside, target)
            if synced:
                _sync(target.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


@contextlib.contextmanager
def path_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of a file or folder. The system drops it when its process dies, so none can be stale.

    Yields:
        Whether it is held: not if another holds it and `wait` is False, nor on a file system without locks.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_aside(folder: Path, prefix: str) -> Iterator[Path]:
    """An empty file in a folder, to be filled and then renamed to what it is to be called; gone, where it is not."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=prefix, dir=folder)
        os.close(handle)
        aside = Path(name)
        try:
            aside.chmod(0o644)
            yield aside
        finally:
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader finds the old content or the new, never a part."""
    with disk_errors(path), file_aside(path.parent, f".{path.name}.") as aside:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, indented, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file that flantune wrote: one JSON object a line; only newline ends a line (U+2028 is text)."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def digest(*parts: object) -> str:
    """A 32-digit hash of values, the same on every machine: of their JSON form, keys sorted.

    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a1")
    (True, False)
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path, algorithm: str = "blake2b") -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
