"""The cache: the least recently used goes first, what a running process holds stays, and the limit is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune import cache
from flantune.errors import FlantuneError
from runs import command

MB = 1_000_000
HOLD = """
import os, sys
from pathlib import Path
from flantune import cache
cache.hold(Path(sys.argv[1]))
if len(sys.argv) > 2 and os.fork():
    os._exit(0)  # what was forked lives on
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, and nothing that this process noted in another test."""
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("FLANTUNE_CACHE_LIMIT", raising=False)
    return tmp_path


def make(folder, name, *, size=MB, used=0.0, is_folder=True):
    """An entry of some bytes that was used last at a time in seconds."""
    path = folder / name
    (path if is_folder else path.parent).mkdir(parents=True)
    (path / "data" if is_folder else path).write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def names():
    return [f"{entry.kind}/{entry.path.name}" for entry in cache.entries()]


def holder(path, *more):
    """A process that holds an entry, until it is killed or its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_entries_are_told_with_their_sizes_from_the_least_recently_used_on(folder):
    make(folder, "orders/new", size=300, used=30)
    make(folder, "predictions/old.jsonl", size=100, used=10, is_folder=False)
    make(folder, "models/middle", size=200, used=20)
    found = [(entry.kind, entry.path.name, entry.size, entry.used, entry.held) for entry in cache.entries()]
    assert found == [
        ("predictions", "old.jsonl", 100, 10, False),
        ("models", "middle", 200, 20, False),
        ("orders", "new", 300, 30, False),
    ]


def test_what_is_not_finished_and_locks_are_no_entries(folder):
    make(folder, "orders/.key.unfinished-1")
    make(folder, "models/smollm.lock", is_folder=False)
    make(folder, "elsewhere/key")
    assert cache.entries() == []


def test_a_cache_that_is_not_there_has_no_entries_and_is_clean(folder, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "none"))
    assert cache.entries() == []
    assert cache.clean(keep=0) == []
    assert not (folder / "none").exists()


def test_cleaning_removes_the_least_recently_used_until_the_rest_fits(folder):
    for number in range(5):
        make(folder, f"orders/{number}", used=number)
    removed = cache.clean(keep=2 * MB)
    assert [entry.path.name for entry in removed] == ["0", "1", "2"]
    assert names() == ["orders/3", "orders/4"]
    assert cache.clean(keep=2 * MB) == []
    assert sorted(path.name for path in folder.iterdir()) == [".held", "orders"]


def test_cleaning_by_age_removes_only_what_was_not_used_since(folder):
    make(folder, "rows/old", used=1000)
    cache.used(make(folder, "rows/just_used", used=1000))
    make(folder, "orders/old", used=1000)
    assert len(cache.clean(older_than=3600, kinds=["rows"])) == 1
    assert names() == ["orders/old", "rows/just_used"]


def test_cleaning_by_size_and_age_removes_what_both_allow(folder):
    make(folder, "rows/old", used=1000)
    make(folder, "rows/older", used=500)
    cache.used(make(folder, "rows/fresh", used=0))
    cache.clean(keep=2 * MB, older_than=3600)
    assert names() == ["rows/old", "rows/fresh"]
    cache.clean(keep=0, older_than=3600)
    assert names() == ["rows/fresh"]


def test_what_a_process_holds_stays_until_it_dies_and_is_used_now(folder):
    held = make(folder, "orders/held", used=1)
    make(folder, "orders/free", used=2)
    with holder(held) as process:
        assert [(entry.path.name, entry.held) for entry in cache.entries()] == [("free", False), ("held", True)]
        assert [entry.path.name for entry in cache.clean(keep=0)] == ["free"]
        assert (held / "data").exists()
        process.send_signal(signal.SIGKILL)
    assert [entry.path.name for entry in cache.clean(keep=0)] == ["held"]
    assert list((folder / cache.HELD).iterdir()) == []


def test_a_process_that_ends_leaves_no_note(folder):
    with holder(make(folder, "orders/key")) as process:
        assert len(list((folder / cache.HELD).iterdir())) == 1
        process.communicate()
    assert list((folder / cache.HELD).iterdir()) == []


def test_a_fork_holds_what_its_parent_held(folder):
    held = make(folder, "orders/held")
    with holder(held, "fork") as process:
        assert process.wait() == 0
        assert cache.clean(keep=0) == []
        process.communicate()  # ends when the fork does
    assert len(cache.clean(keep=0)) == 1


def test_this_process_holds_what_it_holds(folder):
    entry = make(folder, "rows/mine")
    cache.hold(entry)
    cache.hold(entry)
    assert cache.clean(keep=0) == []
    assert [each.held for each in cache.entries()] == [True]


