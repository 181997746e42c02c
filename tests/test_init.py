"""`flantune init`: any names and texts survive into files that load, mistakes are one line, nothing is half-written."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import METRICS
from flantune.recipe import load_recipe
from flantune.tasks import find_task, load_task
from flantune.tasks.init import Wishes, init_tasks
from flantune.tasks.init.columns import Column
from flantune.tasks.init.given import given_files
from flantune.tasks.init.phrasings import filled, phrasings
from flantune.tasks.init.relations import Relation, foretells, is_ordinal
from flantune.tasks.init.sniff import form_of, has_header
from flantune.tasks.init.tidy import shared_beginning, tidying
from flantune.tasks.init.write import flow
from flantune.tasks.lint import check_task


def table(path, rows, delimiter=","):
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    return path


def many(answers, *, given="text", asked="label", count=80):
    return [{given: f"mail number {i} about something", asked: answers[i % len(answers)]} for i in range(count)]


def made(files, out, *, given_=None, asked=None, **options):
    """The task of a file, read and checked, and its recipe, read."""
    wishes = Wishes(target=asked, input_=(given_,) if given_ else ())
    result = init_tasks([files], out, wishes, **options)
    (draft,) = result.tasks
    task = load_task(result.files[0])
    check_task(task)
    recipe = load_recipe(result.files[-1])
    trained = [one.choice.task for one in recipe.trained()]
    assert trained == [str(result.files[0].resolve()), "starter/instructions"]
    assert set(task.spec.metrics) <= METRICS.keys()
    return draft, task


def told(call, *arguments, **options):
    with pytest.raises(FlantuneError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_table_becomes_a_task_with_phrasings_metrics_splits_and_a_recipe(tmp_path, kind):
    rows, file = many(["question", "praise"]), tmp_path / f"Mails of 2024.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        table(file, rows, "\t" if kind == "tsv" else ",")
    draft, task = made(file, tmp_path)
    assert (draft.name, draft.kind, task.spec.cluster) == ("mails_of_2024", "classification", "classification")
    assert (tmp_path / "mails_of_2024.yaml").exists()
    assert (tmp_path / "recipe.yaml").exists()
    assert task.spec.answer_choices == ("praise", "question")
    assert (task.spec.evaluate_by, task.spec.metrics) == ("choices", ("accuracy", "macro_f1"))
    assert task.example(0) == (
        "What is the category of this text?\n\nmail number 0 about something\n\nOPTIONS:\n- praise\n- question",
        "question",
    )
    assert len(task.split("train")) > len(task.split("test")) > 0
    for choice in load_recipe(tmp_path / "recipe.yaml").unseen:
        find_task(choice.task)


def test_the_made_files_explain_their_lines(tmp_path):
    made(table(tmp_path / "mails.csv", many(["a", "b"])), tmp_path)
    text = (tmp_path / "mails.yaml").read_text(encoding="utf-8")
    assert text.startswith("# Made by flantune init; edit freely, then: flantune tasks lint mails.yaml\n")
    assert "fractions: {train: 0.8, test: 0.2}   # by a hash of each row: appending rows moves none\n" in text
    recipe = (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    assert recipe.startswith(
        "# flantune plan recipe.yaml   shows what it will do; flantune train recipe.yaml   does it.\n"
    )


CLASSES, NUMBERS = ("accuracy", "macro_f1"), ("mean_absolute_error", "accuracy")
MARKS = ('"d"', "#e", "[c", "a: b", "{{ f }}", "ü\u2028🙂")


@pytest.mark.parametrize(
    ("answers", "choices", "metrics"),
    [
        (["10", "9", "1"], ("1", "9", "10"), CLASSES),
        ([f"{i}" for i in range(1, 6)], ("1", "2", "3", "4", "5"), NUMBERS),
        (["10", "9", "many"], ("10", "9", "many"), CLASSES),
        (["yes", "no", "NA"], ("NA", "no", "yes"), CLASSES),
        (["true", "false"], ("false", "true"), CLASSES),
        (MARKS, MARKS, CLASSES),
    ],
)
def test_few_answers_are_a_closed_set_and_numbers_are_ordered(tmp_path, answers, choices, metrics):
    _, task = made(table(tmp_path / "mails.csv", many(answers)), tmp_path, asked="label")
    assert (task.spec.answer_choices, task.spec.metrics) == (choices, metrics)


def test_answers_that_only_some_rows_far_into_the_file_have_are_among_the_choices(tmp_path):
    rows = many(["a", "b"], count=3000)
    rows[2500]["label"] = "rare"
    _, task = made(table(tmp_path / "mails.csv", rows), tmp_path)
    assert task.spec.answer_choices == ("a", "b", "rare")


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path):
    rows = many(["a", "b"])
    rows[3]["label"] = "  "
    draft, _ = made(table(tmp_path / "mails.csv", rows), tmp_path)
    assert sum(draft.rows.values()) == 79
    assert 'rows that lack something are left out (1 without "label")' in draft.why
    lines = "".join(json.dumps(row) + "\n" for row in [{"text": "a text without any label here"}, *many(["a", "b"])])
    (tmp_path / "x.jsonl").write_text(lines)
    draft, _ = made(tmp_path / "x.jsonl", tmp_path / "out")
    assert sum(draft.rows.values()) == 80


ODD = [
    "first name",
    "class",
    "if",
    "not",
    "true",
    "None",
    "self",
    "super",
    "loop",
    "range",
    "row",
    "field",
    "caller",
    "answer-choices",
    "e-mail",
    "2024",
    "a.b",
    "a: b",
    "#1",
    "- x",
    "[x]",
    "{x",
    "{{ x }}",
    "{% x %}",
    "x ||| y",
    "|",
    'say "hi"',
    "it's",
    "back\\slash",
    "größe",
    "日本",
    "🙂",
    "two\nlines",
    "yes",
    "null",
    "~",
    "*",
    "&a",
    "!b",
    "%c",
    "@d",
    "x\u2028y",
    "x\x85y",
    "x\x7fy",
    "x" * 200,
]


@pytest.mark.parametrize("odd", ODD)
def test_a_column_of_any_name_can_be_given_and_asked_for(tmp_path, odd):
    for place, names in enumerate([(odd, "label"), ("text", odd)]):
        folder = tmp_path / str(place)
        folder.mkdir()
        rows = many(["a", "b"], given=names[0], asked=names[1])
        (folder / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        _, task = made(folder / "mails.jsonl", folder, given_=names[0], asked=names[1])
        assert task.spec.shorten == names[0]
        for template in task.templates:
            if not template.inverted:
                prompt, target = task.render(template, rows[3], "here")
                assert "mail number 3" in prompt
                assert target == "b"


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
two_words = st.lists(words.filter(str.strip), min_size=2, max_size=2, unique_by=str.strip)


@settings(deadline=None, max_examples=25)
@given(names=two_words, texts=two_words)
def test_any_names_and_answers_survive_the_way_into_a_task(tmp_path_factory, names, texts):
    assume(not {"answer_choices", "options"} & set(names) and not any("|||" in text for text in texts))
    assume(texts[0].strip().casefold().strip(".") != texts[1].strip().casefold().strip("."))
    folder = tmp_path_factory.mktemp("init")
    # Rows are divided by hash: of 40, all go to train once in ten thousand tables; of 120, never.
    rows = many(texts, given=names[0], asked=names[1], count=120)
    (folder / "mails.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wishes = Wishes("classification", (names[0],), names[1])
    (draft,) = init_tasks([folder / "mails.jsonl"], folder, wishes).tasks
    task = load_task(folder / "mails.yaml")
    check_task(task)
    assert (
        set(draft.keys.get("answer_choices", texts)) == {text.strip() for text in texts}
        or draft.keys["answer_choices"] == texts
    )


@pytest.mark.parametrize(
    "stem", ["2024", "null", "yes", "1e5", "_x", "..x", "ÄÖ", "a b#c", "x" * 120, "[a]", "it's 🙂"]
)
def test_a_file_of_any_name_gives_files_that_load(tmp_path, stem):
    draft, task = made(table(tmp_path / f"{stem}.csv", many(["a", "b"])), tmp_path)
    assert (tmp_path / f"{draft.name}.yaml").exists()
    assert draft.name == task.name
    assert task.spec.origins == (f"{stem}.csv",)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | words,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
        max_leaves=6,
    )
)
@settings(max_examples=60)
def test_values_written_on_one_line_are_read_as_they_were(value):
    from ruamel.yaml import YAML

    assert YAML(typ="safe").load(f"key: {flow(value)}\n")["key"] == value


# --- formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "cp1252", "cp1251", "shift_jis", "gb18030"])
def test_the_encoding_of_a_table_is_found(tmp_path, name):
    texts = {
        "cp1251": "Посылка пришла поздно и коробка была открыта",
        "shift_jis": "荷物はまだ届いていませんのでしらべてください",
        "gb18030": "包裹还没有到请您帮我查一下好吗谢谢",
    }
    text = texts.get(name, "Das Paket für Frau Müller ist größer als nötig")
    rows = [{"text": f"{text} {i}", "label": "ab"[i % 2]} for i in range(60)]
    plain = table(tmp_path / "plain.csv", rows).read_text(encoding="utf-8")
    (tmp_path / "mails.csv").write_bytes(plain.encode(name))
    made(tmp_path / "mails.csv", tmp_path)
    assert load_task(tmp_path / "mails.yaml").split("train")[0]["text"].startswith(text)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(codecs.BOM_UTF8 + table(tmp_path / "b.csv", many(["a", "b"])).read_bytes())
    draft, _ = made(tmp_path / "a.csv", tmp_path)
    assert draft.given == ("text",)


FORMS = {
    "x.csv": ("a,b\n" + 'text one here,"1"\n' * 9, "csv", {}),
    "x.txt": ("text\tn\n" + '"bare quote at once\t1\nno end" here\t2\n' * 9, "tsv", {}),
    "y.tsv": ("text\tn\n" + '"quoted, text"\t1\n"and ""more"""\t2\n' * 9, "tsv", {"quoting": "minimal"}),
    "z.csv": ("kommentar;note\n" + "ja, gut;1,5\n" * 9, "csv", {"delimiter": ";"}),
    "rows.json": (json.dumps([{"a": 1}, {"a": 2}, {"a": 3}]), "json", {}),
    "cols.json": (json.dumps({"a": ["x", "y", "z", "w"], "b": [1, 2, 3, 4]}), "json", {"orient": "columns"}),
    "pairs.jsonl": ('["a text", "b"]\n' * 5, "jsonl", {"header": ["column_1", "column_2"]}),
    "tags.txt": ("Oslo B-LOC\nis O\n\nLima B-LOC\nis O\n\n" * 5, "conll", {}),
    "x.xml": ("<r>" + '<item id="1"><p>a</p><q>b</q></item>' * 5 + "</r>", "xml", {"records": ".//item"}),
    "x.yaml": ("- a: one\n  b: two\n" * 5, "yaml", {}),
    "plain.txt": ("one line\nand another one\n" * 5, "lines", {}),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_form_of_a_file_is_seen_from_its_content(tmp_path, name):
    text, kind, keys = FORMS[name]
    (tmp_path / name).write_text(text)
    (file,) = given_files([tmp_path / name])
    form = form_of(file)
    assert (form.kind, dict(form.keys)) == (kind, keys)


