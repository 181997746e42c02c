"""The bytes of a file: decompressed, bounded, and with damage told in one line."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from flantune.errors import FlantuneError, shortened

PIECE = 2**18  # bytes read at once
# What a compressed file may become. Text shrinks to a third or a tenth, text that repeats itself to a fiftieth.
UNPACKED_FREELY = 16 * 2**20  # bytes
MOST_TIMES_LARGER = 200  # beyond that: so many times the compressed bytes read so far


class Budget:
    """How many bytes may be made of what was read so far.

    Args:
        consumed: Compressed bytes read so far.
    """

    def __init__(self, consumed: Callable[[], int]) -> None:
        self._consumed, self._produced = consumed, 0

    def spend(self, count: int, name: str) -> None:
        """Counts decompressed bytes.

        Raises:
            FlantuneError: They are suspiciously many.
        """
        self._produced += count
        if self._produced > UNPACKED_FREELY and self._produced > MOST_TIMES_LARGER * self._consumed():
            raise FlantuneError(
                f"unpacks to more than {MOST_TIMES_LARGER} times its size; if that is right, unpack it yourself", name
            )


def open_file(path: Path) -> io.BufferedReader:
    """The bytes of a file on disk, decompressed where its suffix is one of `COMPRESSIONS`.

    Raises:
        FlantuneError: No such file, a folder, not to be read. While reading: damaged, or more than
            `MOST_TIMES_LARGER` times the compressed bytes.
    """
    with read_errors(str(path)):
        raw = path.open("rb")
    return decompressed(raw, path.suffix, str(path))


def decompressed(raw: Any, suffix: str, name: str, budget: Budget | None = None) -> io.BufferedReader:
    """The content of a binary stream that is compressed as its suffix says; with any other one the bytes as they are.

    Args:
        raw: The compressed bytes; closed with the result.
        suffix: Of the file's name.
        name: How messages call it.
        budget: What it may become; by default in relation to the bytes read from `raw`.
    """
    packing = OPENED.get(suffix.lower())
    if packing is None:
        return io.BufferedReader(_Checked(raw, (), name, budget), PIECE)
    with read_errors(name):
        return io.BufferedReader(_Checked(packing(raw), (raw,), name, budget or Budget(raw.tell)), PIECE)


def _gzip(raw: BinaryIO) -> Any:
    return gzip.GzipFile(fileobj=raw, mode="rb")


def _zstd(raw: BinaryIO) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")


OPENED: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": _gzip,
    ".tgz": _gzip,
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
    ".zst": _zstd,
}
COMPRESSIONS = tuple(OPENED)


class _Checked(io.RawIOBase):
    """A stream whose damage is one line, and which stops where it becomes suspiciously large.

    Args:
        inner: What is read.
        below: Streams that it reads from, closed after it.
        name: How messages call it.
        budget: Counts its bytes; None where nothing is compressed.
    """

    def __init__(self, inner: Any, below: tuple[Any, ...], name: str, budget: Budget | None) -> None:
        self._inner, self._below, self._name, self._budget = inner, below, name, budget
        super().__init__()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._budget is None and self._inner.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("a compressed stream goes forward only")
        return self._inner.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        with read_errors(self._name):
            count = self._inner.readinto(buffer)
        if self._budget is not None:
            self._budget.spend(count, self._name)
        return count

    def close(self) -> None:
        if not self.closed:
            for stream in (self._inner, *self._below):
                with contextlib.suppress(OSError, ValueError, *DAMAGE):  # nothing was written: nothing is lost
                    stream.close()
        super().close()


IN_ARCHIVES = (zipfile.BadZipFile, tarfile.TarError, UnicodeDecodeError)  # the last: a name that is no text
DAMAGE = (lzma.LZMAError, zlib.error, EOFError, *IN_ARCHIVES)


@contextlib.contextmanager
def read_errors(name: str) -> Iterator[None]:
    """Turns what the system and decompressors raise into one line that names the file.

    Raises:
        FlantuneError: No such file, a folder, not readable, damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise FlantuneError("no such file; check the path in the task's `source`", name) from None
    except IsADirectoryError:
        raise FlantuneError("is a folder; a file is wanted here", name) from None
    except MemoryError:
        raise FlantuneError("needs more memory to be unpacked than there is; pack it anew", name) from None
    except NotImplementedError as error:  # of a zip archive
        raise FlantuneError(f"is packed in a way that Python does not read: {error}; pack it anew", name) from None
    except (OSError, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            remedy = "check the path in the task's `source`"
            raise FlantuneError(f"cannot be read: {error.strerror}; {remedy}", name) from None
        what = "archive" if isinstance(error, IN_ARCHIVES) else "compressed file"
        raise FlantuneError(f"damaged {what}: {shortened(str(error), most=200)}; fetch it again", name) from None
