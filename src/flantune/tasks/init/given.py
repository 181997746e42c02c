"""The files that a person gives: folders and archives opened, compression undone, what is no data left aside."""

from __future__ import annotations

import codecs
import functools
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flantune.errors import FlantuneError, no_such_file
from flantune.tasks.init.names import parts
from flantune.tasks.sources.archives import is_archive, members
from flantune.tasks.sources.streams import COMPRESSIONS, open_file

NO_DATA = re.compile(
    r"(readme|licen[cs]e|copying|changelog|notice|\.|__MACOSX|SHA256SUMS|md5).*|.*\.(md|py|sh|ipynb|pdf|docx?|html?|png|jpe?g|gif)",
    re.IGNORECASE,
)
HEAD = 2**20  # bytes that show how a file is written
MOST_FILES = 2000
SCANNED = 2**29  # bytes in which a character of another encoding is looked for


@dataclass(frozen=True)
class Given:
    """A file, or a member of an archive.

    Attributes:
        path: The file on disk.
        member: Its name in the archive, where it is in one.
        opened: Gives its bytes, decompressed.
        near: Its name below the folder that all given files share: what tells splits and sides apart.
        many: Whether it stands for many files, one document each; then its name is a pattern.
    """

    path: Path
    member: str | None
    opened: Callable[[], io.BufferedReader]
    near: str
    many: bool = False

    @property
    def suffixes(self) -> list[str]:
        """Its suffixes in lower case, compression left out."""
        name = PurePosixPath(self.member or self.path.name).name
        return [suffix.lower() for suffix in PurePosixPath(name).suffixes if suffix.lower() not in COMPRESSIONS]

    @property
    def stem(self) -> str:
        """Its name without compression and the suffix of its format."""
        name = PurePosixPath(self.near)
        while name.suffix.lower() in (*COMPRESSIONS, *FORMAT_SUFFIXES):
            name = name.with_suffix("")
        return str(name)

    @property
    def words(self) -> list[str]:
        """The words of its name and of the folders that tell it from others."""
        return parts(self.stem.replace("/", "_"))

    def head(self) -> bytes:
        """Its first bytes."""
        with self.opened() as stream:
            return _full_read(stream, HEAD)

    @property
    def text(self) -> str:
        """As a source names it, from anywhere."""
        path = str(self.path.absolute())
        return path if self.member is None else f"{path}!{self.member}"

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}!{self.member}"


FORMAT_SUFFIXES = (
    ".json",
    ".jsonl",
    ".ndjson",
    ".csv",
    ".tsv",
    ".tab",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
    ".parquet",
    ".arrow",
    ".feather",
    ".conll",
    ".lst",
    ".all",
)


def _full_read(stream: io.BufferedReader, count: int) -> bytes:
    pieces, length = [], 0
    while length < count and (piece := stream.read(count - length)):
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)


def given_files(paths: Sequence[Path]) -> list[Given]:
    """The data files among what was given, in the order given; of folders and archives all that they hold.

    Raises:
        FlantuneError: No such file, no data in a folder, too many files.
    """
    found = [file for path in paths for file in _files(path)]
    if not found:
        raise FlantuneError("no data file in it; give files of rows", paths[0])
    if len(found) > MOST_FILES:
        raise FlantuneError(
            f"more than {MOST_FILES} files; give those of one task, or a pattern for your shell", paths[0]
        )
    names = [str(PurePosixPath(path.absolute(), member or "")) for path, member, *_ in found]
    shared = _shared_folder(names)
    return [
        Given(path, member, opened, name[len(shared) :].lstrip("/"), many)
        for (path, member, opened, many), name in zip(found, names, strict=True)
    ]


def _shared_folder(names: Sequence[str]) -> str:
    folders = [PurePosixPath(name).parent.parts for name in names]
    depth = 0
    while all(len(folder) > depth for folder in folders) and len({folder[depth] for folder in folders}) == 1:
        depth += 1
    return str(PurePosixPath(*folders[0][:depth]))


_Found = tuple[Path, str | None, Callable[[], io.BufferedReader], bool]


def _files(path: Path) -> Iterator[_Found]:
    if path.is_dir():
        inner = sorted(file for file in path.rglob("*") if file.is_file() and not _no_data(file.relative_to(path)))
        plain = [
            (str(file.relative_to(path)), functools.partial(open_file, file))
            for file in inner
            if not is_archive(file.name)
        ]
        documents = _documents(plain)
        yield from ((path / pattern, None, opened, True) for pattern, opened in documents.items())
        for file in inner if not documents else []:
            yield from _files(file)
    elif not path.exists():
        raise no_such_file(path)
    elif is_archive(path.name):
        yield from _members(path)
    else:
        yield path, None, functools.partial(open_file, path), False


