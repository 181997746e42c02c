"""Checkpoints: all that a run needs to go on exactly where it was, whole or absent, written while training goes on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from flantune.errors import FlantuneError
from flantune.files import digest, disk_errors, file_digest, whole_folder, write_text
from flantune.training.position import Position
from flantune.training.tensor_file import write_tensors

STATE, RECORD = "state.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Restored:
    """What a checkpoint holds.

    Attributes:
        position: Where the run was.
        rows_per_step: How many packed rows its steps had.
        tensors: Master weights and moments, as the optimizer gave them.
    """

    position: Position
    rows_per_step: int
    tensors: dict[str, Tensor]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: `RUN/checkpoints`.
        keep: How many of the newest stay.
        recipe_digest: Of what may not change in a run. A checkpoint of another recipe is refused, and never removed.
        order_key: A checkpoint of another order (changed data, say) is refused.
        report: Told of a damaged checkpoint.
    """

    def __init__(
        self, folder: Path, *, keep: int, recipe_digest: str, order_key: str, report: Callable[[str], None]
    ) -> None:
        self.folder, self.keep = folder, keep
        self.recipe_digest, self.order_key = recipe_digest, order_key
        self._report = report
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None

    # --- saving

    def save(self, position: Position, rows_per_step: int, tensors: Mapping[str, Tensor]) -> None:
        """Begins to write `step-N` from a copy of the tensors; first waits until an earlier one is written.

        Raises:
            FlantuneError: The earlier one could not be written.
        """
        self.wait()
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        self._saving = self._writer.submit(self._write, position, rows_per_step, copies)

    def check(self) -> None:
        """Raises what a save has failed with, if it has; does not wait for one that is going on.

        Raises:
            FlantuneError: The disk is full, or cannot be written or trusted.
        """
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self) -> None:
        """Until the checkpoint that was begun is on the disk.

        Raises:
            FlantuneError: The disk is full, or cannot be written or trusted.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def _write(self, position: Position, rows_per_step: int, tensors: Mapping[str, Tensor]) -> None:
        target = self.folder / f"step-{position.step}"
        try:
            with disk_errors(self.folder):
                self._remove_unfinished()  # first: it may be what fills the disk
            with whole_folder(target) as aside:
                written = write_tensors(aside / STATE, tensors)
                if file_digest(aside / STATE) != written:
                    raise FlantuneError("what was written is not what is read back; choose another disk", target)
                record = {
                    **asdict(position),
                    "rows_per_step": rows_per_step,
                    "recipe": self.recipe_digest,
                    "order": self.order_key,
                    "blake2b": written,
                }
                write_text(aside / RECORD, _rendered(record))
            with disk_errors(self.folder):
                self._remove_all_but_newest(position.step)
        except (FlantuneError, OSError) as error:
            why = (
                error.message
                if isinstance(error, FlantuneError)
                else f"cannot be written ({error.strerror}); mend that"
            )
            remedy = f"then go on with: flantune train --resume {self.folder.parent}"
            raise FlantuneError(f"{why}; {remedy}", target) from error

    def _remove_all_but_newest(self, step: int) -> None:
        """Keeps the newest of those up to a step; a later one stems from before a resume, and is replaced or stays."""
        done = [path for path in self._own() if _step(path) <= step]
        for path in done[: -self.keep]:
            path.replace(path.with_name(f".{path.name}.unfinished-removal"))  # so that no half of it is found
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """What was begun to be written or removed by this run, which has one writer at a time."""
        for path in self.folder.glob(".step-*.unfinished-*"):
            shutil.rmtree(path)

    def clear(self) -> None:
        """Removes the run's checkpoints: it is complete and its model saved. What others wrote stays."""
        self.wait()
        with disk_errors(self.folder):
            for path in self._own():
                shutil.rmtree(path)
            self._remove_unfinished()
        with contextlib.suppress(OSError):  # something is left in it, or it was never made
            self.folder.rmdir()

    # --- reading

    def restore(self) -> Restored | None:
        """The newest checkpoint that is as it was written; None where there is none.

        Raises:
            FlantuneError: All are damaged, the disk fails, or it belongs to another recipe or other data.
        """
        with disk_errors(self.folder):
            found = self._all()
        for path in reversed(found):
            record = _read_record(path)
            if record is not None:
                self._check_belongs(record, path)
            if record is not None and _is_whole(path / STATE, record["blake2b"]):
                return _restored(path, record)
            self._report(f"warning: {path}: the checkpoint is damaged; going on from the one before")
        if found:
            raise FlantuneError("no checkpoint is whole; delete this folder to train from the start", self.folder)
        return None

    def _check_belongs(self, record: dict[str, Any], path: Path) -> None:
        if record["recipe"] != self.recipe_digest:
            raise FlantuneError("the recipe has changed since this checkpoint; start a new run", path)
        if record["order"] != self.order_key:
            raise FlantuneError(
                "the data, templates or tokenizer have changed since this checkpoint; start a new run", path
            )

    def _all(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
        return sorted(found, key=_step)

    def _own(self) -> list[Path]:
        """Those that this run wrote, as far as they say so; oldest first."""
        return [path for path in self._all() if (_read_record(path) or {}).get("recipe") == self.recipe_digest]


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _rendered(record: dict[str, Any]) -> str:
    return json.dumps({**record, "digest": digest(record)}, indent=2)


def _read_record(path: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself; None if a byte of it is not as it was written."""
    try:
        text = (path / RECORD).read_bytes().decode()
        record = json.loads(text)
        del record["digest"]
        return record if _rendered(record) == text else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(path: Path, written: str) -> bool:
    try:
        return file_digest(path) == written
    except OSError:  # not there, or the disk cannot read it
        return False


def _restored(path: Path, record: dict[str, Any]) -> Restored:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    position = Position(record["step"], record["row"], record["draws"])
    try:
        tensors = load_file(path / STATE)
    except (OSError, RuntimeError, SafetensorError) as error:  # each of the libraries that read has its own
        raise FlantuneError(
            f"was whole and cannot be read now: {error}; check the disk, then start again", path
        ) from error
    return Restored(position, record["rows_per_step"], tensors)
