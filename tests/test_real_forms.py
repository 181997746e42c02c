"""Real data sets in awkward forms, each through its source: as many rows as stated, and their text."""

from __future__ import annotations

from collections import Counter

import pytest

from test_real_data import pytestmark, read, stated

__all__ = ["pytestmark"]  # skips this file too where the data sets are not

LABEL_FIRST = {"delimiter": " ", "columns": 2, "header": ["label", "text"], "encoding": "latin-1"}
COT = {"header": ["question", "answer", "rationale"]}


@pytest.mark.parametrize(
    ("kind", "folder", "file", "options"),
    [
        ("json", "svamp", "SVAMP.json.gz", {}),
        ("json", "dart", "dart-v1.1.1-full-dev.json.gz", {}),
        ("json", "spider_dev", "dev.json.gz", {}),
        ("json", "code_alpaca_2k", "code_alpaca_2k.json.gz", {}),
        ("json", "text2sql", "geography.json.gz", {}),
        ("json", "text2sql", "imdb.json", {}),
        ("json", "sim_movie_dialogue", "train.json.gz", {}),
        ("json", "toolcall_sharegpt", "glaive_toolcall_en_demo.json.gz", {}),
        ("json", "recross_p3/anli_r1", "upstream-5000.json.gz", {"header": ["input", "outputs", "id"]}),
        ("json", "clinc150", "domains.json", {"records": "*.*", "header": ["intent"]}),
        ("yaml", "gpteacher_roleplay", "roleplay-simple-deduped-roleplay-instruct.yaml.gz", {}),
        ("xml", "asdiv", "ASDiv.xml.gz", {"records": ".//Problem"}),
        ("xml", "copa_xml", "copa-dev.xml", {"records": "item"}),
        ("xml", "copa_xml", "copa-test.xml", {"records": "item"}),
        ("csv", "e2e_nlg", "devset.csv.gz", {}),
        ("csv", "banking77", "test.csv.gz", {}),
        ("csv", "meld", "dev_sent_emo.csv.gz", {}),
        ("csv", "trec", "TREC.train.all.gz", LABEL_FIRST),
        ("tsv", "sst5", "stsa.fine.train.gz", LABEL_FIRST),
        ("tsv", "amazon_alexa", "amazon_alexa.tsv.gz", {"quoting": "minimal"}),
        ("tsv", "mrpc", "msr_paraphrase_test.txt.gz", {}),
        ("tsv", "wiki_split", "validation.tsv.gz", {"header": ["complex", "simple"]}),
        *[("tsv", "flan_cot", f"{name}_train.tsv.gz", COT) for name in ("aqua", "creak", "ecqa", "qasc", "strategyqa")],
    ],
)
def test_a_real_file_has_as_many_rows_as_its_description_states(kind, folder, file, options):
    assert len(read(kind, f"{folder}/{file}", **options)) == stated(folder, file)


def test_splits_of_one_json_file_are_its_lists():
    splits = {
        name: f"clinc150/data_full.json.gz#{name}"
        for name in ("train", "val", "test", "oos_train", "oos_val", "oos_test")
    }
    counts = {name: len(read("json", path, header=["text", "intent"])) for name, path in splits.items()}
    assert counts == {"train": 15_000, "val": 3_000, "test": 4_500, "oos_train": 100, "oos_val": 100, "oos_test": 1_000}
    assert sum(counts.values()) == stated("clinc150", "data_full.json.gz")
    assert read("json", splits["train"], header=["text", "intent"])[0] == {
        "text": "what expression would i use to say i love you if i were an italian",
        "intent": "translate",
    }


def test_entries_of_many_xml_files_have_their_category_and_all_their_texts():
    rows = read("xml", "webnlg/**/*.xml.gz", records="entries/entry", lists=["lex", "otriple", "mtriple"])
    assert len(rows) == 832
    assert Counter(len(row["modifiedtripleset"]["mtriple"]) for row in rows).keys() == {1, 2}
    assert {type(row["lex"]) for row in rows} == {list}
    assert rows[0]["@category"] == "Airport"
    assert rows[0]["lex"][0]["text"] == "The leader of Aarhus is Jacob Bundsgaard."


