"""Sources: which rows a split has, from where, in which order; and mistakes in what a task says of them."""

from __future__ import annotations

import gzip
import hashlib
import random
import shutil
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flantune.recipe.yaml_file import read_yaml
from flantune.tasks import load_task
from flantune.tasks.sources import Rows, SourceChoice, content_hash, split_names
from reading import json_lines, read, rows_of, texts, told


def places(rows):
    return [rows.place(i) for i in range(len(rows))]


def ending(place):
    return place.rpartition("/")[2]


# --- several sources ----------------------------------------------------------------------------------------


def test_rows_of_further_sources_follow_and_are_divided_with_the_first(tmp_path):
    (tmp_path / "a.csv").write_text("text,stars\n" + "".join(f"a{i},1\n" for i in range(40)))
    (tmp_path / "b.jsonl").write_text(json_lines([{"text": f"b{i}", "stars": "5"} for i in range(40)]))
    source = {
        "kind": "csv",
        "splits": {"all": "a.csv"},
        "also": [{"kind": "jsonl", "splits": {"all": "b.jsonl"}}],
        "where": "text != 'b0'",
        "fractions": {"test": 0.3, "train": 0.7},
    }
    parts = {split: {row["text"] for row in read(tmp_path, split, **source)} for split in ("test", "train")}
    assert parts["test"] | parts["train"] == {f"a{i}" for i in range(40)} | {f"b{i}" for i in range(1, 40)}
    assert not parts["test"] & parts["train"]
    assert {text[0] for text in parts["test"]} == {text[0] for text in parts["train"]} == {"a", "b"}


def test_each_source_has_its_own_transforms_and_the_condition_sees_what_they_give(tmp_path):
    (tmp_path / "a.csv").write_text("text,stars\na,1\nb,5\n")
    (tmp_path / "b.jsonl").write_text(json_lines([{"review": "c", "rating": 5}, {"review": "d", "rating": 1}]))
    source = {
        "kind": "csv",
        "splits": {"all": "a.csv"},
        "transforms": [{"cast": {"field": "stars", "to": "int"}}],
        "also": [
            {
                "kind": "jsonl",
                "splits": {"all": "b.jsonl"},
                "transforms": [{"rename": {"review": "text", "rating": "stars"}}],
            }
        ],
        "where": "stars > 3",
    }
    found = read(tmp_path, **source)
    assert list(found) == [{"text": "b", "stars": 5}, {"text": "c", "stars": 5}]
    assert places(found) == [f"{tmp_path}/a.csv:3", f"{tmp_path}/b.jsonl:1"]


def test_a_transform_that_a_row_does_not_fit_is_told_with_the_row(tmp_path):
    (tmp_path / "a.csv").write_text("text,stars\na,1\nb,five\n")
    source = {"kind": "csv", "splits": {"all": "a.csv"}, "transforms": [{"cast": {"field": "stars", "to": "int"}}]}
    message = told(read, tmp_path, **source)
    assert message.startswith(f"{tmp_path}/a.csv:3: source.transforms.0 (cast): ")


def test_rows_that_a_transform_makes_of_one_stand_at_its_line(tmp_path):
    found = rows_of(tmp_path, json_lines([{"a": [1, 2]}, {"a": [3]}]), "x.jsonl", transforms=[{"explode": "a"}])
    assert list(found) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert list(map(ending, places(found))) == ["x.jsonl:1", "x.jsonl:1", "x.jsonl:2"]


# --- fields, and a second file beside the first -------------------------------------------------------------


def test_only_the_fields_that_are_named_are_read_in_the_order_of_their_names(tmp_path):
    content = json_lines([{"a": 1, "b": 2, "c": 3}])
    assert [list(row.items()) for row in rows_of(tmp_path, content, "x.jsonl", fields=["c", "a"])] == [
        [("c", 3), ("a", 1)]
    ]
    assert told(rows_of, tmp_path, content, "x.jsonl", fields=["c", "d"]) == (
        f'{tmp_path}/x.jsonl:1: source.fields names "d", which the row lacks; known: a, b, c'
    )


def labelled(folder, rows, lines, **source):
    (folder / "valid.jsonl").write_text(json_lines(rows))
    (folder / "labels.lst").write_text(lines)
    splits = {"dev": "valid.jsonl", "test": "valid.jsonl"}
    return read(folder, kind="jsonl", splits=splits, beside={"label": {"dev": "labels.lst"}}, **source)


def test_line_i_of_a_file_beside_is_a_field_of_row_i_in_the_split_that_it_belongs_to(tmp_path):
    rows = [{"goal": "x"}, {"goal": "y"}, {"goal": "z"}]
    found = labelled(tmp_path, rows, "1\r\n\n0", split="dev")
    assert [row["label"] for row in found] == ["1", "", "0"]
    assert list(map(ending, places(found))) == ["valid.jsonl:1", "valid.jsonl:2", "valid.jsonl:3"]
    assert list(labelled(tmp_path, rows, "1\n", split="test")) == rows


