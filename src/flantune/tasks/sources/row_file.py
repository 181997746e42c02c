"""Rows on disk: memory-mapped batches of JSON texts, each checked when it is first touched.

    rows.arrow    batches of row (JSON text), file (number of a place), line; any Arrow reader opens it
    hashes.bin    three 64-bit numbers a row: hash as it stands, of its content, of the record it was made of
    rows.json     where batches begin and end, checksums, places, the digest of all rows

Batches end by size as well as by rows, so writing takes the memory of one batch, and so does the first touch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import mmap
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flantune.errors import FlantuneError
from flantune.files import digest
from flantune.tasks.sources.rows import Row, encode

FORMAT = 2  # raise it when the bytes written here change
BATCH_ROWS = 4096
BATCH_BYTES = 2**23  # of row text
PIECE = 2**20  # bytes of a file that are read at once to check it

ROWS, HASHES, SUMMARY = "rows.arrow", "hashes.bin", "rows.json"


class Record(NamedTuple):
    """A row with its place.

    Attributes:
        row: The row.
        place: What stands before the line: `data/x.csv:`.
        line: Number of the line, or of the record.
        made_of: Hash of what it was made of together with other rows; None where it was made alone.
    """

    row: Row
    place: str
    line: int
    made_of: int | None = None


class Damaged(Exception):
    """Bytes on disk are not as they were written."""


def write_rows(folder: Path, files: Sequence[Path], records: Iterable[Record]) -> None:
    """Writes rows into a folder.

    Args:
        folder: Exists and is empty.
        files: Those that places begin with. They are kept as numbers, so that the rows serve copies of the files too.
        records: The rows.
    Raises:
        FlantuneError: A row that cannot be kept, at its place.
    """
    import pyarrow as pa

    places: dict[str, int] = {}
    starts, marks = [0], []
    hashed = hashlib.blake2b(digest_size=16)
    with _Sink(folder / ROWS) as sink, _Sink(folder / HASHES) as hashes:
        with pa.ipc.new_file(sink, _schema()) as arrow:
            arrow.write_batch(_Batch().made())  # an empty one, so that the schema is out before the first range begins
            marks.append(sink.mark())
            for batch in _batches(records, places):
                arrow.write_batch(batch.made())
                marks.append(sink.mark())
                starts.append(starts[-1] + len(batch.texts))
                pairs = np.array(batch.hashes, dtype="<u8")
                hashes.write(pairs.tobytes())
                hashed.update(pairs[:, 0].tobytes())
        marks.append(sink.mark())
        summary = {
            "format": FORMAT,
            "starts": starts,
            "marks": marks,
            "hashes": hashes.mark(),
            "places": [_relative(place, files) for place in places],
            "rows": hashed.hexdigest(),
        }
    write_summary(folder / SUMMARY, summary)


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Writes what is known of a folder, with a hash of itself."""
    path.write_text(json.dumps({**summary, "digest": digest(summary)}), encoding="utf-8")


def read_summary(path: Path) -> dict[str, Any]:
    """What `write_summary` wrote.

    Raises:
        Damaged: It is not there, or not as it was written.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        written = summary.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Damaged(path) from error
    if written != digest(summary):
        raise Damaged(path)
    return summary


class _Batch:
    """Rows that are written at once."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.size = 0
        self.files: list[int] = []
        self.lines: list[int] = []
        self.hashes: list[tuple[int, int, int]] = []

    def made(self) -> Any:
        """As Arrow has it."""
        import pyarrow as pa

        offsets = np.zeros(len(self.texts) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in self.texts], out=offsets[1:])
        texts = pa.LargeStringArray.from_buffers(
            len(self.texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(self.texts))
        )
        columns = [texts, pa.array(self.files, pa.int32()), pa.array(self.lines, pa.int64())]
        return pa.record_batch(columns, schema=_schema())


def _batches(records: Iterable[Record], places: dict[str, int]) -> Iterator[_Batch]:
    batch = _Batch()
    for row, place, line, made_of in records:
        try:
            text, exact, content = encode(row)
        except FlantuneError as error:
            raise FlantuneError(error.message, f"{place}{line}") from None
        batch.texts.append(text)
        batch.size += len(text)
        batch.files.append(places.setdefault(place, len(places)))
        batch.lines.append(line)
        batch.hashes.append((exact, content, content if made_of is None else made_of))
        if len(batch.texts) == BATCH_ROWS or batch.size >= BATCH_BYTES:
            yield batch
            batch = _Batch()
    if batch.texts:
        yield batch


@functools.cache
def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([("row", pa.large_string()), ("file", pa.int32()), ("line", pa.int64())])


def _relative(place: str, files: Sequence[Path]) -> tuple[int, str]:
    """The number of the file that a place begins with, and the rest; -1 and the whole where there is none."""
    for number, file in enumerate(files):
        rest = place.removeprefix(str(file))
        if rest != place and rest[:1] in (":", "!"):
            return number, rest
    return -1, place


