"""Columns of a sample of rows, nested ones included, and what each holds by its values alone."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from flantune.tasks.init import language
from flantune.tasks.init.expressions import Path
from flantune.tasks.sources import Row

Nature = Literal[
    "empty", "constant", "identifier", "time", "link", "number", "scale", "category", "labels", "text", "code",
    "structure", "tags", "tokens", "texts", "spans", "turns", "items", "other",
]  # fmt: skip
VALUES_LOOKED_AT = 600  # where a question to each value is dear
CHARACTERS_LOOKED_AT = 6000  # of one value
MOST_CATEGORIES = 200
DEEPEST = 4

NUMBER = re.compile(r"[-+−]?\d{1,3}(,\d{3})+(\.\d+)?|[-+−]?\d+([.,]\d+)?([eE][-+]?\d+)?|[-+−]?\.\d+")
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/. ]\d{1,2}[-/., ]+\d{2,4})([T ,]+\d{1,2}:\d{2}.*)?"
    r"|\d{1,2}:\d{2}(:\d{2})?([.,]\d+)?( ?[ap]m)?"
    r"|(\w{3,9},? )?\d{1,2}[-. ]+\w{3,9}\.?[-, ]+\d{2,4}( .*\d:\d\d.*)?"
    r"|\w{3,9}\.? \d{1,2},? \d{4}|\w{3} \w{3} \d{1,2} \d\d:\d\d:\d\d .*",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"(https?://|www\.|s3://|ftp://)\S+|[\w.+-]+@[\w-]+\.[\w.]+|[\w./\\-]+\.(jpe?g|png|gif|pdf|wav|mp3|mp4|html?|txt|csv|json)"
)
_MARK = re.compile(r"\S{1,80}")
_CODE = re.compile(r"[A-Za-z]{1,6}[-_]?\d{2,}")
_TAG = re.compile(r"O|[BIESLUM][-_]\S+|0")
ROLE_KEYS = ("role", "from", "speaker", "sender", "author", "who")
SAID_KEYS = ("content", "value", "text", "utterance", "message", "body")
SPAN_TYPE_KEYS = (
    "type",
    "label",
    "tag",
    "entity_group",
    "entity_type",
    "category",
    "class",
    "kind",
    "entity",
    "slot",
    "ner",
    "typ",
)
SPAN_TEXT_KEYS = ("text", "word", "entity", "name", "value", "span", "surface", "mention", "phrase", "token", "wert")


@dataclass(frozen=True, eq=False)
class Column:
    """One field of the rows, or a value inside one.

    Attributes:
        path: Field name, then keys and list positions inside it.
        values: Of the sample's rows in order; None where a row lacks it.
        position: Of its field among the row's fields, from 0.
        of: How many fields a row has.
    """

    path: Path
    values: tuple[Any, ...] = field(repr=False)
    position: int = 0
    of: int = 1

    @property
    def name(self) -> str:
        """Field and keys, such as `answers.text`; list positions are left out."""
        return ".".join(part for part in self.path if isinstance(part, str))

    @cached_property
    def filled(self) -> list[Any]:
        """The values that are there and not blank."""
        return [value for value in self.values if not is_blank(value)]

    @cached_property
    def texts(self) -> list[str]:
        """The values that are there, as texts."""
        return [as_text(value) for value in self.filled]

    @cached_property
    def share(self) -> float:
        """The share of rows in which it is not blank."""
        return len(self.filled) / max(len(self.values), 1)

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each text comes, without regard to white space around it."""
        return Counter(text.strip() for text in self.texts)

    @cached_property
    def few(self) -> list[str]:
        """Some of the texts, spread over the sample, of long ones the beginning."""
        return [text[:CHARACTERS_LOOKED_AT] for text in self.texts[:: max(1, len(self.texts) // VALUES_LOOKED_AT)]]

    @cached_property
    def lengths(self) -> list[float]:
        """Lengths of some of the texts in words."""
        return [language.length(text[:20_000]) for text in self.few]

    @cached_property
    def words(self) -> float:
        """The median length of a text in words."""
        return statistics.median(self.lengths) if self.lengths else 0.0

    @cached_property
    def unique(self) -> float:
        """The share of the texts that are different: 1 where none comes twice."""
        return len(self.counts) / max(len(self.texts), 1)

    @cached_property
    def numbers(self) -> list[float] | None:
        """The values as numbers, where (nearly) all of them are."""
        found = [
            float(
                text.replace(",", "") if text.count(",") and "." in text else text.replace(",", ".").replace("−", "-")
            )
            for text in map(str.strip, self.texts)
            if NUMBER.fullmatch(text) and text.count(",") < 2
        ]
        return found if found and len(found) >= 0.98 * len(self.texts) else None

    @cached_property
    def questions(self) -> float:
        """The share of the texts that are asked: that end in a question mark, quotes and blanks aside."""
        return sum(bool(re.search(r"[?？؟]\W*$", text)) for text in self.few) / max(len(self.few), 1)

    @cached_property
    def language(self) -> str | None:
        """The code of the natural language that the texts are in."""
        return language.language_of(self.few)

    @cached_property
    def programming(self) -> str | None:
        """The programming language that the texts are in."""
        return language.programming_language(self.few)

    @cached_property
    def nature(self) -> Nature:
        """What the values are."""
        return _nature(self)

    @cached_property
    def items(self) -> list[list[Any]]:
        """The values that are lists."""
        return [value for value in self.filled if isinstance(value, list)]

    @property
    def is_prose(self) -> bool:
        """Whether it holds texts of more than a word or two, so that something can be asked about them."""
        spaced = sum(" " in text.strip() or bool(language.scripts([text[:50]])["Han"]) for text in self.few[:100])
        return self.nature == "text" and self.words >= 1.5 and spaced > 0.4 * len(self.few[:100])


def is_blank(value: Any) -> bool:
    """Whether a value says nothing."""
    return value is None or (
        isinstance(value, str | list | dict) and not (value.strip() if isinstance(value, str) else value)
    )


SPAN_STARTS = ("start", "begin", "start_offset", "startOffset", "start_char", "offset")
SPAN_ENDS = ("end", "stop", "end_offset", "endOffset", "end_char", "length")


def as_text(value: Any) -> str:
    """A value as a template prints it."""
    return (
        value
        if isinstance(value, str)
        else str(value)
        if isinstance(value, int | float | bool)
        else json.dumps(value, ensure_ascii=False, default=str)
    )


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns of a sample, a field's own before those inside it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    found: list[Column] = []
    for position, name in enumerate(names):
        values = tuple(row.get(name) for row in rows)
        found += _with_inner((name,), values, position, len(names))
    return found


def _with_inner(path: Path, values: tuple[Any, ...], position: int, of: int) -> list[Column]:
    """A column and, of objects, those of their keys; of lists of objects, those of the first one's keys."""
    column = Column(path, values, position, of)
    some = [value for value in values if value is not None]
    if not some or len(path) > DEEPEST:
        return [column]
    if sum(isinstance(value, dict) for value in some) > len(some) / 2:
        objects = [value if isinstance(value, dict) else None for value in values]
        return [column, *_by_keys(path, objects, position, of)]
    if sum(isinstance(value, list) for value in some) > len(some) / 2 and column.nature in ("items", "texts", "labels"):
        first = tuple(value[0] if isinstance(value, list) and value else None for value in values)
        inner = (
            [Column((*path, 0), first, position, of)]
            if column.nature in ("texts", "labels")
            else _by_keys((*path, 0), first, position, of)
        )
        return [column, *inner]
    return [column]


def _by_keys(path: Path, objects: Sequence[Any], position: int, of: int) -> list[Column]:
    keys = Counter(key for value in objects if isinstance(value, dict) for key in value)
    common = [key for key, times in keys.items() if times >= 0.2 * sum(isinstance(value, dict) for value in objects)]
    found: list[Column] = []
    for key in common if len(common) <= 40 else []:
        inner = tuple(value.get(key) if isinstance(value, dict) else None for value in objects)
        found += _with_inner((*path, key), inner, position, of)
    return found


# --- natures ------------------------------------------------------------------------------------------------


def _nature(column: Column) -> Nature:
    if not column.filled:
        return "empty"
    if len(column.items) > len(column.filled) / 2:
        return _nature_of_lists(column)
    if sum(isinstance(value, dict) for value in column.filled) > len(column.filled) / 2:
        return "structure" if _is_flat(column) else "other"
    if len(column.counts) == 1:
        return "constant"
    return next((nature for nature, holds in _TESTS if holds(column)), "text")


def _is_flat(column: Column) -> bool:
    """Objects of plain values under keys that differ from row to row: facts about something."""
    objects = [value for value in column.filled if isinstance(value, dict)]
    plain = all(not isinstance(inner, dict | list) for value in objects for inner in value.values())
    return plain and len({tuple(value) for value in objects}) > 1


def _share(column: Column, holds: Callable[[str], Any]) -> float:
    return sum(bool(holds(text.strip())) for text in column.few) / max(len(column.few), 1)


def _is_category(column: Column) -> bool:
    """A closed set of short answers that come again and again."""
    kinds, count = len(column.counts), len(column.texts)
    sentences = sum(text[-1:] in ".?!" and len(text.split()) > 3 for text in column.counts)
    if sentences > 0.5 * kinds:
        return False
    often = sum(times for times in column.counts.values() if times > 1)
    return (
        2 <= kinds <= MOST_CATEGORIES
        and (count >= 4 * kinds or (kinds <= 6 and count >= 2 * kinds + 2))
        and often >= 0.95 * count
        and statistics.mean(map(language.length, column.counts)) <= 7
    )


def _is_scale(column: Column) -> bool:
    """Few numbers that come again and again."""
    return column.numbers is not None and _is_category(column) and len(column.counts) <= 21


def _is_identifier(column: Column) -> bool:
    """Marks of one word that tell rows apart: numbers that count, codes with digits, hashes."""
    if _share(column, _MARK.fullmatch) < 0.98:
        return False
    if column.numbers is not None:
        whole = all(number.is_integer() for number in column.numbers)
        counts_up = column.numbers == sorted(column.numbers)
        return whole and column.unique > 0.98 and len(column.texts) > 3 and (counts_up or min(column.numbers) > 99_999)
    if _share(column, _CODE.fullmatch) > 0.98 and len(column.counts) > 5:
        return True
    with_digits = _share(column, lambda text: any(map(str.isdigit, text)) and len(text) > 2)
    return with_digits > 0.9 and (column.unique > 0.98 or _share(column, _is_opaque) > 0.9)


def _is_opaque(text: str) -> bool:
    return (
        len(text) >= 8
        and any(map(str.isdigit, text))
        and (text.isupper() or text.isdigit() or not re.search("[aeiou]{1}[a-z]{2}", text))
    )


def _is_time(column: Column) -> bool:
    if _share(column, _DATE.fullmatch) > 0.95:
        return True
    whole = column.numbers is not None and all(number.is_integer() for number in column.numbers)
    low, high = (min(column.numbers), max(column.numbers)) if whole and column.numbers else (0.0, 0.0)
    seconds = low > 10**9 / 2 and high < 2.2 * 10**9 and len(column.counts) > 3
    return seconds or 10**12 / 2 < low < high < 2.2 * 10**12 or (1900 <= low < high <= 2100 and len(column.counts) > 3)


_PAIR_OF_FACT = re.compile(r"[\w .-]+\[[^\]]*\]|[\w .-]{1,40}[:=] ?[^,;|\n]{1,60}")


def _is_structure(column: Column) -> bool:
    """Facts in a notation, in nearly all rows."""
    return _share(column, _states_facts) > 0.8


def _states_facts(text: str) -> bool:
    """`name[Alimentum], area[centre]`, `a | b | c`, `name: x; area: y`, a JSON object."""
    if text[:1] in "{[" and text[-1:] in "}]":
        return True
    if text.count(" | ") >= 2 and not text.endswith("."):
        return True
    if text[-1:] in ".?!":
        return False
    facts = [part for part in re.split(r"(?<=\]),|[;|\n]|,(?= ?[\w .-]{1,40}[:=\[])", text) if part.strip()]
    paired = all(_PAIR_OF_FACT.fullmatch(part.strip()) for part in facts)
    return bool(facts) and paired and (len(facts) > 1 or "[" in text)


def _is_code(column: Column) -> bool:
    return _share(column, language.looks_like_code) > 0.5 or column.programming is not None


def _is_tag_line(column: Column) -> bool:
    return _share(column, lambda text: all(_TAG.fullmatch(part) for part in text.split())) > 0.95 and any(
        "-" in text for text in column.few
    )


def _is_joined_labels(column: Column) -> bool:
    """Several answers of a closed set in one text, such as `rock; jazz`."""
    mark = joined_by(column)
    return mark is not None


def joined_by(column: Column) -> str | None:
    """What stands between the labels of a text that holds several of a closed set; None where it does not."""
    for mark in (";", "|", ",", "/", "#", " "):
        several = [text for text in column.few if mark in text.strip()]
        spoken = mark == " " and (column.words > 4 or column.language is not None)
        if len(several) < 0.05 * len(column.few) or spoken:
            continue
        items = Counter(item.strip() for text in column.few for item in text.split(mark) if item.strip())
        known = sum(times for times in items.values() if times > 2)
        shortest = max(map(language.length, items), default=9)
        if (
            2 <= len(items) <= 60
            and known >= 0.95 * items.total()
            and len(items) < 0.8 * len(column.counts)
            and shortest <= 4
        ):
            return mark
    return None


_TESTS: tuple[tuple[Nature, Callable[[Column], bool]], ...] = (
    ("link", lambda column: _share(column, _LINK.fullmatch) > 0.9),
    ("scale", _is_scale),
    ("time", _is_time),
    ("identifier", _is_identifier),
    ("number", lambda column: column.numbers is not None),
    ("tags", _is_tag_line),
    ("structure", _is_structure),
    ("labels", _is_joined_labels),
    ("category", _is_category),
    ("code", _is_code),
)


def _nature_of_lists(column: Column) -> Nature:
    inner = [item for value in column.items for item in value]
    if not inner:
        return "empty"
    if sum(isinstance(item, str) for item in inner) > 0.98 * len(inner):
        return _nature_of_texts(column, inner)
    if all(isinstance(item, list) for item in inner):
        parts = Counter(len(item) for item in inner)
        return "structure" if parts.most_common(1)[0][0] in (2, 3, 4) else "other"
    objects = [item for item in inner if isinstance(item, dict)]
    if len(objects) < 0.98 * len(inner):
        return "tags" if all(isinstance(item, int) for item in inner) and len(set(inner)) > 2 else "other"
    if said(objects) is not None:
        return "turns"
    return "spans" if span_keys(objects) is not None else "items"


def _nature_of_texts(column: Column, inner: Sequence[str]) -> Nature:
    if all(_TAG.fullmatch(item) for item in inner) and any(len(item) > 2 for item in inner):
        return "tags"
    sizes = [len(value) for value in column.items]
    if max(sizes) == 1:
        return "texts"
    if statistics.median(sizes) >= 4 and statistics.mean(map(language.length, inner[:2000])) < 1.3 and _reads_on(inner):
        return "tokens"
    if sum(map(_states_facts, inner[:VALUES_LOOKED_AT])) > 0.8 * len(inner[:VALUES_LOOKED_AT]):
        return "structure"
    kinds = Counter(inner)
    if (
        2 <= len(kinds) <= 100
        and sum(times for times in kinds.values() if times > 2) > 0.95 * len(inner)
        and len(inner) >= 4 * len(kinds)
    ):
        return "labels"
    return "texts"


def _reads_on(inner: Sequence[str]) -> bool:
    """Whether items are words of running text: marks of punctuation or the commonest words stand among them."""
    marks = sum(not any(map(str.isalnum, item)) for item in inner)
    return marks > 0.02 * len(inner) or language.language_of([" ".join(inner[:3000])]) is not None


def said(objects: Sequence[dict[str, Any]]) -> tuple[str, str] | None:
    """The keys of who speaks and what is said, where objects are turns of a conversation."""
    role = next((key for key in ROLE_KEYS if all(isinstance(item.get(key), str) for item in objects)), None)
    text = next(
        (
            key
            for key in SAID_KEYS
            if all(isinstance(item.get(key, ""), str) for item in objects) and any(key in item for item in objects)
        ),
        None,
    )
    if role is None or text is None or len({item[role] for item in objects}) > 40:
        return None
    return role, text


_ASKS = re.compile(r"(user|customer|client|human|caller|patient|student|question|kunde|cliente)\w*")
_ANSWERS = re.compile(r"(system|agent|bot|assistant|operator|advisor|doctor|answer|response|wizard|berater)\w*")


def exchanged(objects: Sequence[dict[str, Any]]) -> tuple[Path, Path] | None:
    """Where what is asked and what is answered stand in objects that hold both sides of an exchange."""
    sides: dict[str, list[Path]] = {"asks": [], "answers": []}
    for key in dict.fromkeys(key for item in objects for key in item):
        values = [item[key] for item in objects if key in item]
        path = _said_at(key, values)
        if path is not None and _ASKS.match(key.lower()):
            sides["asks"].append(path)
        elif path is not None and _ANSWERS.match(key.lower()):
            sides["answers"].append(path)
    return (sides["asks"][0], sides["answers"][0]) if sides["asks"] and sides["answers"] else None


def _said_at(key: str, values: Sequence[Any]) -> Path | None:
    """The path of the text that a side says: the value itself, or a text inside it."""
    if all(isinstance(value, str) for value in values):
        return (key,) if statistics.mean(map(language.length, values[:200])) > 2 else None
    inner = next(
        (
            name
            for name in SAID_KEYS
            if all(isinstance(value, dict) and isinstance(value.get(name), str) for value in values)
        ),
        None,
    )
    return (key, inner) if inner else None


def span_keys(objects: Sequence[dict[str, Any]]) -> tuple[str, str | None] | None:
    """The keys of a span's type and of its text (None: only its place is given); None where these are no spans."""
    if not objects:
        return None
    kind = next((key for key in SPAN_TYPE_KEYS if all(isinstance(item.get(key), str) for item in objects)), None)
    if kind is None or len({item[kind] for item in objects}) > max(60, len(objects) / 3):
        return None
    text = next(
        (key for key in SPAN_TEXT_KEYS if key != kind and all(isinstance(item.get(key), str) for item in objects)), None
    )
    placed = any(key in objects[0] for key in SPAN_STARTS) and any(key in objects[0] for key in SPAN_ENDS)
    return (kind, text) if text is not None or placed else None