def test_another_number_of_lines_beside_and_a_field_of_that_name_are_told(tmp_path):
    rows = [{"goal": "x"}, {"goal": "y"}]
    assert told(labelled, tmp_path, rows, "1\n", split="dev") == (
        f'{tmp_path}/labels.lst: more rows than lines: line i is the field "label" of row i, and there are 1 lines'
    )
    assert told(labelled, tmp_path, rows, "1\n0\n1\n1\n", split="dev") == (
        f'{tmp_path}/labels.lst: more lines than rows: line i is the field "label" of row i, and there are 2 rows'
    )
    assert told(labelled, tmp_path, [{"label": 3}], "1\n", split="dev") == (
        f'{tmp_path}/valid.jsonl:1: the row has a field "label" already; name the one in source.beside otherwise'
    )


# --- several files that make one row, or one kind of rows ---------------------------------------------------


def test_the_label_of_a_row_is_the_class_that_its_file_stands_for(tmp_path):
    (tmp_path / "pos.txt").write_text("good\nfine\n")
    (tmp_path / "neg.gz").write_bytes(gzip.compress(b"bad\n"))
    (tmp_path / "neg2").write_text("awful\n")
    found = read(tmp_path, kind="classes", splits={"all": {"positive": "pos.txt", "negative": ["neg.gz", "neg2"]}})
    assert [(row["text"], row["label"]) for row in found] == [
        ("good", "positive"),
        ("fine", "positive"),
        ("bad", "negative"),
        ("awful", "negative"),
    ]
    assert list(map(ending, places(found))) == ["pos.txt:1", "pos.txt:2", "neg.gz:1", "neg2:1"]


def test_file_j_of_one_pattern_belongs_to_file_j_of_the_other(tmp_path):
    for name, text in {"a1.en": "one\n", "a10.en": "ten\n", "a2.en": "two\n", "a1.de": "eins\n"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "a2.de").write_text("zwei\n")
    splits = {"all": {"en": "*.en", "de": "*.de"}}
    assert told(read, tmp_path, kind="parallel", splits=splits) == (
        f"{tmp_path}/a10.en: the paths name different numbers of files; file j of one belongs to file j of the others"
    )
    (tmp_path / "a10.de").write_text("zehn\n")
    found = read(tmp_path, kind="parallel", splits=splits)
    assert list(found) == [{"en": "one", "de": "eins"}, {"en": "two", "de": "zwei"}, {"en": "ten", "de": "zehn"}]
    assert list(map(ending, places(found))) == ["a1.en:1", "a2.en:1", "a10.en:1"]


def test_a_list_of_files_gives_a_list_of_references(tmp_path):
    for name, text in {"src": "a\nb\n", "ref0": "A\nB\n", "ref1": "AA\nBB\n"}.items():
        (tmp_path / name).write_text(text)
    found = read(tmp_path, kind="parallel", splits={"all": {"source": "src", "references": ["ref0", "ref1"]}})
    assert list(found) == [{"source": "a", "references": ["A", "AA"]}, {"source": "b", "references": ["B", "BB"]}]
    one = read(tmp_path, kind="parallel", splits={"all": {"source": "src", "references": ["ref0"]}})
    assert list(one) == [{"source": "a", "references": ["A"]}, {"source": "b", "references": ["B"]}]


def test_documents_are_put_together_by_the_names_of_their_files(tmp_path):
    for name, text in {"2.abstr": "second\ntext\n", "10.abstr": "tenth", "2.keys": "x; y", "10.keys": "z"}.items():
        (tmp_path / name).write_text(text)
    splits = {"all": {"abstract": "*.abstr", "keys": "*.keys"}}
    found = read(tmp_path, kind="documents", splits=splits)
    assert list(found) == [
        {"id": "2", "abstract": "second\ntext\n", "keys": "x; y"},
        {"id": "10", "abstract": "tenth", "keys": "z"},
    ]
    assert list(map(ending, places(found))) == ["2.abstr:1", "10.abstr:1"]
    (tmp_path / "10.keys").rename(tmp_path / "11.keys")
    assert told(read, tmp_path, kind="documents", splits=splits) == (
        f'{tmp_path}/11.keys: the "keys" of another document (11, not 10); files that belong together have one name '
        "and differ in their suffix"
    )


# --- Hugging Face data sets ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a saved data set of two splits, one of a single table, and an empty one."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("hub")
    train = datasets.Dataset.from_list([{"text": "007", "label": 1}, {"text": "no\nNA", "label": None}])
    test = datasets.Dataset.from_list([{"text": "x", "label": 2}])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(str(folder / "two"))
    train.save_to_disk(str(folder / "one"))
    (folder / "none").mkdir()
    return folder


