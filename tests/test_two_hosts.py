"""Two hosts that only a network joins: the same draws and losses as on one, and an end when a rank of one dies."""

from __future__ import annotations

import pytest

from hosts import on_two_hosts, two_hosts
from ranks import SIGNALLED, assert_alike
from runs import write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def arguments(hosts, folder):
    balanced = "training.loss.per=example"  # else a warning would be said
    return [str(write_recipe(folder)), balanced, "training.precision=fp32", "training.rows_per_step=4"]


@pytest.fixture(scope="module")
def alone(folder, trials, arguments):
    """A run of one process."""
    run = folder / "alone"
    assert trials.run([*arguments, f"output={run}"]).codes == [0]
    return run


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
