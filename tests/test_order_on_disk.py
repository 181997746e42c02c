"""The order on disk: made by any number of processes, in any order, and after any accident, it holds the same bytes."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.elsewhere import Elsewhere
from flantune.mixture.order import Order, build_order
from flantune.mixture.shards import listed
from flantune.mixture.window import WindowBuilder
from small_mixture import DRAWS, RULE, ByteEncoder, made_task, member, members, rule

WINDOWS = 7


def content(folder):
    """Every file below a folder, by its path in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def identities(folder):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}


def rows_of(order):
    return [order.row(r) for r in range(len(order))]


def lazy(mixture, folder, **how):
    return Order(mixture, RULE, DRAWS, ByteEncoder(), folder, **how)


def never(done, total):
    raise AssertionError("a window was made")


@pytest.fixture
def small(tmp_path):
    return members(tmp_path / "tasks")


@pytest.fixture
def whole(small, tmp_path):
    return build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path / "whole")


# Made once, made anywhere


def test_a_second_build_reads_what_the_first_one_wrote(small, tmp_path):
    first = build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path)
    before = identities(first.folder)
    second = build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path, never)
    assert identities(second.folder) == before
    assert rows_of(second) == rows_of(first)
    assert second.dropped() == first.dropped()


def test_progress_is_told_window_by_window(small, tmp_path):
    told = []
    build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(number, WINDOWS) for number in range(1, WINDOWS + 1)]


@pytest.mark.parametrize("writers", [1, 2, 8])
def test_any_number_of_writers_leaves_the_same_bytes(writers, small, whole, tmp_path):
    order = build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path / "orders", writers=writers)
    assert content(order.folder) == content(whole.folder)


def test_the_first_rows_need_only_the_first_window(small, whole, tmp_path):
    order = lazy(small, tmp_path / "orders")
    assert order.rows(0, 2) == [whole.row(0), whole.row(1)]
    assert list(listed(order.folder)) == [0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), min_size=1, max_size=5))
def test_rows_read_in_any_order_before_the_order_is_whole_are_those_of_the_whole_order(asked, small, whole, tmp_path):
    walk = rows_of(whole)
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    order = lazy(small, tmp_path / "again")
    for first, count in asked:
        assert order.rows(first, count) == walk[first : first + count]
    assert rows_of(order) == walk


def test_the_share_of_draws_at_a_step_grows_from_0_to_1_and_needs_no_window_after_it(small, whole, tmp_path):
    order = lazy(small, tmp_path / "orders")
    before = 0.0
    for first in range(0, len(whole), 3):
        progress = order.progress(first, first + 3)
        reached = max(listed(order.folder))
        assert before < progress < 1
        assert reached <= whole.window_of(min(first + 3, len(whole) - 1))
        before = progress
    assert before > 0.95


def test_loss_weights_survive_the_disk_to_the_last_bit(small, tmp_path):
    small[0] = dataclasses.replace(small[0], loss_weight=math.pi)
    made, _ = WindowBuilder(small, rule(per="square_root"), ByteEncoder()).window(0, 16)
    assert rows_of(build_order(small, rule(per="square_root"), 16, ByteEncoder(), tmp_path)) == made


def test_a_process_that_waits_reads_what_another_one_writes(small, whole, tmp_path):
    read = []
    waiting = lazy(small, tmp_path / "orders", awaited=True)
    reader = threading.Thread(target=lambda: read.extend(rows_of(waiting)))
    reader.start()
    lazy(small, tmp_path / "orders").complete()
    reader.join()
    assert read == rows_of(whole)


# Damage


def window_file(folder, number):
    (path,) = listed(folder)[number]
    return path


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def truncated(path, size):
    os.truncate(path, size)


DAMAGE = {
    "cut short": lambda folder: truncated(window_file(folder, 3), 1000),
    "longer": lambda folder: truncated(window_file(folder, 3), window_file(folder, 3).stat().st_size + 8),
    "empty": lambda folder: truncated(window_file(folder, 3), 0),
    "missing": lambda folder: window_file(folder, 3).unlink(),
    "the last one missing": lambda folder: window_file(folder, 6).unlink(),
    "of another window": lambda folder: shutil.copy(window_file(folder, 2), window_file(folder, 3)),
    "of another window, by its name too": lambda folder: (
        window_file(folder, 3).write_bytes(b"")
        or shutil.copy(window_file(folder, 2), folder / window_file(folder, 2).name.replace("000002", "000003"))
    ),
    **{f"a bit flipped at {p}": lambda folder, p=p: flipped(window_file(folder, 3), p) for p in (0, 0.3, 0.6, 1)},
    "the index cut short": lambda folder: truncated(folder / "order.json", 50),
    "the index empty": lambda folder: truncated(folder / "order.json", 0),
    "the index missing": lambda folder: (folder / "order.json").unlink(),
    "the index of another kind": lambda folder: (folder / "order.json").write_text("[1]"),
    "the index with another count": lambda folder: (folder / "order.json").write_text(
        (folder / "order.json").read_text().replace('"rows": [', '"rows": [1')
    ),
}


@pytest.mark.parametrize("writers", [0, 1])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_made_again_instead_of_trained_on(damage, writers, small, whole, tmp_path):
    walk, right = rows_of(whole), content(whole.folder)
    damage(whole.folder)
    assert content(whole.folder) != right
    order = lazy(small, tmp_path / "whole", writers=writers)
    assert rows_of(order) == walk
    order.complete()
    assert {**content(whole.folder)} == right


