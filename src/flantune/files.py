"""Files that are whole or absent, and hashes of what they hold."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full or read-only disk into one line that names the path.

    Raises:
        FlantuneError: No space left, quota exceeded, no permission, read-only file system.
    """
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "no space left on the disk; free some, or choose another folder with output=...",
            errno.EDQUOT: "the disk quota is used up; free some, or choose another folder with output=...",
            errno.EACCES: "not allowed to write here; choose another folder with output=...",
            errno.EROFS: "the file system is read-only; choose another folder with output=...",
        }
        if error.errno in remedies:
            raise FlantuneError(remedies[error.errno], path) from error
        raise


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder that appears complete or not at all: filled beside the target, synced, then renamed.

    Yields:
        The folder to fill. It takes the target's name when the block ends without an error.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield aside
            for path in aside.rglob("*"):
                _sync(path)
            _sync(aside)
            if target.exists():
                shutil.rmtree(target)
            os.replace(aside, target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader finds the old content or the new, never a part."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(aside).chmod(0o644)
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)
            raise


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, indented, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file that flantune wrote: one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


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