def test_labels_that_lie_beside_rows_choose_one_of_two():
    rows = read("jsonl", "piqa/valid.jsonl.gz", beside={"label": {"all": "piqa/valid-labels.lst"}})
    assert len(rows) == stated("piqa", "valid.jsonl.gz")
    assert set(rows[0]) == {"goal", "sol1", "sol2", "label"}
    assert Counter(row["label"] for row in rows).keys() == {"0", "1"}


def test_slots_are_as_many_as_words_in_three_parallel_files():
    files = {
        name: f"snips/train/{file}.gz"
        for name, file in (("words", "seq.in"), ("slots", "seq.out"), ("intent", "label"))
    }
    rows = read("parallel", files)
    assert len(rows) == stated("snips", "train/seq.in.gz")
    assert all(len(row["words"].split()) == len(row["slots"].split()) for row in rows)
    assert len({row["intent"] for row in rows}) == 7


def test_four_references_are_one_list():
    rows = read("parallel", {"source": "jfleg/dev.src", "references": [f"jfleg/dev.ref{i}" for i in range(4)]})
    assert len(rows) == stated("jfleg", "dev.src")
    assert {len(row["references"]) for row in rows} == {4}


def test_the_class_is_the_file():
    files = {"positive": "rt_polarity/rt-polarity.pos.gz", "negative": "rt_polarity/rt-polarity.neg.gz"}
    rows = read("classes", files, encoding="utf-8")
    assert Counter(row["label"] for row in rows) == {"positive": 5331, "negative": 5331}


def test_questions_of_a_query_become_rows_with_their_variables():
    rows = read("json", "text2sql/geography.json.gz", transforms=[{"explode": "sentences"}])
    assert len(rows) == 877
    assert rows[0]["text"] == "what is the biggest city in state_name0"
    assert rows[0]["variables"] == {"state_name0": "arizona"}
    assert rows[0]["sql"][0].startswith("SELECT CITYalias0.CITY_NAME")


def test_a_collection_in_a_compressed_archive_loses_its_end_marks_and_its_empty_completions():
    transforms = [
        {"strip_suffix": {"field": "completion", "suffix": "<|endoftext|>"}},
        {"filter": "completion | trim != ''"},
    ]
    rows = read("jsonl", "t0_train_50k/t0_train_50k.tar.xz!**/*.jsonl", transforms=transforms)
    assert len(rows) == 55_185 - 1_400
    assert not any("<|endoftext|>" in row["completion"] for row in rows)


def test_abstracts_and_keywords_of_one_document_belong_together():
    files = {
        "abstract": "keyphrase_inspec/Validation.zip!*.abstr",
        "keywords": "keyphrase_inspec/Validation.zip!*.uncontr",
    }
    rows = read("documents", files, transforms=[{"regex": {"field": "keywords", "pattern": r"\s+", "replace": " "}}])
    assert len(rows) == stated("keyphrase_inspec", "Validation.zip")
    words = [(row["abstract"].lower().split(), row["keywords"].lower().split(";")) for row in rows]
    # Free keywords mostly stand in the abstract word for word.
    assert sum(keywords[0] in " ".join(abstract) for abstract, keywords in words) > 0.6 * len(rows)


def test_worked_answers_give_their_number_and_written_newlines_become_newlines():
    rows = read(
        "jsonl",
        "gsm8k/test.jsonl.gz",
        transforms=[{"regex": {"field": "answer", "pattern": "#### (.*)", "into": "number"}}],
    )
    assert all(row["answer"].endswith(f"\n#### {row['number']}") for row in rows)
    cot = read("tsv", "flan_cot/aqua_train.tsv.gz", **COT, transforms=[{"unescape": "question"}])
    assert cot[0]["question"].split("\n")[1:3] == ["Options:", "(A) 300"]
