"""Kill small real runs at many moments, start them again by the same command, and compare with one that nobody killed.

Usage: python scripts/kill_runs.py [--runs 100] [--seed 0] [--data DATA]

1. A made-up mixture on one process: each run is killed at random moments (in a save, after a step, before the first
   one, after the last one), up to three times. Draws, losses and weights must be those of the uninterrupted run, bit
   for bit.
2. The same, killed before, at and after every step in which a task begins another epoch or the mixture another phase.
3. With --data, the 33 tasks of examples/t0 on the files of DATA/t0_train_50k: one run killed at 20 random moments, and
   one killed around every border, each start on another number of processes (1, 2 and 4). The draws must be the same.

Prints what was done. Exit code: 0 all were alike, 1 some were not.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from kills import (
    RESUMES,
    border_steps,
    chosen_moment,
    killed_again_and_again,
    steps_of,
    weights_of,
    write_t0_recipe,
)
from runs import write_recipe
from trials import Trials

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("training.draws=96", "training.rows_per_step=4", "training.precision=fp32", "training.checkpoint_every=1")
PHASES = "mixture.phases=[{from_share: 0.45, rates: proportional, tasks: {words: {weight: 3}}}]"


class Tried:
    """What was killed, and which runs were not as they should be."""

    def __init__(self, trials: Trials, arguments: list[str], folder: Path, *, weights: bool) -> None:
        self._trials, self._arguments, self._folder, self._weights = trials, arguments, folder, weights
        self.kills: Counter[str] = Counter()
        self.wrong: list[list[str]] = []
        ended = trials.run([*arguments, f"output={folder / 'whole'}"])
        if ended.codes != [0]:
            raise SystemExit(ended.text)
        self.moments = ended.moments

    def run(self, moments: list[tuple[str, int]], ranks: list[int]) -> None:
        """One run, killed at these moments."""
        run, whole = self._folder / "run", self._folder / "whole"
        told = killed_again_and_again(self._trials, self._arguments, run, moments, ranks)
        self.kills.update(kind for kind, _ in moments[: sum("-9" in line for line in told)])
        alike = (run / "model").exists() and steps_of(run) == steps_of(whole)
        if not alike or (self._weights and weights_of(run) != weights_of(whole)):
            self.wrong.append(told)

    def around_borders(self, ranks: list[int]) -> int:
        """One run, killed before, at and after each border; the number of borders."""
        borders = border_steps(self._arguments, self._folder / "whole")
        last = len(steps_of(self._folder / "whole"))
        steps = sorted({step + shift for step in borders for shift in (-1, 0, 1) if 0 < step + shift <= last})
        self.run([("at", step) for step in steps], ranks)
        return len(borders)


def main() -> int:
    """Runs all and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="killed runs of the made-up mixture")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--data", type=Path, help="folder with t0_train_50k")
    given = parser.parse_args()
    dice = random.Random(given.seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as name, Trials(Path(name) / "cache") as trials:
        os.environ["FLANTUNE_CACHE"] = str(Path(name) / "cache")
        arguments = [str(write_recipe(Path(name))), *SMALL, PHASES]
        began = time.monotonic()
        small = Tried(trials, arguments, Path(name), weights=True)
        for _ in range(given.runs):
            small.run([chosen_moment(dice, small.moments) for _ in range(dice.randint(1, RESUMES))], [1])
        wrong += told(f"{given.runs} runs of a made-up mixture", small, began)
        began, small.kills = time.monotonic(), Counter()
        borders = small.around_borders([1])
        wrong += told(f"one run around {borders} borders of epochs and phases", small, began)
        if given.data is not None:
            recipe = write_t0_recipe(Path(name), ROOT / "examples" / "t0", given.data.resolve())
            began = time.monotonic()
            t0 = Tried(trials, [str(recipe)], Path(name) / "t0", weights=False)
            ranks = [dice.choice((1, 2, 4)) for _ in range(20)]
            moments = [dice.choice((("step", 1), ("save", dice.randrange(25, 60)))) for _ in ranks]
            t0.run(moments, [*ranks, 1])
            wrong += told("one run of the T0 mixture on 1, 2 and 4 ranks", t0, began)
            began, t0.kills = time.monotonic(), Counter()
            borders = t0.around_borders([1, 2, 4] * 100)
            wrong += told(f"one run of it around {borders} steps with borders of epochs and phases", t0, began)
    return 1 if wrong else 0


def told(what: str, tried: Tried, began: float) -> int:
    """Prints a line, and what was wrong; returns how much."""
    kills = ", ".join(f"{count} {kind}" for kind, count in sorted(tried.kills.items()))
    print(
        f"{what}: {tried.kills.total()} kills ({kills}), {len(tried.wrong)} unlike, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    for lines in tried.wrong:
        print("  unlike:", *lines, sep="\n    ")
    return len(tried.wrong)


if __name__ == "__main__":
    sys.exit(main())