def test_a_saved_data_set_is_read_from_a_path_beside_the_task(saved):
    found = read(saved, "train", kind="huggingface", path="two", splits={"train": "train"})
    assert tuple(found) == ({"text": "007", "label": 1}, {"text": "no\nNA", "label": None})
    assert found.place(1) == f"huggingface:{saved}/two[train]:1"
    with_variable = read(saved, "t", variables={"d": "two"}, kind="huggingface", path="${d}", splits={"t": "test"})
    assert tuple(with_variable) == ({"text": "x", "label": 2},)


def test_a_saved_data_set_without_splits_is_the_split_all(saved):
    assert len(read(saved, kind="huggingface", path="one", splits={"all": "all"})) == 2
    assert told(read, saved, kind="huggingface", path="one", splits={"all": "train"}) == (
        f'huggingface:{saved}/one: no split "train"; known: all'
    )


def test_an_unknown_split_and_a_folder_without_data_are_told(saved):
    assert told(read, saved, kind="huggingface", path="two", splits={"all": "tran"}) == (
        f'huggingface:{saved}/two: no split "tran"; did you mean "train"? (test, train)'
    )
    # What stands between is the library's own.
    message = told(read, saved, kind="huggingface", path="none", splits={"all": "train"})
    assert message.startswith(f'huggingface:{saved}/none: cannot load split "train": ')
    assert message.endswith("; check the name, and that the hub can be reached")


def test_columns_that_nobody_wants_are_not_decoded_and_an_unknown_one_is_told(saved):
    source = {"kind": "huggingface", "path": "two", "splits": {"train": "train"}}
    assert list(read(saved, "train", **source, fields=["label"])) == [{"label": 1}, {"label": None}]
    assert told(read, saved, "train", **source, fields=["lable"]) == (
        f'huggingface:{saved}/two: source.fields: no column "lable"; did you mean "label"? (label, text)'
    )


def test_a_local_data_set_that_changed_is_read_again(tmp_path):
    datasets = pytest.importorskip("datasets")
    for value in ("a", "b"):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        datasets.Dataset.from_list([{"text": value}]).save_to_disk(str(tmp_path / "set"))
        found = read(tmp_path, kind="huggingface", path="set", splits={"all": "all"})
        assert list(found) == [{"text": value}]


# --- which rows ---------------------------------------------------------------------------------------------

many_rows = st.lists(st.fixed_dictionaries({"text": texts}), min_size=1, max_size=30)
shares = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(
    lambda parts: {f"part{i}": part / sum(parts) for i, part in enumerate(parts)}
)


def divided(folder, rows, fractions):
    """Split to the texts of its rows, in order."""
    (folder / "rows.jsonl").write_text(json_lines(rows), encoding="utf-8")
    source = {"kind": "jsonl", "splits": {"all": "rows.jsonl"}, "fractions": fractions}
    return {split: [row["text"] for row in read(folder, split, **source)] for split in fractions}


@settings(deadline=None)
@given(rows=many_rows, more=many_rows, fractions=shares)
def test_every_row_is_in_one_split_and_appending_rows_moves_none(tmp_path_factory, rows, more, fractions):
    folder = tmp_path_factory.mktemp("fractions")
    before, after = divided(folder, rows, fractions), divided(folder, rows + more, fractions)
    assert Counter(text for part in before.values() for text in part) == Counter(row["text"] for row in rows)
    assert all(after[split][: len(part)] == part for split, part in before.items())


@settings(deadline=None)
@given(rows=many_rows, fractions=shares, seed=st.integers(0, 9))
def test_the_order_of_rows_and_of_keys_moves_none(tmp_path_factory, rows, fractions, seed):
    folder = tmp_path_factory.mktemp("fractions")
    shuffled = random.Random(seed).sample(rows, len(rows))
    before, after = divided(folder, rows, fractions), divided(folder, shuffled, fractions)
    assert {split: sorted(part) for split, part in before.items()} == {s: sorted(part) for s, part in after.items()}
    assert all(content_hash({"a": 1, "b": row}) == content_hash({"b": row, "a": 1}) for row in rows)


def test_each_split_is_near_its_share(tmp_path):
    parts = divided(
        tmp_path, [{"text": f"row {i}"} for i in range(10_000)], {"test": 0.1, "validation": 0.2, "train": 0.7}
    )
    # The hash is fixed, so this cannot flicker; three standard deviations of 10,000 coins are 1.4 %.
    for split, share in {"test": 0.1, "validation": 0.2, "train": 0.7}.items():
        assert len(parts[split]) / 10_000 == pytest.approx(share, abs=0.014)


def test_rows_of_the_same_content_are_in_the_same_split(tmp_path):
    parts = divided(tmp_path, [{"text": f"row {i % 50}"} for i in range(200)], {"test": 0.5, "train": 0.5})
    assert not set(parts["test"]) & set(parts["train"])


