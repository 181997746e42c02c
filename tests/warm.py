"""A Python that has imported already what a run needs, for tests that start many commands.

A fresh process computes for some seconds to import PyTorch and transformers. `warm_python()` is a program that has a
fork of one warm process do what `python -m flantune` would: a process of its own, with the caller's arguments,
environment, folder, standard streams, signals and exit code, whose own children begin as quickly. Whatever else it is
asked, it is Python. Tests of what importing does start `sys.executable`.
"""

from __future__ import annotations

import atexit
import gc
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

PROGRAM = """\
#!/bin/sh
case "$1 $2" in "-m flantune") exec '{python}' -IS '{script}' '{address}' "$0" "$@" ;; esac
exec '{python}' "$@"
"""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@cache
def warm_python() -> str:
    """Path of the program; the warm process ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    address, program = Path(folder.name, "socket"), Path(folder.name, "python")
    program.write_text(PROGRAM.format(python=sys.executable, script=__file__, address=address))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        server = subprocess.Popen(
            [sys.executable, __file__, str(listening.fileno())],
            stdin=subprocess.PIPE,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C is for who asked
        )

    @atexit.register
    def end() -> None:
        server.communicate()
        folder.cleanup()

    return str(program)


def _serve(listening: socket.socket) -> None:
    """Forks for each caller, until standard input ends. Returns only in a fork, which is to do what a caller asked."""
    import peft  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from flantune import pipeline, validation  # noqa: F401

    torch.set_num_threads(1)  # more would be lost in a fork
    gc.collect()
    gc.freeze()  # else each fork would copy what it looks through
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            sys.exit()
        caller, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            return _answer(caller)
        caller.close()


def _answer(caller: socket.socket) -> None:
    """Forks once more, to return there, and tells the exit code of that; where the caller is killed, it is too."""
    told, streams, _, _ = socket.recv_fds(caller, 8, 3)
    with caller.makefile("rb") as said:
        folder, count, *rest = said.read(int(told)).decode("utf-8", "surrogateescape").split("\0")
    child = os.fork()
    if child == 0:
        caller.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update({name: value for name, _, value in (pair.partition("=") for pair in rest[int(count) :])})
        sys.executable, _, *sys.argv = rest[: int(count)]
        sys.path.insert(0, folder)
        renew_threads()
        return
    caller.send(f"{child:<8}".encode())
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([ended, caller], [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    try:
        caller.send(f"{os.waitstatus_to_exitcode(status):<8}".encode())
    finally:
        os._exit(0)


def renew_threads() -> None:
    """For a fork: PyTorch renews its pool of threads where one first asks for it, and fails where two do at once."""
    import torch

    torch.set_num_threads(1)


def _ask(address: str, arguments: list[str]) -> int:
    """Has it done, and returns the exit code."""
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    asked = "\0".join([str(Path.cwd()), str(len(arguments)), *arguments, *environment])
    data = asked.encode("utf-8", "surrogateescape")
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [f"{len(data):<8}".encode()], [0, 1, 2])
        server.sendall(data)
        child = int(server.recv(8))
        for number in FORWARDED:
            signal.signal(number, lambda got, _: os.kill(child, got))
        return int(server.recv(8))


def main() -> None:
    """SOCKET PROGRAM -m MODULE ARGUMENTS... asks; the number of a listening socket serves."""
    if not sys.argv[1].isdigit():
        code = _ask(sys.argv[1], sys.argv[2:])
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        sys.exit(code)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
