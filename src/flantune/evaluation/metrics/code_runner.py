"""Running programs that a model wrote: each in a process of its own that can do nothing but compute."""

from __future__ import annotations

import functools
import marshal
import select
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import code_worker
from flantune.evaluation.metrics.code_worker import FAILED, LENGTH, PASSED, READY
from flantune.settings import library_folders

SECONDS, MEMORY_BYTES = 5.0, 512 << 20
GRACE, START = 10.0, 60.0  # seconds beyond a program's own limit, until the worker is given up; to start one
LARGEST = 4 << 20  # bytes of a program


class ProgramRunner:
    """Says of programs whether they come to their end. Not for several threads at once.

    Args:
        seconds: Of processor time for one program; of real time, twice as much and a second more.
        memory_bytes: Address space.
    """

    def __init__(self, *, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._seconds, self._memory_bytes = seconds, memory_bytes
        self._worker: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize | None = None

    def passes(self, sources: Sequence[str]) -> bool:
        """Whether all the sources run one after the other, in the same names, without an exception or an early exit.

        Raises:
            FlantuneError: The kernel of this machine cannot shut a process in.
        """
        program = marshal.dumps([source.encode("utf-8", "replace").decode() for source in sources])
        if len(program) > LARGEST:
            return False
        worker = self._started()
        assert worker.stdin is not None
        try:
            worker.stdin.write(LENGTH.pack(len(program)) + program)
        except BrokenPipeError:
            said = b""
        else:
            said = self._said(2 * self._seconds + 1 + GRACE)
        if said not in (PASSED, FAILED):
            self.close()
            raise RuntimeError("the process that runs programs ended by itself")
        return said == PASSED

    def close(self) -> None:
        """Ends the worker; a new one starts when programs come again."""
        if self._end is not None:
            self._end()
        self._worker = self._end = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._worker is None:
            limits = (str(self._seconds), str(self._memory_bytes))
            self._worker = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-W", "ignore", str(Path(code_worker.__file__)), *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=library_folders(),
                cwd="/",
                process_group=0,  # Ctrl-C reaches the parent alone
                bufsize=0,
            )
            self._end = weakref.finalize(self, _ended, self._worker)
            if self._said(START) != READY:
                self.close()
                raise FlantuneError(
                    'metric "code_passes" needs a Linux kernel with filters of system calls (seccomp), on x86-64 or '
                    'ARM; use "code_parses" here'
                )
        return self._worker

    def _said(self, seconds: float) -> bytes:
        assert self._worker is not None
        assert self._worker.stdout is not None
        heard = select.select([self._worker.stdout], [], [], seconds)[0]
        return self._worker.stdout.read(1) if heard else b""


def _ended(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            pipe.close()


@functools.cache
def program_runner() -> ProgramRunner:
    """The one of this process."""
    return ProgramRunner()
