"""What a log without a terminal gets to read."""

from __future__ import annotations

import re

from flantune.cli.console import Console, clock


def test_a_phase_that_is_over_at_once_is_one_line(capsys):
    console = Console()
    console.phase("order", 3)
    for _ in range(3):
        console.advance(1)
    assert re.fullmatch(r"order: 3/3, 0:00 elapsed, 0:00 left\n", capsys.readouterr().err)


def test_a_phase_that_is_gone_on_with_counts_what_was_done_before(capsys):
    console = Console()
    console.phase("training", 5, 4)
    console.advance(1, "loss 1.0")
    assert capsys.readouterr().err == "training: 5/5, 0:00 elapsed, 0:00 left, loss 1.0\n"


def test_the_clock_tells_minutes_and_seconds():
    assert [clock(s) for s in (0, 59.9, 61, 3600)] == ["0:00", "0:59", "1:01", "60:00"]
