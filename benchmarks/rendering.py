"""How many prompts a second are rendered: here, through a task, and in a worker process with bounds.

    python benchmarks/rendering.py [--prompts N]

Rates are by processor time of one core, which other work on the machine does not change; the worker's counts the
worker and its parent together, as on a machine of one core.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flantune.tasks import Task
from flantune.tasks.limits import BoundedRenderer
from flantune.tasks.rendering import InProcess, Text

TEMPLATES = {
    "two fields": "How many stars does this review give? {{ text }} ||| {{ stars }}",
    "conditional, join, loop": "{% if stars > 3 %}A good one{% else %}A bad one{% endif %} ({{ tags | join(', ') }}):"
    "{% for label in labels %}\n- {{ label }}{% endfor %}\n{{ text }} ||| {{ labels[stars - 1] }}",
}
TICKS = os.sysconf("SC_CLK_TCK")


def rows(count: int) -> list[dict]:
    """Reviews of some thirty words."""
    review = {"tags": ["a", "b"], "labels": ["one", "two", "three", "four", "five"]}
    text = "nice and warm " * 10
    return [{**review, "text": f"Review {number}: {text}", "stars": number % 5 + 1} for number in range(count)]


def seconds(work: Callable[[], object], others: Sequence[int] = ()) -> float:
    """Processor time of this process and some others while something is done, the best of three times."""
    best = float("inf")
    for _ in range(3):
        before = time.process_time() + sum(map(spent, others))
        work()
        best = min(best, time.process_time() + sum(map(spent, others)) - before)
    return best


def spent(process: int) -> float:
    """Processor time of another process, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> None:
    """Prints prompts a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=30_000)
    count = parser.parse_args().prompts
    given = rows(count)
    started = time.perf_counter()
    with BoundedRenderer() as bounded:
        bounded.render_all([Text("x", {}, "it")])
        print(f"a worker starts in {time.perf_counter() - started:.2f} s")
        workers = [worker.process.pid for worker in bounded._workers]
        for name, template in TEMPLATES.items():
            texts = [Text(template, row, "it") for row in given]
            task = Task("reviews", {"all": given[:1]}, [template])
            rates = {
                "the text alone": seconds(lambda texts=texts: InProcess().render_all(texts)),
                "through a task": seconds(lambda task=task: [task.render(task.templates[0], row, "") for row in given]),
                "in a worker": seconds(lambda texts=texts: bounded.render_all(texts), workers),
            }
            for way, took in rates.items():
                print(f"{name}, {way}: {count / took:,.0f} prompts/s")


if __name__ == "__main__":
    main()
