"""Words: texts as contamination and duplicates compare them, and hashes of runs of words."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

# Scripts without spaces between words: each character counts as a word.
_CHARACTERS = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Signs that stand above, below or after a letter, which Python's `\w` leaves out of a word.
_SIGNS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f\u0951-\u0957"
    "\u0980-\u0dff\u0e31-\u0e3a\u0e47-\u0e4e"
)
_WORD = rf"[{_CHARACTERS}]|(?:[^\W_{_CHARACTERS}]|[{_SIGNS}])+"
_WRITTEN = re.compile(rf"[{_CHARACTERS}]|[^\s{_CHARACTERS}]+")
_ASCII = re.compile("[a-z0-9]+")
_ANY = re.compile(_WORD)
# What is left out of tokens beside white space: signs that divide sentences, where `+`, `<` or `)` say something.
_TOKEN = re.compile(rf"""{_WORD}|[^\w\s.,;:!?'"`‘’“”„…¡¿。、，；：！？_]""")

ODD = 0x9E3779B97F4A7C15  # 2 ** 64 over the golden ratio, made odd; odd numbers have an inverse modulo 2 ** 64
_INVERSE = pow(ODD, -1, 2**64)


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, without case and compatibility forms.

    >>> words_of("Don't — say\\nDON’T! ﬁne_Day 42")
    ['don', 't', 'say', 'don', 't', 'fine', 'day', '42']
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    return _ANY.findall(unicodedata.normalize("NFKC", text).casefold())


def written_words(text: str) -> list[str]:
    """What stands between white space, as it stands: the words by which the length of a text is told.

    >>> written_words("Don't say 4,200\n— 狗来")
    ["Don't", 'say', '4,200', '—', '狗', '来']
    """
    return _WRITTEN.findall(text)


def tokens_of(text: str) -> list[str]:
    """The words of a text and the signs between them that say something: `2 + 3` is not `2 - 3`.

    >>> tokens_of("What is 2 + 3?"), tokens_of("what is 2 - 3")
    (['what', 'is', '2', '+', '3'], ['what', 'is', '2', '-', '3'])
    """
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


class WordHashes(dict[str, int]):
    """64 bits for each word, the same on every machine; remembers the words it met, up to a bound."""

    MOST = 1_000_000

    def __missing__(self, word: str) -> int:
        if len(self) >= self.MOST:
            self.clear()
        hashed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
        self[word] = hashed
        return hashed

    def of(self, words: Sequence[str]) -> np.ndarray:
        """(words,) uint64."""
        return np.fromiter(map(self.__getitem__, words), np.uint64, len(words))


def spread(numbers: np.ndarray) -> np.ndarray:
    """64 well mixed bits for each number: the finalizer of splitmix64 (Steele et al. 2014)."""
    mixed = numbers.astype(np.uint64) * np.uint64(ODD)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class Grams:
    """Hashes of all runs of n words of a sequence, for any n: two runs of the same words have one hash.

    A run's hash is sum of key(word j) * ODD ** j modulo 2 ** 64. From sums over prefixes each run costs one
    subtraction and one multiplication, whatever n, as ODD has an inverse.

    Args:
        keys: (words,) uint64, one well mixed key a word.
    """

    def __init__(self, keys: np.ndarray) -> None:
        powers, self._down = _powers(len(keys) + 1)
        self._prefix = np.zeros(len(keys) + 1, np.uint64)
        np.cumsum(keys * powers[:-1], out=self._prefix[1:])

    def of(self, n: int) -> np.ndarray:
        """(words - n + 1,) uint64: the hash of the run that begins at each word; none if there are fewer words."""
        return (self._prefix[n:] - self._prefix[:-n]) * self._down[: max(0, len(self._prefix) - n)]

    def between(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """(runs,) uint64: the hashes of runs of any lengths."""
        return (self._prefix[ends] - self._prefix[starts]) * self._down[starts]


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """ODD ** i and ODD ** -i modulo 2 ** 64 for i below count."""
    length = 1 << max(10, (count - 1).bit_length())
    return _geometric(ODD, length)[:count], _geometric(_INVERSE, length)[:count]


@functools.cache
def _geometric(base: int, length: int) -> np.ndarray:
    factors = np.full(length, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


def batches(texts: Iterable[tuple[int, str]], most_words: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Texts of numbered rows as flat lists of words, so that arrays can be made of many at once.

    Args:
        texts: Row number and text.
        most_words: A batch ends with the text that reaches it.
    Yields:
        The words, with the empty word after each text, and the row number of each word.
    """
    words: list[str] = []
    rows, lengths = [], []
    for row, text in texts:
        before = len(words)
        words += words_of(text)
        words.append("")
        rows.append(row)
        lengths.append(len(words) - before)
        if len(words) >= most_words:
            yield words, np.repeat(np.array(rows, np.int64), lengths)
            words, rows, lengths = [], [], []
    if words:
        yield words, np.repeat(np.array(rows, np.int64), lengths)
