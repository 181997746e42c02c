"""Which rows of all: parts by fraction or by a field, and samples; by the rows' content alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flantune.errors import FlantuneError
from flantune.tasks.sources.rows import AT_ONCE, Numbers, Row, Rows, content_hash

Hashes = npt.NDArray[np.uint64]


def part(hashes: Hashes, fractions: Mapping[str, float], name: str) -> Numbers:
    """Numbers of the rows that belong to one part, in their order.

    A row's part depends on its content only, so that appending rows never moves a row to another part.

    Args:
        hashes: Of the rows' content, 64 bits each.
        fractions: Part to its share; they sum to 1.
        name: The part.
    """
    bounds = np.cumsum(list(fractions.values()))[:-1]
    wanted = list(fractions).index(name)
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(hashes), AT_ONCE):
        shares = hashes[start : start + AT_ONCE].astype(np.float64) * 2.0**-64
        found.append(start + np.flatnonzero(np.searchsorted(bounds, shares, side="right") == wanted))
    return np.concatenate(found)


def named(rows: Rows, field: str, values: Collection[str]) -> Numbers:
    """Numbers of the rows whose field, as text, is one of some values.

    Raises:
        FlantuneError: A row lacks the field; no row has one of the values.
    """
    numbers, met = [], Counter[str]()
    for number, row in enumerate(rows):
        _check_field(rows, number, row, field, "split_by")
        met[str(row[field])] += 1
        if str(row[field]) in values:
            numbers.append(number)
    if not numbers:
        most = ", ".join(value for value, _ in met.most_common(12))
        raise FlantuneError(f"source.split_by: no row has {' or '.join(values)} as {field}; rows have {most}")
    return np.array(numbers, dtype=np.int64)


def hashes_by(rows: Rows, fields: Sequence[str]) -> Hashes:
    """Hashes of some fields of each row alone, 64 bits each.

    Raises:
        FlantuneError: A row lacks a field.
    """
    hashes = np.empty(len(rows), dtype=np.uint64)
    for number, row in enumerate(rows):
        for field in fields:
            _check_field(rows, number, row, field, "fractions_by")
        hashes[number] = content_hash({field: row[field] for field in fields})
    return hashes


def _check_field(rows: Rows, number: int, row: Row, field: str, what: str) -> None:
    if field not in row:
        raise FlantuneError(f'source.{what} asks for field "{field}", which the row lacks', rows.place(number))


def balanced(rows: Rows, numbers: Numbers, field: str, rows_each: int) -> Numbers:
    """At most `rows_each` rows of each value of a field, those with the smallest hashes; sorted by hash.

    Raises:
        FlantuneError: A row lacks the field.
    """
    hashes = rows.hashes()[:, 1]
    smallest: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number in numbers.tolist():
        row = rows[number]
        _check_field(rows, number, row, field, "sample")
        group = smallest[str(row[field])]
        group.append((int(hashes[number]), number))
        if len(group) > 2 * rows_each + 1000:  # now and then, so that a value of many rows takes little memory
            group[:] = sorted(group)[:rows_each]
    chosen = sorted(pair for group in smallest.values() for pair in sorted(group)[:rows_each])
    return np.array([number for _, number in chosen], dtype=np.int64)


def sampled(hashes: Hashes, numbers: Numbers, count: int, seed: int) -> Numbers:
    """`count` of the rows, or all where there are fewer, in an order that the seed and their content fix.

    Args:
        hashes: Of the content of all rows, 64 bits each.
        numbers: Rows to choose from.
        count: How many.
        seed: Another one chooses others.
    """
    keys = _mixed(hashes[numbers] ^ _mixed(np.array([seed], dtype=np.int64).astype(np.uint64)))
    if count < len(keys):
        near = np.flatnonzero(keys <= np.partition(keys, count - 1)[count - 1])
        keys, numbers = keys[near], numbers[near]
    return numbers[np.lexsort((numbers, keys))][:count]


def _mixed(values: Hashes) -> Hashes:
    """Each bit of the result depends on all bits of a value: the finalizer of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
