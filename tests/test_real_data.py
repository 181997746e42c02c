"""Real data sets, in the form their sources publish them: as many rows as their description states, and their text."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from flantune.tasks.sources import SourceChoice, read_split

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FLANTUNE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not (DATA / "README.md").exists(), reason=f"no data sets in {DATA}; FLANTUNE_TEST_DATA names another folder"
)


def read(kind, files, **source):
    """The rows of files below the folder of data sets."""
    choice = SourceChoice.model_validate({"kind": kind, "splits": {"all": files}, **source})
    return list(read_split(choice, "all", DATA, {}))


def stated(folder, file):
    """The number of rows of a file in the table of the folder's description."""
    lines = [line.split("|") for line in (DATA / "README.md").read_text(encoding="utf-8").splitlines()]
    files = next(cells[5] for cells in lines if len(cells) > 9 and cells[1].strip() == folder)
    counts = dict(part.strip().rsplit(" ", 1) for part in files.split(";"))
    return int(counts[file].replace(",", ""))


@pytest.mark.parametrize(
    ("kind", "folder", "file", "options"),
    [
        ("jsonl", "dialogsum", "dialogsum.dev.jsonl.gz", {}),
        ("jsonl", "dialogsum", "dialogsum.test.jsonl.gz", {}),
        ("jsonl", "dialogsum_train", "dialogsum.train.jsonl.gz", {}),
        ("jsonl", "gsm8k", "test.jsonl.gz", {}),
        ("csv", "amazon_memory_card", "amazon_reviews.csv.gz", {}),
        ("csv", "amazon_music", "Musical_instruments_reviews.csv.gz", {"header": [f"c{i}" for i in range(9)]}),
        ("csv", "meld", "train_sent_emo.csv.gz", {}),
        ("csv", "banking77", "train.csv.gz", {}),
        ("csv", "ag_news_test", "test.csv.gz", {"header": ["class", "title", "description"]}),
        ("tsv", "mrpc", "msr_paraphrase_train.txt.gz", {}),
        ("tsv", "cola", "in_domain_train.tsv.gz", {"header": ["source", "label", "mark", "sentence"]}),
        ("tsv", "sst2", "dev.tsv", {"header": ["sentence", "label"]}),
        ("conll", "wnut17", "wnut17train.conll.gz", {}),
        ("conll", "wnut17", "emerging.dev.conll.gz", {}),
        ("conll", "wnut17", "emerging.test.annotated.gz", {}),
    ],
)
def test_a_real_file_has_as_many_rows_as_its_description_states(kind, folder, file, options):
    assert len(read(kind, f"{folder}/{file}", **options)) == stated(folder, file)


@pytest.mark.parametrize(("split", "form"), [("train", "{}.gz"), ("valid", None), ("test", "{}.gz")])
def test_java_and_csharp_of_codexglue_belong_to_each_other_line_by_line(split, form):
    files = {x: f"{split}.java-cs.txt.{x}" for x in ("java", "cs")}
    names = {"java": form.format(files["java"]) if form else files["java"], "cs": f"{files['cs']}.gz"}
    rows = read("parallel", {x: f"codexglue_code_trans/{name}" for x, name in names.items()})
    assert len(rows) == stated("codexglue_code_trans", names["java"]) == stated("codexglue_code_trans", names["cs"])
    # A method and its translation mostly have one name, in the case of the language.
    same = sum(
        row["java"].split("(")[0].split()[-1].lower() == row["cs"].split("(")[0].split()[-1].lower() for row in rows
    )
    assert same > len(rows) / 2
    if split == "test":
        assert rows[0] == {
            "java": "public void serialize(LittleEndianOutput out) {out.writeShort(field_1_vcenter);}",
            "cs": "public override void Serialize(ILittleEndianOutput out1){out1.WriteShort(field_1_vcenter);}",
        }


