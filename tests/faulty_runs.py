"""A run goes on from a checkpoint, saves another one and ends, with a fault at one system call among its checkpoints.

What must hold: it is killed, or says in one line what happened and exits with code 2, or ends as if nothing had been.
Started again, it goes on from a checkpoint and ends with the draws and weights of the run that had no fault.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
from pathlib import Path

from kills import unlike
from runs import write_recipe
from trials import Ended, Trials

BEGUN = 2  # steps; the fault comes in what follows
TINY = ("training.draws=48", "training.rows_per_step=4", "training.precision=fp32", "training.loss.per=example")
ONE_SAVE = ("training.checkpoint_every=4", "training.keep_checkpoints=1")


class FaultyRuns:
    """Such runs, below one folder.

    Args:
        trials: Where processes come from; with faults.
        folder: For recipe and runs.
        ranks: How many processes.
        further: Overrides of the recipe.
    Attributes:
        calls: Names of the calls of rank 0, or of `rank`, in a run without a fault.
        states: In how many ways the runs so far were left.
    """

    def __init__(self, trials: Trials, folder: Path, *, ranks: int = 1, rank: int = 0, further: tuple[str, ...] = ()):
        self._trials, self._ranks, self._rank = trials, ranks, rank
        self._begun, self._run, self._whole = folder / "begun", folder / "run", folder / "whole"
        given = [str(write_recipe(folder)), *TINY, *ONE_SAVE, *further]
        stop = {"kill": ("at", BEGUN), "by": "SIGTERM", "ranks": ranks}
        assert trials.run([*given, f"output={self._run}"], **stop).codes == [128 + signal.SIGTERM] * ranks
        self._run.rename(self._begun)
        assert trials.run([*given, f"output={self._whole}"], ranks=ranks).codes == [0] * ranks
        ended = self._faulty("none", 0)
        assert ended.codes == [0] * ranks, ended.text
        assert unlike(self._run, self._whole) == []
        self.calls, self._said = ended.calls, ended.text
        self._known: dict[str, list[str]] = {}

    @property
    def states(self) -> int:
        """In how many ways the runs so far were left."""
        return len(self._known)

    def tried(self, fault: str, at: int) -> tuple[str, list[str]]:
        """How a run with a fault at a call ended: killed, told or harmless; and what was wrong."""
        ended = self._faulty(fault, at)
        code = ended.codes[self._rank]
        told = ended.text.removeprefix(self._said).splitlines()
        if code == -signal.SIGKILL:
            how, wrong = "killed", []
        elif code == 0:
            how, wrong = "harmless", [] if ended.text == self._said else [ended.text]
        else:
            how = "told"
            line = rf"error: {re.escape(str(self._run))}.*"
            one = code == 2 and len(told) == 1 and re.fullmatch(line, told[0])
            wrong = [] if one or self._rank else [f"exit codes {ended.codes}: {ended.text}"]
        return how, wrong + self._gone_on_with()

    def _faulty(self, fault: str, at: int) -> Ended:
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.copytree(self._begun, self._run)
        return self._trials.run(resume=self._run, ranks=self._ranks, rank=self._rank, fault=("checkpoints", fault, at))

    def _gone_on_with(self) -> list[str]:
        """What is wrong with the run after it was started again; tried once for each way in which it may be left."""
        state = self._state()
        if state not in self._known:
            log = (self._begun / "metrics.jsonl").read_text()
            ended = self._trials.run(resume=self._run, ranks=self._ranks)
            wrong = [] if ended.codes == [0] * self._ranks else [f"resumed: {ended.codes}: {ended.text}"]
            if not (self._run / "metrics.jsonl").read_text().startswith(log):
                wrong.append("it began anew")
            self._known[state] = wrong + [f"resumed: {what}" for what in unlike(self._run, self._whole)]
        return self._known[state]

    def _state(self) -> str:
        folder = self._run / "checkpoints"
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
        state: list[object] = [(self._run / "model").exists()]
        for path in files:
            name = re.sub(r"(unfinished-|\.json\.)[^/]+", r"\1", str(path.relative_to(folder)))
            state.append((name, hashlib.blake2b(path.read_bytes()).hexdigest()))
        return repr(state)
