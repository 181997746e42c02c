"""Kill small real runs at many moments, start them again by the same command, and compare with one that nobody killed.

Usage: python scripts/kill_runs.py [--kills 200] [--changes 20] [--seed 0] [--data DATA] [--results FILE]

1. A made-up mixture on one process, trained and compared: each run is killed at random moments (in a save, in an
   evaluation, after a step, before the first one, after the last one), up to three times, until there were as many
   kills as asked for. Draws, losses, weights and answers must be those of the uninterrupted run, bit for bit.
2. The same, killed before, at and after every step in which a task begins another epoch or the mixture another phase.
3. Begun on 1, 2, 3 or 4 processes, killed, and ended on 1, 2, 3 or 4: 16 pairs. Same draws, losses to 1e-5.
4. Stopped and gone on with, each time with another number of rows a step, up to five times a run: every packed row
   once, and the hash of all draws that of the uninterrupted run.
5. With --data, the 33 tasks of examples/t0 on the files of DATA/t0_train_50k: one run killed at 20 random moments, and
   one killed around every border, each start on another number of processes (1, 2 and 4). The draws must be the same.

What was tried is written to --results, a line each; the same command goes on behind the last one. Prints what was done.
Exit code: 0 all were alike, 1 some were not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from kills import (
    RESUMES,
    border_steps,
    chosen_moment,
    killed_again_and_again,
    rows_changed_again_and_again,
    steps_of,
    unlike,
    write_t0_recipe,
)
from runs import write_recipe
from trials import Trials

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("training.draws=96", "training.rows_per_step=4", "training.precision=fp32", "training.checkpoint_every=1")
PHASES = "mixture.phases=[{from_share: 0.45, rates: proportional, tasks: {words: {weight: 3}}}]"
COUNTS = (1, 2, 3, 4)


class Record:
    """What was tried, here and by an earlier start of this script."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._tried = {line["name"]: line for line in map(json.loads, lines)}

    def once(self, name: str, trial: Callable[[], tuple[Counter[str], list[str]]]) -> Counter[str]:
        """Does a trial that was not done yet, and notes its kills and what was wrong; returns the kills."""
        if name not in self._tried:
            began = time.monotonic()
            kills, wrong = trial()
            self._tried[name] = {"name": name, "kills": kills, "wrong": wrong, "seconds": time.monotonic() - began}
            with self._path.open("a") as file:
                file.write(json.dumps(self._tried[name]) + "\n")
        return Counter(self._tried[name]["kills"])

    def told(self, title: str, group: str) -> int:
        """Prints a line on the trials of a group, and what was wrong; returns how many were wrong."""
        trials = [line for name, line in self._tried.items() if name.startswith(f"{group} ")]
        kills = sum((Counter(line["kills"]) for line in trials), Counter[str]())
        wrong = [line for line in trials if line["wrong"]]
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(kills.items()))
        seconds = sum(line["seconds"] for line in trials)
        print(f"{title}: {len(trials)} runs, {kills.total()} kills ({kinds}), {len(wrong)} unlike, {seconds:.0f} s")
        for line in wrong:
            print("  unlike:", line["name"], *line["wrong"], sep="\n    ", flush=True)
        return len(wrong)


class Mixture:
    """A recipe, and its uninterrupted run."""

    def __init__(self, trials: Trials, arguments: list[str], folder: Path, *, compare: bool) -> None:
        self._trials, self._arguments, self._folder, self._compare = trials, arguments, folder, compare
        ended = trials.run([*arguments, f"output={folder / 'whole'}"], compare=compare)
        if ended.codes != [0]:
            raise SystemExit(ended.text)
        self.moments = ended.moments

    def killed(
        self, moments: list[tuple[str, int]], ranks: list[int], *, compare: bool = False
    ) -> tuple[Counter[str], list[str]]:
        """One run, killed at these moments: kills by kind, and what was wrong with it."""
        run, whole = self._folder / "run", self._folder / "whole"
        told = killed_again_and_again(self._trials, self._arguments, run, moments, ranks, compare=compare)
        kills = Counter(kind for kind, _ in moments[: sum("-9" in line for line in told)])
        wrong = unlike(run, whole, weights=set(ranks) == {1}, answers=compare)
        return kills, [*wrong, *told] if wrong else []

    def around_borders(self, ranks: list[int]) -> tuple[Counter[str], list[str]]:
        """One run, killed before, at and after each border."""
        borders = border_steps(self._arguments, self._folder / "whole")
        last = len(steps_of(self._folder / "whole"))
        steps = sorted({step + shift for step in borders for shift in (-1, 0, 1) if 0 < step + shift <= last})
        return self.killed([("at", step) for step in steps], ranks)

    def rows_changed(self, dice: random.Random) -> tuple[Counter[str], list[str]]:
        """One run with changing numbers of rows a step; its last draws must be those of the uninterrupted run."""
        run = self._folder / "changed"
        wrong = rows_changed_again_and_again(self._trials, self._arguments, run, dice)
        if steps_of(run)[-1][2] != steps_of(self._folder / "whole")[-1][2]:
            wrong.append("draws")
        return Counter(), wrong


def main() -> int:
    """Runs all and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kills of the made-up mixture at random moments")
    parser.add_argument("--changes", type=int, default=20, help="runs with changing numbers of rows a step")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--data", type=Path, help="folder with t0_train_50k")
    parser.add_argument("--results", type=Path, help="file of what was tried")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Trials(Path(name) / "cache") as trials:
        os.environ["FLANTUNE_CACHE"] = str(Path(name) / "cache")
        record = Record(given.results or Path(name) / "results.jsonl")
        arguments = [str(write_recipe(Path(name))), *SMALL, PHASES]
        small, kills, number = Mixture(trials, arguments, Path(name), compare=True), Counter[str](), 0
        while kills.total() < given.kills:
            dice = random.Random(f"{given.seed} {number}")
            moments = [chosen_moment(dice, small.moments) for _ in range(dice.randint(1, RESUMES))]
            kills += record.once(f"random {number}", lambda moments=moments: small.killed(moments, [1], compare=True))
            number += 1
        wrong = record.told("a made-up mixture at random moments", "random")
        record.once("borders 0", lambda: small.around_borders([1]))
        wrong += record.told("around borders of epochs and phases", "borders")
        for first in COUNTS:
            for then in COUNTS:
                step = random.Random(f"{given.seed} {first} {then}").randint(1, len(steps_of(Path(name) / "whole")) - 1)
                record.once(
                    f"pair {first} {then}",
                    lambda first=first, then=then, step=step: small.killed([("at", step)], [first, then]),
                )
        wrong += record.told("begun and ended on 1 to 4 ranks", "pair")
        for number in range(given.changes):
            dice = random.Random(f"{given.seed} change {number}")
            record.once(f"change {number}", lambda dice=dice: small.rows_changed(dice))
        wrong += record.told("with changing numbers of rows a step", "change")
        if given.data is not None:
            recipe = write_t0_recipe(Path(name), ROOT / "examples" / "t0", given.data.resolve())
            t0, dice = Mixture(trials, [str(recipe)], Path(name) / "t0", compare=False), random.Random(given.seed)
            ranks = [dice.choice((1, 2, 4)) for _ in range(20)]
            moments = [dice.choice((("step", 1), ("save", dice.randrange(25, 60)))) for _ in ranks]
            record.once("t0 random", lambda: t0.killed(moments, [*ranks, 1]))
            record.once("t0 borders", lambda: t0.around_borders([1, 2, 4] * 100))
            wrong += record.told("the T0 mixture on 1, 2 and 4 ranks", "t0")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
