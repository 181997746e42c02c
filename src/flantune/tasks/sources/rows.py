"""Rows of a split: plain dicts, made one at a time from JSON texts, each with its place."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import operator
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flantune.errors import FlantuneError

Row = dict[str, Any]
Numbers = npt.NDArray[np.int64]
AT_ONCE = 2**16  # hashes that are looked at together
DEEPEST = 200  # levels of lists and objects in a row; more could not be read back wherever it is asked for


class Store(Protocol):
    """Where rows lie."""

    def __len__(self) -> int:
        """Number of rows."""

    def text(self, number: int) -> str:
        """A row as JSON."""

    def place(self, number: int) -> str:
        """Where a row stands in its source."""

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Of each row as it stands, of its content, and of what it was made of: [rows, 3]."""

    @property
    def digest(self) -> str:
        """Of all rows in their order."""


@dataclass(frozen=True)
class Origin:
    """Rows that come from elsewhere than files.

    Attributes:
        identity: What changes with the rows; None where nothing can say it without reading them.
        name: How places call it; never holds a credential.
        records: Gives rows with their numbers.
    """

    identity: object | None
    name: str
    records: Callable[[], Iterator[tuple[Row, int]]]


class Rows:
    """The rows of one split, by number; `rows[i]` is made anew each time, so a reader may change it.

    Args:
        store: Where they lie.
        numbers: Which of the store's rows, in order; all by default.
        digest: Of these rows, where it is known.
    """

    def __init__(self, store: Store, numbers: Numbers | None = None, digest: str | None = None) -> None:
        self._store, self._numbers = store, numbers
        if digest is not None:
            self.digest = digest

    @classmethod
    def of(cls, rows: Sequence[Row], places: Sequence[str] | None = None) -> Rows:
        """Rows that are held in memory.

        Raises:
            FlantuneError: A value that is neither text, number, truth, null, list nor object.
        """
        return cls(_Listed(rows, places if places is not None else [f"row {i}" for i in range(len(rows))]))

    def __len__(self) -> int:
        return len(self._store) if self._numbers is None else len(self._numbers)

    def __getitem__(self, number: int) -> Row:
        return json.loads(self._store.text(self._at(number)))

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def place(self, number: int) -> str:
        """Where a row stands: `file:line`."""
        return self._store.place(self._at(number))

    def chosen(self, numbers: Sequence[int] | npt.NDArray[Any], digest: str | None = None) -> Rows:
        """Some of these rows, in the order of the numbers; nothing is copied.

        Args:
            numbers: Numbers of these rows.
            digest: Of the chosen rows, where it is known.
        """
        given = np.asarray(numbers, dtype=np.int64)
        if digest is None and len(given) and not 0 <= given.min() <= given.max() < len(self):
            raise IndexError(f"rows {given.min()} to {given.max()} were asked for; there are {len(self)}")
        return Rows(self._store, given if self._numbers is None else self._numbers[given], digest)

    def hashes(self) -> npt.NDArray[np.uint64]:
        """64 bits of each row as it stands; of its content, whatever the order of its keys; of what it was made of.

        Rows that were made of one record have one hash of what they were made of; it is that of the content for others.

        Returns:
            [rows, 3].
        """
        return self._store.hashes() if self._numbers is None else self._store.hashes()[self._numbers]

    @cached_property
    def digest(self) -> str:
        """Of the rows in their order, as they stand: a template may show a nested object, whose keys have an order."""
        return self._store.digest if self._numbers is None else digest_of(self._store.hashes(), self._numbers)

    def _at(self, number: int) -> int:
        at = operator.index(number)
        if not -len(self) <= at < len(self):
            raise IndexError(f"no row {at}; there are {len(self)}")
        if at < 0:
            at += len(self)
        return at if self._numbers is None else int(self._numbers[at])


class _Listed:
    """Rows in memory."""

    def __init__(self, rows: Sequence[Row], places: Sequence[str]) -> None:
        encoded = [encode(row) for row in rows]
        self._texts = [text.decode() for text, _, _ in encoded]
        self._hashes = np.array([[exact, content, content] for _, exact, content in encoded], np.uint64).reshape(-1, 3)
        self._places = list(places)

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, number: int) -> str:
        return self._texts[number]

    def place(self, number: int) -> str:
        return self._places[number]

    def hashes(self) -> npt.NDArray[np.uint64]:
        return self._hashes

    @property
    def digest(self) -> str:
        return digest_of(self._hashes)


def digest_of(hashes: npt.NDArray[np.uint64], numbers: Numbers | None = None) -> str:
    """32 digits from the hashes of rows as they stand, in their order.

    Args:
        hashes: Of all rows, [rows, 3].
        numbers: Which of them, in order; all by default.
    """
    hashed = hashlib.blake2b(digest_size=16)
    for start in range(0, len(hashes if numbers is None else numbers), AT_ONCE):
        at = slice(start, start + AT_ONCE)
        some = hashes[at, 0] if numbers is None else hashes[numbers[at], 0]
        hashed.update(some.astype("<u8").tobytes())
    return hashed.hexdigest()


def encode(row: Row) -> tuple[bytes, int, int]:
    """A row as JSON text, the hash of that, and the hash of its content.

    A date or a time becomes ISO 8601 text, a decimal number and a UUID text; keys become text.

    Raises:
        FlantuneError: What JSON cannot hold, half of a character, too deep a nesting.
    """
    try:
        text = _as_it_stands(row).encode()
        if text.count(b"[") + text.count(b"{") > DEEPEST and _deeper(row, DEEPEST):
            raise FlantuneError(f"nested deeper than {DEEPEST} levels; flatten it")
        return text, _hash(text), content_hash(row)
    except TypeError as error:
        raise FlantuneError(_not_plain(row) or str(error)) from None
    except UnicodeEncodeError:
        raise FlantuneError(r"half of a character (of \ud800 to \udfff) stands alone; repair the text") from None
    except RecursionError:
        raise FlantuneError(f"nested deeper than {DEEPEST} levels; flatten it") from None
    except ValueError as error:  # a number of more digits than Python writes
        raise FlantuneError(f"cannot be kept: {error}") from None


def content_hash(row: Row) -> int:
    """64 bits from a row's content, the same on every machine and for any order of its keys."""
    try:
        return _hash(_sorted(row).encode())
    except TypeError:  # keys of several types have no order before they are text
        return _hash(_sorted(json.loads(_as_it_stands(row))).encode())


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__}")


_as_it_stands = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
_sorted = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=_plain).encode


def _not_plain(row: Row) -> str | None:
    """What is told about the field that JSON cannot hold."""
    for name, value in row.items():
        try:
            _as_it_stands(value)
        except TypeError as error:
            return f'field "{name}" holds {error}, which is neither text nor number; leave it out, or turn it into one'
    return None


def _deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return levels == 0 or any(_deeper(each, levels - 1) for each in inner)
    return False
