"""Writers: processes that make windows ahead of whoever reads them; the same bytes, however many there are.

Each is a fresh Python that is handed the mixture once and then window numbers, one a line; it answers each with a line.
It ends when its input does, so none outlives the process that started it, however that one ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from flantune.errors import FlantuneError
from flantune.mixture.shards import write_window
from flantune.mixture.window import WindowBuilder

TRIES = 2  # a writer that was killed may have been killed by chance


class Writers:
    """Processes that write windows of one order, in the order in which they are asked for.

    Args:
        builder: Makes the windows.
        folder: Where they are written.
        draws: Of the whole run.
        count: Number of processes; they start with the first windows.
    """

    def __init__(self, builder: WindowBuilder, folder: Path, draws: int, count: int) -> None:
        # The path first: it tells where the modules lie that the rest is made of.
        self._given = b"".join(map(_framed, (sys.path, (builder, folder, draws))))
        self._count = count
        self._todo: deque[int] = deque()
        self._asked: set[int] = set()
        self._ended: dict[int, BaseException | None] = {}
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def ask(self, numbers: Iterable[int]) -> None:
        """Has windows written, after those that were asked for before."""
        with self._changed:
            new = [number for number in numbers if number not in self._asked]
            self._todo.extend(new)
            self._asked.update(new)
            while len(self._threads) < min(self._count, len(self._todo)):
                thread = threading.Thread(target=self._serve, daemon=True)  # one process each
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def wait(self, number: int) -> None:
        """Returns when a window is written; it goes before all others that were not begun.

        Raises:
            FlantuneError: A row cannot be rendered, the disk is full, or writers are killed.
        """
        self.ask([number])
        with self._changed:
            if number in self._todo:
                self._todo.remove(number)
                self._todo.appendleft(number)
            self._changed.wait_for(lambda: number in self._ended)
            error = self._ended.pop(number)
            self._asked.remove(number)  # were the file lost, it may be asked for once more
        if error is not None:
            raise error

    def close(self) -> None:
        """Ends the processes; what was not begun is not written."""
        with self._changed:
            self._closed = True
            self._todo.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _next(self) -> int | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._todo)
            return None if self._closed else self._todo.popleft()

    def _serve(self) -> None:
        process = _Process(self._given)
        try:
            while (number := self._next()) is not None:
                error = None
                for _ in range(TRIES):
                    try:
                        error = process.make(number)
                        break
                    except _Killed as killed:
                        error = FlantuneError(f"a process that prepares window {number} ended by {killed}; {REMEDY}")
                        process.end()
                        process = _Process(self._given)
                with self._changed:
                    self._ended[number] = error
                    self._changed.notify_all()
        finally:
            process.end()


REMEDY = "if memory is short, let fewer of them work at once (--workers)"


class _Killed(Exception):
    """A writer ended without an answer."""


class _Process:
    """One writer, from the parent's side."""

    def __init__(self, given: bytes) -> None:
        # The tokenizer would start as many threads as there are cores, in each of the processes.
        environment = {**os.environ, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from flantune.mixture.writing import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        with contextlib.suppress(BrokenPipeError):  # told by the first answer that does not come
            self._say(given)

    def _say(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def make(self, number: int) -> BaseException | None:
        """Has a window written; returns what it failed with.

        Raises:
            _Killed: No answer came.
        """
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._say(b"%d\n" % number)
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            raise _Killed(f"signal {-code}" if code < 0 else f"exit code {code}")
        answer = json.loads(line)
        if answer is None:
            return None
        if "message" in answer:
            return FlantuneError(answer["message"], answer["place"])
        return RuntimeError(f"window {number} cannot be made:\n{answer['traceback']}")

    def end(self) -> None:
        """Closes its input and waits until it is gone."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


def _framed(value: Any) -> bytes:
    data = pickle.dumps(value)
    return len(data).to_bytes(8, "little") + data


def _unframed(stream: IO[bytes]) -> Any:
    return pickle.loads(stream.read(int.from_bytes(stream.read(8), "little")))


def main() -> None:
    """A writer: reads what to make from standard input until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    given, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a user's function prints is no answer
    sys.path = _unframed(given)
    builder, folder, draws = _unframed(given)
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        for line in given:
            answers.write(json.dumps(_made(builder, folder, draws, int(line))).encode() + b"\n")
            answers.flush()


def _made(builder: WindowBuilder, folder: Path, draws: int, number: int) -> dict[str, Any] | None:
    """None, or what went wrong."""
    try:
        write_window(folder, number, *builder.window(number, draws))
    except FlantuneError as error:
        return {"message": error.message, "place": error.place and str(error.place)}
    except Exception:
        return {"traceback": traceback.format_exc()}
    return None