def test_what_is_whole_is_not_made_again_beside_what_is_damaged(small, whole, tmp_path):
    before = identities(whole.folder)
    damaged = window_file(whole.folder, 3)
    flipped(damaged, 0.5)
    rows_of(lazy(small, tmp_path / "whole"))
    after = identities(whole.folder)
    assert {name for name in before if after[name] != before[name]} == {damaged.name}


# Kills and mistakes

KILLED = """
import os, signal, sys
from pathlib import Path
from small_mixture import DRAWS, RULE, ByteEncoder, members
from flantune.mixture.order import build_order

folder, writers = Path(sys.argv[1]), int(sys.argv[2])
build_order(members(folder / "tasks"), RULE, DRAWS, ByteEncoder(), folder / "orders",
            lambda done, total: done == 3 and os.kill(os.getpid(), signal.SIGKILL), writers=writers)
"""


@pytest.mark.parametrize("writers", [0, 2])
def test_a_build_killed_in_the_middle_leaves_whole_windows_and_no_process(writers, whole, tmp_path):
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(writers)]
    # The pipe closes when the last process that holds it has ended: the writers hold it too.
    ended = subprocess.run(command, env=here, check=False, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (-signal.SIGKILL, "")
    (folder,) = (tmp_path / "orders").iterdir()
    made = content(folder)
    assert 3 <= len(made) < WINDOWS + 1
    assert made.items() <= content(whole.folder).items()
    order = build_order(members(tmp_path / "tasks"), RULE, DRAWS, ByteEncoder(), tmp_path / "orders")
    assert content(order.folder) == content(whole.folder)


class KillsItsProcess(ByteEncoder):
    """Kills the process that reads a text with it, as a system without memory does, while there is a file of a name."""

    def __init__(self, once: Path, *, always: bool = False) -> None:
        super().__init__()
        self.once, self.always, self.parent = once, always, os.getpid()

    def ids_of_all(self, prompts, targets):
        """Never returns the first time."""
        if os.getpid() != self.parent and self.once.exists():
            if not self.always:
                self.once.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().ids_of_all(prompts, targets)


def test_a_writer_that_is_killed_once_is_replaced(small, whole, tmp_path):
    (tmp_path / "once").touch()
    order = build_order(small, RULE, DRAWS, KillsItsProcess(tmp_path / "once"), tmp_path / "orders", writers=1)
    assert not (tmp_path / "once").exists()
    assert content(order.folder) == content(whole.folder)


def test_a_writer_that_is_killed_again_ends_the_build_with_a_remedy(small, tmp_path):
    (tmp_path / "once").touch()
    encoder = KillsItsProcess(tmp_path / "once", always=True)
    with pytest.raises(FlantuneError) as told:
        build_order(small, RULE, DRAWS, encoder, tmp_path / "orders", writers=1)
    assert str(told.value) == (
        "a process that prepares window 0 ended by signal 9; if memory is short, let fewer of them work at once "
        "(--workers)"
    )


def test_a_row_that_cannot_be_rendered_is_told_alike_with_and_without_writers(tmp_path):
    task = made_task(tmp_path, "halves", [{"a": 1}, {"a": 0}], ["1 / {{ a }} ||| {{ 1 / a }}"])
    told = []
    for writers in (0, 1):
        with pytest.raises(FlantuneError) as error:
            build_order([member(task)], rule(window=2), 2, ByteEncoder(), tmp_path / "orders", writers=writers)
        told.append(str(error.value))
    assert told[0] == told[1]
    assert told[0].endswith(f"ZeroDivisionError: division by zero (row at {tmp_path}/halves.jsonl:2)")


class Prints(ByteEncoder):
    """Says something of its own on standard output."""

    def ids_of_all(self, prompts, targets):
        """Prints before it returns."""
        print("a line that is no answer")
        return super().ids_of_all(prompts, targets)


def test_what_a_users_code_prints_in_a_writer_is_not_taken_for_an_answer(small, whole, tmp_path):
    order = build_order(small, RULE, DRAWS, Prints(), tmp_path / "orders", writers=1)
    assert content(order.folder) == content(whole.folder)


def test_a_build_that_fails_keeps_the_windows_that_are_whole(small, whole, tmp_path):
    with pytest.raises(AssertionError, match="a window was made"):
        build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path / "orders", never)
    (folder,) = (tmp_path / "orders").iterdir()
    assert content(folder).items() <= content(whole.folder).items()


# Elsewhere


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_an_order_that_was_prepared_elsewhere_is_read_and_not_made(kind, small, whole, tmp_path, monkeypatch):
    elsewhere = Elsewhere(str(tmp_path / "there") if kind == "folder" else f"memory://{tmp_path.name}")
    for number in range(WINDOWS):
        elsewhere.put(whole.key, window_file(whole.folder, number))
    order = lazy(small, tmp_path / "orders", elsewhere=elsewhere)
    monkeypatch.setattr(order, "_builder", None)  # nothing can be made
    order.complete()
    assert content(order.folder) == content(whole.folder)


def test_what_lies_elsewhere_in_part_or_damaged_is_made_here(small, whole, tmp_path):
    elsewhere = Elsewhere(str(tmp_path / "there"))
    for number in (0, 2, 3):
        elsewhere.put(whole.key, window_file(whole.folder, number))
    flipped(window_file(tmp_path / "there" / whole.key, 2), 0.5)
    order = lazy(small, tmp_path / "orders", elsewhere=elsewhere)
    order.complete()
    assert content(order.folder) == content(whole.folder)


def test_a_place_of_an_unknown_kind_is_told_in_one_line():
    with pytest.raises(FlantuneError, match=r"^gopher://x: cannot be used: Protocol not known: gopher"):
        Elsewhere("gopher://x")
