"""Faults at the system calls that touch one folder, by a small library that is preloaded into a process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

COMPILER = shutil.which("gcc") or shutil.which("cc")
SOURCE = Path(__file__).with_suffix(".c")
# Name of a fault: how the library does it, and the error that a call gives.
FAULTS = {
    "none": (0, 0),
    "kill": (1, 0),  # SIGKILL in place of the call; in the middle of one that writes
    "EIO": (2, errno.EIO),
    "ENOSPC": (2, errno.ENOSPC),
    "EDQUOT": (2, errno.EDQUOT),
    "EINTR": (2, errno.EINTR),
    "short": (3, 0),  # a write does half of what it was asked for, and says so
    "full": (4, errno.ENOSPC),  # from this call on, all that needs space fails
    "gone": (5, errno.EIO),  # from this call on, all fails
}


def built(folder: Path) -> Path:
    """The library, compiled into a folder."""
    assert COMPILER is not None
    library = folder / "system_calls.so"
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Wno-nonnull-compare", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(SOURCE), "-ldl"], check=True)
    return library


@contextlib.contextmanager
def armed(folder: Path, fault: str, at: int, log: Path) -> Iterator[None]:
    """A fault, while the block runs, at call `at`, from 0, of those that touch a folder.

    Args:
        folder: An absolute path; calls below it count too.
        fault: One of `FAULTS`.
        at: Number of the call.
        log: Gets the name of each call, a line each.
    """
    how, number = FAULTS[fault]
    library = ctypes.CDLL(None)
    with log.open("a") as stream:
        library.flantune_arm(os.fsencode(folder), how, number, ctypes.c_long(at), stream.fileno())
        try:
            yield
        finally:
            library.flantune_arm(b"", 0, 0, ctypes.c_long(0), -1)