def _no_data(path: Path) -> bool:
    return any(NO_DATA.fullmatch(part) for part in path.parts)


def _members(path: Path) -> Iterator[_Found]:
    """The files of an archive; since it is read once, from end to end, the head of each is kept."""
    heads: list[tuple[str, Callable[[], io.BufferedReader]]] = []
    for name, opened in members(path, "**/*"):
        if not _no_data(Path(name)):
            with opened() as stream:
                heads.append((name, functools.partial(_bytes, _full_read(stream, HEAD if len(heads) < 40 else 2000))))
    documents = _documents(heads)
    yield from ((path, pattern, opened, True) for pattern, opened in documents.items())
    yield from ((path, name, opened, False) for name, opened in (heads if not documents else []))


def _documents(
    files: Sequence[tuple[str, Callable[[], io.BufferedReader]]],
) -> dict[str, Callable[[], io.BufferedReader]]:
    """Many files of a few suffixes that are no format's, one document each: a pattern of each suffix, and its first."""
    by_suffix: dict[str, list[tuple[str, Callable[[], io.BufferedReader]]]] = {}
    for name, opened in files:
        by_suffix.setdefault(PurePosixPath(name).suffix, []).append((name, opened))
    if any(
        len(group) < MANY or (suffix.lower() in (*FORMAT_SUFFIXES[:-1], *COMPRESSIONS) and suffix != ".txt")
        for suffix, group in by_suffix.items()
    ):
        return {}
    deep = any("/" in name for name, _ in files)
    return {f"{'**/' if deep else ''}*{suffix}": group[0][1] for suffix, group in by_suffix.items()}


MANY = 20


def _bytes(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]


# --- encodings ----------------------------------------------------------------------------------------------


def encoding_of(file: Given) -> str | None:
    """The encoding of a text file where it is not UTF-8; None where it is.

    Looks for a byte order mark, for bytes that UTF-8 has not, and then for the code page whose letters they are.
    """
    head = file.head()
    for mark, name in (
        (codecs.BOM_UTF8, None),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return name
    if head[1:2000:2].count(0) > 0.3 * len(head[1:2000:2]):
        return "utf-16-le"
    wrong = _around_first_wrong(file)
    return _code_page(wrong) if wrong else None


def _around_first_wrong(file: Given) -> bytes:
    """Bytes from the first on that is not UTF-8; empty where all are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    scanned = 0
    with file.opened() as stream:
        while scanned < SCANNED and (piece := stream.read(HEAD)):
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                start = max(error.start - 2000, 0)
                return error.object[start:] + stream.read(HEAD)
            scanned += len(piece)
    return b""


# Letters that a language of the code page writes often, beside those of ASCII.
_LETTERS = {
    "cp1252": "äöüßÄÖÜéèêëàâáçñíóúôûîïœæøåãõ’‘“”–…€£«»¿¡",
    "cp1250": "ąćęłńóśźżěščřžýáíéůúőűțșăâ’“”–…",
    "cp1254": "çğıİöşüÇÖŞÜ’“”–…",
}
_OTHER_SCRIPTS = {
    "cp1251": "Cyrillic",
    "koi8-r": "Cyrillic",
    "shift_jis": "Kana",
    "euc_jp": "Kana",
    "gb18030": "Han",
    "big5": "Han",
    "euc_kr": "Hangul",
    "cp1253": "Greek",
    "cp1255": "Hebrew",
    "cp1256": "Arabic",
}


def _code_page(content: bytes) -> str:
    """The likeliest encoding of bytes that are not UTF-8."""
    from flantune.tasks.init.language import scripts

    high = sum(byte > 127 for byte in content) / max(len(content), 1)
    if high > 0.3:
        shares = {}
        for name, script in _OTHER_SCRIPTS.items():
            text = content.decode(name, "replace")
            found = scripts([text[:20_000]])
            small = sum(map(str.islower, text)) / max(sum(map(str.isalpha, text)), 1)
            cased = small if script in ("Cyrillic", "Greek") else 1.0
            shares[name] = cased * found[script] / max(found.total(), 1) - 5 * text.count("�") / max(len(text), 1)
        japanese = [name for name, script in _OTHER_SCRIPTS.items() if script == "Kana" and shares[name] > 0.3]
        best = max(japanese or shares, key=shares.__getitem__)
        if shares[best] > 0.3:
            return best
    counts = {name: sum(map(content.decode(name, "replace").count, letters)) for name, letters in _LETTERS.items()}
    best = max(counts, key=counts.__getitem__)
    undefined = content.decode(best, "replace").count("�")
    return best if undefined == 0 else "latin-1"
