"""Read hostile files of every kind for a while: each must give rows or one line of error, soon.

Usage: python scripts/fuzz_sources.py [SECONDS] [--seed FIRST] [--case SEED]
Prints, by kind, the number of files, of results, errors and refused sources, and the slowest; then what broke a law,
crashed the process or took too long, with seeds that repeat it (`--case SEED`).
Exit code: 0 no case broke a law, 1 some did.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from flantune.memory import peak_memory
from fuzzing import KINDS, case_of, outcome

LONGEST = 20  # seconds that a case may take; a slow machine that does other things too must not fail
CASES_A_PROCESS = 1000

Line = dict[str, Any]


def read_cases(first: int, count: int, until: float) -> None:
    """Reads cases one after the other and prints a line before and after each: what a worker process does."""
    for seed in range(first, first + count):
        if time.time() > until:
            return
        print(json.dumps({"begins": seed}), flush=True)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        with tempfile.TemporaryDirectory() as folder:
            case = case_of(random.Random(seed), kind_of(seed), Path(folder))
            begins = time.perf_counter()
            found = outcome(case)
            seconds = time.perf_counter() - begins
        faulthandler.cancel_dump_traceback_later()
        peak = peak_memory() // 2**20
        print(json.dumps({"seed": seed, "found": found, "seconds": seconds, "mebibytes": peak}), flush=True)


def kind_of(seed: int) -> str:
    """The kinds take turns."""
    return KINDS[seed % len(KINDS)]


def lines_of(first: int, until: float) -> Iterator[Line]:
    """Lines of worker processes until the time is over; a case that ends its process is told as broken."""
    while time.time() < until:
        with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile("w+") as errors:
            command = [sys.executable, __file__, "--worker", str(first), str(until)]
            environment = {**os.environ, "FLANTUNE_CACHE": cache}
            seed = first
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as worker:
                for text in worker.stdout or ():
                    line = json.loads(text)
                    seed = line.get("begins", seed)
                    if "found" in line:
                        yield line
            errors.seek(0)
            if worker.returncode:
                yield {"seed": seed, "found": "broken", "seconds": 0.0, "mebibytes": 0, "why": errors.read().strip()}
        first = seed + 1


def report(lines: Iterator[Line]) -> int:
    """Prints the table; the number of broken cases."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    slowest: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, -1))
    broken, peak = [], 0
    for line in lines:
        kind = kind_of(line["seed"])
        counts[kind][line["found"]] += 1
        slowest[kind] = max(slowest[kind], (line["seconds"], line["seed"]))
        peak = max(peak, line["mebibytes"])
        if line["found"] == "broken":
            broken.append(line)
    print(f"{'kind':<10} {'files':>7} {'rows':>7} {'errors':>7} {'refused':>8} {'slowest':>9}  seed")
    for kind in (*KINDS, "all"):
        of_kind = counts[kind] if kind != "all" else sum(counts.values(), Counter())
        seconds, seed = slowest[kind] if kind != "all" else max(slowest.values())
        numbers = [of_kind.total(), of_kind["rows"], of_kind["error"], of_kind["refused"]]
        print("{:<10} {:>7,} {:>7,} {:>7,} {:>8,}".format(kind, *numbers) + f" {seconds:>8.2f}s  {seed}")
    print(f"peak memory of a worker: {peak:,} MiB; broken: {len(broken)}")
    told: dict[str, list[Line]] = defaultdict(list)
    for line in broken:
        told[line["why"].rpartition("\n")[2]].append(line)
    for alike in told.values():
        seeds = ", ".join(str(line["seed"]) for line in alike[:8])
        print(f"\n--- {len(alike)} like this; --case {seeds}\n{alike[0]['why'][-3000:]}")
    return len(broken)


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seconds", nargs="?", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--case", type=int, help="read this one alone, here, and keep its files")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        read_cases(int(arguments.worker[0]), CASES_A_PROCESS, float(arguments.worker[1]))
    elif arguments.case is not None:
        folder = Path(tempfile.mkdtemp())
        os.environ.setdefault("FLANTUNE_CACHE", tempfile.mkdtemp())
        case = case_of(random.Random(arguments.case), kind_of(arguments.case), folder)
        print(f"{json.dumps(case.source)}\nfiles in {folder}")
        print(outcome(case))
    else:
        sys.exit(bool(report(lines_of(arguments.seed, time.time() + arguments.seconds))))


if __name__ == "__main__":
    main()
