"""Real runs go on from a checkpoint when system calls fail in a save or files are damaged.

`scripts/fault_saves.py` tries all calls, `scripts/damage_checkpoints.py` damages more often.
"""

from __future__ import annotations

import random

import pytest

import system_calls
from damage import DAMAGES, damaged, stopped_run
from faulty_runs import FaultyRuns
from trials import Trials

IN_PARTS = ("training.sharding=full",)
pytestmark = pytest.mark.slow


@pytest.mark.skipif(system_calls.COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("further", [(), IN_PARTS], ids=["one process", "weights in parts"])
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


def test_damage_to_any_file_of_a_checkpoint_in_parts_is_noticed_and_the_one_before_used(tmp_path):
    with Trials(tmp_path / "cache") as trials:
        checkpoints = stopped_run(trials, tmp_path, ranks=2, further=IN_PARTS)
        for kind in DAMAGES:
            assert damaged(checkpoints, kind, 100, random.Random(kind)) == {"noticed": 100}
