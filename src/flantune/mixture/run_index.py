"""An index of the runs of words of many texts: which rows hold a run that another text holds too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from flantune.mixture.words import Grams, batches, spread

BATCH_WORDS = 1 << 18  # arrays of this length stay in a processor's cache


class RunIndex:
    """All runs of `longest` words of some texts, and each text of fewer words, down to `shortest`, as one run.

    Runs are numbered from 0; equal runs have one number. Texts may have 2 ** 31 words.

    Args:
        texts: Row number and text; rows ascending.
        shortest: Words of the shortest text that counts.
        longest: Words of a run in a text that has as many.

    Attributes:
        count: How many runs there are.
        rows: For each run the rows in which it stands, ascending.
    """

    def __init__(self, texts: Iterable[tuple[int, str]], *, shortest: int, longest: int) -> None:
        self._vocabulary = _Vocabulary({"": 0})
        parts = [_Part.of(self._numbers(words), rows, shortest, longest) for words, rows in batches(texts, BATCH_WORDS)]
        self._words = joined([part.words for part in parts], np.uint32)
        owners = joined([part.rows for part in parts], np.int32)
        before = np.cumsum([0, *(len(part.words) for part in parts)]).tolist()
        self._tables: list[_Table] = []
        self.count = 0
        first, runs, rows = [], [], []
        for n in range(shortest, longest + 1):
            places = joined([part.places.pop(n) + start for part, start in zip(parts, before, strict=False)], np.int32)
            hashes = joined([part.hashes.pop(n) for part in parts], np.uint64)
            order = np.argsort(hashes, kind="stable").astype(np.int32)  # of equal runs the first comes first
            hashes, places = hashes[order], places[order]
            fresh = changes(hashes)
            run, row = np.cumsum(fresh, dtype=np.int32) + np.int32(self.count - 1), owners[places]
            once = fresh | changes(row)
            first.append(places[fresh])
            runs.append(run[once])
            rows.append(row[once])
            self._tables.append(_Table.of(n, hashes[fresh], self.count))
            self.count += int(fresh.sum())
        self._first = joined(first, np.int32)  # where in `_words` a run stands first
        self.rows = Lists.of(joined(runs, np.int32), joined(rows, np.int32), self.count)

    def _numbers(self, words: Sequence[str]) -> np.ndarray:
        return np.fromiter(map(self._vocabulary.__getitem__, words), np.uint32, len(words))

    def find(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The runs that stand in a sequence of words: the place at which each begins, and its number.

        A hash leads to a run, then the words are compared, so nothing is found by chance.
        """
        numbers = np.fromiter(map(self._vocabulary.get, words, repeat(0)), np.uint32, len(words))
        known = np.concatenate([[0], np.cumsum(numbers != 0)])
        grams = Grams(spread(numbers))
        places, runs = [], []
        for table in self._tables:
            if len(table.hashes) and table.n <= len(words):
                place, run = table.find(grams.of(table.n), known)
                within = np.arange(table.n)
                same = numbers[place[:, None] + within] == self._words[self._first[run][:, None] + within]
                places.append(place[same.all(axis=1)])
                runs.append(run[same.all(axis=1)])
        return joined(places), joined(runs)


class _Vocabulary(dict[str, int]):
    """Numbers for words, from 1 in the order of their first mention; 0 is the gap between texts."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


@dataclass(frozen=True)
class _Part:
    """A part of the texts: the words as numbers, 0 after each text, the row of each word, and its runs by length."""

    words: np.ndarray
    rows: np.ndarray
    places: dict[int, np.ndarray]
    hashes: dict[int, np.ndarray]

    @classmethod
    def of(cls, words: np.ndarray, rows: np.ndarray, shortest: int, longest: int) -> _Part:
        grams = Grams(spread(words))
        ends = np.flatnonzero(words == 0)
        begins = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - begins
        places = {n: begins[lengths == n] for n in range(shortest, longest)}
        runs = np.maximum(lengths - longest + 1, 0)
        within = np.arange(runs.sum()) - np.repeat(np.cumsum(runs) - runs, runs)
        places[longest] = np.repeat(begins, runs) + within
        hashes = {n: grams.of(n)[at] if len(at) else np.zeros(0, np.uint64) for n, at in places.items()}
        return cls(words, rows.astype(np.int32), {n: at.astype(np.int32) for n, at in places.items()}, hashes)


@dataclass(frozen=True)
class _Table:
    """The hashes of all runs of one length.

    Attributes:
        n: Words in a run.
        hashes: Sorted; run number `start + i` has hash i.
        start: Number of the first run.
        present: Whether some hash begins with these bits. Nearly all that are not in the table end here, and a look
            at it is many times faster than a binary search.
    """

    n: int
    hashes: np.ndarray
    start: int
    present: np.ndarray

    @classmethod
    def of(cls, n: int, hashes: np.ndarray, start: int) -> _Table:
        present = np.zeros(1 << max(10, (4 * len(hashes)).bit_length()), bool)
        present[hashes >> _shift(present)] = True
        return cls(n, hashes, start, present)

    def find(self, hashes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where runs of the table begin, and their numbers.

        Args:
            hashes: Hash of the run that begins at each word.
            known: How many of the words before each place, and before the end, are in the vocabulary.
        """
        places = np.flatnonzero(known[self.n :] - known[: -self.n] == self.n)
        places = places[self.present[hashes[places] >> _shift(self.present)]]
        at = np.minimum(np.searchsorted(self.hashes, hashes[places]), len(self.hashes) - 1)
        same = self.hashes[at] == hashes[places]
        return places[same], at[same] + self.start


def _shift(present: np.ndarray) -> np.uint64:
    """How far a hash is moved to leave the bits that number the places of a table of this length, a power of two."""
    return np.uint64(65 - len(present).bit_length())


@dataclass(frozen=True)
class Lists:
    """A list of numbers for each key from 0, all in one array: those of key k are `items[begin[k] : begin[k + 1]]`."""

    begin: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, items: np.ndarray, count: int) -> Lists:
        """From pairs sorted by key, the keys below count."""
        return cls(np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))]), items)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """All keys with their items."""
        return np.repeat(np.arange(len(self.begin) - 1), np.diff(self.begin)), self.items

    def of_keys(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The items of some keys, and for each item the place of its key among them."""
        lengths = self.begin[keys + 1] - self.begin[keys]
        owners = np.repeat(np.arange(len(keys)), lengths)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.items[self.begin[keys][owners] + within], owners


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Each number once, sorted; by sorting, which for millions is faster than the hash table of `np.unique`."""
    ordered = np.sort(numbers)
    return ordered[changes(ordered)]


def changes(numbers: np.ndarray) -> np.ndarray:
    """Whether a number is another one than that before it; the first one is."""
    return np.concatenate([np.ones(min(1, len(numbers)), bool), numbers[1:] != numbers[:-1]])


def joined(arrays: Sequence[np.ndarray], kind: type = np.int64) -> np.ndarray:
    """One array of all, which may be none."""
    return np.concatenate(arrays) if len(arrays) else np.zeros(0, kind)
