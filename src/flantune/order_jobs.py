"""The order made alone, before any training: on this machine, as one of several jobs, or by the machines of Ray."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from flantune.errors import FlantuneError
from flantune.mixture.order import Order
from flantune.mixture.shards import listed
from flantune.preparation import mix
from flantune.progress import Listener, Silent
from flantune.recipe import Recipe


class Part(NamedTuple):
    """Which windows a job makes: every `of`-th one from `number` - 1 on."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Part:
        """`2/8` is the second of eight.

        Raises:
            FlantuneError: It is not of this form, or there is no such part.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise FlantuneError(f'"{text}" is no part; the first of eight jobs has 1/8, the last one 8/8', "--shard")
        return cls(int(number), int(of))

    def windows(self, total: int) -> range:
        """Numbers of its windows."""
        return range(self.number - 1, total, self.of)


WHOLE = Part(1, 1)


@dataclass(frozen=True)
class Made:
    """What a job did.

    Attributes:
        key: Of the order.
        windows: Of the whole order.
        made: Windows that this job made; the others of its part were there.
        missing: Windows of the whole order that nobody has made yet.
        rows: Packed rows of the order, where it is whole on this machine.
        place: Where it lies.
    """

    key: str
    windows: int
    made: int
    missing: int
    rows: int | None
    place: str


def make_order(
    recipe: Recipe,
    *,
    listener: Listener | None = None,
    workers: int | None = None,
    out: str | None = None,
    part: Part = WHOLE,
) -> Made:
    """Makes the order of a recipe, or a part of it.

    Args:
        recipe: What to do.
        listener: Who is told how far it is.
        workers: Processes that make it; 0 for this one; None for as many as there are cores to spare.
        out: Where it goes besides the cache: a folder, or an address that fsspec knows. What lies there is not made.
        part: The job's part; jobs need not know of each other.
    Raises:
        FlantuneError: Any mistake in recipe, tasks or rows; a place that cannot be written.
    """
    listener = listener or Silent()
    order = mix(recipe, listener=listener).order(workers=workers, orders=out)
    there = _there(order)
    todo = [number for number in part.windows(order.windows) if number not in there]
    listener.phase("order", len(todo))
    for path in order.made(todo):
        if order.elsewhere is not None:
            order.elsewhere.put(order.key, path)
        listener.advance(1)
    missing = order.windows - len(_there(order))
    whole = not missing and part.of == 1
    if whole:
        order.complete()
    return Made(order.key, order.windows, len(todo), missing, len(order) if whole else None, out or str(order.folder))


def _there(order: Order) -> set[int]:
    """The windows that lie where they are to lie."""
    return set(listed(order.folder) if order.elsewhere is None else order.elsewhere.windows(order.key))


def make_order_with_ray(
    recipe: Recipe, *, out: str, jobs: int | None = None, address: str | None = None, listener: Listener | None = None
) -> Made:
    """Makes the order of a recipe on the machines of a Ray cluster, a job a processor, and checks that it is whole.

    Each machine reads recipe, task files and rows at the same paths as this one, and writes to `out`.

    Args:
        recipe: What to do.
        out: A place that all machines reach.
        jobs: How many; None for one a processor of the cluster.
        address: Of the cluster; None for the one that Ray finds, or a new one on this machine.
        listener: Who is told how far it is.
    Raises:
        FlantuneError: Ray is not installed; any mistake in recipe, tasks or rows.
    """
    try:
        import ray
    except ImportError:
        raise FlantuneError('Ray is not installed; pip install "flantune[ray]"', "--ray") from None
    listener = listener or Silent()
    begun = not ray.is_initialized()
    if begun:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        parts = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        listener.phase("order", parts)
        job: Any = ray.remote(num_cpus=1, max_retries=2)(_job)
        waiting = [job.remote(recipe, out, Part(number, parts)) for number in range(1, parts + 1)]
        made = list(_finished(ray, waiting, lambda: listener.advance(1)))
    finally:
        if begun:
            ray.shutdown()
    missing = min(each.missing for each in made)  # what the last one saw
    if missing:
        raise FlantuneError(f"{missing} of {made[0].windows} windows are missing; run it again to make them", out)
    return Made(made[0].key, made[0].windows, sum(each.made for each in made), 0, None, out)


def _job(recipe: Recipe, out: str, part: Part) -> Made | FlantuneError:
    try:
        return make_order(recipe, workers=0, out=out, part=part)
    except FlantuneError as error:  # Ray would wrap it in an error and a traceback of its own
        return FlantuneError(error.message, error.place)


def _finished(ray: Any, waiting: list[Any], told: Callable[[], None]) -> Any:
    while waiting:
        (done,), waiting = ray.wait(waiting)
        result = ray.get(done)
        if isinstance(result, FlantuneError):
            raise result
        told()
        yield result
