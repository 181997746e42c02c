"""How two columns of the same rows relate: does one repeat, shorten, translate or foretell the other?"""

from __future__ import annotations

import math
import statistics
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import cached_property

import numpy as np

from flantune.tasks.init import language
from flantune.tasks.init.columns import Column, as_text, is_blank

PAIRS_LOOKED_AT = 300
PAIRS_COMPARED = 40  # letter by letter
ROWS_LEARNED_FROM = 1200
HASHED_WORDS = 4096


class Relation:
    """What a target's texts have to do with a source's texts, row by row."""

    def __init__(self, source: Column, target: Column) -> None:
        both = [
            (as_text(a), as_text(b))
            for a, b in zip(source.values, target.values, strict=True)
            if not is_blank(a) and not is_blank(b)
        ]
        self.texts = both[:: max(1, len(both) // PAIRS_LOOKED_AT)]
        self._words = [(set(language.words(a)), set(language.words(b))) for a, b in self.texts]

    def _mean(self, of: Callable[[set[str], set[str]], float], shift: int = 0) -> float:
        """The mean over rows; with a shift, of sources with the targets of other rows."""
        sources = [a for a, _ in self._words]
        targets = [b for _, b in self._words]
        targets = targets[shift:] + targets[:shift]
        found = [of(a, b) for a, b in zip(sources, targets, strict=True) if a and b]
        return statistics.fmean(found) if found else 0.0

    @cached_property
    def covered(self) -> float:
        """The share of the target's words that stand in the source."""
        return self._mean(lambda a, b: len(a & b) / len(b))

    @cached_property
    def covered_by_chance(self) -> float:
        """The share of the target's words that stand in the source of another row."""
        return self._mean(lambda a, b: len(a & b) / len(b), shift=1 + len(self._words) // 3)

    @property
    def about_it(self) -> float:
        """How much more of the target's words stand in its own source than in another row's."""
        return self.covered - self.covered_by_chance

    @cached_property
    def alike(self) -> float:
        """Dice's coefficient of the two sets of words."""
        return self._mean(lambda a, b: 2 * len(a & b) / (len(a) + len(b)))

    @cached_property
    def edited(self) -> float:
        """How much of the letters stay in their order from source to target, 0 to 1."""
        some = self.texts[:: max(1, len(self.texts) // PAIRS_COMPARED)]
        return (
            statistics.fmean(SequenceMatcher(None, a[:300], b[:300], autojunk=False).ratio() for a, b in some)
            if some
            else 0.0
        )

    @cached_property
    def same(self) -> float:
        """The share of rows in which both say the same."""
        return sum(a.strip() == b.strip() for a, b in self.texts) / max(len(self.texts), 1)

    @cached_property
    def copied(self) -> float:
        """The share of rows whose target stands in the source word for word."""
        return sum(b.strip().lower() in a.lower() for a, b in self.texts) / max(len(self.texts), 1)

    @cached_property
    def ratio(self) -> float:
        """The median of the target's length over the source's."""
        ratios = [language.length(b) / max(language.length(a), 1) for a, b in self.texts]
        return statistics.median(ratios) if ratios else 0.0

    @cached_property
    def lengths_agree(self) -> float:
        """The correlation of the logarithms of both lengths in characters: long with long, short with short."""
        a, b = (np.log([max(len(pair[side].strip()), 1) for pair in self.texts]) for side in (0, 1))
        if len(a) < 8 or a.std() < 1e-9 or b.std() < 1e-9:
            return 0.0
        return float(np.corrcoef(a, b)[0, 1])


def foretells(texts: Sequence[str], labels: Sequence[str]) -> float:
    """How well the words of texts foretell their labels: 0 as chance would, 1 without a mistake.

    Naive Bayes on hashed words, learned on each half and tried on the other; the mean over the commoner labels of
    2 * AUC - 1, so that a label which nearly all rows have does not look easy.
    """
    step = max(1, len(texts) // ROWS_LEARNED_FROM)
    bags = [
        np.array(
            [zlib.crc32(word.encode()) % HASHED_WORDS for word in set(language.words(text[:3000]))], dtype=np.int64
        )
        for text in texts[::step]
    ]
    known = labels[::step]
    return _mean_auc(known, lambda label, learn, tried: _scores(bags, known, label, learn, tried))


def similarity_foretells(pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> float:
    """How well the likeness of two texts foretells a label, in the measure of `foretells`."""
    step = max(1, len(pairs) // ROWS_LEARNED_FROM)
    bags = [(set(language.words(a)), set(language.words(b))) for a, b in pairs[::step]]
    alike = np.array([2 * len(a & b) / max(len(a) + len(b), 1) for a, b in bags])
    known = np.array(labels[::step])

    def scores(label: str, learn: np.ndarray, tried: np.ndarray) -> np.ndarray:
        more_alike = _auc(alike[learn], known[learn] == label) >= 0.5
        return alike[tried] if more_alike else -alike[tried]

    return _mean_auc(labels[::step], scores)


def _mean_auc(labels: Sequence[str], scores: Callable[[str, np.ndarray, np.ndarray], np.ndarray]) -> float:
    halves = np.random.default_rng(0).permutation(len(labels)) % 2  # labels may alternate
    common = [label for label, times in Counter(labels).most_common(8) if 4 <= times < len(labels) - 3]
    found = []
    for label in common:
        is_label = np.array([other == label for other in labels])
        for half in (0, 1):
            learn, tried = np.flatnonzero(halves != half), np.flatnonzero(halves == half)
            found.append(_auc(scores(label, learn, tried), is_label[tried]))
    return max(0.0, statistics.fmean(2 * auc - 1 for auc in found)) if found else 0.0


def _scores(
    bags: Sequence[np.ndarray], labels: Sequence[str], label: str, learn: np.ndarray, tried: np.ndarray
) -> np.ndarray:
    counts = np.full((2, HASHED_WORDS), 0.5)
    for i in learn:
        counts[int(labels[i] == label), bags[i]] += 1
    weights = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    return np.array([weights[bags[i]].mean() if len(bags[i]) else 0.0 for i in tried])


def _auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive one scores higher than another; ties count half."""
    above, below = scores[positive], scores[~positive]
    if not len(above) or not len(below):
        return 0.5
    ranks = np.searchsorted(np.sort(below), above, side="left") + np.searchsorted(np.sort(below), above, side="right")
    return float(ranks.mean() / 2 / len(below))


def decides(column: Column, other: Column) -> bool:
    """Whether each value of a column goes with one value of another, but not the other way: the finer of two labels."""
    pairs = Counter(
        (as_text(a), as_text(b))
        for a, b in zip(column.values, other.values, strict=True)
        if not is_blank(a) and not is_blank(b)
    )
    return _goes_with_one(pairs) > 0.98 and len(column.counts) > len(other.counts)


def _goes_with_one(pairs: Counter[tuple[str, str]]) -> float:
    most: Counter[str] = Counter()
    for (value, _), times in pairs.items():
        most[value] = max(most[value], times)
    return most.total() / max(pairs.total(), 1)


def is_ordinal(texts: Sequence[str], numbers: Sequence[float]) -> bool:
    """Whether numbers are steps of a scale: words of neighbouring numbers are more alike than those of distant ones.

    Centroids of the words of each number; the order as given must fit the distances better than 95 % of other orders.
    """
    kinds = sorted(set(numbers))
    if not 4 <= len(kinds) <= 12:
        return False
    centroids = np.zeros((len(kinds), HASHED_WORDS))
    step = max(1, len(texts) // ROWS_LEARNED_FROM)
    for text, number in zip(texts[::step], numbers[::step], strict=True):
        for word in set(language.words(text[:3000])):
            centroids[kinds.index(number), zlib.crc32(word.encode()) % HASHED_WORDS] += 1
    shares = np.sqrt((centroids + 0.01) / (centroids + 0.01).sum(axis=1, keepdims=True))
    nearness = shares @ shares.T
    return _order_fits(nearness) > 0.95


def _order_fits(nearness: np.ndarray) -> float:
    """The share of random orders whose neighbours are less near than those of the given order."""
    random = np.random.default_rng(0)
    count = len(nearness)
    gaps = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))

    def cost(order: np.ndarray) -> float:
        return float((gaps * nearness[np.ix_(order, order)]).sum())

    given = cost(np.arange(count))
    others = [cost(random.permutation(count)) for _ in range(400)]
    return sum(other > given for other in others) / len(others) + (0.0 if math.isfinite(given) else -1.0)
