"""Data sets in the form in which promptsource's templates want their rows, from files that hold them in another."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Binding:
    """How the rows of a file become those of the data set that the templates were written for.

    Attributes:
        templates: Folder below promptsource's `templates`.
        source: What a task file says; splits are files of the folder of data sets.
        bind: Name of the function below that makes a row; empty where transforms are enough.
    """

    templates: str
    source: dict[str, Any]
    bind: str = ""
    transforms: list[Any] = field(default_factory=list)


def _files(kind, files, **more):
    return {"kind": kind, "splits": {"all": files}, **more}


def _parts(pattern: str, text: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, text, re.DOTALL)
    if found is None:
        raise ValueError(f"not of the form {pattern}")
    return found.groups()


def boolq(row):
    passage, question = _parts(r"Passage: (.*)\nQuestion: (.*?)", row["query"])
    return {"passage": passage, "question": question.removesuffix("?"), "label": row["gold"]}


def multiple_choice(row):
    letters = [chr(ord("A") + number) for number in range(len(row["choices"]))]
    question = row["query"].removeprefix("Question: ")
    choices = {"text": row["choices"], "label": letters}
    return {"question": question, "question_stem": question, "choices": choices, "answerKey": letters[row["gold"]]}


def lettered(row):
    question, listed = _parts(r"Question: (.*)\nChoices:\n(.*)\nAnswer:", row["query"])
    texts = [line.partition(". ")[2] for line in listed.split("\n")]
    return multiple_choice({"query": question, "choices": texts, "gold": row["gold"]})


def winogrande(row):
    options = [option.split(" ") for option in row["context_options"]]
    same = next(at for at, words in enumerate(zip(*options, strict=False)) if words[0] != words[1])
    sentence = " ".join([*options[0][:same], "_", row["continuation"]])
    one, two = (" ".join(words[same:]) for words in options)
    return {"sentence": sentence, "option1": one, "option2": two, "answer": str(row["gold"] + 1)}


def copa(row):
    label = int(row["@most-plausible-alternative"]) - 1
    return {
        "premise": row["p"], "choice1": row["a1"], "choice2": row["a2"], "question": row["@asks-for"], "label": label,
    }  # fmt: skip


def wiki_split(row):
    first, second = (part.strip() for part in row["parts"].split("<::::>"))
    return {"complex_sentence": row["whole"], "simple_sentence_1": first, "simple_sentence_2": second}


def inference(row):
    return {**row, "label": ["entailment", "neutral", "contradiction"].index(row["label"])}


def sick(row):  # what B says of A, and how related they are, the file does not hold
    verb = {"entailment": "entails", "neutral": "neutral", "contradiction": "contradicts"}[row["label"]]
    sentences = {"sentence_A": row["premise"], "sentence_B": row["hypothesis"]}
    return {**inference(row), **sentences, "entailment_AB": f"A_{verb}_B"}


def two_way(row):
    label = ["entailment", "not_entailment"].index(row["label"])
    return {**row, "label": label, "sentence1": row["premise"], "sentence2": row["hypothesis"]}


def commitment(row):
    return {**row, "label": ["entailment", "contradiction", "neutral"].index(row["label"])}


def scitail(row):
    label = "entailment" if row["label"] == "entailment" else "neutral"
    return {"sentence1": row["premise"], "sentence2": row["hypothesis"], "gold_label": label}


def scitail_table(row):
    label = "entails" if row["label"] == "entailment" else "neutral"
    return {"premise": row["premise"], "hypothesis": row["hypothesis"], "label": label}


def sst(row):
    return {"sentence": row["text"], "label": int(row["label"]) / 4}


def trivia_qa(row):
    (question,) = _parts(r"Question: (.*)\nAnswer:", row["context"])
    return {"question": question, "answer": {"value": row["answer"], "aliases": row["aliases"]}}


def siqa(row):
    context, question, listed = _parts(r"Context: (.*?)\nQuestion: (.*?)\nChoices:\n(.*)\nAnswer:", row["query"])
    texts = [line.partition(". ")[2] for line in listed.split("\n")]
    texts = [*texts, "none of these"][:3]  # the file leaves out the third
    answers = dict(zip(("answerA", "answerB", "answerC"), texts, strict=True))
    return {"context": context, "question": question, **answers, "label": str(row["gold"] + 1)}


def pubmed_qa(row):
    context, question = _parts(r"Context: (.*)\nQuestion: (.*?)\nA\. yes.*", row["context"])
    parts = [part.partition(". ") for part in context.split("\n")]
    contexts = {"contexts": [text for _, _, text in parts], "labels": [label for label, _, _ in parts], "meshes": []}
    return {"question": question, "context": contexts, "final_decision": row["continuation"]}


def label_number(row):
    return {**row, "label": int(row["label"])}


def trec(row):
    label = {"DESC": 0, "ENTY": 1, "ABBR": 2, "HUM": 3, "NUM": 4, "LOC": 5}  # in the file
    known = ["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"]  # in the data set; fine labels the file does not hold
    name = next(name for name, number in label.items() if number == int(row["label"]))
    return {"text": row["text"], "coarse_label": known.index(name)}


def web_questions(row):
    return {"question": row["input"], "answers": row["output"]}


def review(row):
    return {
        "review_body": row["reviewText"], "review_headline": row["summary"], "star_rating": int(float(row["overall"])),
        "product_category": "Musical Instruments", "product_title": row["asin"],
    }  # fmt: skip


BINDINGS = (
    Binding(
        "ag_news", _files("csv", "ag_news_test/test.csv.gz", header=["label", "title", "description"]),
        transforms=[
            {"map": {"field": "label", "values": {str(n): str(n - 1) for n in range(1, 5)}}},
            {"cast": {"field": "label", "to": "int"}},
            {"join": {"fields": ["title", "description"], "with": " ", "into": "text"}},
        ],
    ),
    Binding("super_glue/boolq", _files("jsonl", "boolq/boolq.jsonl.gz"), "boolq"),
    Binding(
        "piqa", _files("jsonl", "piqa/valid.jsonl.gz", beside={"label": {"all": "piqa/valid-labels.lst"}}),
        "label_number",
    ),
    Binding("samsum", _files("jsonl", "samsum/samsum_validation.jsonl.gz")),
    Binding(
        "rotten_tomatoes",
        _files("classes", {"1": "rt_polarity/rt-polarity.pos.gz", "0": "rt_polarity/rt-polarity.neg.gz"}),
        "label_number",
    ),
    Binding(
        "glue/mrpc", _files("tsv", "mrpc/msr_paraphrase_test.txt.gz"),
        transforms=[
            {"rename": {"Quality": "label", "#1 String": "sentence1", "#2 String": "sentence2"}},
            {"cast": {"field": "label", "to": "int"}},
        ],
    ),
    Binding("glue/sst2", _files("tsv", "sst2/dev.tsv", header=["sentence", "label"]), "label_number"),
    Binding(
        "glue/cola",
        _files("tsv", "cola/in_domain_dev.tsv", header=["origin", "label", "mark", "sentence"]),
        "label_number",
    ),
    Binding(
        "sst/default",
        _files("csv", "sst5/stsa.fine.dev.gz", header=["label", "text"], delimiter=" ", columns=2),
        "sst",
    ),
    Binding("openbookqa/main", _files("jsonl", "mc_commonsense/openbook_qa.jsonl"), "multiple_choice"),
    Binding("ai2_arc/ARC-Easy", _files("jsonl", "mc_commonsense/arc_easy.jsonl.gz"), "multiple_choice"),
    Binding("ai2_arc/ARC-Challenge", _files("jsonl", "mc_commonsense/arc_challenge.jsonl.gz"), "multiple_choice"),
    Binding("commonsense_qa", _files("jsonl", "mc_commonsense/commonsense_qa.jsonl.gz"), "lettered"),
    Binding("social_i_qa", _files("jsonl", "mc_commonsense/siqa.jsonl.gz"), "siqa"),
    Binding("winogrande/winogrande_xl", _files("jsonl", "mc_commonsense/winogrande.jsonl.gz"), "winogrande"),
    Binding("super_glue/copa", _files("xml", "copa_xml/copa-dev.xml", records=".//item"), "copa"),
    Binding("super_glue/cb", _files("csv", "nli/commitment_bank/dev.csv"), "commitment"),
    Binding("super_glue/rte", _files("csv", "nli/rte/dev.csv"), "two_way"),
    Binding("glue/rte", _files("csv", "nli/rte/dev.csv"), "two_way"),
    Binding("snli", _files("csv", "nli/snli/dev.csv.gz"), "inference"),
    Binding("sick", _files("csv", "nli/sick/dev.csv"), "sick"),
    Binding("scitail/snli_format", _files("csv", "nli/scitail/dev.csv.gz"), "scitail"),
    Binding("scitail/tsv_format", _files("csv", "nli/scitail/dev.csv.gz"), "scitail_table"),
    Binding("wiki_split", _files("tsv", "wiki_split/validation.tsv.gz", header=["whole", "parts"]), "wiki_split"),
    Binding(
        "jfleg",
        _files("parallel", {"sentence": "jfleg/dev.src", "corrections": [f"jfleg/dev.ref{n}" for n in range(4)]}),
    ),
    Binding(
        "e2e_nlg_cleaned", _files("csv", "e2e_nlg/devset.csv.gz"),
        transforms=[{"rename": {"mr": "meaning_representation", "ref": "human_reference"}}],
    ),
    Binding("nq_open", _files("jsonl", "nq_open/NQ-open.dev.jsonl.gz")),
    Binding("trivia_qa/unfiltered", _files("jsonl", "triviaqa_small/triviaqa_sm_sub.jsonl.gz"), "trivia_qa"),
    Binding("openai_humaneval", _files("jsonl", "human_eval/human_eval.jsonl.gz")),
    Binding("pubmed_qa/pqa_labeled", _files("jsonl", "pubmed_qa/pubmed_qa_labeled.jsonl.gz"), "pubmed_qa"),
    Binding(
        "trec",
        _files("csv", "trec/TREC.train.all.gz", header=["label", "text"], delimiter=" ", columns=2, encoding="latin-1"),
        "trec",
    ),
    Binding(
        "web_questions",
        _files("json", "super_ni/tasks/task1412_web_questions_question_answering.json#Instances"),
        "web_questions",
    ),
    Binding(
        "amazon_us_reviews/Wireless_v1_00",
        _files("csv", "amazon_music/Musical_instruments_reviews.csv.gz", header=[
            "reviewerID", "asin", "reviewerName", "helpful", "reviewText", "overall", "summary", "unixTime", "time",
        ]),
        "review",
    ),
)  # fmt: skip


def source_of(binding: Binding) -> dict[str, Any]:
    """The source with the transforms that make the data set's rows."""
    bound = [{"python": f"promptsource_bindings:{binding.bind}"}] if binding.bind else []
    return {**binding.source, "transforms": [*binding.transforms, *bound]}
