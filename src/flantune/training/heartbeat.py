"""A sign of life from every rank, so that one that hangs ends the run with its name instead of holding it for hours.

A rank that dies closes its connections, and all others notice; one that is stopped, or whose machine is gone, does
not. So each rank says that it is there every two seconds, from a thread of its own, and listens to the next one. Where
the network is cut between a rank and the place where all meet, that thread waits in vain; another one counts how long.
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

    It also ends when nothing is heard from the ranks' meeting point.

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
    done, answered = threading.Event(), threading.Event()
    beating = threading.Thread(target=_beat, args=(store, started, done, answered), daemon=True)
    watching = threading.Thread(target=_watch, args=(beating, answered, started), daemon=True)
    beating.start()
    watching.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        watching.join()


def _say(store: dist.Store, rank: int, beat: int) -> None:
    store.set(str(rank), f"{socket.gethostname()}, process {os.getpid()}, beat {beat}")


def _watch(beating: threading.Thread, answered: threading.Event, started: Launch) -> None:
    missed = 0
    while True:
        beating.join(SECONDS)
        if not beating.is_alive():
            return
        missed = 0 if answered.is_set() else missed + 1
        answered.clear()
        if missed == MISSED:
            _end(f"the ranks' meeting point ({started.address[0]}, port {started.address[1]})")


def _beat(store: dist.Store, started: Launch, done: threading.Event, answered: threading.Event) -> None:
    other = str((started.rank + 1) % started.count)
    beat, heard, missed = 0, "", 0
    try:
        while not done.wait(SECONDS):
            beat += 1
            _say(store, started.rank, beat)
            said = store.get(other).decode() if store.check([other]) else ""
            missed = missed + 1 if said == heard != GONE else 0
            heard = said
            answered.set()
            if missed == MISSED:
                _end(f"rank {other} ({heard.rpartition(',')[0] or 'of which nothing was heard'})")
        store.set(str(started.rank), GONE)
    except dist.DistError:
        return  # the store is gone with the launcher: whoever waits for another rank is told so


def _end(who: str) -> None:
    seconds = MISSED * SECONDS
    print(f"error: {who} has not answered for {seconds:.0f} seconds; ending the run", file=sys.stderr, flush=True)
    os._exit(1)  # the main thread waits for another rank, and cannot be woken
