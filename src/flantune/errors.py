"""The one error that a user can cause: where it is, what is wrong, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


class FlantuneError(Exception):
    """A user's mistake, told in one line. The command line prints it and exits with code 2.

    Everything else that is raised is a bug of flantune's and keeps its traceback.

    Args:
        message: What is wrong and what to do about it, without a final period.
        place: Where: a file, a file and line, a recipe field. Printed before the message.
    """

    def __init__(self, message: str, place: Place | str | Path | None = None) -> None:
        self.message = _printable(" ".join(message.split()))
        self.place = _printable(str(place)) if place is not None else None
        super().__init__(f"{self.place}: {self.message}" if self.place else self.message)


def _printable(text: str) -> str:
    """The text with codes in place of what would move a terminal's cursor or hide what follows: it may quote a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


@dataclass(frozen=True)
class Place:
    """A position in a file that a user wrote; prints as `file:line`."""

    path: Path
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line is not None else str(self.path)


def nearest(name: str, known: Iterable[str], *, show: int = 12) -> str:
    """The end of a message about an unknown name: the closest known one, then what there is.

    >>> nearest("acuracy", ["accuracy", "bleu"])
    'did you mean "accuracy"? (accuracy, bleu)'
    """
    names = sorted(map(shortened, known))
    if not names:
        return "there are none"
    listed = ", ".join(names[:show]) + (", ..." if len(names) > show else "")
    close = difflib.get_close_matches(shortened(name), names, n=1, cutoff=0.6)
    return (f'did you mean "{close[0]}"? ' if close else "known: ") + (f"({listed})" if close else listed)


def named(name: str, table: Mapping[str, Found], what: str, *, show: int = 12) -> Found:
    """What a name leads to in a table.

    Raises:
        FlantuneError: An unknown name; the message calls it a `what`, offers the nearest and `show` of those there are.
    """
    if name not in table:
        raise FlantuneError(f'unknown {what} "{name}"; {nearest(name, table, show=show)}')
    return table[name]


def shortened(text: str, most: int = 60) -> str:
    """The text, or its beginning: a name that a message quotes from a file can be as long as the file.

    >>> shortened("a short one"), shortened("x" * 100, most=8)
    ('a short one', 'xxxxx...')
    """
    return text if len(text) <= most else f"{text[: most - 3]}..."


def no_such_file(path: Path) -> FlantuneError:
    """Of a path that leads nowhere: offers the nearest of the files of its kind that are beside it."""
    try:
        files = [file for file in path.parent.iterdir() if file.is_file() and not file.name.startswith(".")]
    except OSError:
        return FlantuneError(f"no such file; look at its folder, {path.parent}", path)
    beside = [file.name for file in files if path.suffix in ("", file.suffix)]
    kind = f"{path.suffix} file" if path.suffix else "file"
    return FlantuneError(f"no such file; {nearest(path.name, beside) if beside else f'no {kind} is beside it'}", path)
