"""CoNLL columns: a token and its tag a line, an empty line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from flantune.errors import FlantuneError
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.files import OpenFile
from flantune.tasks.sources.plain_text import without_end
from flantune.tasks.sources.rows import Row


def conll(file: OpenFile, source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """Sentences with the line where each begins; their tags become a list of entities in order of appearance.

    The token is the first column, the tag the last; columns stand apart by tabs, or where a line has none, by spaces.

    Raises:
        FlantuneError: A line with one field.
    """
    tokens: list[str] = []
    tags: list[str] = []
    begins = 1
    for number, line in chain(file.lines(), [(0, "")]):
        text = without_end(line)
        cells = text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))
        token = cells[0].strip(" ")
        is_token = token not in ("", "-DOCSTART-")
        if is_token and len(cells) < 2:
            raise FlantuneError("one field where a token and a tag are wanted", file.place(number))
        if is_token:
            if not tokens:
                begins = number
            tokens.append(token)
            tags.append(cells[-1].strip(" "))
        elif tokens:
            yield {"text": " ".join(tokens), "tokens": tokens, "tags": tags, "entities": entities(tokens, tags)}, begins
            tokens, tags = [], []


def entities(tokens: Sequence[str], tags: Sequence[str]) -> list[dict[str, str]]:
    """Spans of BIO, IO, BIOES or BILOU tags as `{"type", "text"}`.

    A span begins at B, S or U, and where I, E or L follows another type or no open span.
    """
    spans: list[tuple[str, list[str]]] = []
    open_kind: str | None = None
    for token, tag in zip(tokens, tags, strict=True):
        prefix, _, kind = tag.partition("-")
        if prefix in ("B", "S", "U") or (prefix in ("I", "E", "L") and kind != open_kind):
            spans.append((kind, [token]))
        elif prefix in ("I", "E", "L"):
            spans[-1][1].append(token)
        open_kind = kind if prefix in ("B", "I") else None
    return [{"type": kind, "text": " ".join(words)} for kind, words in spans]
