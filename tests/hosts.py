"""Two hosts on this machine: network namespaces with a cable between them, and a launcher on each."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TOGETHER = 90  # seconds: 60 from the loss of a rank on, and what it takes to start


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        name: Of the namespace.
        card: Its end of the cable.
        address: Its address on it.
    """

    name: str
    card: str
    address: str


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Namespaces that see each other and nothing else; they are removed whatever happens inside.

    The test is skipped where one may not make them.
    """
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the command `ip` (iproute2)")
    hosts = [Host(f"flantune-{os.getpid()}-{n}", f"card{n}", f"10.87.0.{n + 1}") for n in range(2)]
    try:
        for host in hosts:
            made = _ip("netns", "add", host.name)
            if made.returncode:
                pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
        one, other = hosts
        cable = ["type", "veth", "peer", "name", other.card, "netns", other.name]
        made = _ip("-n", one.name, "link", "add", one.card, *cable)
        if made.returncode:
            pytest.skip(f"a cable between network namespaces cannot be made here: {made.stderr.strip()}")
        for host in hosts:
            for command in (
                ["address", "add", f"{host.address}/24", "dev", host.card],
                ["link", "set", host.card, "up"],
                ["link", "set", "lo", "up"],
            ):
                _ip("-n", host.name, *command).check_returncode()
        yield one, other
    finally:
        for host in hosts:
            _ip("netns", "delete", host.name)


@contextlib.contextmanager
def launched(
    hosts: tuple[Host, Host], folder: Path, command: list[str]
) -> Iterator[list[tuple[subprocess.Popen[bytes], Path]]]:
    """torchrun on each host, with one rank there and a cache of its own, and where its standard error goes.

    Args:
        hosts: The first is where the launchers meet, and has rank 0.
        folder: For the caches.
        command: What each rank runs: a script, or `-m` and a module, and its arguments.
    """
    started = []
    try:
        for number, host in enumerate(hosts):
            launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
            launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0].address}:29400", "--rdzv-id", "run"]
            launcher += ["--local-addr", host.address]
            launcher += ["--rdzv-conf", f"is_host={1 - number}"]  # both have this machine's name, which tells nothing
            environment = {**os.environ, "FLANTUNE_CACHE": str(folder / f"cache-{number}"), "HF_HUB_OFFLINE": "1"}
            environment |= {"CI": "1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": host.card}
            with (folder / f"said-{number}").open("wb") as said:
                entered = ["ip", "netns", "exec", host.name, *launcher, *command]
                process = subprocess.Popen(entered, env=environment, stdout=subprocess.DEVNULL, stderr=said)
            started.append((process, folder / f"said-{number}"))
        yield started
    finally:
        for host in hosts:
            _end_all(host)
        for process, _ in started:
            process.wait()


def on_two_hosts(hosts: tuple[Host, Host], folder: Path, command: list[str]) -> list[tuple[int, str]]:
    """Exit code and standard error of torchrun on each host, once both have ended: see `launched`."""
    with launched(hosts, folder, command) as started:
        codes = [process.wait(timeout=TOGETHER) for process, _ in started]
    return [(code, said.read_text()) for code, (_, said) in zip(codes, started, strict=True)]


@contextlib.contextmanager
def cable_pulled(host: Host) -> Iterator[None]:
    """No packet comes or goes, and nobody is told."""
    _ip("-n", host.name, "link", "set", host.card, "down").check_returncode()
    try:
        yield
    finally:
        _ip("-n", host.name, "link", "set", host.card, "up").check_returncode()


def _end_all(host: Host) -> None:
    """Ends what runs on a host: a launcher that is killed leaves its ranks."""
    for process in _ip("netns", "pids", host.name).stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
