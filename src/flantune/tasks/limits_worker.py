"""The worker process of `limits.py`: reads texts and values, renders them, writes what came out; nothing else.

It is run as a script by a fresh Python, without the user's environment and without `site`. Before the first text it
gives up what a rendering does not need: files and sockets can no longer be opened, memory is bounded, and an audit
hook ends the process if anything tries all the same.
"""

from __future__ import annotations

import marshal
import mmap
import os
import resource
import signal
import struct
import sys
import textwrap  # noqa: F401  what Jinja and Python import when they first need it, and could not any more
import time
import types
import unicodedata  # noqa: F401
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY, RENDERED, REFUSED, STOPPED = b"r", b"t", b"e", b"s"
LENGTH = struct.Struct("<I")
MOST_COMPILED = 4_000  # templates kept; each takes some 20 kB
MOST_UNSAID, LONGEST_SILENCE = 32_768, 0.02  # bytes, seconds
TICK = 0.05  # seconds of processor time

Render = Callable[[str, dict[str, Any], str], str]


class TooLong(BaseException):
    """Raised by the timer into a rendering; no `except Exception` of Jinja's holds it up."""


def main() -> None:
    """Serves batches until the parent closes the pipe."""
    seconds, memory_bytes, progress, *folders = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    jinja, error_type = _jinja(folders)
    _warm(jinja.render_text, error_type)
    parent, clock = _Parent(progress), _Clock(seconds)
    _give_up(memory_bytes)
    parent.say(READY, "")
    while batch := parent.batch():
        _allow_processor_time(seconds * len(batch))
        for number, item in enumerate(batch, start=1):
            parent.begins(number)
            parent.say(*_answer(jinja.render_text, error_type, clock, item))
        jinja.forget_compiled(MOST_COMPILED)


def _jinja(folders: list[str]) -> tuple[Any, type[Exception]]:
    """Jinja's room of flantune alone: the packages around it would load far more than a worker needs."""
    package = Path(folders[0])
    sys.path[:0] = folders[1:]
    for name, folder in (("flantune", package), ("flantune.tasks", package / "tasks")):
        bare = types.ModuleType(name)
        bare.__path__ = [str(folder)]
        sys.modules[name] = bare
    from flantune.errors import FlantuneError
    from flantune.tasks import jinja

    return jinja, FlantuneError


def _warm(render: Render, error_type: type[Exception]) -> None:
    """Renders once along each path on which Python loads something late: codecs, tracebacks."""
    for text in ('{{ "é" ~ "\\N{BULLET}" }}{% set é = 1 %}', "{{ a.b | wordwrap }}", "{{ aa }}", "{% ", "{{ none }}"):
        try:
            render(text, {"a": {"b": "c"}}, "the first text")
        except error_type:
            continue


class _Clock:
    """Ends a rendering that takes more than some seconds of processor time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started: float | None = None
        signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)

    def _tick(self, number: int, frame: types.FrameType | None) -> None:
        if self.started is not None and time.process_time() - self.started > self.seconds:
            raise TooLong


def _answer(render: Render, error_type: type[Exception], clock: _Clock, item: memoryview) -> tuple[bytes, str]:
    try:
        try:
            clock.started = time.process_time()
            return RENDERED, render(*marshal.loads(item))
        except error_type as error:
            return REFUSED, str(error)
        finally:
            clock.started = None
    except TooLong:
        clock.started = None
        return STOPPED, ""


class _Parent:
    """The pipes from and to the parent, and the number that it reads when this process has ended."""

    def __init__(self, progress: int) -> None:
        self._progress = mmap.mmap(progress, LENGTH.size)
        os.close(progress)
        self._unsaid = bytearray()
        self._spoke = 0.0

    def batch(self) -> list[memoryview]:
        """Items of the next frame, each with its length before it; none where the parent is gone."""
        self._speak()
        header = sys.stdin.buffer.read(LENGTH.size)
        body = memoryview(sys.stdin.buffer.read(LENGTH.unpack(header)[0]) if header else b"")
        items = []
        while body:
            end = LENGTH.size + LENGTH.unpack_from(body)[0]
            items.append(body[LENGTH.size : end])
            body = body[end:]
        return items

    def begins(self, number: int) -> None:
        """Notes which item of a batch is at work, from 1."""
        LENGTH.pack_into(self._progress, 0, number)
        if len(self._unsaid) > MOST_UNSAID or time.monotonic() - self._spoke > LONGEST_SILENCE:
            self._speak()

    def say(self, kind: bytes, text: str) -> None:
        """Gives an answer, soon: each for itself would wake the parent each time."""
        encoded = text.encode("utf-8", "surrogatepass")
        self._unsaid += kind + LENGTH.pack(len(encoded)) + encoded

    def _speak(self) -> None:
        unsaid, self._unsaid, self._spoke = memoryview(self._unsaid), bytearray(), time.monotonic()
        while unsaid:
            unsaid = unsaid[os.write(1, unsaid) :]


# --- what a rendering does not need ---------------------------------------------------------------------------------

# Compiling a template, decoding a batch, telling an error; all else that Python audits ends the process.
ALLOWED = frozenset(
    {
        "builtins.id",
        "code.__new__",
        "compile",
        "exec",
        "marshal.loads",
        "object.__getattr__",
        "object.__setattr__",
        "resource.setrlimit",
        "sys._getframe",
        "sys.unraisablehook",
    }
)
SOUGHT = ("open", "<template>")  # Python seeks the line of a SyntaxError, in vain: it can open no file
FORBIDDEN = 77  # exit code


def _give_up(memory_bytes: int) -> None:
    for kind, bound in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),  # no file, no socket, no pipe beside those that are open
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (bound, bound))
    sys.addaudithook(_end_if_forbidden)


def _end_if_forbidden(event: str, args: tuple[Any, ...]) -> None:
    if event not in ALLOWED and (event, *args[:1]) != SOUGHT:
        os._exit(FORBIDDEN)


def _allow_processor_time(seconds: float) -> None:
    """So that even a worker whose parent was killed ends, were it caught in a loop of C code."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 2, most))


if __name__ == "__main__":
    main()
