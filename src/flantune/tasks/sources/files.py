"""Files of a source: which ones a path names, and their bytes, text and lines."""

from __future__ import annotations

import codecs
import contextlib
import functools
import glob
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from flantune.errors import FlantuneError, Place
from flantune.tasks.sources.archives import ARCHIVE, is_archive, members, natural
from flantune.tasks.sources.streams import COMPRESSIONS, PIECE, open_file, read_errors

LONGEST_LINE = 64 * 2**20  # bytes; a longer one is no row, and may have no end
MEMBERS = re.compile(rf"(.+?{ARCHIVE})!(.+)", re.IGNORECASE | re.DOTALL)
VARIABLE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Located:
    """A file on disk that a source names.

    Attributes:
        path: The file.
        members: A pattern of names, where it is an archive.
        records: Where in the file the rows are, where the source says it for this file.
    """

    path: Path
    members: str | None = None
    records: str | None = None


@dataclass
class OpenFile:
    """A file, or a member of an archive, that a reader may read until the next one is asked for.

    Attributes:
        name: How messages call it.
        path: The file on disk where that is what is read; None for what has to be decompressed.
        encoding: Of its text; None where the source says none.
        records: Where in it the rows are; None where the source says nothing.
        opened: Gives its bytes.
    """

    name: str
    path: Path | None
    encoding: str | None
    records: str | None
    opened: Callable[[], io.BufferedReader]
    _streams: list[io.BufferedReader] = field(default_factory=list, init=False, repr=False)

    def place(self, line: int | None = None) -> Place:
        """A line of it."""
        return Place(self._path_told, line)

    @functools.cached_property
    def _path_told(self) -> Path:
        return Path(self.name)  # once: a reader may make the place of every line

    def stream(self) -> io.BufferedReader:
        """Its bytes, decompressed; only where there is a `path` can it go back.

        Raises:
            FlantuneError: Also while reading: damaged, or suspiciously large.
        """
        self._streams.append(self.opened())
        return self._streams[-1]

    def close(self) -> None:
        """Closes its streams, also those of a reader that stopped in the middle."""
        while self._streams:
            self._streams.pop().close()

    def content(self, limit: int = 2**30) -> bytes:
        """All its bytes.

        Raises:
            FlantuneError: More than `limit`.
        """
        with self.stream() as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise FlantuneError(f"more than {_size(limit)}, too large for this kind; divide it", self.name)
        return content

    def text(self, limit: int = 2**30) -> str:
        """All its text.

        Raises:
            FlantuneError: More than `limit` characters, or not of the encoding.
        """
        pieces, length = [], 0
        for piece in self.pieces():
            length += len(piece)
            if length > limit:
                raise FlantuneError(f"more than {_size(limit)}, too large for this kind; divide it", self.name)
            pieces.append(piece)
        return "".join(pieces)

    def pieces(self) -> Iterator[str]:
        """Its text in pieces, without a byte order mark.

        Raises:
            FlantuneError: Not of the encoding: with the line.
        """
        decoder = codecs.getincrementaldecoder(self._codec)()
        line = 1
        with self.stream() as stream:
            ends = read = False
            while not ends:
                content = stream.read1(PIECE)
                ends = not content
                try:
                    piece = decoder.decode(content, final=ends)
                except UnicodeError as error:
                    raise self._not_text(line + _line_ends_before(error), b"" if read else content) from None
                if "\0" in piece:
                    raise self._binary(line + piece[: piece.index("\0")].count("\n"))
                if not read:
                    piece = piece.removeprefix("\ufeff")  # utf-16-le and the like leave it in
                read = True
                line += piece.count("\n")
                if piece:
                    yield piece

    def lines(self) -> Iterator[tuple[int, str]]:
        """Its lines with their number from 1 and their line end; only newline ends one (U+2028 and the like are text).

        A byte order mark is left out.

        Raises:
            FlantuneError: Not of the encoding, or longer than a line can be: with the line.
        """
        return self._utf8_lines() if self._codec == "utf-8-sig" else self._decoded_lines()

    def _utf8_lines(self) -> Iterator[tuple[int, str]]:
        number = 0
        with self.stream() as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise self._too_long(number)
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise self._not_text(number, line if number == 1 else b"") from None
                if "\0" in text:
                    raise self._binary(number)
                if text:  # else a byte order mark is all there is
                    yield number, text

    def _decoded_lines(self) -> Iterator[tuple[int, str]]:
        number, begun, length = 1, [], 0
        for piece in self.pieces():
            *whole, rest = piece.split("\n")
            for end in whole:
                yield number, "".join((*begun, end, "\n"))
                number, begun, length = number + 1, [], 0
            begun.append(rest)
            length += len(rest)
            if length > LONGEST_LINE:
                raise self._too_long(number)
        if length:
            yield number, "".join(begun)

    @property
    def _codec(self) -> str:
        name = codecs.lookup(self.encoding or "utf-8").name
        return "utf-8-sig" if name == "utf-8" else name

    def _not_text(self, line: int, beginning: bytes) -> FlantuneError:
        if self.encoding is None and beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return FlantuneError("not UTF-8 text; it begins like UTF-16, so say `encoding: utf-16`", self.place(line))
        if self.encoding is None:
            return FlantuneError("not UTF-8 text; save it as UTF-8, or name its `encoding`", self.place(line))
        return FlantuneError(f"not {self.encoding} text; check the `encoding` of the source", self.place(line))

    def _binary(self, line: int) -> FlantuneError:
        told = "a NUL character; the file is binary, or in another encoding (`encoding: utf-16`)"
        return FlantuneError(told, self.place(line))

    def _too_long(self, line: int) -> FlantuneError:
        told = f"a line of more than {_size(LONGEST_LINE)}; check whether the file is of the kind that the source says"
        return FlantuneError(told, self.place(line))


