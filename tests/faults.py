"""A fault at every call to the file system of a save: the process is killed there, the disk fails, or it is full.

Usage: python tests/faults.py FOLDER
Prints a JSON line for each fault: its kind, the number and name of the call, the exit code of the process, what it
said, and the step of the checkpoint that is found afterwards.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flantune.errors import FlantuneError
from flantune.training.checkpoint import Checkpoints
from flantune.training.position import Position

FAULTS = ("kill", "EIO", "ENOSPC")
CALLS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.scandir", "os.listdir")
TENSORS = {"master.weight": torch.arange(1000, dtype=torch.float32), "step.weight": torch.tensor(3.0)}


def checkpoints(folder: Path, told: list[str] | None = None) -> Checkpoints:
    """The checkpoints of a run in the folder, of which one is kept."""
    report = (told if told is not None else []).append
    return Checkpoints(folder, keep=1, recipe_digest="recipe", order_key="order", report=report)


def save(folder: Path, step: int) -> None:
    """Saves, and waits until it is on the disk."""
    saving = checkpoints(folder)
    saving.save(Position(step, 4 * step, f"draws {step}"), 4, TENSORS)
    saving.wait()


class Calls:
    """Counts calls to the file system, and lets one of them fail.

    Args:
        fault: One of `FAULTS`; None lets nothing fail.
        at: Number of the call.
    """

    def __init__(self, fault: str | None = None, at: int = -1) -> None:
        self._fault, self._at = fault, at
        self.names: list[str] = []

    def __call__(self, name: str, half: Callable[[], Any] = lambda: None) -> None:
        """A call; `half` does a part of it, which a process that is killed or a full disk may leave."""
        self.names.append(name)
        if len(self.names) - 1 == self._at:
            half()
            if self._fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            number = getattr(errno, str(self._fault))
            raise OSError(number, os.strerror(number))

    def install(self) -> None:
        """For the rest of this process's life."""
        sys.addaudithook(lambda event, arguments: self(event) if event in CALLS else None)
        fsync, opened = os.fsync, io.open

        def counted_fsync(fd: Any) -> None:
            self("fsync")
            fsync(fd)

        def counted_open(*arguments: Any, **options: Any) -> Any:
            file = opened(*arguments, **options)
            return CountedFile(file, self) if file.writable() else file

        os.fsync, io.open = counted_fsync, counted_open


class CountedFile:
    """A file whose writes are calls."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def write(self, data: Any) -> int:
        """A call that may leave the first half."""

        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._calls("write", half)
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> CountedFile:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._file.__exit__(*raised)


def in_a_fork(work: Callable[[], str]) -> tuple[int, str]:
    """Exit code (minus the signal) and result of some work; code 2 is an error of the user's kind."""
    told, tell = os.pipe()
    process = os.fork()
    if process == 0:
        code, said = 1, ""
        try:
            said, code = work(), 0
        except FlantuneError as error:
            said, code = str(error), 2
        except BaseException as error:
            said = repr(error)
        os.write(tell, said.encode())
        os._exit(code)
    os.close(tell)
    with os.fdopen(told) as reading:
        said = reading.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said


def faulty(folder: Path, fault: str | None, at: int) -> tuple[int, str]:
    """Saves step 2 with a fault; the result is the names of the calls."""

    def work() -> str:
        calls = Calls(fault, at)
        calls.install()
        save(folder, 2)
        return " ".join(calls.names)

    return in_a_fork(work)


def main(folder: Path) -> None:
    """Tries every fault, each on a folder that holds step 1."""
    save(folder / "whole", 1)
    shutil.copytree(folder / "whole", folder / "counted")
    names = faulty(folder / "counted", None, -1)[1].split()
    for fault in FAULTS:
        for at, name in enumerate(names):
            tried = folder / f"{fault}-{at}"
            shutil.copytree(folder / "whole", tried)
            code, said = faulty(tried, fault, at)
            found = in_a_fork(lambda tried=tried: json.dumps(checkpoints(tried).restore().position.step))  # type: ignore[union-attr]
            again = in_a_fork(lambda tried=tried: str(save(tried, 3)))
            left = sorted(path.name for path in tried.iterdir())
            print(json.dumps([fault, at, name, code, said, found, again, left]))
            shutil.rmtree(tried)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
