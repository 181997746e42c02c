"""`flantune init` on files that nobody showed it: odd names, ids, dates, constants, many shapes and languages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random

import pytest

from flantune.tasks import load_task
from flantune.tasks.init import Wishes, init_tasks
from flantune.tasks.lint import check_task

GOOD = ["wonderful", "great", "love", "perfect", "happy", "excellent", "friendly", "fresh", "fast", "clean"]
BAD = ["terrible", "broken", "awful", "hate", "dirty", "slow", "rude", "cold", "late", "disappointing"]
PLAIN = [
    "we",
    "went",
    "there",
    "on",
    "monday",
    "with",
    "the",
    "whole",
    "family",
    "and",
    "ordered",
    "food",
    "before",
    "it",
    "was",
    "closing",
    "time",
    "again",
]
TOPICS = {
    "billing": ["invoice", "charge", "refund", "payment", "card", "account", "fee", "paid", "money", "price"],
    "delivery": ["parcel", "courier", "address", "shipping", "arrived", "warehouse", "tracking", "box", "late", "door"],
    "login": ["password", "username", "browser", "locked", "reset", "email", "code", "screen", "session", "sign"],
}
SUBJECTS = [
    "committee",
    "harbour",
    "museum",
    "railway",
    "orchestra",
    "bakery",
    "library",
    "bridge",
    "festival",
    "hospital",
]
VERBS = ["opens", "closes", "rebuilds", "plans", "sells", "repairs", "paints", "honours", "moves", "funds"]
OBJECTS = ["hall", "garden", "engine", "roof", "ticket", "archive", "square", "tower", "market", "school"]


def sentence(draw, words, count=14):
    return " ".join(draw.choice(words) for _ in range(count)).capitalize() + "."


def reviews(count=160, seed=1):
    draw = random.Random(seed)
    for _ in range(count):
        stars = draw.randint(1, 5)
        words = GOOD * (stars - 1) + BAD * (5 - stars) + PLAIN
        yield sentence(draw, words), stars, draw


def tickets(count=160, seed=2):
    draw = random.Random(seed)
    for _ in range(count):
        topic = draw.choice(list(TOPICS))
        yield sentence(draw, TOPICS[topic] * 2 + PLAIN), topic, draw


def news(count=120, seed=3):
    draw = random.Random(seed)
    for _ in range(count):
        subject, verb, thing = draw.choice(SUBJECTS), draw.choice(VERBS), draw.choice(OBJECTS)
        number = draw.randint(2, 900)
        short = f"The {subject} {verb} its {thing} for {number} people."
        filler = " ".join(sentence(draw, PLAIN, 12) for _ in range(3))
        yield (
            f"The {subject} in town {verb} its old {thing} next week. {filler} About {number} people are waiting.",
            short,
        )


def comma(rows, header=True, delimiter=","):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter)
    if header:
        writer.writerow(list(rows[0]))
    writer.writerows(list(row.values()) for row in rows)
    return stream.getvalue()


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def stamps(i):
    return f"2024-03-{i % 28 + 1:02d} {i % 24:02d}:15:00"


def german():
    return comma(
        [
            {"Vorgangs-Nr.": 4000 + i, "Eingang": stamps(i), "Kundenanfrage": t, "Rubrik": k, "Mandant": "ACME"}
            for i, (t, k, _) in enumerate(tickets())
        ],
        delimiter=";",
    )


def spanish():
    return comma([{"puntuación": s, "reseña": t, "fecha": stamps(i)} for i, (t, s, _) in enumerate(reviews())])


def abbreviations():
    return comma(
        [{"x1": i * 3, "x2": t, "x3": draw.choice("abcd"), "kat": k} for i, (t, k, draw) in enumerate(tickets())]
    )


def headerless():
    return comma([{"a": t, "b": k} for t, k, _ in tickets()], header=False)


def label_first():
    return comma([{"a": k, "b": t} for t, k, _ in tickets()], header=False, delimiter="\t")


def fasttext():
    return "".join(f"__label__{k} {t}\n" for t, k, _ in tickets())


def zero_to_ten():
    return lines(
        [{"id": f"r{i:05d}", "comment": t, "nps": min(10, s * 2 + i % 2)} for i, (t, s, _) in enumerate(reviews(300))]
    )


def german_stars():
    return comma(
        [
            {
                "Bewertung (1-5)": s,
                "Kommentar": t,
                "Filiale": draw.choice(["Nord", "Süd"]),
                "Datum": f"{i % 28 + 1}.{i % 12 + 1}.2024",
            }
            for i, (t, s, draw) in enumerate(reviews())
        ],
        delimiter=";",
    )


def flags():
    return comma([{"uid": f"u{i}x9", "is_spam": int(s < 3), "msg": t} for i, (t, s, _) in enumerate(reviews())])


def truth_values():
    return lines([{"body": t, "urgent": s < 3, "lang": "en"} for t, s, _ in reviews()])


def many_labels():
    rows = []
    for t, k, draw in tickets():
        rows.append({"text": t, "labels": sorted({k, draw.choice(list(TOPICS))})})
    return lines(rows)


def joined_labels():
    return comma(
        [{"text": t, "themes": ";".join(sorted({k, draw.choice(list(TOPICS))}))} for t, k, draw in tickets(300)]
    )


def mail():
    return comma([{"Betreff": " ".join(t.split()[:4]), "Nachricht": t, "Abteilung": k} for t, k, _ in tickets(300)])


def summaries():
    return lines([{"nr": i, "inhalt": text, "kurzfassung": short} for i, (text, short) in enumerate(news())])


def nested_summaries():
    rows = [
        {"meta": {"uuid": f"{i:08x}-aa11", "lang": "en"}, "doc": {"body": t}, "out": {"summary": s}}
        for i, (t, s) in enumerate(news())
    ]
    return json.dumps({"version": "1.1", "data": rows})


def unnamed_summaries():
    return comma([{"f1": s, "f2": t} for t, s in news()])


def questions():
    draw = random.Random(4)
    rows = []
    for text, _ in news(100):
        words = text.split()
        rows.append(
            {
                "qid": f"q-{draw.randint(10**6, 10**7)}",
                "passage": text,
                "question": f"What does the {words[1]} do to its {words[7]}?",
                "answer": words[1],
            }
        )
    return lines(rows)


def squad():
    paragraphs = []
    for number, (text, _) in enumerate(news(60)):
        words = text.split()
        qas = [
            {
                "id": f"5{number}a{n}",
                "question": f"Who is it that {words[4]} number {n}?",
                "answers": [{"text": words[1], "answer_start": 4}],
            }
            for n in range(2)
        ]
        paragraphs.append({"context": text, "qas": qas})
    return json.dumps({"version": "2", "data": [{"title": "Town", "paragraphs": paragraphs}]})


def choices_in_columns():
    draw = random.Random(5)
    rows = []
    for i in range(120):
        options = [sentence(draw, PLAIN, 5) for _ in range(4)]
        rows.append(
            {
                "id": i,
                "Frage": f"Which sentence is number {i} in the old book of {draw.choice(SUBJECTS)}?",
                "option_a": options[0],
                "option_b": options[1],
                "option_c": options[2],
                "option_d": options[3],
                "richtig": draw.choice("ABCD"),
            }
        )
    return comma(rows)


def choices_in_lists():
    draw = random.Random(6)
    return lines(
        [
            {
                "stem": f"The {draw.choice(SUBJECTS)} number {i} needs what?",
                "options": [f"{w} {i}" for w in draw.sample(OBJECTS, 3)],
                "gold_idx": draw.randint(0, 2),
            }
            for i in range(120)
        ]
    )


def entailment():
    rows = []
    for i, (text, short) in enumerate(news(150)):
        rows.append(
            {
                "sentence1": text,
                "sentence2": short if i % 3 else short.replace("people", "dogs"),
                "gold_label": ["neutral", "entailment", "contradiction"][i % 3],
                "pairID": f"{i}.jpg#0",
            }
        )
    return lines(rows)


def paraphrases():
    rows = []
    for i, (_, short) in enumerate(news(150)):
        other = short.replace("The", "A").replace("its", "the") if i % 2 else list(news(150, seed=9))[i][1]
        rows.append(
            {"id": i, "qid1": 2 * i, "qid2": 2 * i + 1, "question1": short, "question2": other, "is_duplicate": i % 2}
        )
    return comma(rows)


def likeness():
    rows = []
    others = list(news(150, seed=9))
    for i, (_, short) in enumerate(news(150)):
        words, keep = short.split(), i % 5
        mixed = words[: 2 * keep] + others[i][1].split()[2 * keep :]
        rows.append({"s1": short, "s2": " ".join(mixed), "score": keep + (i % 4) / 4})
    return comma(rows)


def entities():
    draw = random.Random(7)
    rows = []
    for _ in range(120):
        who, where = draw.choice(["Anna Berg", "Tom Lee", "Ines Costa"]), draw.choice(["Oslo", "Lima", "Bonn"])
        text = f"Yesterday {who} came to {where} by train {draw.randint(1, 9999)} with the others."
        rows.append(
            {
                "text": text,
                "spans": [
                    {"start": 10, "end": 10 + len(who), "label": "PER"},
                    {"start": text.index(where), "end": text.index(where) + len(where), "label": "LOC"},
                ],
            }
        )
    return lines(rows)


def tagged_words():
    draw = random.Random(8)
    rows = []
    for _ in range(120):
        name = draw.choice(["Anna Berg", "Tom Lee"]).split()
        words = [*name, "came", "to", draw.choice(["Oslo", "Lima"]), "by", str(draw.randint(1, 9999)), "."]
        rows.append({"tokens": words, "ner_tags": ["B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "O"]})
    return lines(rows)


def messages():
    return lines(
        [
            {
                "id": i,
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    {"role": "user", "content": t},
                    {"role": "assistant", "content": s},
                ],
            }
            for i, (t, s) in enumerate(news())
        ]
    )


def alpaca():
    return json.dumps(
        [
            {"instruction": f"Tell me about the {s.split()[1]}.", "input": t if i % 2 else "", "output": s}
            for i, (t, s) in enumerate(news())
        ]
    )


def word_problems():
    draw = random.Random(9)
    rows = []
    for i in range(120):
        a, b = draw.randint(2, 60), draw.randint(2, 60)
        rows.append(
            {
                "idx": i,
                "question": f"The {draw.choice(SUBJECTS)} has {a} chairs and buys {b} more. How many now?",
                "answer": a + b,
            }
        )
    return lines(rows)


def worked_problems():
    draw = random.Random(10)
    rows = []
    for _ in range(120):
        a, b = draw.randint(2, 60), draw.randint(2, 60)
        rows.append(
            {
                "problem": f"There are {a} chairs and {b} more come. How many are there?",
                "solution": f"We start with {a} chairs and add {b} chairs.\nThat makes {a} + {b}.\nAnswer: {a + b}",
            }
        )
    return lines(rows)


def facts():
    draw = random.Random(11)
    rows = []
    for _ in range(120):
        name, area, food = draw.choice(SUBJECTS).title(), draw.choice(["centre", "riverside"]), draw.choice(OBJECTS)
        rows.append({"mr": f"name[{name}], area[{area}], sells[{food}]", "utt": f"{name} sells {food} in the {area}."})
    return comma(rows)


def corrections():
    rows = [{"before": short.replace("its", "it").replace("people", "peple"), "after": short} for _, short in news()]
    return comma(rows, delimiter="\t")


def queries():
    draw = random.Random(12)
    return lines(
        [
            {
                "nl": f"How many rows of {t} have more than {n} items?",
                "q": f"SELECT COUNT(*) FROM {t} WHERE items > {n}",
            }
            for t, n in ((draw.choice(OBJECTS), draw.randint(1, 99)) for _ in range(120))
        ]
    )


def functions():
    draw = random.Random(13)
    return lines(
        [
            {"docstring": f"Adds {n} to the {t}.", "code": f"def add_{t}(x):\n    y = x + {n}\n    return (y)\n"}
            for t, n in ((draw.choice(OBJECTS), draw.randint(1, 99)) for _ in range(120))
        ]
    )


def flowers():
    draw = random.Random(14)
    rows = []
    for _ in range(150):
        kind = draw.choice(["setosa", "virginica"])
        size = 1 if kind == "setosa" else 5
        rows.append(
            {"len": round(draw.gauss(size, 0.3), 1), "wid": round(draw.gauss(size / 2, 0.2), 1), "species": kind}
        )
    return comma(rows)


def prices():
    rows = []
    for i, (t, s, draw) in enumerate(reviews(200)):
        rows.append({"sku": f"AB{i:06d}", "beschreibung": t, "score": round(s * 20 + draw.random() * 9, 2)})
    return comma(rows)


FILES = {
    # name: (file name, text, kind, what is given, what is asked for, main metric)
    "German names, semicolons, a number, a date, a constant": (
        "anfragen.csv",
        german,
        "classification",
        "Kundenanfrage",
        "Rubrik",
        "accuracy",
    ),
    "Spanish names, the answer first": ("datos.csv", spanish, "rating", "reseña", "puntuación", "mean_absolute_error"),
    "abbreviations that say nothing": ("t.csv", abbreviations, "classification", "x2", "kat", "accuracy"),
    "no header": ("rows.csv", headerless, "classification", "text", "label", "accuracy"),
    "no header, the label first, tabs": ("rows.tsv", label_first, "classification", "text", "label", "accuracy"),
    "the label before each text": ("train.txt", fasttext, "classification", "text", "label", "accuracy"),
    "a scale from 0 to 10": ("nps.jsonl", zero_to_ten, "rating", "comment", "nps", "mean_absolute_error"),
    "German stars with a scale in the name": (
        "b.csv",
        german_stars,
        "rating",
        "Kommentar",
        "Bewertung (1-5)",
        "mean_absolute_error",
    ),
    "flags": ("spam.csv", flags, "classification", "msg", "is_spam", "accuracy"),
    "truth values": ("mails.jsonl", truth_values, "classification", "body", "urgent", "accuracy"),
    "lists of labels": ("multi.jsonl", many_labels, "multi_label", "text", "labels", "exact_match"),
    "labels joined by semicolons": ("multi.csv", joined_labels, "multi_label", "text", "themes", "exact_match"),
    "subject and body": ("mail.csv", mail, "classification", "Betreff + Nachricht", "Abteilung", "accuracy"),
    "German summaries": ("news.jsonl", summaries, "summarization", "inhalt", "kurzfassung", "rouge1"),
    "summaries nested in objects": (
        "news.json",
        nested_summaries,
        "summarization",
        "doc.body",
        "out.summary",
        "rouge1",
    ),
    "summaries without telling names, the short one first": (
        "news.csv",
        unnamed_summaries,
        "summarization",
        "f2",
        "f1",
        "rouge1",
    ),
    "passage, question, answer": ("qa.jsonl", questions, "reading", "question + passage", "answer", "token_f1"),
    "questions nested in paragraphs": ("qa.json", squad, "reading", "question + context", "answers.text", "token_f1"),
    "choices in columns and a letter": (
        "quiz.csv",
        choices_in_columns,
        "multiple_choice",
        "Frage",
        "richtig",
        "accuracy",
    ),
    "choices in a list and an index": (
        "quiz.jsonl",
        choices_in_lists,
        "multiple_choice",
        "stem",
        "gold_idx",
        "accuracy",
    ),
    "entailment": ("nli.jsonl", entailment, "entailment", "sentence1 + sentence2", "gold_label", "accuracy"),
    "duplicates": ("dup.csv", paraphrases, "same_meaning", "question1 + question2", "is_duplicate", "accuracy"),
    "likeness in numbers": ("sts.csv", likeness, "similarity", "s1 + s2", "score", "mean_absolute_error"),
    "spans by their place": ("ner.jsonl", entities, "extraction", "text", "spans", "entity_f1"),
    "words and tags": ("ner2.jsonl", tagged_words, "extraction", "tokens", "ner_tags", "entity_f1"),
    "messages": ("chat.jsonl", messages, "conversation", "messages", "messages", "rouge1"),
    "instruction, input, output": ("alpaca.json", alpaca, "instruction", "instruction + input", "output", "rouge1"),
    "word problems": ("math.jsonl", word_problems, "math", "question", "answer", "accuracy"),
    "worked word problems": ("steps.jsonl", worked_problems, "reasoning", "problem", "solution", "accuracy"),
    "facts in a notation": ("facts.csv", facts, "data_to_text", "mr", "utt", "bleu"),
    "corrections": ("fix.tsv", corrections, "correction", "before", "after", "bleu"),
    "questions and SQL": ("sql.jsonl", queries, "sql", "nl", "q", "exact_match"),
    "descriptions and code": ("code.jsonl", functions, "code", "docstring", "code", "bleu"),
    "a table of numbers": ("flowers.csv", flowers, "record_classification", "len + wid", "species", "accuracy"),
    "a score with decimals": ("shop.csv", prices, "number", "beschreibung", "score", "mean_absolute_error"),
}


@pytest.mark.parametrize("shape", FILES)
def test_a_file_is_taken_for_what_it_is(tmp_path, shape):
    name, text, kind, given, target, metric = FILES[shape]
    (tmp_path / name).write_text(text(), encoding="utf-8", newline="")
    (task,) = init_tasks([tmp_path / name], tmp_path / "out").tasks
    told = (task.kind, frozenset(task.given), task.target, task.keys["metrics"][0])
    assert told == (kind, frozenset(given.split(" + ")), target, metric)
    assert sum(1 for template in task.templates if not template.get("inverted")) >= 8
    assert any(template.get("held_out") for template in task.templates)
    assert sum(1 for template in task.templates if template.get("inverted")) <= 3
    check_task(load_task(tmp_path / "out" / f"{task.name}.yaml"))


# --- several files ------------------------------------------------------------------------------------------


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return sorted(folder / name for name in files)


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "valid.csv", "test.csv"),
        ("mails_train.csv.gz", "mails_dev.csv", "mails_test.csv"),
        ("train/part.csv", "validation/part.csv", "test/part.csv"),
        ("emerging.training.csv", "new.dev.csv", "other.testing.csv"),
    ],
)
def test_files_that_are_splits_are_one_task(tmp_path, names):
    texts = [comma([{"text": t, "topic": k} for t, k, _ in tickets(60, seed=seed)]) for seed in (1, 2, 3)]
    files = written(tmp_path / "in", dict(zip(names, texts, strict=True)))
    (task,) = init_tasks(files, tmp_path / "out").tasks
    assert dict(task.rows) == {"train": 60, "validation": 60, "test": 60}


PAIRS = [
    ("the big dog sleeps here", "der große hund schläft hier"),
    ("we are going to the old house", "wir gehen zu dem alten haus"),
    ("this is not a good idea for the children", "das ist keine gute idee für die kinder"),
    ("he has a car", "er hat ein auto"),
]


@pytest.mark.parametrize(
    "names", [("x.en", "x.de"), ("train.en.txt", "train.de.txt"), ("corpus.tok.en", "corpus.tok.de")]
)
def test_two_files_of_one_length_in_two_languages_are_a_translation(tmp_path, names):
    sides = ["".join(pair[side] + f" {i}\n" for i, pair in enumerate(PAIRS * 20)) for side in (0, 1)]
    files = written(tmp_path / "in", dict(zip(names, sides, strict=True)))
    (task,) = init_tasks([tmp_path / "in" / name for name in names], tmp_path / "out").tasks
    assert (task.kind, task.given, task.target) == ("translation", ("en",), "de")
    assert len(files) == 2


def test_a_file_for_each_class_is_a_classification_though_both_are_equally_long(tmp_path):
    draw = random.Random(3)
    files = written(
        tmp_path / "in",
        {
            f"reviews.{name}": "".join(sentence(draw, words * 2 + PLAIN, draw.randint(5, 20)) + "\n" for _ in range(80))
            for name, words in (("pos", GOOD), ("neg", BAD))
        },
    )
    (task,) = init_tasks(files, tmp_path / "out").tasks
    assert (task.kind, task.keys["answer_choices"]) == ("classification", ["negative", "positive"])


def test_words_tags_and_intents_in_three_files_are_two_tasks(tmp_path):
    draw = random.Random(4)
    rows = []
    for i in range(80):
        intent, word = draw.choice([("flight", "fly"), ("fare", "price")])
        tags = draw.choice(["O O B-city O B-day O", "O O B-city O B-day B-number"])
        rows.append((f"{word} to {draw.choice(['oslo', 'lima'])} on monday {i}", tags, intent))
    names = ("seq.in", "seq.out", "label")
    files = {
        f"{split}/{name}": "".join(row[side] + "\n" for row in rows)
        for split in ("train", "test")
        for side, name in enumerate(names)
    }
    written(tmp_path / "in", files)
    made = init_tasks([tmp_path / "in"], tmp_path / "out").tasks
    assert {(task.kind, task.given, task.target) for task in made} == {
        ("classification", ("seq_in",), "label"),
        ("extraction", ("seq_in",), "seq_out"),
    }


def test_several_references_are_references_of_one_task(tmp_path):
    bad = [short.replace("its", "it") for _, short in news(60)]
    good = [short for _, short in news(60)]
    files = {"dev.src": bad, "dev.ref0": good, "dev.ref1": [text.replace("The", "A") for text in good]}
    written(tmp_path / "in", {name: "\n".join(texts) + "\n" for name, texts in files.items()})
    (task,) = init_tasks([tmp_path / "in"], tmp_path / "out").tasks
    assert (task.kind, task.given, task.target) == ("correction", ("src",), "ref")
    assert task.keys["references"] == ["{{ ref[0] }}", "{{ ref[1] if ref | length > 1 else '' }}"]


def test_labels_in_a_second_file_and_names_of_classes_in_a_third(tmp_path):
    rows = [(t, list(TOPICS).index(k)) for t, k, _ in tickets(120)]
    written(
        tmp_path / "in",
        {
            "test.csv": comma([{"a": label + 1, "b": text} for text, label in rows], header=False),
            "classes.txt": "\n".join(TOPICS) + "\n",
        },
    )
    (task,) = init_tasks([tmp_path / "in"], tmp_path / "out").tasks
    assert task.keys["answer_choices"] == sorted(TOPICS)
    written(
        tmp_path / "two",
        {
            "x.jsonl": lines([{"text": text} for text, _ in rows]),
            "x-labels.lst": "".join(f"{label}\n" for _, label in rows),
        },
    )
    (task,) = init_tasks([tmp_path / "two"], tmp_path / "out2").tasks
    assert (task.kind, task.given, task.target) == ("classification", ("text",), "label")


def test_files_of_other_tasks_stay_apart(tmp_path):
    written(tmp_path / "in", {"mails.csv": mail(), "nps.jsonl": zero_to_ten()})
    made = init_tasks([tmp_path / "in"], tmp_path / "out").tasks
    assert {task.kind for task in made} == {"classification", "rating"}


# --- what is said beforehand --------------------------------------------------------------------------------


def test_wishes_go_before_evidence(tmp_path):
    (tmp_path / "news.jsonl").write_text(summaries())
    (task,) = init_tasks(
        [tmp_path / "news.jsonl"], tmp_path / "a", Wishes(target="inhalt", input_=("kurzfassung",))
    ).tasks
    assert (task.given, task.target) == (("kurzfassung",), "inhalt")
    (task,) = init_tasks([tmp_path / "news.jsonl"], tmp_path / "b", Wishes(kind="rewriting")).tasks
    assert task.kind == "rewriting"
    words = "What happened in town? {{ no field }} ||| 100 %"
    (task,) = init_tasks([tmp_path / "news.jsonl"], tmp_path / "c", Wishes(instruction=words)).tasks
    made = load_task(tmp_path / "c" / "news.yaml")
    assert made.spec.description == words
    assert made.example(0)[0].startswith(f"{words}\n\nThe ")
