"""A fault at every system call of a save, a restore and a removal: a kill, or a disk that fails or is full.

Usage: LD_PRELOAD=system_calls.so python tests/faults.py FOLDER FAULT...
Prints a JSON line for each fault: its kind, the number and name of the call, the exit code of the process, what it
said, the step of the checkpoint that is found afterwards, how another save or removal ends, and what then lies there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import system_calls
from flantune.errors import FlantuneError
from flantune.training.checkpoint import Checkpoints
from flantune.training.position import Position

TENSORS = {"master.weight": torch.arange(1000, dtype=torch.float32), "step.weight": torch.tensor(3.0)}


def checkpoints(folder: Path) -> Checkpoints:
    """The checkpoints of a run in the folder, of which one is kept."""
    return Checkpoints(folder, keep=1, recipe_digest="recipe", order_key="order", report=lambda line: None)


def save(folder: Path, step: int) -> None:
    """Saves, and waits until it is on the disk."""
    saving = checkpoints(folder)
    saving.save(Position(step, 4 * step, f"draws {step}"), 4, TENSORS)
    saving.wait()


def restored(folder: Path) -> str:
    """The step of the newest checkpoint; all that it holds has been read."""
    found = checkpoints(folder).restore()
    assert found is not None
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())
    return str(found.position.step)


def cleared(folder: Path) -> None:
    """Removes all checkpoints, as a run does that is done."""
    checkpoints(folder).clear()


def ended(work: Callable[[], object]) -> tuple[int, str]:
    """Exit code that a command would have, and the result of some work or its error; code 2 is of the user's kind."""
    try:
        return 0, str(work())
    except FlantuneError as error:
        return 2, str(error)
    except Exception as error:
        return 1, repr(error)


def killed(work: Callable[[], object]) -> tuple[int, str]:
    """The same of a process of its own, which a signal may end."""
    process = os.fork()
    if process == 0:
        os._exit(ended(work)[0])
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), ""


def faulty(folder: Path, fault: str, at: int, work: Callable[[], object]) -> tuple[tuple[int, str], list[str]]:
    """How some work ends that meets a fault, and the names of its calls."""
    log = folder.with_suffix(".calls")
    log.unlink(missing_ok=True)

    def armed() -> object:
        with system_calls.armed(folder, fault, at, log):
            return work()

    how = (killed if fault == "kill" else ended)(armed)
    return how, log.read_text().split()


def main(folder: Path, faults: list[str]) -> None:
    """Tries every fault of a kind at every call, each on a folder that holds step 1; in reading and removing it too."""
    save(folder / "whole", 1)
    for what, work in (("save", lambda tried: save(tried, 2)), ("restore", restored), ("clear", cleared)):
        tried = folder / what
        shutil.copytree(folder / "whole", tried)
        names = faulty(tried, "none", 0, lambda work=work, tried=tried: work(tried))[1]
        for fault in faults:
            for at, name in enumerate(names):
                shutil.rmtree(tried, ignore_errors=True)
                shutil.copytree(folder / "whole", tried)
                (code, said), _ = faulty(tried, fault, at, lambda work=work, tried=tried: work(tried))
                found = ended(lambda tried=tried: restored(tried)) if what != "clear" else None
                then = cleared if what == "clear" else lambda tried: save(tried, 3)
                again = ended(lambda then=then, tried=tried: then(tried))
                left = sorted(path.name for path in tried.iterdir()) if tried.exists() else []
                print(json.dumps([what, fault, at, name, code, said, found, again, left]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
