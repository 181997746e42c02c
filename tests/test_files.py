"""Files that are whole or absent: written, replaced, interrupted, and read again."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.files import (
    digest,
    disk_errors,
    file_digest,
    read_json_lines,
    whole_folder,
    write_json,
    write_json_lines,
    write_text,
)

text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
rows = st.lists(st.dictionaries(text, json_values, max_size=4), max_size=5)


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@settings(deadline=None)
@given(written=rows)
def test_rows_are_read_as_they_were_written(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_json_lines(path, written)
    assert read_json_lines(path) == written


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_a_newline_ends_a_row(tmp_path, mark):
    write_json_lines(tmp_path / "rows.jsonl", [{"text": f"one{mark}two"}, {"text": "three"}])
    assert read_json_lines(tmp_path / "rows.jsonl") == [{"text": f"one{mark}two"}, {"text": "three"}]


def test_rows_without_a_last_newline_and_with_empty_lines_are_read(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n{"a": 2}', encoding="utf-8")
    assert read_json_lines(tmp_path / "rows.jsonl") == [{"a": 1}, {"a": 2}]


def test_writing_makes_the_folders_above_and_leaves_one_file(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "grüße\n")
    assert (tmp_path / "a/b/c.txt").read_bytes() == "grüße\n".encode()
    assert everything_in(tmp_path) == ["a", "a/b", "a/b/c.txt"]


def test_a_written_file_can_be_read_by_others(tmp_path):
    write_text(tmp_path / "c.txt", "x")
    assert stat.S_IMODE((tmp_path / "c.txt").stat().st_mode) == 0o644


def test_a_text_that_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "c.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "c.txt", "half a character: \ud800")
    assert (tmp_path / "c.txt").read_text() == "old"
    assert everything_in(tmp_path) == ["c.txt"]


def test_a_value_that_is_no_json_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"a": object()})
    assert everything_in(tmp_path) == []


def test_a_reader_sees_the_old_content_or_the_new_and_never_a_part(tmp_path):
    path = tmp_path / "c.txt"
    contents = {letter * 200_000 for letter in "ab"}
    write_text(path, "a" * 200_000)
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for letter in "ba" * 10:
        write_text(path, letter * 200_000)
    done.set()
    reader.join()
    assert seen <= contents


def test_a_folder_appears_with_all_that_was_put_in(tmp_path):
    with whole_folder(tmp_path / "runs" / "model") as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "weights").write_bytes(b"123")
        assert not (tmp_path / "runs" / "model").exists()
    assert everything_in(tmp_path) == ["runs", "runs/model", "runs/model/inside", "runs/model/inside/weights"]


def test_a_finished_folder_can_be_read_by_others(tmp_path):
    with whole_folder(tmp_path / "model"):
        pass
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o755


def fail_to_fill(target, error):
    with whole_folder(target) as folder:
        (folder / "weights").write_bytes(b"new")
        raise error


def test_an_error_while_filling_leaves_no_folder_and_nothing_beside_it(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_to_fill(tmp_path / "model", ZeroDivisionError)
    assert everything_in(tmp_path) == []


def test_an_error_while_filling_keeps_the_folder_of_before(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        fail_to_fill(tmp_path / "model", KeyboardInterrupt)
    assert everything_in(tmp_path) == ["model", "model/weights"]
    assert (tmp_path / "model" / "weights").read_bytes() == b"old"


def test_a_folder_is_replaced_whole(tmp_path):
    (tmp_path / "model" / "shards").mkdir(parents=True)
    (tmp_path / "model" / "shards" / "old").write_bytes(b"old")
    with whole_folder(tmp_path / "model") as folder:
        (folder / "new").write_bytes(b"new")
    assert everything_in(tmp_path) == ["model", "model/new"]


def test_a_name_with_the_marks_of_a_search_pattern_is_a_name(tmp_path):
    for _ in range(2):
        with whole_folder(tmp_path / "run[1]*") as folder:
            (folder / "file").write_text("x")
    assert everything_in(tmp_path) == ["run[1]*", "run[1]*/file"]


FILL = """
import sys
from pathlib import Path
from flantune.files import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "part").write_text("half")
    print("filling", flush=True)
    sys.stdin.readline()
"""


def filling(target):
    """A process that is in the middle of filling a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", FILL, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "filling\n"
    return process


def test_what_a_killed_process_left_is_removed_by_the_next_call(tmp_path):
    with filling(tmp_path / "model") as process:
        os.kill(process.pid, signal.SIGKILL)
    assert len(everything_in(tmp_path)) == 2
    with whole_folder(tmp_path / "model") as folder:
        (folder / "file").write_text("x")
    assert everything_in(tmp_path) == ["model", "model/file"]


def test_two_processes_may_fill_one_folder_and_the_later_one_stays(tmp_path):
    with filling(tmp_path / "model") as process:
        with whole_folder(tmp_path / "model") as folder:
            (folder / "file").write_text("x")
        assert everything_in(tmp_path / "model") == ["file"]
        process.communicate("\n")
    assert process.returncode == 0
    assert everything_in(tmp_path) == ["model", "model/part"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told_with_the_path():
    with pytest.raises(FlantuneError) as caught, disk_errors(Path("runs/mine")), Path("/dev/full").open("w") as stream:
        stream.write("x")
    assert str(caught.value) == "runs/mine: no space left on the disk; free some, or choose another folder"


def test_another_system_error_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "missing").read_text()


@settings(deadline=None)
@given(parts=st.lists(json_values, max_size=3), other=st.lists(json_values, max_size=3))
def test_a_digest_tells_values_apart_and_is_made_of_32_digits(parts, other):
    assert len(digest(*parts)) == 32
    assert digest(*parts) == digest(*parts)
    # 1 and True, 0 and False are equal in Python and not in JSON, so equality is asked of the JSON form.
    if repr(parts) == repr(other):
        assert digest(*parts) == digest(*other)
    elif parts != other:
        assert digest(*parts) != digest(*other)


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_a_digest_is_the_blake2b_of_the_json_without_spaces_and_beyond_ascii():
    described = rb'["a",1,{"b":[null,2.5]},"\u00fc"]'
    assert digest("a", 1, {"b": [None, 2.5]}, "ü") == hashlib.blake2b(described, digest_size=16).hexdigest()


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file", "sha256") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
