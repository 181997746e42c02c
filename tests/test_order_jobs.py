"""`flantune prepare`: the order made alone, by independent jobs or by Ray, is the one that training would make."""

from __future__ import annotations

import json
import re

import pytest

from flantune.errors import FlantuneError
from flantune.order_jobs import Part
from runs import command, flantune, write_recipe

OVERRIDES = ("training.draws=250",)  # 16 windows


def windows(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("window-*.arrow")}


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `flantune prepare` with a cache of its own; returns exit code, standard output and standard error."""

    def prepare(cache, *arguments):
        monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / cache))
        return command(capsys, monkeypatch, "prepare", *arguments)

    return prepare


def test_jobs_that_know_nothing_of_each_other_make_together_what_one_makes(run, recipe, tmp_path):
    assert run("alone", recipe, *OVERRIDES)[0] == 0
    told = [
        json.loads(run(f"job{k}", recipe, *OVERRIDES, "--shard", f"{k}/3", "--out", tmp_path / "out", "--json")[1])
        for k in (2, 3, 1)
    ]
    assert [(each["made"], each["missing"]) for each in told] == [(5, 11), (5, 6), (6, 0)]
    assert windows(tmp_path / "out") == windows(tmp_path / "alone" / "orders")


def test_a_second_job_makes_nothing_and_training_finds_what_was_made(run, recipe, tmp_path):
    run("one", recipe, *OVERRIDES, "--out", tmp_path / "out")
    made = windows(tmp_path / "out")
    code, out, _ = run("two", recipe, *OVERRIDES, "--out", tmp_path / "out")
    key = next(iter((tmp_path / "out").iterdir())).name
    assert (code, out) == (
        0,
        f"order {key}: 0 of 16 windows made now, 0 missing yet\nit lies in {tmp_path}/out\n"
        f"go on with: flantune train {recipe} {OVERRIDES[0]} --orders {tmp_path}/out\n",
    )
    assert windows(tmp_path / "two" / "orders") == made


def test_the_order_that_training_reads_is_the_one_that_was_prepared(run, recipe, tmp_path):
    assert run("cache", recipe, "--workers", "2")[0] == 0
    prepared = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("window-*.arrow")}
    assert len(prepared) == 4
    assert flantune("train", recipe, "--no-compare", cache=tmp_path / "cache").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("window-*.arrow")} == prepared


@pytest.mark.slow
def test_two_workers_of_a_ray_cluster_make_together_what_one_process_makes(recipe, tmp_path, run):
    pytest.importorskip("ray")
    assert run("alone", recipe, *OVERRIDES)[0] == 0
    made = flantune("prepare", recipe, *OVERRIDES, "--ray", "--out", tmp_path / "out", "--json", cache=tmp_path / "c")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["made"] == 16
    assert windows(tmp_path / "out") == windows(tmp_path / "alone" / "orders")


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1.5/2", "a/b", "1/2/3"])
def test_what_is_no_part_is_told_in_one_line(text):
    with pytest.raises(FlantuneError) as told:
        Part.read(text)
    assert str(told.value) == f'--shard: "{text}" is no part; the first of eight jobs has 1/8, the last one 8/8'


@pytest.mark.parametrize("total", [0, 1, 7, 8, 100])
@pytest.mark.parametrize("jobs", [1, 3, 8])
def test_each_window_is_in_one_part(total, jobs):
    parts = [Part(k, jobs).windows(total) for k in range(1, jobs + 1)]
    assert sorted(number for part in parts for number in part) == list(range(total))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--shard", "1/2"], "--shard: give --out, a place that all jobs reach"),
        (["--ray"], "--ray: goes with --out, which all machines reach, and without --shard and --workers"),
        (["--out", "nowhere://x"], r"nowhere://x: cannot be used: Protocol not known: nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(given, told, run, recipe):
    code, out, err = run("cache", recipe, *given)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"error: {re.escape(told)}.*", err.splitlines()[-1])
