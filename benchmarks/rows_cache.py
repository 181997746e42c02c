"""How long rows take to be kept and to be opened again, and how much memory that takes.

python benchmarks/rows_cache.py [--rows 10000000] [--folder FOLDER]

Makes a JSONL file of so many rows below the folder, reads it once and opens it again in fresh processes, prints what
each took, and removes all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flantune.memory import peak_memory

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll", "larch"]
PICKS = 100_000  # rows that are read at random


def write_file(path: Path, rows: int) -> None:
    """Short rows, all of them different, written in pieces."""
    dice = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, rows, 10_000):
            lines = (
                json.dumps({"id": number, "text": " ".join(dice.choices(WORDS, k=9)), "label": dice.choice(WORDS)})
                for number in range(start, min(start + 10_000, rows))
            )
            file.write("\n".join(lines) + "\n")


def opened(path: Path, split: str) -> Any:
    """The rows of a part of the file, through the cache."""
    from flantune.tasks.sources import SourceChoice, read_split

    source: dict[str, Any] = {"kind": "jsonl", "splits": {"all": path.name}}
    if split != "all":
        source["fractions"] = {"test": 0.1, "train": 0.9}
    return read_split(SourceChoice.model_validate(source), split, path.parent, {})


def measured(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a piece of work gives, and its seconds."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def report(path: Path, split: str) -> None:
    """What one process needs to open a split and to read rows of it."""
    import flantune.tasks.sources  # noqa: F401  # not what is measured

    before = peak_memory() / 2**20
    rows, seconds = measured(lambda: opened(path, split))
    _, touched = measured(lambda: rows[len(rows) // 2])
    print(f"  open           {seconds:8.3f} s   {len(rows):,} rows; the first one read {1000 * touched:.1f} ms later")
    print(f"  peak memory    {peak_memory() / 2**20:8.0f} MB  ({before:.0f} MB before opening)")
    picks = random.Random(1).choices(range(len(rows)), k=PICKS)
    nearby = [pick % 4096 for pick in picks]
    _, everywhere = measured(lambda: [rows[pick] for pick in picks])
    _, near = measured(lambda: [rows[pick] for pick in nearby])
    print(f"  a row          {1e6 * everywhere / PICKS:8.1f} us  at random over all of them, {PICKS:,} times, cold")
    print(f"  a row          {1e6 * near / PICKS:8.1f} us  where its batch has been touched before")


def in_a_fresh_process(path: Path, split: str, what: str) -> None:
    """Measures in a process that has done nothing else."""
    print(what, flush=True)
    environment = {**os.environ, "FLANTUNE_CACHE": str(path.parent / "cache"), "FLANTUNE_CACHE_LIMIT": "none"}
    began = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--measure", str(path), split], check=True, env=environment)
    print(f"  whole process  {time.perf_counter() - began:8.1f} s", flush=True)


def main() -> None:
    """Makes, measures, removes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        report(Path(given.measure[0]), given.measure[1])
        return
    folder = Path(tempfile.mkdtemp(prefix="rows-cache-", dir=given.folder))
    try:
        path = folder / "rows.jsonl"
        _, seconds = measured(lambda: write_file(path, given.rows))
        print(f"file: {given.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB, written in {seconds:.0f} s", flush=True)
        in_a_fresh_process(path, "all", "cold: hashed, read and kept")
        in_a_fresh_process(path, "all", "warm, but the file was written just before it was hashed: hashed again")
        in_a_fresh_process(path, "all", "warm")
        in_a_fresh_process(path, "train", "a part by fraction, for the first time")
        in_a_fresh_process(path, "train", "a part by fraction, warm")
        kept = sum(each.stat().st_size for each in (folder / "cache").rglob("*") if each.is_file())
        print(f"cache: {kept / 1e6:,.0f} MB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
