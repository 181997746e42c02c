"""Let every system call of a save fail in real runs, start them again, and compare with a run that nothing befell.

Usage: python scripts/fault_saves.py [--faults kill EIO ENOSPC ...] [--every 1] [--ranks 1]
    [--results FILE] [--set KEY=VALUE ...]

A run of a few tiny steps goes on from its checkpoint at step 2, saves another one at step 4, and ends. Each of its
system calls among the checkpoints, from the first look at them to the removal of the last one, meets each fault:
SIGKILL (in the middle of a write too), EIO, ENOSPC, EDQUOT, EINTR, a short write, a disk that is full from there on, a
disk that is gone from there on. The run must be killed, or say in one line what happened and exit with code 2, or end
as if nothing had been; and must then go on from a checkpoint to the same draws and weights. Needs a C compiler.

What was tried is written to --results, a line each; the same command goes on behind the last one. Exit code: 0 all was
well, 1 it was not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from faulty_runs import FaultyRuns
from system_calls import FAULTS
from trials import Trials


def main() -> int:
    """Tries all and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--faults", nargs="+", choices=[name for name in FAULTS if name != "none"], default=[*FAULTS][1:]
    )
    parser.add_argument("--every", type=int, default=1, help="try every n-th call only")
    parser.add_argument("--ranks", type=int, default=1, help="processes; each of them meets the faults in turn")
    parser.add_argument("--results", type=Path, help="file of what was tried")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of the recipe")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name, Trials(Path(name) / "cache", faults=True) as trials:
        results = given.results or Path(name) / "results.jsonl"
        lines = results.read_text().splitlines() if results.exists() else []
        tried = {tuple(line[:3]): line[3:] for line in map(json.loads, lines)}
        for rank in range(given.ranks):
            folder = Path(name) / f"rank-{rank}"
            runs = FaultyRuns(trials, folder, ranks=given.ranks, rank=rank, further=tuple(given.set))
            print(f"rank {rank}: {len(runs.calls)} calls: {dict(Counter(runs.calls).most_common())}")
            for fault in given.faults:
                for at in range(0, len(runs.calls), given.every):
                    if (rank, fault, at) not in tried:
                        tried[rank, fault, at] = [runs.calls[at], *runs.tried(fault, at)]
                        with results.open("a") as file:
                            file.write(json.dumps([rank, fault, at, *tried[rank, fault, at]]) + "\n")
                mine = [tried[key] for key in tried if key[:2] == (rank, fault)]
                ends = ", ".join(f"{count} {how}" for how, count in sorted(Counter(line[1] for line in mine).items()))
                bad = [line for line in mine if line[2]]
                print(f"rank {rank}, {fault} at {len(mine)} calls: {ends}, {len(bad)} wrong", flush=True)
                for line in bad:
                    print("  wrong:", *line, sep="\n    ", flush=True)
                wrong += len(bad)
            print(f"rank {rank}: left in {runs.states} ways, each gone on with", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
