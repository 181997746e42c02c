"""Signs of life of the ranks where the place that they meet at is cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

MEETING = """
import sys
import torch.distributed as dist
store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""

BEATING = """
import sys
from flantune.settings import Launch
from flantune.training import heartbeat
heartbeat.SECONDS = 0.25
with heartbeat.heartbeat(Launch(int(sys.argv[1]), 2, 0, 1, ("127.0.0.1", int(sys.argv[2])))):
    print("beating", flush=True)
    sys.stdin.read()
print("at its end", flush=True)
"""


@pytest.fixture
def meeting():
    """Process and port of the ranks' meeting point."""
    with started(MEETING) as process:
        yield process, first_line(process)
        process.kill()


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], text=True, **pipes)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def ranks(meeting):
    """Two processes that listen to each other."""
    _, port = meeting
    both = [started(BEATING, str(rank), port) for rank in range(2)]
    assert [first_line(process) for process in both] == ["beating"] * 2
    yield both
    for process in both:
        process.kill()
        process.communicate()


def test_ranks_that_are_cut_off_from_their_meeting_point_end_and_say_so(meeting, ranks):
    process, port = meeting
    os.kill(process.pid, signal.SIGSTOP)  # connections stay open and nothing comes, as where a cable is cut
    for rank in ranks:
        assert rank.wait(timeout=60) == 1
        _, said = rank.communicate()
        who = f"the ranks' meeting point (127.0.0.1, port {port})"
        assert said == f"error: {who} has not answered for 3 seconds; ending the run\n"
