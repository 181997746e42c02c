"""Files of a source: which ones a path names, compressed, in archives, in any encoding, and bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import subprocess
import sys
import tarfile
import zipfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks.sources import files, streams
from flantune.tasks.sources.archives import expression_of, natural
from flantune.tasks.sources.files import Located, OpenFile, open_files
from reading import json_lines, read, rows_of, told


def zstd(content):
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd") as packed:
        packed.write(content)
    return stream.getvalue().to_pybytes()


COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstd}
CHECK = "check the path in the task's `source`"


def names(rows):
    """Where rows stand, without the folder."""
    return [rows.place(i).rpartition("/")[2] for i in range(len(rows))]


def numbers(folder, path, **source):
    """The field a of the rows of a JSONL path."""
    return [row["a"] for row in read(folder, kind="jsonl", splits={"all": path}, **source)]


# --- compressed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*COMPRESS, ".GZ"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_a_compressed_file_is_read_like_the_file_inside(tmp_path, suffix, kind):
    content = {"csv": "a,b\n007,ü\n", "tsv": "a\tb\n007\tü\n", "jsonl": '{"a": "007", "b": "ü"}\n'}[kind]
    found = rows_of(tmp_path, COMPRESS[suffix.lower()](content.encode()), f"rows.{kind}{suffix}")
    assert list(found) == [{"a": "007", "b": "ü"}]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_parts_that_were_compressed_one_by_one_are_read_as_one_file(tmp_path, suffix):
    content = COMPRESS[suffix](b'{"a": 1}\n{"a"') + COMPRESS[suffix](b": 2}\n")
    assert [row["a"] for row in rows_of(tmp_path, content, f"rows.jsonl{suffix}")] == [1, 2]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "conll"])
@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "changed", "not compressed"])
def test_a_damaged_compressed_file_is_told(tmp_path, kind, suffix, damage):
    whole = bytearray(COMPRESS[suffix](json_lines([{"a": i} for i in range(999)]).encode()))
    if damage == "changed":
        whole[12:21] = b"\xff" * 9  # where the compressed bytes begin
    content = {"cut": bytes(whole[: len(whole) // 2]), "changed": bytes(whole), "not compressed": b"a,b\n1,2\n"}[damage]
    message = told(rows_of, tmp_path, content, f"rows.{kind}{suffix}")
    assert message.startswith(f"{tmp_path}/rows.{kind}{suffix}: damaged compressed file: ")
    assert message.endswith("; fetch it again")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(streams, "UNPACKED_FREELY", 2**20)
    content = COMPRESS[suffix](b" \n" * 2**20)
    assert told(rows_of, tmp_path, content, f"rows.jsonl{suffix}") == (
        f"{tmp_path}/rows.jsonl{suffix}: unpacks to more than 200 times its size; if that is right, unpack it yourself"
    )


MEASURE = """
import sys
from pathlib import Path
from flantune.errors import FlantuneError
from flantune.memory import peak_memory
from flantune.tasks.sources import SourceChoice, read_split
try:
    read_split(SourceChoice.model_validate({"kind": "jsonl", "splits": {"all": sys.argv[1]}}), "all", Path("."), {})
except FlantuneError as error:
    print(error.message)
