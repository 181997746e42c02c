"""Checkpoints: whole or absent whatever happens to process and disk, checked to the last byte, and one's own only."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import faults
import system_calls
from flantune.errors import FlantuneError
from flantune.files import file_digest
from flantune.training.checkpoint import Checkpoints, Restored
from flantune.training.position import Position
from flantune.training.tensor_file import TYPES, write_tensors


def made(folder: Path, *steps: int, keep: int = 9, recipe: str = "recipe") -> Checkpoints:
    """The checkpoints of a run that saved at these steps."""
    saving = Checkpoints(folder, keep=keep, recipe_digest=recipe, order_key="order", report=lambda line: None)
    for step in steps:
        saving.save(Position(step, 4 * step, f"draws {step}"), 4, {"master.w": torch.full((50,), float(step))})
    saving.wait()
    return saving


def restored(checkpoints: Checkpoints) -> Restored:
    """What comes back; something does."""
    found = checkpoints.restore()
    assert found is not None
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_last_comes_back(tmp_path):
    found = restored(made(tmp_path / "c", 1, 2))
    assert found.position == Position(2, 8, "draws 2")
    assert found.rows_per_step == 4
    assert torch.equal(found.tensors["master.w"], torch.full((50,), 2.0))


def test_where_nothing_was_saved_there_is_nothing(tmp_path):
    assert made(tmp_path / "c").restore() is None


def test_a_tensor_that_changes_while_it_is_written_is_saved_as_it_was(tmp_path, monkeypatch):
    held, entered = threading.Event(), threading.Event()

    def waits(path, tensors):
        entered.set()
        held.wait()
        return write_tensors(path, tensors)

    monkeypatch.setattr("flantune.training.checkpoint.write_tensors", waits)
    saving, tensor = made(tmp_path / "c"), torch.zeros(4)
    saving.save(Position(1, 4, ""), 4, {"master.w": tensor})
    entered.wait()
    tensor += 1  # the next step
    saving.check()  # not done, and not waited for
    held.set()
    saving.wait()
    assert torch.equal(restored(saving).tensors["master.w"], torch.zeros(4))


# --- faults


DISK = {
    "EIO": "the disk cannot be read or written here; check it",
    "gone": "the disk cannot be read or written here; check it",
    "ENOSPC": "no space left on the disk; free some",
    "full": "no space left on the disk; free some",
    "EDQUOT": "the disk quota is used up; free some",
    "EINTR": "the file system was interrupted; start again",
}


@pytest.mark.slow
@pytest.mark.skipif(system_calls.COMPILER is None, reason="no C compiler")
def test_a_fault_at_any_system_call_leaves_a_whole_checkpoint_and_is_told_in_a_line(tmp_path):
    tried = subprocess.run(
        [sys.executable, faults.__file__, str(tmp_path), *(fault for fault in system_calls.FAULTS if fault != "none")],
        env={**os.environ, "LD_PRELOAD": str(system_calls.built(tmp_path))},
        capture_output=True,
        text=True,
        check=True,
    )
    outcomes = [json.loads(line) for line in tried.stdout.splitlines()]
    assert len(outcomes) > 1000
    ended = set()
    for outcome in outcomes:
        what, fault, _, _, code, said, found, again, left = outcome
        if what != "clear":
            assert found in ([0, "1"], [0, "2"] if what == "save" else [0, "1"]), outcome
        assert (again, left) == ([0, "None"], ["step-3"] if what != "clear" else []), outcome
        if fault == "kill":
            assert code == -signal.SIGKILL, outcome
        elif code == 0 and what != "clear":  # the call was not needed, or was made again
            assert found[1] == ("2" if what == "save" else said), outcome
        elif what == "save":
            assert code == 2, outcome
            assert said.startswith(f"{tmp_path / what / 'step-2'}: {DISK[fault]}"), outcome
            assert said.endswith(f"; then go on with: flantune train --resume {tmp_path}"), outcome
        elif code != 0:
            assert code == 2, outcome
            assert said.startswith(f"{tmp_path / what}"), outcome
        if what == "save":
            ended.add((fault, code, found[1]))
    for fault in system_calls.FAULTS:  # in each of these ways, and both before and after the new one was whole
        if fault in DISK:
            assert ended >= {(fault, 2, "1"), (fault, 2, "2"), (fault, 0, "2")} - {("gone", 0, "2")}


def test_a_save_that_fails_otherwise_is_told_in_a_line_and_leaves_the_one_before(tmp_path):
    saving = made(tmp_path / "run" / "checkpoints", 1)
    in_the_way = tmp_path / "run" / "checkpoints" / "step-2"
    in_the_way.write_text("a file in the way")
    saving.save(Position(2, 8, ""), 4, {"master.w": torch.zeros(1)})
    with pytest.raises(FlantuneError) as refused:
        saving.wait()
    assert str(refused.value) == (
        f"{in_the_way}: cannot be written (Is a directory); mend that; "
        f"then go on with: flantune train --resume {tmp_path / 'run'}"
    )
    in_the_way.unlink()
    assert restored(saving).position.step == 1


def test_a_save_that_fails_is_told_at_the_next_step(tmp_path):
    saving = made(tmp_path / "c", 1)
    (tmp_path / "c" / "step-2").write_text("a file in the way")
    saving.save(Position(2, 8, ""), 4, {"master.w": torch.zeros(1)})
    checks = iter(saving.check, "never")  # as after each step
    with pytest.raises(FlantuneError):
        list(checks)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("not allowed to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_full_ends_in_a_line_and_the_last_one_stays_whole(small_disk):
    folder = small_disk / "run" / "checkpoints"
    saving = made(folder, 1, 2, keep=1)
    saving.save(Position(3, 12, ""), 4, {"master.w": torch.zeros(2 << 20)})
    with pytest.raises(FlantuneError) as refused:
        saving.wait()
    assert str(refused.value) == (
        f"{folder / 'step-3'}: no space left on the disk; free some, or choose another folder; "
        f"then go on with: flantune train --resume {small_disk / 'run'}"
    )
    assert names(folder) == ["step-2"]
    assert restored(saving).position.step == 2
    assert restored(made(folder, 3)).position.step == 3


def test_a_save_has_the_space_of_what_a_killed_one_left(small_disk):
    left = small_disk / ".step-1.unfinished-abc"
    left.mkdir()
    (left / "state.safetensors").write_bytes(bytes(3 << 20))
    saving = made(small_disk)
    saving.save(Position(2, 8, ""), 4, {"master.w": torch.zeros(1 << 19)})
    saving.wait()
    assert names(small_disk) == ["step-2"]


@pytest.mark.parametrize("harm", ["a changed byte", "a cut"])
def test_no_damage_goes_unnoticed_and_the_checkpoint_before_takes_over(tmp_path, harm):
    told: list[str] = []
    made(tmp_path / "c", 1, 2)
    reading = Checkpoints(tmp_path / "c", keep=9, recipe_digest="recipe", order_key="order", report=told.append)
    files = sorted((tmp_path / "c" / "step-2").iterdir())
    dice = random.Random(harm)
    for _ in range(1000):
        path = dice.choice(files)
        whole = path.read_bytes()
        at = dice.randrange(len(whole))
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ dice.randint(1, 255)]) + whole[at + 1 :] if harm != "a cut" else whole[:at]
        )
        assert restored(reading).position.step == 1, (path, at)
        path.write_bytes(whole)
    warning = f"warning: {tmp_path / 'c' / 'step-2'}: the checkpoint is damaged; going on from the one before"
    assert told == [warning] * 1000
    assert restored(reading).position.step == 2


def test_where_all_are_damaged_nothing_is_trained(tmp_path):
    reading = made(tmp_path / "c", 1)
    (tmp_path / "c" / "step-1" / "state.safetensors").write_bytes(b"")
    with pytest.raises(FlantuneError) as refused:
        reading.restore()
    assert str(refused.value) == (
        f"{tmp_path / 'c'}: no checkpoint can be read as it was written; if the disk failed for a moment, start again; "
        "else delete this folder to train from the start"
    )


# --- whose they are


def test_the_newest_are_kept_and_what_others_wrote_is_never_removed(tmp_path):
    folder = tmp_path / "c"
    made(folder, 900, recipe="another recipe")
    (folder / "step-7").mkdir()
    (folder / "step-7" / "notes.txt").write_text("mine")
    made(folder, 1, 2, 3, 4, keep=2)
    assert names(folder) == ["step-3", "step-4", "step-7", "step-900"]
    made(folder).clear()
    assert names(folder) == ["step-7", "step-900"]


def test_a_damaged_one_that_was_passed_over_neither_counts_nor_stays_in_the_way(tmp_path):
    folder = tmp_path / "c"
    made(folder, 2, 4, keep=2)
    (folder / "step-4" / "state.safetensors").write_bytes(b"")
    going_on = made(folder, 3, keep=2)
    assert names(folder) == ["step-2", "step-3", "step-4"]
    assert restored(going_on).position.step == 3
    assert restored(made(folder, 4, keep=2)).position.step == 4
    assert names(folder) == ["step-3", "step-4"]


def test_what_a_killed_save_left_is_removed_by_the_next_one(tmp_path):
    (tmp_path / "c" / ".step-1.unfinished-abc").mkdir(parents=True)
    made(tmp_path / "c", 2)
    assert names(tmp_path / "c") == ["step-2"]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"recipe_digest": "another"}, "the recipe has changed since this checkpoint; start a new run"),
        (
            {"order_key": "another"},
            "the data, templates or tokenizer have changed since this checkpoint; start a new run",
        ),
    ],
)
def test_a_checkpoint_of_another_recipe_or_order_is_refused(tmp_path, other, why):
    made(tmp_path / "c", 1)
    whose = {"recipe_digest": "recipe", "order_key": "order", **other}
    with pytest.raises(FlantuneError) as refused:
        Checkpoints(tmp_path / "c", keep=1, report=lambda line: None, **whose).restore()  # type: ignore[arg-type]
    assert str(refused.value) == f"{tmp_path / 'c' / 'step-1'}: {why}"


# --- the file


@settings(max_examples=50)
@given(
    shapes=st.lists(st.tuples(st.sampled_from(list(TYPES)), st.lists(st.integers(0, 3), max_size=3)), max_size=8),
    seed=st.integers(0, 1000),
)
def test_a_file_of_tensors_is_read_by_safetensors_as_it_was_written(tmp_path_factory, shapes, seed):
    path = tmp_path_factory.mktemp("tensors") / "state.safetensors"
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"t{i}": torch.randint(0, 2, shape, generator=generator).to(dtype) for i, (dtype, shape) in enumerate(shapes)
    }
    assert write_tensors(path, tensors) == file_digest(path)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    shutil.rmtree(path.parent)