def _line_ends_before(error: UnicodeError) -> int:
    if not isinstance(error, UnicodeDecodeError):
        return 0
    return error.object[: error.start].decode(error.encoding, "replace").count("\n")


def _size(count: int) -> str:
    return f"{count >> 20} MiB"


def located(text: str, folder: Path, variables: Mapping[str, str], *, fragments: bool = False) -> list[Located]:
    """The files that a path of a source names, in a natural order of their names.

    Args:
        text: A path with `${NAME}`, `*`, `?` and `**`; after `!` the files of an archive, after `#` a record path.
        folder: A relative path starts here.
        variables: Values for `${NAME}`.
        fragments: Whether the kind knows record paths.
    Raises:
        FlantuneError: An unknown variable, no such file, an archive without `!`.
    """
    whole = folder / filled(text, variables)
    with read_errors(str(whole)):
        is_file = whole.is_file()
    inside = records = None
    if is_file:  # whatever its name looks like
        paths = [whole]
    else:
        if fragments and "#" in text:
            text, _, records = text.rpartition("#")
        archive = MEMBERS.fullmatch(text)
        if archive is not None:
            text, inside = archive[1], filled(archive[2], variables)
        paths = _paths(text, folder, variables)
    for path in paths:
        if inside is None and is_archive(path.name):
            raise FlantuneError(f"is an archive; name its files after `!`, such as {path.name}!*.jsonl", path)
    return [Located(path, inside, records) for path in paths]


def _paths(text: str, folder: Path, variables: Mapping[str, str]) -> list[Path]:
    if not set("*?") & set(text):
        return [folder / filled(text, variables)]
    pattern = filled(text.replace("[", "[[]"), {name: glob.escape(value) for name, value in variables.items()})
    # Path.glob takes no absolute pattern, and `**` otherwise in each version of Python.
    found = [folder / match for match in glob.glob(pattern, root_dir=folder, recursive=True)]  # noqa: PTH207
    files = sorted((path for path in found if path.is_file()), key=lambda path: natural(str(path)))
    if not files:
        told = "no file has such a name; check the pattern in the task's `source`"
        raise FlantuneError(told, folder / filled(text, variables))
    return files


def filled(text: str, variables: Mapping[str, str]) -> str:
    """A path with the values of its variables.

    A path stands in messages, the ledger and the cache, so that nothing of the environment gets into one.

    Raises:
        FlantuneError: A variable without a value, or one of the environment.
    """

    def value(found: re.Match[str]) -> str:
        if found[1].startswith("env:"):
            raise FlantuneError(
                f"the path {text!r} names the environment, which is for source.url (kind: sql) alone; "
                "write ${NAME}, and put `variables: {NAME: ...}` into the recipe"
            )
        if found[1] not in variables:
            raise FlantuneError(
                f"the path {text!r} needs a value: put `variables: {{{found[1]}: ...}}` into the recipe"
            )
        return variables[found[1]]

    return VARIABLE.sub(value, text)


def open_files(file: Located, encoding: str | None, records: str | None) -> Iterator[OpenFile]:
    """What is to be read of a located file: itself, or the members of an archive, each to be read before the next.

    Raises:
        FlantuneError: An archive that is damaged or has no such member.
    """
    records = file.records or records
    if file.members is None:
        path = None if file.path.suffix.lower() in COMPRESSIONS else file.path
        found = [(str(file.path), path, functools.partial(open_file, file.path))]
    else:
        found = ((f"{file.path}!{name}", None, opened) for name, opened in members(file.path, file.members))
    for name, path, opened in found:
        with contextlib.closing(OpenFile(name, path, encoding, records, opened)) as one:
            yield one


def stem(name: str) -> str:
    """The name of a file without its folder and its suffixes."""
    return PurePosixPath(name.rpartition("!")[2]).name.partition(".")[0]
