"""YAML of other projects: tags never make objects, and no file of a megabyte takes long or much."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.tasks.foreign.tagged_yaml import DEEPEST, MOST_BYTES, Tagged, read_tagged_yaml
from reading import told

PLAIN = ("!Template",)
KEPT = ("!function",)


@pytest.fixture
def read(tmp_path):
    def reading(content, **options):
        path = tmp_path / "given.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_tagged_yaml(path, plain=PLAIN, kept=KEPT, **options)

    return reading


@pytest.fixture
def refused(read, tmp_path):
    def told_of(content):
        return told(read, content).removeprefix(str(tmp_path / "given.yaml"))

    return told_of


def test_a_plain_tag_is_dropped_and_a_kept_one_is_told_apart_from_text(read):
    file = read("a: !Template {name: x}\nb: !function utils.process\nc: !function [1]\nd: '!function x'")
    assert file.data == {
        "a": {"name": "x"},
        "b": Tagged("!function", "utils.process"),
        "c": Tagged("!function", [1]),
        "d": "!function x",
    }
    assert str(file.data["b"]) == "!function utils.process"
    assert str(file.data["c"]) == "!function"


def test_every_key_and_item_knows_its_line(read):
    file = read("a:\n  - x\n  - y: 1\n    z: 2\nb: c\n")
    assert file.place("a", 1, "z").line == 4
    assert file.place("a", 1, "unknown", "deeper").line == 3
    assert file.place("b").line == 5
    assert file.place("nothing").line is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("~", None), ("", None), ("null", None), ("true", True),
        ("FALSE", False), ("5", 5), ("-3", -3), ("1.5", 1.5), ("007", "007"), ("1.50", "1.50"), ("1e5", "1e5"),
        ("0x1f", "0x1f"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"), ("9" * 400, "9" * 400), ("-0", "-0"),
        (".inf", ".inf"), ("'5'", "5"), ('"true"', "true"), ("!!str 5", "5"), ("!!int 5", 5), ("A ||| B", "A ||| B"),
    ],
)  # fmt: skip
def test_a_value_is_a_number_or_a_truth_value_only_where_it_is_written_as_one(read, written, meant):
    value = read(f"a: {written}").data["a"]
    assert (value, type(value)) == (meant, type(meant))


# JSON writes what is beyond as two halves, and the character #x007f as it is; YAML has neither.
of_both = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=20
)


@given(st.dictionaries(of_both, of_both | st.integers(-(10**17), 10**17) | st.booleans() | st.none(), min_size=1))
def test_json_is_read_as_what_it_says(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "said.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_tagged_yaml(path).data == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": the file is empty; `key: value` lines are wanted"),
        ("- a", ": the file is not a mapping of keys to values; `key: value` lines are wanted"),
        ("a: 1\nb: 2\na: 3", ':3: key "a" stands twice (first in line 1); remove one'),
        ("a: {b: 1, b: 2}", ':1: key "b" stands twice (first in line 1); remove one'),
        ("a: !!python/object/apply:os.system [ls]", ':1: the tag "!!python/object/apply:os.system" is not read; '
            "take it out, or write plain data"),
        ("\nl: !Other {a: 1}", ':2: the tag "!Other" is not read; take it out, or write plain data'),
        ("a: 1\n---\nb: 2", ":2: a second document begins here; one is wanted"),
        ("a: *b", ':1: the alias "*b" stands for nothing before it'),
        ("a: &x [*x]", ':1: the alias "*x" stands for nothing before it'),
        ("<<: {a: 1}", ":1: a key that is no text, or `<<`; write plain keys"),
        ("? [a]\n: b", ":1: a key that is no text, or `<<`; write plain keys"),
        ("a: [1", ":2: not valid YAML: did not find expected ',' or ']'"),
        ("a: b: c", ":1: not valid YAML: mapping values are not allowed in this context"),
        ("a: 1\nb: \x07", ":2: not valid YAML: the character #x0007"),
        (b"a: \xff", ": not UTF-8 text (byte 3); save it as UTF-8"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(refused, content, message):
    assert refused(content) == message


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    missing = tmp_path / "no.yaml"
    assert told(read_tagged_yaml, missing) == f"{missing}: no such file; no .yaml file is beside it"
    assert told(read_tagged_yaml, tmp_path) == f"{tmp_path}: is a folder; a YAML file is wanted here"


def test_an_alias_is_the_value_of_its_anchor(read):
    assert read("a: &x [1, 2]\nb: *x\nc: {d: *x}").data == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}


def test_nesting_is_bounded_and_not_below_what_a_person_writes(read, refused):
    deep = "a: " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert read(deep).data["a"] is not None
    assert refused("a: " + "[" * 40 + "]" * 40) == f":1: not usable YAML: nested more than {DEEPEST} deep"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 10**6, f":1: not usable YAML: nested more than {DEEPEST} deep"),
        ("- " * 500_000, f":1: not usable YAML: nested more than {DEEPEST} deep"),
        ("[a: " * 250_000, f":1: not usable YAML: nested more than {DEEPEST} deep"),
        ("a: [" + "x, " * 300_000 + "]", ":1: not usable YAML: more than 100,000 values, aliases counted"),
        ("k: v\n" * 200_000, ':2: key "k" stands twice (first in line 1); remove one'),
        ("&a " * 300_000, ":1: not valid YAML: did not find expected <document start>"),
        ("#" * 10**6, ": the file is empty; `key: value` lines are wanted"),
        ("x" * (MOST_BYTES + 1), f": more than {MOST_BYTES:,} bytes; divide the file"),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)),
            ":5: not usable YAML: more than 100,000 values, aliases counted",
        ),
    ],
    ids=["brackets", "dashes", "maps", "items", "twice", "anchors", "comment", "large", "aliases"],
)
def test_a_file_made_to_hang_or_to_fill_the_memory_is_refused(refused, content, message):
    assert refused(content) == message