print(peak_memory() // 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gz", "zip", "line"])
def test_ten_gigabytes_in_ten_megabytes_and_a_line_without_end_are_refused_in_little_memory(tmp_path, kind):
    part = gzip.compress(b" \n" * 2**25, 9)
    if kind == "gz":
        path = tmp_path / "x.jsonl.gz"
        path.write_bytes(part * 160)
    elif kind == "zip":
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for number in range(5):
                archive.writestr(f"{number}.jsonl", b" \n" * 2**23)
    else:
        path = tmp_path / "x.jsonl"
        path.touch()
        os.truncate(path, 600 * 10**6)  # a file of nothing but NUL, and no disk space
    asked = f"{path}!*.jsonl" if kind == "zip" else str(path)
    environment = {**os.environ, "FLANTUNE_CACHE": str(tmp_path / "cache")}
    made = subprocess.run(
        [sys.executable, "-c", MEASURE, asked], capture_output=True, text=True, check=True, env=environment
    )
    message, megabytes = made.stdout.splitlines()
    assert message == (
        "a line of more than 64 MiB; check whether the file is of the kind that the source says"
        if kind == "line"
        else "unpacks to more than 200 times its size; if that is right, unpack it yourself"
    )
    assert int(megabytes) < 500
    assert [path.name for path in (tmp_path / "cache" / "rows").iterdir()] == [".locks"]


# --- paths --------------------------------------------------------------------------------------------------


def test_a_missing_file_a_folder_a_device_and_a_path_through_a_file_are_told(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")

    def message(path):
        return told(read, tmp_path, kind="jsonl", splits={"all": path})

    assert message("rows.jsonl") == f"{tmp_path}/rows.jsonl: no such file; {CHECK}"
    assert message("rows.jsonl.gz") == f"{tmp_path}/rows.jsonl.gz: no such file; {CHECK}"
    assert message("folder") == f"{tmp_path}/folder: is a folder; a file is wanted here"
    assert message("file/rows") == f"{tmp_path}/file/rows: cannot be read: Not a directory; {CHECK}"
    assert message("x" * 300) == f"{tmp_path}/{'x' * 300}: cannot be read: File name too long; {CHECK}"
    assert message("/dev/zero") == "/dev/zero: is no ordinary file; copy what it gives into one"
    assert message("*.jsonl") == (
        f"{tmp_path}/*.jsonl: no file has such a name; check the pattern in the task's `source`"
    )


def test_the_rows_of_several_files_follow_each_other_and_each_path_needs_some(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "b.jsonl").write_text('{"a": 3}\n')
    (tmp_path / "empty.jsonl").write_text("")
    assert numbers(tmp_path, ["b.jsonl", "a.jsonl"]) == [3, 1, 2]
    assert told(read, tmp_path, kind="jsonl", splits={"all": ["a.jsonl", "empty.jsonl"]}) == (
        f"{tmp_path}/empty.jsonl: the file has no rows; give a file with at least one"
    )
    assert numbers(tmp_path, "*.jsonl") == [1, 2, 3]  # a pattern may meet an empty file


def test_variables_stand_in_paths_and_mean_nothing_else(tmp_path):
    for folder in ("set/v2", "[set]*/v2"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jsonl").write_text(json.dumps({"a": folder}) + "\n")
    for path in ("${data}/${version}/a.jsonl", "${data}/*/a.jsonl", "${data}/**/*.jsonl"):
        for data in ("set", str(tmp_path / "set"), "[set]*"):
            given = {"data": data, "version": "v2"}
            found = numbers(tmp_path, path, variables=given)
            assert found == ["[set]*/v2" if data == "[set]*" else "set/v2"]
    assert told(read, tmp_path, variables={"data": "set"}, kind="jsonl", splits={"all": "${data}/${version}/a"}) == (
        "the path '${data}/${version}/a' needs a value: put `variables: {version: ...}` into the recipe"
    )
    # A value is no path with variables again.
    assert told(read, tmp_path, variables={"data": "${x}"}, kind="jsonl", splits={"all": "${data}/a"}) == (
        f"{tmp_path}/${{x}}/a: no such file; {CHECK}"
    )


def test_a_pattern_names_files_in_the_order_in_which_a_person_counts(tmp_path):
    for name in ("part10", "part2", "part1", "Part3", "part02", "deep/part7", "deep/er/part4", ".part0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'{{"a": "{name}"}}\n')
    (tmp_path / "part9").mkdir()
    assert numbers(tmp_path, "[Pp]art*") if (tmp_path / "[Pp]art*").exists() else True
    assert numbers(tmp_path, "part*") == ["part1", "part02", "part2", "part10"]
    assert numbers(tmp_path, "part?") == ["part1", "part2"]
    assert numbers(tmp_path, "*/part*") == ["deep/part7"]
    assert numbers(tmp_path, "**/part*") == [
        "deep/er/part4",
        "deep/part7",
        "part1",
        "part02",
        "part2",
        "part10",
    ]


@given(st.lists(st.text("ab12 ./", max_size=6), unique=True, max_size=8), st.integers(0, 9))
def test_the_order_of_names_does_not_depend_on_the_order_in_which_they_are_found(found, seed):
    assert sorted(random.Random(seed).sample(found, len(found)), key=natural) == sorted(found, key=natural)


LOOKS_LIKE_A_PATTERN = ["C#.jsonl", "what?.jsonl", "a*b.jsonl", "data[1].jsonl", "new!.jsonl", "a.zip!.jsonl"]


@pytest.mark.parametrize("name", LOOKS_LIKE_A_PATTERN)
def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path, name):
    (tmp_path / name).write_text('{"a": 1}\n')
    (tmp_path / "whatX.jsonl").write_text('{"a": 2}\n')
    assert numbers(tmp_path, name) == [1]


# --- archives -----------------------------------------------------------------------------------------------

MEMBERS = {
    "docs/part10.jsonl": b'{"a": 10}\n',
    "docs/part2.jsonl": b'{"a": 2}\n',
    "docs/deep/x.jsonl.gz": gzip.compress(b'{"a": 7}\n{"a": 8}\n'),
    "docs/notes.txt": b"text\n",
    "top.jsonl": b'{"a": 0}\n',
}


def zipped(path, members=MEMBERS, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("docs")
        for name, content in members.items():
            archive.writestr(name, content)
    return path.name


def tarred(path, members=MEMBERS, prefix="./"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo("docs")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    content = stream.getvalue()
    path.write_bytes(COMPRESS.get(path.suffix.replace(".tgz", ".gz"), bytes)(content))
    return path.name


ARCHIVES = ["x.zip", "x.ZIP", "x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2", "x.tar.zst"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_of_an_archive_are_read_by_name_or_pattern(tmp_path, name):
    archive = (zipped if name.lower().endswith("zip") else tarred)(tmp_path / name)

    def found(pattern):
        return numbers(tmp_path, f"{archive}!{pattern}")

    parts = [2, 10] if name.lower().endswith("zip") else [10, 2]  # a tar comes as it is written
    assert found("docs/part2.jsonl") == [2]
    assert found("./docs/part2.jsonl") == [2]
    assert found("docs/part*.jsonl") == parts
    assert found("docs/part?.jsonl") == [2]
    assert found("*.jsonl") == [0]
    assert sorted(found("**/*.jsonl")) == [0, 2, 10]
    assert found("**/x.*") == [7, 8]
    rows = read(tmp_path, kind="jsonl", splits={"all": f"{archive}!docs/**/x*"})
    assert [rows.place(i) for i in range(2)] == [f"{tmp_path}/{name}!docs/deep/x.jsonl.gz:{line}" for line in (1, 2)]
    assert told(read, tmp_path, kind="jsonl", splits={"all": f"{archive}!docs/part3.jsonl"}) == (
        f'{tmp_path}/{name}: no file "docs/part3.jsonl" in this archive; did you mean "docs/part2.jsonl"? '
        "(docs/deep/x.jsonl.gz, docs/notes.txt, docs/part10.jsonl, docs/part2.jsonl, top.jsonl)"
    )
    assert told(read, tmp_path, kind="jsonl", splits={"all": archive}) == (
        f"{tmp_path}/{name}: is an archive; name its files after `!`, such as {name}!*.jsonl"
    )
    assert told(read, tmp_path, kind="jsonl", splits={"all": f"{archive}!docs/notes.txt"}).startswith(
        f"{tmp_path}/{name}!docs/notes.txt:1: "
    )


@given(st.lists(st.sampled_from(["a", "b", "ab", "*", "?", "**", "a*", "a.b"]), min_size=1, max_size=4))
def test_a_pattern_without_marks_matches_itself_alone(parts):
    pattern = "/".join(parts)
    wanted = re.compile(expression_of(pattern))
    if not set("*?") & set(pattern):
        assert wanted.fullmatch(pattern)
        assert not any(wanted.fullmatch(other) for other in (pattern + "x", "x/" + pattern, pattern + "/x"))


def test_files_beside_each_other_in_one_archive_are_read_together(tmp_path):
    members = {f"d/{n}.{kind}": f"{kind} {n}\n".encode() for n in (1, 2, 10) for kind in ("en", "de")}
    for name in (zipped(tmp_path / "x.zip", members), tarred(tmp_path / "x.tar.xz", members)):
        splits = {"all": {"en": f"{name}!d/*.en", "de": f"{name}!d/*.de"}}
        rows = read(tmp_path, kind="parallel", splits=splits)
        assert list(rows) == [{"en": f"en {n}", "de": f"de {n}"} for n in (1, 2, 10)]
        rows = read(tmp_path, kind="documents", splits=splits)
        assert [row["id"] for row in rows] == ["1", "2", "10"]
        assert names(rows) == ["1.en:1", "2.en:1", "10.en:1"]


OUTSIDE = ["../out.jsonl", "/etc/out.jsonl", "a/../../out.jsonl", "c:\\out.jsonl", "a\\..\\out.jsonl", "a\nb.jsonl"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_out_of_the_archive_or_is_no_text_is_refused(tmp_path, kind, name):
    members, path = {name: b'{"a": 1}\n'}, tmp_path / f"x.{kind}"
    archive = zipped(path, members) if kind == "zip" else tarred(path, members, prefix="")
    assert told(read, tmp_path, kind="jsonl", splits={"all": f"{archive}!**"}) == (
        f"{tmp_path}/{archive}: holds a file called {name!a}; only plain names are read, so pack it anew"
    )


def test_links_and_devices_in_a_tar_are_no_files(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        links = ("a", tarfile.SYMTYPE, "/etc/passwd"), ("b", tarfile.LNKTYPE, "c"), ("d", tarfile.CHRTYPE, "")
        for name, kind, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    assert told(read, tmp_path, kind="jsonl", splits={"all": "x.tar!*"}) == (
        f'{tmp_path}/x.tar: no file "*" in this archive; there are none'
    )


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.zst"])
@pytest.mark.parametrize("where", [0.05, 0.4, 0.75, 0.85])
def test_a_cut_archive_is_told_and_never_half_read(tmp_path, name, where):
    values = [[random.Random(1000 * n + i).random() for i in range(400)] for n in range(9)]
    members = {f"{n}.jsonl": json_lines([{"a": x} for x in values[n]]).encode() for n in range(9)}
    path = tmp_path / name
    (zipped if name == "x.zip" else tarred)(path, members)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * where)])
    message = told(read, tmp_path, kind="jsonl", splits={"all": f"{name}!*.jsonl"})
    assert message.startswith(f"{path}")
    assert ": damaged " in message
    assert message.endswith("; fetch it again")


def test_a_changed_header_in_the_middle_of_a_tar_is_told(tmp_path):
    members = {f"{n}.jsonl": b'{"a": 1}\n' for n in range(4)}
    tarred(tmp_path / "x.tar", members)
    content = bytearray((tmp_path / "x.tar").read_bytes())
    at = content.index(b"2.jsonl")
    content[at] ^= 1
    (tmp_path / "x.tar").write_bytes(content)
    assert told(read, tmp_path, kind="jsonl", splits={"all": "x.tar!*"}) == (
        f"{tmp_path}/x.tar: damaged archive: bad checksum; fetch it again"
    )


def test_a_changed_member_of_a_zip_is_told(tmp_path):
    zipped(tmp_path / "x.zip", {"a.jsonl": b'{"a": 1}\n'}, zipfile.ZIP_STORED)
    content = (tmp_path / "x.zip").read_bytes().replace(b'{"a": 1}', b'{"a": 2}')
    (tmp_path / "x.zip").write_bytes(content)
    assert told(read, tmp_path, kind="jsonl", splits={"all": "x.zip!*"}) == (
        f"{tmp_path}/x.zip!a.jsonl: damaged archive: Bad CRC-32 for file 'a.jsonl'; fetch it again"
    )


def test_an_encrypted_member_and_a_way_of_packing_that_is_not_known_are_told(tmp_path):
    zipped(tmp_path / "x.zip", {"a.jsonl": b'{"a": 1}\n'}, zipfile.ZIP_STORED)
    plain = (tmp_path / "x.zip").read_bytes()
    at, central = plain.rindex(b"PK\x03\x04"), plain.rindex(b"PK\x01\x02")
    unknown = "is packed in a way that Python does not read: That compression method is not supported; pack it anew"
    for local, there, value, message in (
        (6, 8, 1, "is encrypted; give an archive without a password"),
        (8, 10, 9, unknown),
    ):
        content = bytearray(plain)
        content[at + local] |= value
        content[central + there] |= value
        (tmp_path / "x.zip").write_bytes(content)
        assert told(read, tmp_path, kind="jsonl", splits={"all": "x.zip!a*"}) == f"{tmp_path}/x.zip!a.jsonl: {message}"


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar.zst"])
def test_members_of_an_archive_share_the_bound_on_what_they_may_become(tmp_path, monkeypatch, name):
    monkeypatch.setattr(streams, "UNPACKED_FREELY", 2**20)
    members = {f"{n}.jsonl": b"\n" * 2**18 for n in range(9)}
    (zipped if name == "x.zip" else tarred)(tmp_path / name, members)
    message = told(read, tmp_path, kind="jsonl", splits={"all": f"{name}!*.jsonl"})
    assert message.endswith(": unpacks to more than 200 times its size; if that is right, unpack it yourself")


def test_a_sparse_file_in_a_tar_is_bounded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "UNPACKED_FREELY", 2**20)
    (tmp_path / "hole.jsonl").touch()
    os.truncate(tmp_path / "hole.jsonl", 2**30)
    subprocess.run(["tar", "-C", tmp_path, "--sparse", "-cf", tmp_path / "x.tar", "hole.jsonl"], check=True)
    assert (tmp_path / "x.tar").stat().st_size < 2**16
    assert told(read, tmp_path, kind="jsonl", splits={"all": "x.tar!*"}) == (
        f"{tmp_path}/x.tar!hole.jsonl: unpacks to more than 200 times its size; if that is right, unpack it yourself"
    )


def test_nothing_is_written_beside_an_archive(tmp_path):
    (tmp_path / "data").mkdir()
    for name in (zipped(tmp_path / "data" / "x.zip"), tarred(tmp_path / "data" / "x.tar.gz")):
        assert numbers(tmp_path / "data", f"{name}!top.jsonl") == [0]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "x.tar.gz", "x.zip"]


# --- text ---------------------------------------------------------------------------------------------------

CODECS = ["utf-8", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis", "gb18030", "utf-7", "iso2022_jp"]
TEXT = {"latin-1": "aü\r\nb\x85", "cp1252": "aü\r\nb€", "shift_jis": "aア\nb表", "iso2022_jp": "aア\nb表"}


def opened(path, encoding=None) -> OpenFile:
    return next(open_files(Located(path), encoding, None))


@pytest.mark.parametrize("codec", CODECS)
def test_text_of_any_encoding_is_read_line_by_line_and_whole(tmp_path, codec):
    text = TEXT.get(codec, "aü\r\nб\u2028 表\n\n🙂") * 3000
    (tmp_path / "x").write_bytes(text.encode(codec))
    file = opened(tmp_path / "x", codec)
    assert "".join(file.pieces()) == file.text() == text
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1].removesuffix("\n")
    assert list(file.lines()) == [(number, line) for number, line in enumerate(lines, start=1) if line]


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")), bom=st.booleans())
def test_lines_end_with_newlines_alone_in_every_encoding(tmp_path_factory, text, bom):
    path = tmp_path_factory.mktemp("text") / "x"
    path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    by_line = list(opened(path).lines())
    assert [line for _, line in by_line] == [line for line in re_split(text) if line]
    path.write_bytes((("\ufeff" if bom else "") + text).encode("utf-16-be"))
    assert list(opened(path, "utf-16-be").lines()) == by_line


def re_split(text):
    return [part + "\n" for part in text.split("\n")[:-1]] + [text.split("\n")[-1]]


def test_a_source_names_the_encoding_of_its_files(tmp_path):
    content = "a,b\nü,日本\n".encode("utf-16")
    assert list(rows_of(tmp_path, content, "x.csv", encoding="utf-16")) == [{"a": "ü", "b": "日本"}]
    assert list(rows_of(tmp_path, gzip.compress("a,b\nü,é\n".encode("latin-1")), "x.csv.gz", encoding="latin-1")) == [
        {"a": "ü", "b": "é"}
    ]


NOT_TEXT = {
    (b"a\n\xff\n", None): ":2: not UTF-8 text; save it as UTF-8, or name its `encoding`",
    (b"x" * 300_000 + b"\n\n\xff\n", None): ":3: not UTF-8 text; save it as UTF-8, or name its `encoding`",
    ("a\nb".encode("utf-16"), None): ":1: not UTF-8 text; it begins like UTF-16, so say `encoding: utf-16`",
    (b"a\nb\0c\n", None): ":2: a NUL character; the file is binary, or in another encoding (`encoding: utf-16`)",
    (b"a\nb\x90\n", "cp1252"): ":2: not cp1252 text; check the `encoding` of the source",
    ("ab\n\n".encode("utf-16-le") + b"\x00\xd8\x00", "utf-16-le"): (
        ":3: not utf-16-le text; check the `encoding` of the source"
    ),
    (b"\n" * 300_000 + b"\x81", "shift_jis"): ":300001: not shift_jis text; check the `encoding` of the source",
    (b"x", "utf-16"): ":1: not utf-16 text; check the `encoding` of the source",
}


@pytest.mark.parametrize(("content", "encoding"), NOT_TEXT, ids=lambda value: str(value)[-12:])
def test_what_is_not_text_of_its_encoding_is_told_with_the_line_by_lines_and_by_pieces(tmp_path, content, encoding):
    (tmp_path / "x").write_bytes(content)
    message = f"{tmp_path}/x{NOT_TEXT[content, encoding]}"
    assert told(list, opened(tmp_path / "x", encoding).lines()) == message
    assert told(list, opened(tmp_path / "x", encoding).pieces()) == message


@pytest.mark.parametrize("encoding", [None, "utf-16"])
def test_a_line_longer_than_a_line_can_be_is_refused_before_it_is_read(tmp_path, monkeypatch, encoding):
    monkeypatch.setattr(files, "LONGEST_LINE", 2**18)
    (tmp_path / "x").write_bytes(("a\n" + "b" * 2**20).encode(encoding or "utf-8"))
    lines = opened(tmp_path / "x", encoding).lines()
    assert next(lines) == (1, "a\n")
    assert told(next, lines) == (
        f"{tmp_path}/x:2: a line of more than 0 MiB; check whether the file is of the kind that the source says"
    )


def test_content_and_text_are_bounded(tmp_path):
    (tmp_path / "x").write_bytes(b"a" * (2**20 + 1))
    file = opened(tmp_path / "x")
    assert len(file.content(2**20 + 1)) == len(file.text(2**20 + 1)) == 2**20 + 1
    message = f"{tmp_path}/x: more than 1 MiB, too large for this kind; divide it"
    assert told(file.content, 2**20) == told(file.text, 2**20) == message


@settings(max_examples=60)
@given(content=st.binary(max_size=300), suffix=st.sampled_from(["", *COMPRESS, *ARCHIVES]))
def test_any_bytes_are_read_or_told_in_one_line(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"x{suffix}"
    path.write_bytes(content)
    asked = f"{path}!**" if suffix in ARCHIVES else str(path)
    one_line = True
    try:
        numbers(path.parent, asked)
    except FlantuneError as error:
        one_line = "\n" not in str(error)
    except KeyError:  # rows they are, without a field a
        pass
    assert one_line
