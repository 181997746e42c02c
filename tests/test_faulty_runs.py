"""Real runs whose system calls fail in a save go on from a checkpoint; `scripts/fault_saves.py` tries all calls."""

from __future__ import annotations

import random

import pytest

import system_calls
from faulty_runs import FaultyRuns
from trials import Trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(system_calls.COMPILER is None, reason="no C compiler"),
]


@pytest.mark.parametrize("further", [(), ("training.sharding=full",)], ids=["one process", "weights in parts"])
def test_a_run_that_meets_a_fault_in_a_save_is_killed_or_says_so_in_a_line_and_goes_on(tmp_path, further):
    with Trials(tmp_path / "cache", faults=True) as trials:
        runs = FaultyRuns(trials, tmp_path, ranks=2 if further else 1, further=further)
        assert len(runs.calls) > 150
        dice = random.Random(str(further))
        for fault in system_calls.FAULTS:
            if fault != "none":
                at = dice.randrange(len(runs.calls))
                how, wrong = runs.tried(fault, at)
                assert wrong == [], (fault, at, runs.calls[at])
                assert how in (("killed",) if fault == "kill" else ("told", "harmless"))
