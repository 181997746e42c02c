"""Duplicates: training rows that repeat an earlier row, of their own task or of another one, word for word or nearly.

Two rows are exact duplicates if question and answer have the same tokens (no case, no white space, no punctuation of
sentences), field by field. They are near duplicates if each field is the same or has a Jaccard similarity of at least
0.8 in its runs of five tokens, as in Lee et al. 2022 (arXiv:2107.06499), so that a long text with another short
question is another row. Candidates for near duplicates come from MinHash with 25 bands of 5 (a pair at 0.8 is missed
once in 20,000 times), and each is then compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flantune.mixture.row_text import RowText, TaskTexts
from flantune.mixture.run_index import changes, distinct
from flantune.mixture.words import Grams, WordHashes, spread, tokens_of

SHINGLE = 5  # tokens
SIMILAR = 0.8
PERMUTATIONS, BANDS, BAND_ROWS = 128, 25, 5
NEIGHBOURS = 8  # rows of a bucket that a row is compared with
BATCH_TOKENS = 1 << 18
GAP = ""


@dataclass(frozen=True)
class Repeats:
    """Rows of a task that repeat rows of a task, the same one or one before it.

    Attributes:
        task: Whose rows repeat.
        of: Whose rows are repeated.
        exact: Numbers of the rows that are exact duplicates, ascending.
        near: The same for near ones.
        shown: Some of them with the number of the row that each repeats, near ones first.
    """

    task: str
    of: str
    exact: tuple[int, ...]
    near: tuple[int, ...]
    shown: tuple[tuple[int, int], ...]


def repeats(tasks: Sequence[TaskTexts], *, show: int = 3) -> list[Repeats]:
    """All rows that repeat an earlier one, by pairs of tasks.

    Rows that are alike one by one form a group; its first row, in the order of tasks and rows, is the one repeated.
    A row without any token in its question repeats nothing.

    Args:
        tasks: The order decides which row is the first.
        show: Examples to show of each pair of tasks.
    """
    rows = _Rows(tasks)
    hashes, buckets, long = _signatures(rows)
    same = _first_of_same(hashes)
    numbers = np.arange(len(rows))
    first = _grouped(rows, buckets, np.flatnonzero((same == numbers) & long))[same]
    repeating = np.flatnonzero(first != numbers)
    pairs = np.stack([rows.task_of(repeating), rows.task_of(first[repeating])], axis=1)
    found = []
    for pair in np.unique(pairs, axis=0):
        here = repeating[(pairs == pair).all(axis=1)]
        found.append(rows.repeats(pair, here, same[here] != here, first[here], show))
    return found


class _Rows:
    """The rows of all tasks, numbered through."""

    def __init__(self, tasks: Sequence[TaskTexts]) -> None:
        self._tasks = tasks
        self._starts = np.cumsum([0, *(len(task.rows) for task in tasks)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[RowText]:
        return (row for task in self._tasks for row in task.rows)

    def __getitem__(self, number: int) -> RowText:
        task = int(self.task_of(number))
        return self._tasks[task].rows[number - int(self._starts[task])]

    def task_of(self, numbers: np.ndarray | int) -> np.ndarray:
        """The tasks that rows belong to, by number."""
        return np.searchsorted(self._starts, numbers, side="right") - 1

    def repeats(self, pair: np.ndarray, here: np.ndarray, exact: np.ndarray, first: np.ndarray, show: int) -> Repeats:
        """What is told of two tasks, from their rows numbered through all tasks."""
        own, theirs = self._starts[pair]
        near_first = np.argsort(exact, kind="stable")[:show]
        return Repeats(
            self._tasks[pair[0]].task,
            self._tasks[pair[1]].task,
            tuple((here[exact] - own).tolist()),
            tuple((here[~exact] - own).tolist()),
            tuple(zip((here - own)[near_first].tolist(), (first - theirs)[near_first].tolist(), strict=True)),
        )


def _signatures(rows: _Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is kept of each row: 108 bytes.

    Returns:
        (rows,) uint64: a hash of all tokens; a row that repeats nothing has one of its own.
        (rows, BANDS) uint32: the buckets of its MinHash signature.
        (rows,) bool: whether it is long enough to have one.
    """
    hashes, buckets, long = [np.zeros(0, np.uint64)], [np.zeros((0, BANDS), np.uint32)], [np.zeros(0, bool)]
    known, before = WordHashes(), 0
    for tokens, bounds in _batches(rows):
        keys = known.of(tokens)
        gaps = np.concatenate([[0], np.cumsum(keys == known[GAP])])
        grams = Grams(keys)
        starts, ends = bounds[:-1], bounds[1:]
        empty = starts == ends
        own = spread(np.arange(before, before + len(starts)))
        hashes.append(np.where(empty, own, grams.between(starts, ends)))
        runs = grams.of(SHINGLE)
        whole = gaps[SHINGLE:] == gaps[:-SHINGLE] if len(runs) else np.zeros(0, bool)
        offsets = np.concatenate([[0], np.cumsum(whole)])[np.minimum(bounds, len(runs))]
        buckets.append(_buckets(runs[whole], offsets))
        long.append(np.diff(offsets) > 0)
        before += len(starts)
    return np.concatenate(hashes), np.concatenate(buckets), np.concatenate(long)


