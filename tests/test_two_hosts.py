"""Two hosts that only a network joins: the same draws and losses as on one, and an end when one is lost."""

from __future__ import annotations

import re
import time

import pytest

from hosts import TOGETHER, cable_pulled, launched, on_two_hosts, two_hosts
from ranks import SIGNALLED, assert_alike

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as made:
        yield made


def test_draws_losses_and_weights_of_two_hosts_are_those_of_one_process(hosts, folder, arguments, alone):
    run = folder / "together"
    ended = on_two_hosts(hosts, folder, ["-m", "flantune", "train", *arguments, f"output={run}", "--no-compare"])
    assert [code for code, _ in ended] == [0, 0], ended
    assert_alike(run, alone)


def test_a_rank_that_dies_on_one_host_ends_both_with_its_name(hosts, folder, trials, arguments, alone):
    run, script = folder / "dead", folder / "killed.py"
    script.write_text(SIGNALLED.replace("{by}", "SIGKILL").replace("{whom}", "getpid"), encoding="utf-8")
    first, other = on_two_hosts(hosts, folder, [str(script), "train", *arguments, f"output={run}", "--no-compare"])
    assert (first[0], other[0]) == (1, 1)
    assert "rank      : 1 (local_rank: 0)\n  exitcode  : -9" in other[1]
    assert "another rank ended or does not answer; the launcher says which one ended first" in first[1].splitlines()
    assert trials.run(resume=run).codes == [0]
    assert_alike(run, alone)


def test_hosts_between_which_the_cable_is_pulled_in_a_step_both_end_and_say_what_is_lost(hosts, folder, arguments):
    run, log = folder / "cut", folder / "cut" / "metrics.jsonl"
    command = ["-m", "flantune", "train", *arguments, f"output={run}", "training.epochs=1000", "--no-compare"]
    with launched(hosts, folder, command) as ((first, here), (_, there)):
        while first.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.1)
        with cable_pulled(hosts[1]):
            assert first.wait(timeout=TOGETHER) == 1
            late = time.monotonic() + TOGETHER
            while "ending the run" not in there.read_text() and time.monotonic() < late:
                time.sleep(0.1)
        silent = "has not answered for 24 seconds; ending the run$"
        assert re.search(rf"^error: rank 1 \(.+, process \d+\) {silent}", here.read_text(), re.MULTILINE)
        meeting = rf"^error: the ranks' meeting point \({re.escape(hosts[0].address)}, port \d+\) {silent}"
        assert re.search(meeting, there.read_text(), re.MULTILINE)
