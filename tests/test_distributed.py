"""One run on several ranks: the same draws, losses and weights as on one, and an end when a rank is lost."""

from __future__ import annotations

import re
import signal

import pytest

from kills import steps_of
from ranks import LOSS, assert_alike, column, under_torchrun


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_losses_norms_and_weights_are_those_of_one_process(folder, trials, arguments, alone, ranks):
    run = folder / f"on-{ranks}"
    ended = trials.run([*arguments, f"output={run}"], ranks=ranks)
    assert (ended.codes, ended.text) == ([0] * ranks, "")
    assert_alike(run, alone)


def test_ranks_without_a_row_do_no_harm_and_are_told_of(folder, trials, arguments, alone):
    run = folder / "idle"
    ended = trials.run([*arguments, "training.rows_at_once=4", f"output={run}"], ranks=3)
    assert ended.codes == [0, 0, 0]
    assert ended.text == (
        "warning: 3 ranks share 1 micro-batches a step, so some have nothing to do; raise training.rows_per_step"
    )
    assert_alike(run, alone)


def test_dropout_is_the_same_on_any_number_of_ranks(folder, trials, arguments):
    dropout = ["adapter.method=lora", "adapter.dropout=0.3"]
    for ranks in (1, 2):
        ended = trials.run([*arguments, *dropout, f"output={folder / f'dropout-{ranks}'}"], ranks=ranks)
        assert ended.codes == [0] * ranks, ended.text
    assert column(folder / "dropout-2", "loss") == pytest.approx(column(folder / "dropout-1", "loss"), rel=LOSS)


def test_machines_that_share_no_cache_each_prepare_the_order(folder, trials, arguments, alone):
    run = folder / "machines"
    ended = trials.run([*arguments, f"output={run}"], ranks=2, machines=2)
    assert (ended.codes, ended.text) == ([0, 0], "")
    assert_alike(run, alone)


def test_a_machine_with_other_data_is_named_before_anything_is_trained(folder, trials, arguments):
    ended = trials.run([*arguments, f"output={folder / 'other'}"], ranks=2, machines=2, other=["seed=1"])
    assert ended.codes == [2, 1]
    assert ended.text == (
        "error: rank 1 has other rows, task files or tokenizer than rank 0; copy them to where that rank runs"
    )
    assert not (folder / "other").exists()


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("by", ["SIGUSR1", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_signal_to_any_rank_saves_once_and_stops_all(folder, trials, arguments, alone, rank, by):
    run = folder / f"{by}-{rank}"
    stopped = trials.run([*arguments, f"output={run}"], ranks=2, kill=("step", 2), by=by, rank=rank)
    assert stopped.codes == [128 + signal.Signals[by]] * 2
    assert stopped.text == f"stopped by {by}; go on with: flantune train --resume {run}"
    assert trials.run(resume=run, ranks=1).codes == [0]
    assert_alike(run, alone)


@pytest.mark.parametrize("change", [[4, 2], [2, 4], pytest.param([4, 3], marks=pytest.mark.slow)], ids=str)
def test_another_number_of_rows_a_step_goes_on_at_the_same_row(folder, trials, arguments, alone, change):
    before, after = change
    run = folder / f"rows-{before}-{after}"
    given = [*arguments, f"training.rows_per_step={before}", f"output={run}"]
    assert trials.run(given, kill=("step", 2), by="SIGTERM").codes == [143]
    stopped = steps_of(run)[-1][1][1]
    ended = trials.run([f"training.rows_per_step={after}"], resume=run)
    assert (ended.codes, ended.text) == (
        [0],
        f"training.rows_per_step is {after} now and was {before}: going on at packed row {stopped}, "
        "so none is left out and none comes twice",
    )
    steps = steps_of(run)
    assert [step for step, _, _ in steps] == list(range(len(steps)))
    assert [rows[0] for _, rows, _ in steps] == [0, *(rows[1] for _, rows, _ in steps[:-1])]
    (*_, last), (*_, expected) = steps, steps_of(alone)
    assert (last[1][1], last[2]) == (expected[1][1], expected[2])


# --- a rank is lost; these run under torchrun itself


@pytest.mark.slow
def test_a_signal_that_torchrun_is_told_to_hand_on_saves_and_stops_all(folder, trials, arguments, alone):
    run = folder / "handed-on"
    options = ["--signals-to-handle", "SIGTERM,SIGUSR1", "--shutdown-timeout", "50"]
    ended = under_torchrun(folder, "SIGUSR1", [*arguments, f"output={run}"], *options, whom="getppid")
    assert ended.returncode != 0
    assert f"stopped by SIGUSR1; go on with: flantune train --resume {run}" in ended.stderr.splitlines()
    assert trials.run(resume=run).codes == [0]
    assert_alike(run, alone)


def test_a_rank_that_dies_ends_the_run_with_its_name(folder, trials, arguments, alone):
    run = folder / "dead"
    ended = under_torchrun(folder, "SIGKILL", [*arguments, f"output={run}"])
    assert ended.returncode == 1
    assert "rank      : 1 (local_rank: 1)\n  exitcode  : -9" in ended.stderr
    assert trials.run(resume=run).codes == [0]
    assert_alike(run, alone)


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_run_with_its_name(folder, trials, arguments, alone):
    run = folder / "hung"
    ended = under_torchrun(folder, "SIGSTOP", [*arguments, f"output={run}"])
    assert ended.returncode == 1
    assert re.search(
        r"^error: rank 1 \(.+, process \d+\) has not answered for 24 seconds; ending the run$",
        ended.stderr,
        re.MULTILINE,
    )
    assert trials.run(resume=run).codes == [0]
    assert_alike(run, alone)