def test_dialogues_keep_their_lines_and_test_rows_have_three_summaries():
    train = read("jsonl", "dialogsum_train/dialogsum.train.jsonl.gz")
    assert train[0]["fname"] == "train_0"
    assert (
        train[0]["dialogue"].split("\n")[0] == "#Person1#: Hi, Mr. Smith. I'm Doctor Hawkins. Why are you here today?"
    )
    assert set(train[0]) == {"fname", "dialogue", "summary", "topic"}
    test = read("jsonl", "dialogsum/dialogsum.test.jsonl.gz")
    assert all(row[f"summary{i}"] for row in test for i in (1, 2, 3))


def test_stars_of_reviews_stay_text_and_quoted_names_are_unquoted():
    card = read("csv", "amazon_memory_card/amazon_reviews.csv.gz")
    assert (card[0]["column_1"], card[0]["overall"], card[0]["reviewText"]) == ("0", "4", "No issues.")
    assert {row["overall"] for row in card} == {"1", "2", "3", "4", "5"}
    assert 0.75 < sum(row["overall"] == "5" for row in card) / len(card) < 0.85
    names = ["reviewerID", "asin", "reviewerName", "helpful", "reviewText", "overall", "summary", "unixTime", "time"]
    music = read("csv", "amazon_music/Musical_instruments_reviews.csv.gz", header=names)
    assert music[0]["reviewerName"] == "cassandra tu \"Yeah, well, that's just like, u..."
    assert {row["overall"] for row in music} == {"1", "2", "3", "4", "5"}


def test_a_real_byte_order_mark_is_no_part_of_a_column_name():
    first = read("tsv", "mrpc/msr_paraphrase_train.txt.gz")[0]
    assert list(first) == ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    assert first["#1 String"].endswith('called "the witness", of deliberately distorting his evidence.')


def test_entities_of_wnut17_are_of_its_six_types_and_stand_in_their_sentence():
    rows = [
        row
        for file in ("wnut17train.conll.gz", "emerging.dev.conll.gz", "emerging.test.annotated.gz")
        for row in read("conll", f"wnut17/{file}")
    ]
    counts = Counter(entity["type"] for row in rows for entity in row["entities"])
    assert set(counts) == {"corporation", "creative-work", "group", "location", "person", "product"}
    # In BIO each entity begins once, so the B tags count them.
    assert counts.total() == sum(tag.startswith("B-") for row in rows for tag in row["tags"])
    assert all(entity["text"] in row["text"] for row in rows for entity in row["entities"])
    assert rows[0]["text"].startswith("@paulwalk It 's the view from where I 'm living for two weeks .")
    assert rows[0]["entities"] == [
        {"type": "location", "text": "Empire State Building"},
        {"type": "location", "text": "ESB"},
    ]


def test_entities_of_wikigold_begin_without_b_tags_and_marks_of_documents_are_no_sentences():
    rows = read("conll", "wikigold/wikigold.conll.gz")
    # 1,841 blocks as the description counts them, 145 of them one -DOCSTART- line each.
    assert len(rows) == stated("wikigold", "wikigold.conll.gz") - 145 == 1696
    assert rows[0]["entities"] == [
        {"type": "MISC", "text": "010"},
        {"type": "MISC", "text": "Japanese"},
        {"type": "ORG", "text": "The Mad Capsule Markets"},
    ]


def test_the_splits_of_balanced_reviews_are_balanced_and_do_not_meet():
    source = {
        "where": "reviewText | trim",
        "fractions": {"test": 0.3, "train": 0.7},
        "sample": {"by": "overall", "rows_each": {"test": 15, "train": 40}},
    }
    choice = SourceChoice.model_validate(
        {"kind": "csv", "splits": {"all": "amazon_memory_card/amazon_reviews.csv.gz"}, **source}
    )
    parts = {split: list(read_split(choice, split, DATA, {})) for split in ("test", "train")}
    for split, each in (("test", 15), ("train", 40)):
        assert Counter(row["overall"] for row in parts[split]) == dict.fromkeys("12345", each)
    assert not {row["column_1"] for row in parts["test"]} & {row["column_1"] for row in parts["train"]}
