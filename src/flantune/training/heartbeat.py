"""A sign of life from every rank, so that one that hangs ends the run with its name instead of holding it for hours.

A rank that dies closes its connections, and all others notice; one that is stopped, or whose machine is gone, does
not. So each rank says that it is there every two seconds, from a thread of its own, and listens to the next one.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from flantune.settings import Launch
from flantune.training.distributed import lost_ranks

SECONDS = 2.0
MISSED = 12  # after which a rank is lost; counted, since a machine that slept has lost nobody
GONE = "gone"


@contextmanager
def heartbeat(started: Launch | None) -> Iterator[None]:
    """Beats while the block runs; ends this process, with a line on standard error, when the next rank is silent.

    Args:
        started: Who this is; nobody listens to a process that is alone.
    Raises:
        RankLost: The ranks' meeting point cannot be reached.
    """
    if started is None:
        yield
        return
    with lost_ranks():
        store = dist.PrefixStore("flantune/alive", dist.TCPStore(*started.address, is_master=False))
        _say(store, started.rank, 0)
    done = threading.Event()
    thread = threading.Thread(target=_beat, args=(store, started, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _say(store: dist.Store, rank: int, beat: int) -> None:
    store.set(str(rank), f"{socket.gethostname()}, process {os.getpid()}, beat {beat}")


def _beat(store: dist.Store, started: Launch, done: threading.Event) -> None:
    other = str((started.rank + 1) % started.count)
    beat, heard, missed = 0, "", 0
    try:
        while not done.wait(SECONDS):
            beat += 1
            _say(store, started.rank, beat)
            said = store.get(other).decode() if store.check([other]) else ""
            missed = missed + 1 if said == heard != GONE else 0
            heard = said
            if missed == MISSED:
                _end(other, heard)
        store.set(str(started.rank), GONE)
    except dist.DistError:
        return  # the store is gone with the launcher: whoever waits for another rank is told so


def _end(rank: str, heard: str) -> None:
    where = heard.rpartition(",")[0] or "of which nothing was heard"
    print(
        f"error: rank {rank} ({where}) has not answered for {MISSED * SECONDS:.0f} seconds; ending the run",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)  # the main thread waits for that rank, and cannot be woken
