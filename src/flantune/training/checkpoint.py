"""Checkpoints: all that a run needs to go on exactly where it was, whole or absent, written while training goes on."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from flantune.errors import FlantuneError
from flantune.files import digest, disk_errors, file_digest, whole_folder, write_text
from flantune.training.distributed import ALONE, RankLost, Ranks
from flantune.training.position import Position
from flantune.training.sharded_state import read_state, write_parts
from flantune.training.sharding import copied_to_cpu
from flantune.training.tensor_file import write_tensors

T = TypeVar("T")
SAID = "rank 0 says why"
STATE, RECORD = "state.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Restored:
    """What a checkpoint holds.

    Attributes:
        position: Where the run was.
        rows_per_step: How many packed rows its steps had.
        tensors: Master weights and moments, as the optimizer gave them; where weights are in parts, in the same parts.
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
        ranks: Of the run. All of them call all methods; the first does what is done once.
        sharded: Whether each rank has, writes and reads a part of the state; else the first has all of it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        recipe_digest: str,
        order_key: str,
        report: Callable[[str], None],
        ranks: Ranks = ALONE,
        sharded: bool = False,
    ) -> None:
        self.folder, self.keep = folder, keep
        self.recipe_digest, self.order_key = recipe_digest, order_key
        self._report, self._ranks, self._sharded = report, ranks, sharded
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None

    # --- saving

    def save(self, position: Position, rows_per_step: int, tensors: Mapping[str, Tensor]) -> None:
        """Begins to write `step-N` from a copy of the tensors; first waits until an earlier one is written.

        Raises:
            FlantuneError: The earlier one could not be written.
        """
        self.wait()
        if self._sharded or self._ranks.first:
            copies = {name: copied_to_cpu(tensor) for name, tensor in tensors.items()}
            write = self._write_together if self._sharded else self._write
            self._saving = self._writer.submit(write, position, rows_per_step, copies)

    def check(self) -> None:
        """Raises what a save has failed with, if it has; does not wait for one that is going on.

        Raises:
            FlantuneError: The disk is full, or cannot be written or trusted.
        """
        if self._saving is not None and self._agreed(self._saving.done):
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
                files = self._write_state(aside, tensors)
                record = {
                    **asdict(position),
                    "rows_per_step": rows_per_step,
                    "recipe": self.recipe_digest,
                    "order": self.order_key,
                    "files": files,
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

    def _write_state(self, aside: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """The names of the files, with their hashes."""
        if self._sharded:
            self._ranks.tell(str(aside))
            return write_parts(aside, tensors, self._ranks.beside)
        written = write_tensors(aside / STATE, tensors)
        if file_digest(aside / STATE) != written:
            raise FlantuneError("what was written is not what is read back; choose another disk", aside)
        return {STATE: written}

    def _write_together(self, position: Position, rows_per_step: int, tensors: Mapping[str, Tensor]) -> None:
        """Rank 0 makes the folder and names it in the end; it says where that is, and whether all went well."""
        if self._ranks.first:
            well = False
            try:
                self._write(position, rows_per_step, tensors)
                well = True
            finally:
                self._ranks.tell(well)
            return
        if aside := self._ranks.tell(None):
            try:
                write_parts(Path(aside), tensors, self._ranks.beside)
            except RankLost:
                raise
            except Exception:  # rank 0 has the same, and says it
                pass
            if self._ranks.tell(None):
                return
        raise RankLost(SAID)

    def _remove_all_but_newest(self, step: int) -> None:
        """Keeps the newest of those up to a step; a later one stems from before a resume, and is replaced or stays."""
        self._remove([path for path in self._own() if _step(path) <= step][: -self.keep])

    def _remove(self, paths: Sequence[Path]) -> None:
        """Each gets another name first, so that no half of it is found, and the rest of it is removed another time."""
        self._remove_unfinished()
        for path in paths:
            path.replace(path.with_name(f".{path.name}.unfinished-removal"))
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """What was begun to be written or removed by this run, which has one writer at a time."""
        for path in self.folder.glob(".step-*.unfinished-*"):
            shutil.rmtree(path)

    def clear(self) -> None:
        """Removes the run's checkpoints: it is complete and its model saved. What others wrote stays."""
        self.wait()
        if not self._ranks.first:
            return
        with disk_errors(self.folder):
            self._remove(self._own())
        with contextlib.suppress(OSError):  # something is left in it, or it was never made
            self.folder.rmdir()

    # --- reading

    def restore(self, weights: Mapping[str, Tensor] | None = None) -> Restored | None:
        """The newest checkpoint that is as it was written; None where there is none.

        Args:
            weights: Where the state is in parts, the weights by name: what belongs to them is read in the same parts.

        Raises:
            FlantuneError: All are damaged, the disk fails, or it belongs to another recipe or other data.
        """
        if not self._sharded and not self._ranks.first:
            return None
        damaged: list[Path] = []
        for path in reversed(self._agreed(self._all)):
            record = self._agreed(partial(self._record, path))
            if record is not None and self._is_whole(path, record["files"]):
                for each in damaged:
                    self._report(f"warning: {each}: the checkpoint is damaged; going on from the one before")
                return self._restored(path, record, weights or {})
            damaged.append(path)
        if damaged:
            remedy = "if the disk failed for a moment, start again; else delete this folder to train from the start"
            raise self._once(FlantuneError(f"no checkpoint can be read as it was written; {remedy}", self.folder))
        return None

    def _agreed(self, find: Callable[[], T]) -> T:
        """What rank 0 finds, or an error that it finds, on all ranks that have a part of the state."""
        if not self._sharded:
            return find()
        found, error = None, None
        if self._ranks.first:
            try:
                found = find()
            except FlantuneError as raised:
                error = raised
        if self._ranks.of_first(error is not None):
            raise error or RankLost(SAID)
        return self._ranks.of_first(cast(T, found))

    def _once(self, error: FlantuneError) -> Exception:
        """An error that all ranks find: rank 0 tells it."""
        return error if self._ranks.first else RankLost(SAID)

    def _is_whole(self, path: Path, files: Mapping[str, str]) -> bool:
        """Whether all files are as they were written; ranks share out the reading."""
        names = sorted(files)
        share = self._ranks.share(names) if self._sharded else names
        whole = all(_is_whole(path / name, files[name]) for name in share)
        return all(self._ranks.gathered(whole)) if self._sharded else whole

    def _restored(self, path: Path, record: dict[str, Any], weights: Mapping[str, Tensor]) -> Restored:
        position = Position(record["step"], record["row"], record["draws"])
        try:
            if self._sharded:
                tensors = read_state(path, weights, self._ranks.beside)
            else:
                tensors = load_file(path / STATE) if [*record["files"]] == [STATE] else read_state(path, {})
        except (OSError, RuntimeError, SafetensorError) as error:  # each of the libraries that read has its own
            why = f"was whole and cannot be read now: {error}; check the disk, then start again"
            raise self._once(FlantuneError(why, path)) from error
        return Restored(position, record["rows_per_step"], tensors)

    def _record(self, path: Path) -> dict[str, Any] | None:
        record = _read_record(path)
        if record is None:
            return None
        if record["recipe"] != self.recipe_digest:
            raise FlantuneError("the recipe has changed since this checkpoint; start a new run", path)
        if record["order"] != self.order_key:
            raise FlantuneError(
                "the data, templates or tokenizer have changed since this checkpoint; start a new run", path
            )
        return record

    def _all(self) -> list[Path]:
        with disk_errors(self.folder):
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