class _Sink:
    """A file that is written from beginning to end, with the checksum of what was written since the last mark."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._written = self._checksum = 0
        self.closed = False

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True
        self._file.close()

    def write(self, content: Any) -> int:
        """Appends bytes."""
        self._checksum = zlib.crc32(content, self._checksum)
        count = self._file.write(content)
        self._written += count
        return count

    def tell(self) -> int:
        """Bytes written."""
        return self._written

    def flush(self) -> None:
        """Hands them to the system."""
        self._file.flush()

    def mark(self) -> tuple[int, int]:
        """Bytes written in all, and the checksum of those since the last mark."""
        checksum, self._checksum = self._checksum, 0
        return self._written, checksum


class _Touched(NamedTuple):
    """A batch that was checked."""

    offsets: npt.NDArray[np.int64]
    texts: memoryview
    files: npt.NDArray[np.int32]
    lines: npt.NDArray[np.int64]


class StoredRows:
    """Rows in a folder, memory-mapped: any one at random.

    Args:
        folder: What `write_rows` filled.
        files: As they were given there, or their copies.
        make: Fills the folder anew; called where a batch turns out to be damaged.
    Raises:
        Damaged: The folder is absent, half-written, or its summary, sizes or ends are not as they were written.
    """

    def __init__(self, folder: Path, files: Sequence[Path], make: Callable[[], None] | None = None) -> None:
        self._folder, self._files, self._make = folder, tuple(files), make
        self._open()

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredRows, (self._folder, self._files)

    def _open(self) -> None:
        summary = read_summary(self._folder / SUMMARY)
        if summary["format"] != FORMAT:
            raise Damaged(self._folder)
        self._starts: list[int] = summary["starts"]
        self._marks: list[tuple[int, int]] = summary["marks"]
        self._hash_mark: tuple[int, int] = summary["hashes"]
        self._places = [(str(self._files[n]) if n >= 0 else "") + rest for n, rest in summary["places"]]
        self.digest: str = summary["rows"]
        self._touched: dict[int, _Touched] = {}
        self._hashes: npt.NDArray[np.uint64] | None = None
        self._bytes = _mapped(self._folder / ROWS, self._marks[-1][0])
        self._range(0)
        self._range(len(self._marks) - 1)
        if not _has_size(self._folder / HASHES, self._hash_mark[0]):
            raise Damaged(self._folder)

    def __len__(self) -> int:
        return self._starts[-1]

    def text(self, number: int) -> str:
        """A row as JSON."""
        batch, at = self._batch(number)
        return str(batch.texts[batch.offsets[at] : batch.offsets[at + 1]], "utf-8")

    def place(self, number: int) -> str:
        """Where a row stands in its source."""
        batch, at = self._batch(number)
        return f"{self._places[batch.files[at]]}{batch.lines[at]}"

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Of each row as it stands, of its content, and of what it was made of: [rows, 3]."""
        if self._hashes is None:
            if checksum_of(self._folder / HASHES) != self._hash_mark[1]:
                self._mend()
            whole = np.memmap(self._folder / HASHES, dtype="<u8", mode="r") if len(self) else np.empty(0, "<u8")
            self._hashes = whole.reshape(-1, 3)
        return self._hashes

    def _batch(self, number: int) -> tuple[_Touched, int]:
        index = bisect_right(self._starts, number) - 1
        if index not in self._touched:
            try:
                self._touched[index] = self._touch(index)
            except Damaged:
                self._mend()
                return self._batch(number)  # from another batch, if they end elsewhere now
        return self._touched[index], number - self._starts[index]

    def _touch(self, index: int) -> _Touched:
        import pyarrow as pa

        batch = pa.ipc.read_record_batch(pa.py_buffer(self._range(index + 1)), _schema())
        _, offsets, texts = batch.column("row").buffers()
        return _Touched(
            np.frombuffer(offsets, dtype=np.int64, count=len(batch) + 1),
            memoryview(texts),
            batch.column("file").to_numpy(),
            batch.column("line").to_numpy(),
        )

    def _range(self, index: int) -> memoryview:
        """Bytes between two marks: the beginning of the file, then its batches, then its end."""
        start = self._marks[index - 1][0] if index else 0
        end, checksum = self._marks[index]
        found = self._bytes[start:end]
        if zlib.crc32(found) != checksum:
            raise Damaged(self._folder)
        return found

    def _mend(self) -> None:
        """Makes anew what a disk has damaged since it was opened; the rows must be what they were."""
        (self._folder / SUMMARY).unlink(missing_ok=True)
        before = self.digest
        make, self._make = self._make, None  # a disk that damages them twice is not to be trusted
        if make is not None:
            make()
            with contextlib.suppress(Damaged):
                self._open()
                if self.digest == before:
                    return
        raise FlantuneError("the kept rows are damaged; start again, and they are made anew", self._folder)


def _mapped(path: Path, size: int) -> memoryview:
    if not _has_size(path, size):
        raise Damaged(path)
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def checksum_of(path: Path) -> int | None:
    """CRC-32 of a file, read piece by piece, since what is mapped counts as memory; None where it cannot be read."""
    checksum = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                checksum = zlib.crc32(piece, checksum)
    except OSError:
        return None
    return checksum