def test_the_hash_of_a_row_is_the_blake2b_of_its_json_with_sorted_keys():
    described = hashlib.blake2b('{"stars": 5, "text": "ü"}'.encode(), digest_size=8)
    assert content_hash({"text": "ü", "stars": 5}) == int(described.hexdigest(), 16)


def sampled(folder, rows, **rows_each):
    (folder / "rows.jsonl").write_text(json_lines(rows), encoding="utf-8")
    sample = {"by": "stars", "rows_each": rows_each}
    return read(folder, kind="jsonl", splits={"all": "rows.jsonl"}, sample=sample)


stars = st.lists(st.fixed_dictionaries({"stars": st.integers(1, 3), "text": texts}), min_size=1, max_size=30)


@settings(deadline=None)
@given(rows=stars, each=st.integers(1, 6), seed=st.integers(0, 9))
def test_a_sample_has_as_many_rows_of_each_value_and_does_not_depend_on_their_order(tmp_path_factory, rows, each, seed):
    folder = tmp_path_factory.mktemp("sample")
    chosen = sampled(folder, rows, all=each)
    there = Counter(row["stars"] for row in rows)
    assert Counter(row["stars"] for row in chosen) == {value: min(each, count) for value, count in there.items()}
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert list(sampled(folder, shuffled, all=each)) == list(chosen)


def test_a_row_that_lacks_the_field_of_the_sample_is_told(tmp_path):
    assert told(sampled, tmp_path, [{"stars": 1}, {"star": 1}], all=1) == (
        f'{tmp_path}/rows.jsonl:2: source.sample asks for field "stars", which the row lacks'
    )


def test_only_rows_for_which_a_condition_holds_are_kept_and_know_their_line(tmp_path):
    content = json_lines([{"text": "a", "stars": 5}, {"text": " ", "stars": 5}, {"text": "b", "stars": 1}])
    found = rows_of(tmp_path, content, "rows.jsonl", where="text | trim and stars > 3")
    assert [row["text"] for row in found] == ["a"]
    found = rows_of(tmp_path, content, "rows.jsonl", where="stars < 3")
    assert places(found) == [f"{tmp_path}/rows.jsonl:3"]
    assert len(rows_of(tmp_path, content, "rows.jsonl", where="false")) == 0


def test_a_condition_that_a_row_does_not_fit_is_told_with_the_row(tmp_path):
    assert told(rows_of, tmp_path, '{"text": "a"}\n', "rows.jsonl", where="txt") == (
        f'{tmp_path}/rows.jsonl:1: source.where asks for field "txt", which the row lacks; did you mean "text"? (text)'
    )
    assert told(rows_of, tmp_path, "stars\n5\n", "rows.csv", where="stars > 3") == (
        f"{tmp_path}/rows.csv:2: source.where fails on this row: TypeError: '>' not supported between instances of "
        "'str' and 'int'"
    )


texts_apart = st.lists(texts, min_size=1, max_size=40, unique=True)