@pytest.mark.parametrize(
    ("rows", "has"),
    [
        ([["text", "label"], ["how are you", "a"], ["fine thanks", "b"]], True),
        ([["how are you", "x1"], *[["fine thanks", "x2"], ["and you", "x1"]] * 3], False),
        ([["", "n"], ["0", "5"], ["1", "4"]], True),
        ([["1", "some text"], ["2", "more text"]], False),
        ([["Umsatz", "Kunde"], ["12.5", "ACME"], ["13.0", "Berg"]], True),
        ([["x", "x"], ["1", "2"]], False),
    ],
)
def test_a_header_is_told_from_a_row(rows, has):
    assert has_header(rows) is has


TIDY = {
    "marks at the end": (
        ["a<|endoftext|>", "b c<|endoftext|>", "d<|endoftext|>"],
        [{"strip_suffix": {"field": "x", "suffix": "<|endoftext|>"}}],
    ),
    "an answer that is waited for": (
        ["Q one?\nAnswer:", "Q two?\nAnswer:", "Q no?\nAnswer:"],
        [{"strip_suffix": {"field": "x", "suffix": "\nAnswer:"}}],
    ),
    "a word before each": (
        ["Question: a b", "Question: c d", "Question: e"],
        [{"strip_prefix": {"field": "x", "prefix": "Question: "}}],
    ),
    "a word before each part": (["Question: a\nText: b", "Question: c\nText: d", "Question: e\nText: f"], []),
    "escaped line ends": ([r"a\nb", r"c\nd", "e"], [{"unescape": "x"}]),
    "a prompt's last words": (["a\nTL;DR:", "b\nTL;DR:", "c\nTL;DR:"], []),
    "JSON in a text": (['["a", "b"]', '["c"]', "[]"], [{"cast": {"field": "x", "to": "json"}}]),
}


