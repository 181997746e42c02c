"""Damages one byte, or cuts one file, of a run's newest checkpoint, and looks at what is gone on from."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import torch

from flantune.training.checkpoint import RECORD, Checkpoints, Restored
from runs import write_recipe
from trials import Trials

GIVEN = ("training.draws=48", "training.checkpoint_every=1", "training.keep_checkpoints=2")
DAMAGES = ("flip", "cut")


def stopped_run(trials: Trials, folder: Path, *, ranks: int = 1, further: tuple[str, ...] = ()) -> Path:
    """The checkpoints, two of them, of a small run that was stopped."""
    run = folder / "stopped"
    given = [str(write_recipe(folder)), *GIVEN, *further, f"output={run}"]
    assert trials.run(given, ranks=ranks, kill=("at", 3), by="SIGTERM").codes == [143] * ranks
    return run / "checkpoints"


def damaged(folder: Path, kind: str, count: int, dice: random.Random) -> Counter[str]:
    """How often damage was noticed, with a warning, and the checkpoint before was used; or changed nothing; or neither.

    Args:
        folder: Checkpoints of a run.
        kind: "flip", another byte in one place of one file; or "cut", a file that ends early.
        count: How often.
        dice: Chooses file and place.
    """
    *_, before, newest = sorted(folder.iterdir(), key=lambda path: int(path.name.removeprefix("step-")))
    expected = [_restored(path.parent, [], at=path) for path in (before, newest)]
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    found: Counter[str] = Counter()
    for _ in range(count):
        path = dice.choice(files)
        whole = path.read_bytes()
        at = dice.randrange(len(whole))
        flipped = bytes([whole[at] ^ dice.randint(1, 255)]) + whole[at + 1 :]
        path.write_bytes(whole[:at] + (flipped if kind == "flip" else b""))
        told: list[str] = []
        restored = _restored(folder, told)
        warning = f"warning: {newest}: the checkpoint is damaged; going on from the one before"
        if told == [warning] and _same(restored, expected[0]):
            found["noticed"] += 1
        elif not told and _same(restored, expected[1]):
            found["harmless"] += 1
        else:
            found[f"wrong: {path.name} {at}"] += 1
        path.write_bytes(whole)
    return found


def _restored(folder: Path, told: list[str], at: Path | None = None) -> Restored | None:
    """What is gone on from; `at` looks at one checkpoint alone."""
    one = at or next(path for path in sorted(folder.iterdir()) if path.name.startswith("step-"))
    if at is not None:
        alone = folder.with_name("alone")
        shutil.rmtree(alone, ignore_errors=True)
        shutil.copytree(at, alone / at.name)
        folder = alone
    record = json.loads((one / RECORD).read_text())
    reading = Checkpoints(folder, keep=2, recipe_digest=record["recipe"], order_key=record["order"], report=told.append)
    return reading.restore()


def _same(found: Restored | None, expected: Restored | None) -> bool:
    if found is None or expected is None or found.position != expected.position:
        return False
    return found.tensors.keys() == expected.tensors.keys() and all(
        torch.equal(tensor, expected.tensors[name]) for name, tensor in found.tensors.items()
    )
