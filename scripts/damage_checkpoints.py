"""Damage the newest checkpoint of real runs again and again, and look at what is gone on from.

Usage: python scripts/damage_checkpoints.py [--count 1000] [--seed 0]

Two small runs are stopped, each with two checkpoints: one of one process, one of two processes that hold parts of the
weights. Then a byte of some file of the newest checkpoint is changed, or the file cut, --count times each. The damage
must be noticed, with a warning, and the checkpoint before used; or the restored state must be what it was. Exit code:
0 it was so, 1 it was not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from damage import DAMAGES, damaged, stopped_run
from trials import Trials

RUNS = {"one process": (1, ()), "weights in parts": (2, ("training.sharding=full",))}


def main() -> int:
    """Damages and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="of each kind of damage, for each run")
    parser.add_argument("--seed", type=int, default=0, help="of files and places")
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name, Trials(Path(name) / "cache") as trials:
        for what, (ranks, further) in RUNS.items():
            folder = Path(name) / what.replace(" ", "-")
            checkpoints = stopped_run(trials, folder, ranks=ranks, further=further)
            for kind in DAMAGES:
                found = damaged(checkpoints, kind, given.count, random.Random(f"{given.seed} {what} {kind}"))
                print(f"{what}, {kind}: {dict(found)}", flush=True)
                wrong += sum(count for how, count in found.items() if how.startswith("wrong"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