@pytest.mark.parametrize("case", TIDY)
def test_what_stands_in_the_way_is_taken_off_and_nothing_else(case):
    texts, transforms = TIDY[case]
    assert tidying([{"x": text} for text in texts]) == transforms


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_a_shared_beginning_is_the_longest_that_all_have(texts):
    shared = shared_beginning(texts)
    assert all(text.startswith(shared) for text in texts)
    longer = {text[: len(shared) + 1] for text in texts}
    assert len(longer) > 1 or longer == {shared}


# --- evidence -----------------------------------------------------------------------------------------------


def test_words_foretell_a_label_that_depends_on_them_and_no_other():
    texts = [f"{'good great' if i % 2 else 'bad awful'} thing number {i}" for i in range(200)]
    assert foretells(texts, [str(i % 2) for i in range(200)]) > 0.9
    assert foretells(texts, [str(i // 2 % 2) for i in range(200)]) < 0.3
    assert foretells([], []) == 0.0


def test_numbers_are_a_scale_where_neighbours_have_alike_words():
    texts = [
        " ".join(["good"] * step + ["bad"] * (5 - step) + [f"w{step}", f"w{step + 1}"])
        for step in range(6)
        for _ in range(30)
    ]
    numbers = [float(step) for step in range(6) for _ in range(30)]
    assert is_ordinal(texts, numbers)
    mixed = {0.0: 3.0, 1.0: 0.0, 2.0: 5.0, 3.0: 2.0, 4.0: 1.0, 5.0: 4.0}
    assert not is_ordinal(texts, [mixed[number] for number in numbers])


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=12))
def test_what_two_columns_have_in_common_is_a_share(pairs):
    relation = Relation(*(Column(("x",), tuple(pair[side] for pair in pairs)) for side in (0, 1)))
    for share in (relation.covered, relation.alike, relation.same, relation.copied, relation.edited):
        assert 0 <= share <= 1
    assert -1.000001 <= relation.lengths_agree <= 1.000001


# --- phrasings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", phrasings())
def test_each_kind_has_enough_phrasings_that_ask_for_a_known_metric(kind):
    phrased = phrasings()[kind]
    straight = {**phrased.straight, **phrased.worked}
    assert len(straight) >= 8
    assert phrased.held_out
    assert len(phrased.inverted) <= 3
    assert set(phrased.metrics) <= METRICS.keys()
    texts = [*straight.values(), *phrased.held_out.values(), *phrased.inverted.values()]
    assert len(set(texts)) == len(texts)
    assert all(text.count("|||") == 1 for text in texts)
    assert all("[target]" in text or "[worked]" in text for text in texts)


def test_places_of_a_phrasing_are_filled_once():
    places = {"input": "[target]", "noun": "email", "target": "{{ x }}", "options": ""}
    assert (
        filled("[Noun] of [a noun]: [input]\n\n[options] ||| [target]", places)
        == "Email of an email: [target] ||| {{ x }}"
    )


# --- mistakes -----------------------------------------------------------------------------------------------


MISTAKES = {
    "an unknown column": (Wishes(input_=("txt",)), 'no column "txt"; did you mean "text"? (label, text)'),
    "an unknown target": (Wishes(target="category"), 'no column "category"; known: label, text'),
    "an unknown kind": (
        Wishes(kind="summarisation"),
        '--kind: unknown kind "summarisation"; did you mean "summarization"? (',
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wish_that_cannot_be_fulfilled_is_told_and_nothing_is_written(tmp_path, mistake):
    wishes, message = MISTAKES[mistake]
    file = table(tmp_path / "mails.csv", many(["a", "b"]))
    assert told(init_tasks, [file], tmp_path, wishes).startswith(message)
    assert list(tmp_path.iterdir()) == [file]


def test_files_that_hold_no_task_are_told(tmp_path):
    missing = tmp_path / "no.csv"
    assert told(init_tasks, [missing], tmp_path) == f"{missing}: no such file; no .csv file is beside it"
    empty = tmp_path / "empty.csv"
    empty.write_text("\n")
    assert told(init_tasks, [empty], tmp_path) == f"{empty}: the file is empty; give one with rows"
    plain = tmp_path / "plain.txt"
    plain.write_text("one line and no more\nanother line of text\n" * 20)
    assert told(init_tasks, [plain], tmp_path) == (
        f"{plain}: each line is a text of its own, and nothing is asked about it; give the file of answers beside it"
    )
    one = table(tmp_path / "one.csv", [{"text": f"only a text number {i}", "id": f"{i}"} for i in range(50)])
    assert told(init_tasks, [one], tmp_path) == (
        f"{one}: no task found: nothing in it asks for an answer. Say --input and --target if there is one"
    )
    small = table(tmp_path / "small.csv", many(["a", "b"], count=2))
    assert told(init_tasks, [small], tmp_path, Wishes(target="label", input_=("text",))) == (
        f"{small}: too few rows: by the hash of each, 2 to train and 0 to test; both need some, so add rows"
    )
    prompts = tmp_path / "templates.yaml"
    prompts.write_text("dataset: x\ntemplates:\n  a: !Template\n    jinja: x\n")
    assert told(init_tasks, [prompts], tmp_path) == (
        f"{prompts}: holds prompt templates and no rows; a task takes them by `templates_from`"
    )
    broken = tmp_path / "broken.csv"
    broken.write_text("text,label\n" + "some text,a\nmore text,b\n" * 300 + "x,y,z\n")
    assert told(init_tasks, [broken], tmp_path).startswith(f"{broken}:602: 3 fields where 2 are wanted (text, label); ")
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".txt", ".yaml"}
    assert sorted(path.name for path in tmp_path.glob("*.yaml")) == ["templates.yaml"]


@pytest.mark.parametrize("name", ["mails.yaml", "recipe.yaml"])
def test_a_file_that_exists_is_never_written_over(tmp_path, name):
    file = table(tmp_path / "mails.csv", many(["a", "b"]))
    (tmp_path / name).write_text("mine")
    assert told(init_tasks, [file], tmp_path) == (
        f"{tmp_path}/{name}: exists already; give another folder with --out, or move it away"
    )
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mails.csv", name])


def test_what_cannot_be_written_whole_leaves_nothing(tmp_path):
    file = table(tmp_path / "mails.csv", many(["a", "b"]))
    out = tmp_path / "out"
    out.write_text("a file where the folder should be")
    with pytest.raises((FlantuneError, OSError)):
        init_tasks([file], out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mails.csv", "out"]


def test_the_classes_of_a_table_stand_in_both_splits_near_their_shares(tmp_path):
    _, task = made(table(tmp_path / "mails.csv", many(["a", "a", "b"], count=600)), tmp_path)
    for split, share in (("train", 0.8), ("test", 0.2)):
        counts = Counter(row["label"] for row in task.split(split))
        # The hash is fixed, so this cannot flicker; three standard deviations of 600 coins are 5 %.
        assert counts.total() / 600 == pytest.approx(share, abs=0.05)
        assert counts["a"] / counts.total() == pytest.approx(2 / 3, abs=0.1)


# --- questions ----------------------------------------------------------------------------------------------


class Person:
    def __init__(self, number, *words):
        self.number, self.words, self.asked = number, list(words), []

    def choose(self, question, answers):
        self.asked.append((question, list(answers)))
        return self.number

    def say(self, question):
        self.asked.append(question)
        return self.words.pop(0) if self.words else ""


def two_answers(path):
    rows = [
        {
            "text": f"{'good' if i % 2 else 'bad'} thing {i} {'now' if i % 3 else 'later'}",
            "mood": "ab"[i % 2],
            "when": "cd"[i % 3 > 0],
        }
        for i in range(90)
    ]
    return table(path, rows)


def test_a_person_is_asked_which_of_two_answers_is_wanted(tmp_path):
    file = two_answers(tmp_path / "m.csv")
    guessed = init_tasks([file], tmp_path / "guess").tasks[0]
    other = next(name for name in ("mood", "when") if name != guessed.target)
    assert guessed.guesses == (f'"{other}" could be asked for as well: --target {other}',)
    person = Person(1)
    chosen = init_tasks([file], tmp_path / "out", ask=person).tasks[0]
    assert chosen.target == other
    assert chosen.guesses == ()
    assert person.asked == [
        ("What should the model answer?", [f"{guessed.target} (classification)", f"{other} (classification)"])
    ]


def test_a_person_is_asked_what_numbers_of_classes_mean(tmp_path):
    file = table(tmp_path / "m.csv", many(["0", "1"]))
    guessed = init_tasks([file], tmp_path / "guess").tasks[0]
    assert guessed.guesses == ('what 0, 1 of "label" mean is not known; name them by a transform `map`',)
    person = Person(0, "praise", "blame")
    init_tasks([file], tmp_path / "out", ask=person)
    assert load_task(tmp_path / "out" / "m.yaml").spec.answer_choices == ("blame", "praise")
    assert person.asked[0] == 'What does 0 in "label" mean? (Enter keeps the number)'


def command(folder, *arguments):
    return [sys.executable, "-m", "flantune", "init", *arguments, "--out", str(folder)]


def test_nothing_is_asked_where_nobody_sits_at_a_terminal(tmp_path):
    file = two_answers(tmp_path / "m.csv")
    ran = subprocess.run(
        command(tmp_path / "out", str(file)), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True
    )
    assert "guessed  " in ran.stdout
    ran = subprocess.run(
        command(tmp_path / "json", str(file), "--json"),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    told_ = json.loads(ran.stdout)
    assert told_["tasks"][0]["kind"] == "classification"
    assert Path(told_["recipe"]).name == "recipe.yaml"


def test_a_person_at_a_terminal_is_asked_and_answers(tmp_path):
    file = two_answers(tmp_path / "m.csv")
    pid, terminal = pty.fork()
    if pid == 0:
        arguments = command(tmp_path / "out", str(file))
        os.execv(arguments[0], arguments)
    said = b""
    while b"Number" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"2\n")
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        said += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"What should the model answer?" in said
    assert (tmp_path / "out" / "m.yaml").exists()
