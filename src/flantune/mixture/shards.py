"""Windows on disk: an Arrow file each, named by the hash of its bytes, so that it is whole or not there.

window-000003-2f1c...e0.arrow    one record a packed row; what was dropped stands in the schema's metadata
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flantune.files import file_aside, file_digest
from flantune.mixture.window import PackedRow, Segment

NAME = re.compile(r"window-(\d{6,})-([0-9a-f]{32})\.arrow")
COLUMNS = {
    "input_length": np.int32,
    "target_length": np.int32,
    "loss_weight": np.float64,
    "draw": np.int64,
    "task": np.int32,
    "row": np.int64,
    "template": np.int32,
    "options": np.int32,
    "exemplars": np.int32,
    "cut": np.int32,
}
KEPT = tuple(COLUMNS)[2:]  # what a segment says of itself besides its tokens
METADATA = b"flantune"

Dropped = list[dict[str, Any]]


def write_window(folder: Path, number: int, rows: Sequence[PackedRow], dropped: Dropped) -> Path:
    """Writes a window; whoever else writes it writes the same bytes under the same name.

    Not synced: what a power cut spoils is noticed by its name and made again.

    Raises:
        FlantuneError: The disk is full or cannot be written.
    """
    with file_aside(folder, ".window-") as aside:
        _write(aside, rows, {"window": number, "dropped": dropped})
        return aside.replace(folder / f"window-{number:06d}-{file_digest(aside)[:32]}.arrow")


def _write(path: Path, rows: Sequence[PackedRow], told: dict[str, Any]) -> None:
    import pyarrow as pa

    segments = [segment for row in rows for segment in row]
    ends = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int32)
    values: dict[str, Any] = {name: [getattr(segment, name) for segment in segments] for name in KEPT}
    values["input_length"] = [len(segment.input_ids) for segment in segments]
    values["target_length"] = [len(segment.target_ids) for segment in segments]
    arrays = {name: pa.ListArray.from_arrays(ends, np.array(values[name], dtype)) for name, dtype in COLUMNS.items()}
    ids = np.fromiter(chain.from_iterable(chain(s.input_ids, s.target_ids) for s in segments), np.int32)
    tokens = np.cumsum([0, *(sum(segment.length for segment in row) for row in rows)], dtype=np.int32)
    table = pa.table({"ids": pa.ListArray.from_arrays(tokens, ids), **arrays})
    table = table.replace_schema_metadata({METADATA: json.dumps(told, sort_keys=True).encode()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def listed(folder: Path) -> dict[int, list[Path]]:
    """The files of each window that lie in a folder, unread."""
    found: dict[int, list[Path]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            if matched := NAME.fullmatch(name):
                found.setdefault(int(matched[1]), []).append(folder / name)
    return found


class Window:
    """A window on disk, memory-mapped: its packed rows, and what was dropped.

    Attributes:
        number: Of the window.
        dropped: Draws that are in no row, each with its task, row and reason.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        with pa.memory_map(str(path)) as source:
            self._table = pa.ipc.open_file(source).read_all()
        told = json.loads(self._table.schema.metadata[METADATA])
        self.number: int = told["window"]
        self.dropped: Dropped = told["dropped"]

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def row(self, number: int) -> PackedRow:
        """Packed row `number` of the window: its segments."""
        record = self._table.slice(number, 1).to_pylist()[0]
        ids, segments, at = record["ids"], [], 0
        for inputs, targets, *kept in zip(*(record[name] for name in COLUMNS), strict=True):
            middle, end = at + inputs, at + inputs + targets
            said = dict(zip(KEPT, kept, strict=True))
            segments.append(Segment(**said, input_ids=ids[at:middle], target_ids=ids[middle:end]))
            at = end
        return segments

    def columns(self, rows: int | None = None) -> dict[str, npt.NDArray[Any]]:
        """What the segments of the first rows say of themselves, all by default: one value each, in training order."""
        table = self._table if rows is None else self._table.slice(0, rows)
        return {name: table[name].combine_chunks().flatten().to_numpy() for name in COLUMNS}


def opened(paths: Sequence[Path], number: int) -> Window | None:
    """A window from those of its files that are as they were written; the others are removed."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError, KeyError):  # pyarrow's errors are ValueErrors
            matched = NAME.fullmatch(path.name)
            if matched and file_digest(path)[:32] == matched[2]:
                window = Window(path)
                if window.number == number:
                    return window
        path.unlink(missing_ok=True)
    return None