def _batches(rows: _Rows) -> Iterator[tuple[list[str], np.ndarray]]:
    """Tokens of many rows, a gap after each field and one more before the answer, and where each row begins.

    A row without a token in its question has none at all.
    """
    tokens: list[str] = []
    bounds = [0]
    for row in rows:
        begin = len(tokens)
        _add(tokens, row.question)
        if len(tokens) > begin + len(row.question):
            tokens.append(GAP)
            _add(tokens, row.answer)
        else:
            del tokens[begin:]
        bounds.append(len(tokens))
        if len(tokens) >= BATCH_TOKENS:
            yield tokens, np.array(bounds)
            tokens, bounds = [], [0]
    if len(bounds) > 1:
        yield tokens, np.array(bounds)


def _add(tokens: list[str], texts: Sequence[str]) -> None:
    for text in texts:
        tokens += tokens_of(text)
        tokens.append(GAP)


def _buckets(hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(rows, BANDS) uint32 from the hashes of all rows' runs of tokens and where those of each row begin."""
    from rensa import RMinHash  # type: ignore[attr-defined]

    digests = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.astype(np.uint64), PERMUTATIONS, 1)
    kept = np.array(digests.to_rows(), np.uint64)[:, : BANDS * BAND_ROWS].reshape(-1, BANDS, BAND_ROWS)
    factors = spread(np.arange(1, BAND_ROWS + 1)) | np.uint64(1)
    return ((kept * factors).sum(axis=2) >> np.uint64(32)).astype(np.uint32)


def _first_of_same(hashes: np.ndarray) -> np.ndarray:
    """For each row the first one with its hash."""
    order = np.argsort(hashes, kind="stable")
    begins = np.where(changes(hashes[order]), np.arange(len(order)), 0)
    first = np.empty(len(order), np.int64)
    first[order] = order[np.maximum.accumulate(begins)]
    return first


def _grouped(rows: _Rows, buckets: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """For each row the first one of its group of near duplicates."""
    first = np.arange(len(rows))

    def root(number: int) -> int:
        while first[number] != number:
            first[number] = first[first[number]]
            number = int(first[number])
        return number

    fields = lru_cache(10_000)(lambda number: _fields(rows[number]))
    pairs = candidates[_near_pairs(buckets[candidates])]
    for one, other in pairs.tolist():
        low, high = sorted((root(one), root(other)))
        if low != high and _alike(fields(one), fields(other)):
            first[high] = low
    return np.array([root(number) for number in range(len(first))], np.int64)


def _near_pairs(buckets: np.ndarray) -> np.ndarray:
    """(pairs, 2): rows that share a bucket, each with the next few in it, the earlier row first; sorted."""
    count = len(buckets)
    found = [np.zeros(0, np.int64)]
    for band in buckets.T:
        order = np.argsort(band, kind="stable")
        for further in range(1, min(NEIGHBOURS + 1, count)):
            same = band[order[further:]] == band[order[:-further]]
            found.append(order[:-further][same] * count + order[further:][same])
    return np.stack(np.divmod(distinct(np.concatenate(found)), max(1, count)), axis=1)


Field = tuple[list[str], set[tuple[str, ...]]]  # tokens, and all runs of SHINGLE tokens


def _fields(row: RowText) -> tuple[list[Field], list[Field]]:
    question, answer = ([_field(text) for text in texts] for texts in (row.question, row.answer))
    return question, answer


def _field(text: str) -> Field:
    tokens = tokens_of(text)
    return tokens, set(zip(*(tokens[start:] for start in range(SHINGLE)), strict=False))


def alike(one: RowText, other: RowText) -> bool:
    """Whether two rows are near duplicates; a plain statement of the rule."""
    return _alike(_fields(one), _fields(other))


def _alike(one: tuple[list[Field], list[Field]], other: tuple[list[Field], list[Field]]) -> bool:
    return all(
        len(ours) == len(theirs) and all(map(_same_field, ours, theirs))
        for ours, theirs in zip(one, other, strict=True)
    )


def _same_field(ours: Field, theirs: Field) -> bool:
    if ours[0] == theirs[0]:
        return True
    common = len(ours[1] & theirs[1])
    return common >= SIMILAR * (len(ours[1]) + len(theirs[1]) - common) > 0