def test_nothing_is_noted_of_what_is_missing_or_lies_elsewhere(folder, monkeypatch):
    cache.hold(folder / "orders" / "missing")
    elsewhere = make(folder / "elsewhere", "orders/key")
    cache.hold(elsewhere)
    monkeypatch.setenv("FLANTUNE_CACHE_LIMIT", "1")
    cache.added(elsewhere)
    assert sorted(path.name for path in folder.iterdir()) == ["elsewhere"]


def test_a_new_entry_makes_room_when_the_limit_is_passed(folder, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE_LIMIT", "3.5MB")
    for number in range(3):
        cache.added(make(folder, f"orders/{number}", used=number))
    assert names() == ["orders/0", "orders/1", "orders/2"]
    make(folder, "predictions/idle.jsonl", is_folder=False)
    make(folder, "models/needed")
    cache.added(make(folder, "rows/last"))
    assert sorted(names()) == ["models/needed", "orders/0", "orders/1", "orders/2", "rows/last"]


def test_no_limit_leaves_everything(folder, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE_LIMIT", "none")
    make(folder, "orders/idle")
    cache.added(make(folder, "orders/new"))
    assert len(cache.entries()) == 2


def test_holding_on_a_cache_that_cannot_be_written_is_no_mistake(folder, monkeypatch):
    entry = make(folder, "orders/key")
    (folder / cache.HELD).write_text("a file where a folder is wanted")
    cache.hold(entry)
    cache.used(folder / "orders" / "key" / "none")


@given(st.integers(0, 10**6), st.sampled_from(sorted(cache.UNITS)), st.booleans(), st.sampled_from(["", " "]))
def test_a_size_is_read_in_any_unit_and_case(number, unit, upper, space):
    text = f" {number}{space}{unit.upper() if upper else unit}"
    assert cache.parse_size(text, "--keep") == number * cache.UNITS[unit]


def test_units_are_powers_of_a_thousand_or_of_1024():
    assert cache.parse_size("1.5GB", "") == 1_500_000_000
    assert cache.parse_size("2GiB", "") == 2 * 2**30
    assert cache.parse_size("7k", "") == 7000
    assert cache.parse_size("0", "") == 0
    assert cache.parse_age("90m", "") == 5400
    assert cache.parse_age("2w", "") == 14 * 86_400


@pytest.mark.parametrize("text", ["", "GB", "5 XB", "-1GB", "1e3", "5GB now"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(FlantuneError) as told:
        cache.parse_size(text, "--keep")
    assert str(told.value) == f'--keep: "{text}" is no size; write for example 5GB, 500MB or 2GiB'


def test_a_limit_that_is_no_size_is_refused(folder, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE_LIMIT", "much")
    with pytest.raises(FlantuneError) as told:
        cache.added(make(folder, "orders/key"))
    assert str(told.value) == ('FLANTUNE_CACHE_LIMIT: "much" is no size; write for example 5GB, 500MB or 2GiB')


# The command


def test_the_list_tells_kinds_with_their_sizes_and_what_is_held(folder, capsys, monkeypatch):
    cache.hold(make(folder, "orders/a", size=2 * MB))
    make(folder, "orders/b")
    code, out, _ = command(capsys, monkeypatch, "cache", "list", "--kind", "orders", "--kind", "rows")
    assert code == 0
    assert out.splitlines() == [
        "         3.0 MB  orders            2  packed rows, ready to train on, 1 held by running processes",
        "         0.0 MB  rows              0  rows of sources, ready to read",
        f"         3.0 MB  in {folder} (limit 20.0 GB, set by FLANTUNE_CACHE_LIMIT)",
    ]
    _, out, _ = command(capsys, monkeypatch, "cache", "list", "--entries")
    assert [line.split()[-1] for line in out.splitlines()[:2]] == ["orders/b", "held"]


def test_the_command_cleans_and_tells_what_went_and_what_is_left(folder, capsys, monkeypatch):
    for number in range(3):
        make(folder, f"orders/{number}", used=number)
    code, out, _ = command(capsys, monkeypatch, "cache", "clean", "--keep", "1MB", "--older-than", "1d")
    assert (code, out.splitlines()) == (
        0,
        ["removed          2.0 MB in 2 entries", "left             1.0 MB in 1 entry"],
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "cache clean: say what may go: --keep 5GB, --older-than 30d, or --keep 0 for everything"),
        (("--older-than", "3"), '--older-than: "3" is no age; write for example 12h, 30d or 2w (minutes are m)'),
        (
            ("--keep", "0", "--kind", "order"),
            '--kind: unknown kind "order"; did you mean "orders"? (converted, judgements, ledgers, models, orders, '
            "predictions, rows, wheels)",
        ),
    ],
)
def test_a_mistake_in_the_command_is_one_line(arguments, told, capsys, monkeypatch):
    code, _, err = command(capsys, monkeypatch, "cache", "clean", *arguments)
    assert (code, err) == (2, f"error: {told}\n")
