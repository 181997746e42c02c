"""Opens the draw function of a mixture of 1,836 tasks and 15 million rows, and times the draws of windows.

python benchmarks/draws.py
"""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np

from flantune.memory import peak_memory
from flantune.mixture.draw import DrawFunction, MixedTask
from flantune.mixture.shape import MixturePart, TaskPart, rated

TASKS, ROWS, WINDOW, WINDOWS = 1836, 15_000_000, 512, 400
TEMPLATES = (Fraction(1),) * 10
OPTIONS = (Fraction(1, 2), *[Fraction(1, 18)] * 9)  # left out half of the time, else one of nine styles
SHOTS = (Fraction(1, 2), *[Fraction(1, 8)] * 4)


def main() -> None:
    """Prints seconds and memory, and microseconds a draw at the start of a run and far into it, of one processor."""
    sizes = np.exp(np.random.default_rng(0).uniform(3, 13, TASKS))
    sizes = np.maximum(1, sizes / sizes.sum() * ROWS).astype(int).tolist()
    before = peak_memory() / 2**20
    started = time.process_time()
    mixture = MixturePart("", tuple(TaskPart(f"task{i:04}", size) for i, size in enumerate(sizes)), cap=30_000)
    tasks = [MixedTask(f"task{i:04}", size, TEMPLATES, OPTIONS, SHOTS) for i, size in enumerate(sizes)]
    function = DrawFunction(tasks, rated(mixture), seed=0)
    function.draws(range(WINDOW))
    seconds = time.process_time() - started
    took = f"{seconds:.2f} s and {peak_memory() / 2**20 - before:.0f} MB"
    print(f"{TASKS:,} tasks, {sum(sizes):,} rows: opened in {took}")
    for start in (0, 10**6, 10**9, 10**12):
        started = time.process_time()
        for number in range(WINDOWS):
            function.draws(np.arange(start + number * WINDOW, start + (number + 1) * WINDOW))
        each = (time.process_time() - started) / (WINDOWS * WINDOW)
        print(f"windows of {WINDOW} from draw {start:>17,}: {1e6 * each:.1f} µs a draw")
    started = time.process_time()
    function.schedule.counts(10**9)
    print(f"draws of each task among the first 10^9: counted in {1e3 * (time.process_time() - started):.1f} ms")


if __name__ == "__main__":
    main()
