"""The process that runs programs for `code_runner`: a child for each, shut in by the kernel. Standard library alone.

A child has no system call left but those that compute, wait and end: it can open no file and no socket, start neither
process nor thread, and signal nobody. Bounds on time and memory are the kernel's too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import marshal
import math
import os
import platform
import resource
import select
import signal
import struct
import sys
import time

LENGTH = struct.Struct("<I")
READY, MISSING, PASSED, FAILED = b"r", b"x", b"p", b"f"

# What programs may import: it is loaded before, since a child can open no file.
MODULES = (
    *("abc", "array", "ast", "base64", "bisect", "builtins", "calendar", "cmath", "collections", "collections.abc"),
    *("contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools"),
    *("hashlib", "heapq", "hmac", "inspect", "io", "itertools", "json", "keyword", "math", "numbers", "operator"),
    *("os", "os.path", "pprint", "queue", "random", "re", "secrets", "statistics", "string", "struct", "sys"),
    *("textwrap", "time", "timeit", "traceback", "types", "typing", "unicodedata", "unittest", "uuid", "warnings"),
    *("zlib", "encodings.ascii", "encodings.idna", "encodings.latin_1", "encodings.utf_16"),
)

# read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn madvise mremap futex
# getpid gettid clock_gettime clock_nanosleep nanosleep getrandom exit exit_group sigaltstack sched_yield getrusage
# times gettimeofday restart_syscall
ALLOWED = {
    "x86_64": (0xC000003E, (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 28, 25, 202, 39, 186, 228, 230, 35, 318, 60,
                            231, 131, 24, 98, 100, 96, 219)),
    "aarch64": (0xC00000B7, (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 233, 216, 98, 172, 178, 113, 115,
                             101, 278, 93, 94, 132, 124, 165, 153, 169, 128)),
}  # fmt: skip
NO_NEW_PRIVILEGES, SECCOMP, FILTER, DEATH_SIGNAL = 38, 22, 2, 1  # of prctl(2)


def main() -> None:
    """Runs programs until the parent closes the pipe: a frame of marshalled sources each, answered by one byte."""
    seconds, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    for name in MODULES:
        importlib.import_module(name)
    time.tzset()
    shut = _shutter()
    works = shut is not None and _outcome(["import math"], shut, seconds, memory_bytes) == PASSED
    os.write(1, READY if works else MISSING)
    while shut is not None and (header := sys.stdin.buffer.read(LENGTH.size)):
        sources = marshal.loads(sys.stdin.buffer.read(*LENGTH.unpack(header)))
        os.write(1, _outcome(sources, shut, seconds, memory_bytes))


def _shutter() -> _Shutter | None:
    known = ALLOWED.get(platform.machine())
    return _Shutter(*known) if sys.platform == "linux" and known is not None else None


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


class _Shutter:
    """A filter of system calls (seccomp(2)) that answers all but some with "not permitted"."""

    def __init__(self, architecture: int, allowed: tuple[int, ...]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        load, equal, give = 0x20, 0x15, 0x06
        kill, refuse, allow = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000
        code = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
        code += [(equal, len(allowed) - place, 0, number) for place, number in enumerate(allowed)]
        code += [(give, 0, 0, refuse), (give, 0, 0, allow)]
        self._code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
        self._program = _Program(len(code), ctypes.addressof(self._code))

    def end_with(self, parent: int) -> None:
        """Has this process killed when its parent ends."""
        self._libc.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before
            os._exit(1)

    def close(self) -> None:
        """Leaves this process those calls.

        Raises:
            OSError: The kernel has no such filters.
        """
        if self._libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or self._libc.prctl(
            SECCOMP, FILTER, ctypes.byref(self._program), 0, 0
        ):
            raise OSError(ctypes.get_errno(), "no filter of system calls")


def _outcome(sources: list[str], shut: _Shutter, seconds: float, memory_bytes: int) -> bytes:
    """Runs one program in a child: PASSED where it came to its end in time."""
    told, tell = os.pipe()
    word = os.urandom(16)  # said at the end alone: a program that leaves early, or writes somewhere, has not passed
    worker = os.getpid()
    child = os.fork()
    if not child:
        shut.end_with(worker)
        _child(sources, shut, seconds, memory_bytes, tell, word)
    os.close(tell)
    heard = b""
    deadline = time.monotonic() + 2 * seconds + 1
    while len(heard) < len(word) and select.select([told], [], [], max(0.0, deadline - time.monotonic()))[0]:
        said = os.read(told, len(word) - len(heard))
        if not said:
            break
        heard += said
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(told)
    return PASSED if heard == word else FAILED


def _child(sources: list[str], shut: _Shutter, seconds: float, memory_bytes: int, tell: int, word: bytes) -> None:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.dup2(tell, 3)
        os.closerange(4, 64)
        whole = max(1, math.ceil(seconds))
        for kind, bound in (
            (resource.RLIMIT_CPU, whole),
            (resource.RLIMIT_AS, memory_bytes),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, 0),
            (resource.RLIMIT_NPROC, 0),
        ):
            resource.setrlimit(kind, (bound, bound))
        shut.close()
        names = {"__name__": "answer"}
        for source in sources:
            exec(compile(source, "<answer>", "exec"), names)
        os.write(3, word)
    except BaseException:
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
