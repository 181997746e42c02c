"""Members of zip and tar archives, read in place: none is ever written to a disk."""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from flantune.errors import FlantuneError, nearest
from flantune.tasks.sources.streams import Budget, decompressed, read_errors

ARCHIVE = r"\.(?:zip|tar|tgz|tar\.(?:gz|xz|bz2|zst))"  # how their names end
ENCRYPTED = 1  # bit of a zip member's flags
SHOWN = 1000  # names that are kept for a message
Open = Callable[[], io.BufferedReader]

TAR: Any = tarfile  # its errors, and its list of members, are not in the stubs


def is_archive(name: str) -> bool:
    """Whether a file's name is that of a zip or tar archive."""
    return re.search(ARCHIVE + "$", name, re.IGNORECASE) is not None


def members(path: Path, pattern: str) -> Iterator[tuple[str, Open]]:
    """Files of an archive whose names match: of a zip sorted by name, of a tar in the order in which they come.

    A tar is read once, from its beginning to its end, so each file has to be read before the next one is asked for.

    Args:
        path: The archive.
        pattern: `*` and `?` match within the name of a folder or file, `**` any folders.
    Yields:
        Name inside the archive, and what opens it, decompressed.
    Raises:
        FlantuneError: A damaged archive, no file of that name, a name that leads out of the archive.
    """
    wanted = re.compile(expression_of(pattern), re.DOTALL)
    seen: list[str] = []
    found = False
    archive = _zipped if path.suffix.lower() == ".zip" else _tarred
    for stored, opened in archive(path):
        name = stored.removeprefix("./")
        if len(seen) < SHOWN:
            seen.append(name)
        if wanted.fullmatch(name):
            found = True
            _check_name(path, name)
            yield name, opened
    if not found:
        raise FlantuneError(f'no file "{pattern}" in this archive; {nearest(pattern, seen)}', path)


def expression_of(pattern: str) -> str:
    """The regular expression of a pattern of `*`, `?` and `**`."""
    *folders, file = pattern.removeprefix("./").split("/")
    beginning = "".join("(?:[^/]+/)*" if folder == "**" else _part(folder) + "/" for folder in folders)
    return beginning + (".*" if file == "**" else _part(file))


def _part(pattern: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter)) for letter in pattern)


def natural(name: str) -> tuple[Any, ...]:
    """Sorts names as a person does: part2 before part10."""
    parts = re.split("([0-9]+)", name)
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts)), name


def _check_name(path: Path, name: str) -> None:
    outside = name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name)
    if outside or not name.isprintable():
        raise FlantuneError(f"holds a file called {name!a}; only plain names are read, so pack it anew", path)


def _zipped(path: Path) -> Iterator[tuple[str, Open]]:
    with read_errors(str(path)):
        archive = zipfile.ZipFile(path)
        size = path.stat().st_size
    packed = 0
    budget = Budget(lambda: packed)
    with archive:
        for info in sorted(archive.infolist(), key=lambda info: natural(info.filename)):
            if not info.filename.endswith("/"):  # `is_dir` fails on an empty name
                packed += min(info.compress_size, size)  # the archive says how large it is, and may lie
                yield info.filename, lambda info=info: _unzipped(archive, info, f"{path}!{info.filename}", budget)


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, budget: Budget) -> io.BufferedReader:
    if info.flag_bits & ENCRYPTED:
        raise FlantuneError("is encrypted; give an archive without a password", name)
    with read_errors(name):
        opened = archive.open(info)
    return decompressed(opened, PurePosixPath(info.filename).suffix, name, budget)


class _Header(tarfile.TarInfo):
    """Tells a damaged header and a missing end, which tarfile takes for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tarfile)
        except (TAR.InvalidHeaderError, TAR.TruncatedHeaderError, TAR.EmptyHeaderError) as error:
            raise TAR.SubsequentHeaderError(str(error)) from None


def _tarred(path: Path) -> Iterator[tuple[str, Open]]:
    name = str(path)
    with read_errors(name):
        raw = path.open("rb")
    budget = Budget(raw.tell)  # beside the one of the whole stream: a sparse file is made of nothing
    with decompressed(raw, path.suffix, name) as stream, contextlib.ExitStack() as held:
        with read_errors(name):
            archive: Any = held.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header))
        while True:
            with read_errors(name):
                info = archive.next()
            if info is None:
                return
            archive.members.clear()  # it keeps each header, and there may be millions
            if info.isreg():
                yield info.name, lambda info=info: _untarred(archive, info, f"{path}!{info.name}", budget)


def _untarred(archive: tarfile.TarFile, info: tarfile.TarInfo, name: str, budget: Budget) -> io.BufferedReader:
    with read_errors(name):
        opened = archive.extractfile(info)
    return decompressed(opened, PurePosixPath(info.name).suffix, name, budget)