@settings(deadline=None)
@given(values=texts_apart, count=st.integers(1, 50), seed=st.integers(-9, 9))
def test_a_sample_of_n_rows_has_n_of_them_and_does_not_depend_on_their_order(tmp_path_factory, values, count, seed):
    folder = tmp_path_factory.mktemp("sample")
    sample = {"rows": count, "seed": seed}
    chosen = list(rows_of(folder, json_lines([{"a": value} for value in values]), "x.jsonl", sample=sample))
    assert len({row["a"] for row in chosen}) == len(chosen) == min(count, len(values))
    shuffled = random.Random(seed).sample(values, len(values))
    assert list(rows_of(folder, json_lines([{"a": value} for value in shuffled]), "x.jsonl", sample=sample)) == chosen
    fewer = rows_of(
        folder,
        json_lines([{"a": value} for value in values]),
        "x.jsonl",
        sample={"rows": max(1, count // 2), "seed": seed},
    )
    assert list(fewer) == chosen[: max(1, count // 2)]


def test_another_seed_chooses_other_rows_and_each_row_as_often(tmp_path):
    content = json_lines([{"a": i} for i in range(50)])
    counts = Counter(
        row["a"]
        for seed in range(200)
        for row in rows_of(tmp_path, content, "x.jsonl", sample={"rows": 10, "seed": seed})
    )
    # 2,000 draws over 50 rows, 40 each, with a standard deviation of 5.7; the hash is fixed, so this cannot flicker.
    assert len(counts) == 50
    assert all(15 <= count <= 65 for count in counts.values())


def test_a_sample_may_be_of_some_splits_only_and_of_the_parts_that_fractions_make(tmp_path):
    content = json_lines([{"a": i} for i in range(100)])
    source = {"fractions": {"test": 0.5, "train": 0.5}, "sample": {"rows": {"test": 7}}}
    parts = {}
    for split in ("test", "train"):
        (tmp_path / "x.jsonl").write_text(content)
        parts[split] = list(read(tmp_path, split, kind="jsonl", splits={"all": "x.jsonl"}, **source))
    assert len(parts["test"]) == 7
    assert 30 < len(parts["train"]) < 70
    assert not [row for row in parts["test"] if row in parts["train"]]


# --- splits that the rows themselves name, or that keep some rows together ----------------------------------


def by_field(folder, split, rows, splits):
    (folder / "x.jsonl").write_text(json_lines(rows))
    source = {"kind": "jsonl", "splits": {"all": "x.jsonl"}, "split_by": {"field": "split", "splits": splits}}
    return [row["a"] for row in read(folder, split, **source)]


def test_the_split_of_a_row_is_what_a_field_of_it_says(tmp_path):
    rows = [{"a": i, "split": split} for i, split in enumerate(["train", "dev", 3, "train", "val", None, "other"])]
    splits = {"train": "train", "validation": ["dev", "val"], "test": "3"}
    assert by_field(tmp_path, "train", rows, splits) == [0, 3]
    assert by_field(tmp_path, "validation", rows, splits) == [1, 4]
    assert by_field(tmp_path, "test", rows, splits) == [2]
    source = {"kind": "jsonl", "splits": {"all": "a"}, "split_by": {"field": "split", "splits": splits}}
    assert split_names(SourceChoice.model_validate(source)) == ["train", "validation", "test"]


def test_a_split_that_no_row_names_and_a_row_without_the_field_are_told(tmp_path):
    rows = [{"a": 1, "split": "training"}, {"a": 2, "split": "training"}, {"a": 3, "split": "testing"}]
    assert told(by_field, tmp_path, "train", rows, {"train": ["train", "trn"]}) == (
        "source.split_by: no row has train or trn as split; rows have training, testing"
    )
    assert told(by_field, tmp_path, "train", [*rows, {"a": 4}], {"train": "training"}) == (
        f'{tmp_path}/x.jsonl:4: source.split_by asks for field "split", which the row lacks'
    )


@settings(deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"text": st.sampled_from("abcdefgh"), "label": texts}), min_size=1, max_size=30
    ),
    fractions=shares,
)
def test_rows_that_agree_in_the_fields_that_are_hashed_stay_together(tmp_path_factory, rows, fractions):
    folder = tmp_path_factory.mktemp("together")
    (folder / "x.jsonl").write_text(json_lines(rows))
    source = {"kind": "jsonl", "splits": {"all": "x.jsonl"}, "fractions": fractions, "fractions_by": ["text"]}
    parts = [list(read(folder, split, **source)) for split in fractions]
    assert sorted(repr(row) for part in parts for row in part) == sorted(map(repr, rows))
    owners = Counter(text for part in parts for text in {row["text"] for row in part})
    assert set(owners.values()) == {1}


def test_rows_that_were_made_of_one_record_are_in_one_split(tmp_path):
    records = [{"id": i, "turns": [f"turn {j} of {i}" for j in range(1 + i % 4)]} for i in range(60)]
    (tmp_path / "x.jsonl").write_text(json_lines(records))
    source = {"kind": "jsonl", "splits": {"all": "x.jsonl"}, "fractions": {"test": 0.5, "train": 0.5}}
    transforms = [{"explode": "turns"}, {"cast": {"field": "id", "to": "text"}}]
    parts = {split: list(read(tmp_path, split, **source, transforms=transforms)) for split in ("test", "train")}
    assert sum(map(len, parts.values())) == sum(len(record["turns"]) for record in records)
    owners = [{row["id"] for row in part} for part in parts.values()]
    assert not owners[0] & owners[1]
    assert all(15 < len(owner) < 45 for owner in owners)


def test_a_row_without_a_field_that_is_hashed_is_told(tmp_path):
    (tmp_path / "x.jsonl").write_text(json_lines([{"a": 1}]))
    source = {"kind": "jsonl", "splits": {"all": "x.jsonl"}, "fractions": {"all": 1.0}, "fractions_by": ["b"]}
    assert told(read, tmp_path, **source) == (
        f'{tmp_path}/x.jsonl:1: source.fractions_by asks for field "b", which the row lacks'
    )


def test_rows_that_follow_each_other_and_agree_become_one_with_lists_of_what_differs(tmp_path):
    content = "mr,ref,n\na,A,1\na,AA,2\nb,B,3\na,AAA,4\n"
    found = rows_of(tmp_path, content, "x.csv", group={"by": ["mr"], "into": {"refs": "ref"}})
    assert list(found) == [
        {"mr": "a", "n": "1", "refs": ["A", "AA"]},
        {"mr": "b", "n": "3", "refs": ["B"]},
        {"mr": "a", "n": "4", "refs": ["AAA"]},
    ]
    assert list(map(ending, places(found))) == ["x.csv:2", "x.csv:4", "x.csv:5"]
    assert told(rows_of, tmp_path, content, "x.csv", group={"by": ["mrs"], "into": {"refs": "ref"}}) == (
        f'{tmp_path}/x.csv:2: source.group names "mrs", which the row lacks; did you mean "mr"? (mr, n, ref)'
    )


def test_grouping_comes_after_the_transforms_and_before_the_condition(tmp_path):
    source = {
        "transforms": [{"rename": {"meaning": "mr"}}],
        "group": {"by": ["mr"], "into": {"refs": "ref"}},
        "where": "refs | length > 1",
    }
    found = rows_of(tmp_path, "meaning,ref\na,A\na,AA\nb,B\n", "x.csv", **source)
    assert list(found) == [{"mr": "a", "refs": ["A", "AA"]}]


# --- rows by number -----------------------------------------------------------------------------------------


def test_rows_are_made_anew_each_time_and_found_by_number_from_either_end(tmp_path):
    rows = rows_of(tmp_path, json_lines([{"a": [1]}, {"a": [2]}, {"a": [3]}]), "x.jsonl")
    rows[0]["a"].append("changed")
    assert (rows[0], rows[-1], len(rows)) == ({"a": [1]}, {"a": [3]}, 3)
    assert (rows.place(-1), rows.place(1)) == (f"{tmp_path}/x.jsonl:3", f"{tmp_path}/x.jsonl:2")
    for number in (3, -4):
        with pytest.raises(IndexError, match=f"^no row {number}; there are 3$"):
            rows[number]


@given(
    rows=st.lists(st.dictionaries(texts, texts | st.integers()), max_size=12),
    picks=st.lists(st.integers(0, 11), max_size=6),
    again=st.lists(st.integers(0, 5), max_size=3),
)
def test_chosen_rows_are_a_view_whose_digest_is_that_of_the_same_rows(rows, picks, again):
    whole = Rows.of(rows)
    picks = [pick for pick in picks if pick < len(rows)]
    view = whole.chosen(picks)
    assert list(view) == [rows[pick] for pick in picks]
    assert [view.place(i) for i in range(len(view))] == [f"row {pick}" for pick in picks]
    assert view.digest == Rows.of([rows[pick] for pick in picks]).digest
    again = [pick for pick in again if pick < len(picks)]
    assert list(view.chosen(again)) == [rows[picks[pick]] for pick in again]
    with pytest.raises(IndexError):
        whole.chosen([len(rows)])


@given(rows=st.lists(st.dictionaries(texts, st.integers(0, 3), max_size=3), max_size=4), seed=st.integers(0, 9))
def test_a_digest_changes_with_the_order_of_rows_and_of_keys_and_with_nothing_else(rows, seed):
    other = random.Random(seed).sample(rows, len(rows))
    turned = [dict(reversed(row.items())) for row in rows]
    assert (Rows.of(other).digest == Rows.of(rows).digest) == (list(map(repr, other)) == list(map(repr, rows)))
    assert (Rows.of(turned).digest == Rows.of(rows).digest) == (list(map(repr, turned)) == list(map(repr, rows)))
    assert (Rows.of(turned).hashes()[:, 1] == Rows.of(rows).hashes()[:, 1]).all()


# --- mistakes in a task's `source` --------------------------------------------------------------------------

TASK = """\
name: mine
metrics: [accuracy]
templates: [{name: t, text: "{{ a }} ||| {{ a }}"}]
source:
"""
SOURCES = {
    "  kind: jsno\n  splits: {all: a}": (
        ':5: source.kind: unknown value "jsno"; did you mean "json"? (arrow, classes, conll, csv, documents, '
        "huggingface, json, jsonl, parallel, parquet, sql, tsv, ...)"
    ),
    "  kind: csv": ":4: source.splits: is missing; add it",
    "  kind: csv\n  splits: {}": ":6: source.splits: is empty; give at least one",
    "  kind: csv\n  splits: {all: a}\n  wher: a": (
        ':7: source.wher: unknown key "wher"; did you mean "where"? (also, beside, columns, config, delimiter, '
        "encoding, fields, fractions, fractions_by, group, header, kind, ...)"
    ),
    "  kind: csv\n  splits:\n    all: 5": ":7: source.splits.all: text is wanted, not 5; put quotes around it",
    "  kind: csv\n  splits:\n    all: {a: b}": ":7: source.splits.all: kind: csv wants a file or a list of files here",
    "  kind: csv\n  splits:\n    all: ''": ":7: source.splits.all: kind: csv wants a file or a list of files here",
    "  kind: csv\n  splits:\n    all: []": ":7: source.splits.all: kind: csv wants a file or a list of files here",
    "  kind: csv\n  splits:\n    all: [a, '']": ":7: source.splits.all: kind: csv wants a file or a list of files here",
    "  kind: parallel\n  splits:\n    all: a": ":7: source.splits.all: kind: parallel wants {field: file, ...} here",
    "  kind: classes\n  splits:\n    all: [a]": ":7: source.splits.all: kind: classes wants {label: file, ...} here",
    "  kind: documents\n  splits:\n    all: {text: [a, b]}": (
        ":7: source.splits.all: kind: documents wants {field: pattern of files, ...} here"
    ),
    "  kind: huggingface\n  path: a\n  splits:\n    all: [a]": (
        ":8: source.splits.all: kind: huggingface wants the name of a split of the data set here"
    ),
    "  kind: sql\n  url: sqlite:///a.db\n  splits:\n    all: [a]": (
        ":8: source.splits.all: kind: sql wants a query here"
    ),
    "  kind: huggingface\n  splits: {all: a}": (
        ":4: source.path: is missing; kind: huggingface needs it: the name of the data set on the hub, or a local "
        "folder"
    ),
    "  kind: sql\n  splits: {all: a}": (
        ":4: source.url: is missing; kind: sql needs it: the address of the database, such as sqlite:///rows.db"
    ),
    "  kind: xml\n  splits: {all: a}": (
        ":4: source.records: is missing; kind: xml needs it: which elements are rows, such as .//item"
    ),
    "  kind: csv\n  path: a\n  splits: {all: a}": (
        ":6: source.path: belongs to kind: huggingface; this source is of kind: csv, so remove it"
    ),
    "  kind: csv\n  records: a\n  splits: {all: a}": (
        ":6: source.records: belongs to kind: json, yaml or xml; this source is of kind: csv, so remove it"
    ),
    "  kind: jsonl\n  quoting: none\n  splits: {all: a}": (
        ":6: source.quoting: belongs to kind: csv or tsv; this source is of kind: jsonl, so remove it"
    ),
    "  kind: csv\n  quoting: all\n  splits: {all: a}": (
        ':6: source.quoting: unknown value "all"; known: minimal, none'
    ),
    "  kind: csv\n  delimiter: '||'\n  splits: {all: a}": (
        ":6: source.delimiter: is one character where fields may be quoted; add `quoting: none`"
    ),
    "  kind: csv\n  delimiter: ''\n  splits: {all: a}": (
        ':6: source.delimiter: at least one character is wanted, and no line end, not ""'
    ),
    "  kind: csv\n  columns: 1\n  splits: {all: a}": ":6: source.columns: must be at least 2, not 1",
    "  kind: csv\n  columns: 2\n  header: [a]\n  splits: {all: a}": ":6: source.columns: is 2, but `header` names 1",
    "  kind: csv\n  columns: 2\n  quoting: minimal\n  splits: {all: a}": (
        ":6: source.columns: takes the rest of the line as it is; leave `quoting: minimal` out"
    ),
    "  kind: csv\n  header: [a, b, a]\n  splits: {all: a}": (
        ':6: source.header.2: column "a" stands twice; rename one'
    ),
    "  kind: csv\n  encoding: utf-9\n  splits: {all: a}": (
        ':6: source.encoding: unknown encoding; such as utf-8, latin-1, cp1252, utf-16, shift_jis, gb18030, not "utf-9"'
    ),
    "  kind: csv\n  encoding: hex\n  splits: {all: a}": (
        ':6: source.encoding: unknown encoding; such as utf-8, latin-1, cp1252, utf-16, shift_jis, gb18030, not "hex"'
    ),
    "  kind: csv\n  splits: {all: a}\n  beside: {label: {al: b}}": (
        ':7: source.beside.label.al: no such split; did you mean "all"? (all)'
    ),
    "  kind: huggingface\n  path: a\n  splits: {all: a}\n  beside: {label: {all: b}}": (
        ":8: source.beside: belongs to files; this source is of kind: huggingface, so remove it"
    ),
    "  kind: csv\n  splits: {all: a}\n  fractions: {a: 0.5, b: 0.4}": ":7: source.fractions: must sum to 1, not 0.9",
    "  kind: csv\n  splits: {all: a}\n  fractions: {a: 1.5, b: -0.5}": (
        ":7: source.fractions.b: must be greater than 0, not -0.5"
    ),
    "  kind: csv\n  splits: {a: a}\n  fractions: {a: 1}": (
        ":7: source.fractions: divides one split that is called `all`; name the one split so"
    ),
    "  kind: csv\n  splits: {a: a}\n  split_by: {field: x, splits: {a: b}}": (
        ":7: source.split_by: divides one split that is called `all`; name the one split so"
    ),
    "  kind: csv\n  splits: {all: a}\n  fractions: {a: 1}\n  split_by: {field: x, splits: {a: b}}": (
        ":8: source.split_by: divides the rows too; give either this or `fractions`"
    ),
    "  kind: csv\n  splits: {all: a}\n  split_by:\n    field: x\n    splits: {a: b, c: [d, b]}": (
        ':9: source.split_by.splits.c: "b" is of the split a already'
    ),
    "  kind: csv\n  splits: {all: a}\n  fractions_by: [a]": (
        ":7: source.fractions_by: says how `fractions` divides; give these too"
    ),
    "  kind: csv\n  splits: {all: a}\n  sample: {by: x, rows_each: {al: 3}}": (
        ':7: source.sample.rows_each.al: no such split; did you mean "all"? (all)'
    ),
    "  kind: csv\n  splits: {all: a}\n  sample: {by: x, rows_each: {all: 0}}": (
        ":7: source.sample.rows_each.all: must be at least 1, not 0"
    ),
    "  kind: csv\n  splits: {all: a}\n  sample: {rows: {al: 3}}": (
        ':7: source.sample.rows.al: no such split; did you mean "all"? (all)'
    ),
    "  kind: csv\n  splits: {all: a}\n  sample: {rows: 3, by: x}": ":7: source.sample.by: needs `rows_each` beside it",
    "  kind: csv\n  splits: {all: a}\n  sample: {rows: 3, by: x, rows_each: {all: 1}}": (
        ":7: source.sample: give either `by` and `rows_each`, or `rows`"
    ),
    "  kind: csv\n  splits: {all: a}\n  sample: {}": ":7: source.sample: give either `by` and `rows_each`, or `rows`",
    "  kind: csv\n  splits: {all: a}\n  sample: {by: x, rows_each: {all: 1}, seed: 1}": (
        ":7: source.sample.seed: belongs to `rows`; the rows of each value are fixed"
    ),
    "  kind: csv\n  splits: {all: a}\n  also:\n    - {kind: csv, splits: {train: a}}": (
        ":8: source.also.0.splits: must be the same as above (all)"
    ),
    "  kind: csv\n  splits: {all: a}\n  also:\n    - {kind: csv, splits: {all: a}, where: x}": (
        ":8: source.also.0.where: belongs to the first source and holds for all; move it there"
    ),
    "  kind: csv\n  splits: {all: a}\n  where: a b": (
        ":7: source.where is not valid Jinja (line 1 of the text): expected token ')', got 'b'"
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - {rename: {a: b}, explode: c}": (
        ":8: source.transforms.0: a transform has one key, such as {rename: {old: new}}; these are 2 (explode, rename)"
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - {}": (
        ":8: source.transforms.0: a transform has one key, such as {rename: {old: new}}; this is empty"
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - explode:": (
        ":8: source.transforms.0.explode: is empty; say what it applies to"
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - renam: {a: b}": (
        ':8: source.transforms.0.renam: unknown key "renam"; did you mean "rename"? (cast, conversation, explode, '
        "filter, join, map, python, regex, rename, split, strip_prefix, strip_suffix, ...)"
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - join: {fields: [a], wiht: x, into: b}": (
        ':8: source.transforms.0.join.wiht: unknown key "wiht"; did you mean "with"? (fields, into, with)'
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - cast: {field: a, to: integer}": (
        ':8: source.transforms.0.cast.to: unknown value "integer"; did you mean "int"? (bool, float, int, json, text)'
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - regex: {field: a, pattern: '(a'}": (
        ':8: source.transforms.0.regex.pattern: not a valid pattern: missing ) at position 2, not "(a"'
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - regex: {field: a, pattern: 'a'}": (
        ":8: source.transforms.0.regex.pattern: has no group; put round brackets around what is wanted, or "
        "give `replace`"
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - filter: a b": (
        ":8: source.transforms.0.filter: not valid Jinja (line 1 of the text): expected token ')', got 'b', not \"a b\""
    ),
    "  kind: csv\n  splits: {all: a}\n  transforms:\n    - python: os.system": (
        ':8: source.transforms.0.python: a function is named as package.module:function, not "os.system"'
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_mistake_in_a_source_is_told_with_line_and_field(tmp_path, source):
    path = tmp_path / "task.yaml"
    path.write_text(TASK + source + "\n")
    assert read_yaml(path)
    assert told(load_task, path) == f"{path}{SOURCES[source]}"


def test_a_missing_variable_and_an_unknown_split_are_told_with_the_task(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(TASK + "  kind: csv\n  splits: {train: '${data}/a.csv', test: a.csv}\n")
    assert told(load_task(path).split, "train") == (
        f"{path}:4: the path '${{data}}/a.csv' needs a value: put `variables: {{data: ...}}` into the recipe"
    )
    assert told(load_task(path).split, "tset") == (
        f'{path}: task mine has no split "tset"; did you mean "test"? (test, train)'
    )


def test_the_names_of_splits_are_those_of_the_fractions_where_there_are_some():
    source = {"kind": "csv", "splits": {"all": "a"}}
    assert split_names(SourceChoice.model_validate(source)) == ["all"]
    assert split_names(SourceChoice.model_validate({**source, "fractions": {"x": 0.5, "y": 0.5}})) == ["x", "y"]
    with pytest.raises(ValidationError):
        SourceChoice.model_validate({**source, "fractions": {}})
