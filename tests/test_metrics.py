"""Metrics against the libraries and texts that define them."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import METRICS, RULES, metric, passes


def corpus_score(name, predictions, references, rows=None, answer_choices=None):
    """The score of a whole list: sum of its row statistics. A row's references are a list or one text."""
    used = metric(name)
    references = [[each] if isinstance(each, str) else each for each in references]
    rows = rows or [None] * len(predictions)
    stats = [
        used.statistics(prediction, wanted, row, answer_choices)
        for prediction, wanted, row in zip(predictions, references, rows, strict=True)
    ]
    return float(used.score(np.stack(stats).sum(axis=0)))


# Few words, so that n-grams repeat; with punctuation, case and scripts that tokenizers treat apart.
WORDS = [
    "the",
    "The",
    "cat",
    "cats",
    "sat",
    "running",
    "ran",
    "on",
    "mat,",
    "3.5",
    "U.S.",
    "don't",
    "“no”",
    "Ü",
]
texts = st.lists(st.sampled_from([*WORDS, "的猫", "\n", "-", "&amp;", "a"]), max_size=14).map(" ".join)
rows_of_texts = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=6)


def test_table_names_each_metric_by_its_own_name():
    assert all(each.name == name for name, each in METRICS.items())
    assert set(METRICS) == {
        *("rouge1", "rouge2", "rougeL", "exact_match", "accuracy", "macro_f1", "mean_absolute_error", "bleu"),
        *("chrf", "token_f1", "entity_f1", "length_ratio", "rules_passed", "rougeLsum", "ter", "edit_similarity"),
        *("balanced_accuracy", "quadratic_kappa", "pearson", "spearman", "entity_f1_partial", "json_valid"),
        *("json_field_f1", "code_parses", "code_passes", "perplexity"),
    }


def test_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(FlantuneError) as refusal:
        metric("rouge_l")
    told = str(refusal.value)
    assert told == f'unknown metric "rouge_l"; did you mean "rougeL"? ({", ".join(sorted(METRICS))})'


def test_importing_metrics_loads_none_of_the_libraries_behind_them():
    loaded = "import sys, flantune.evaluation.metrics, flantune.evaluation.statistics; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "sacrebleu", "rouge_score_rs", "scipy", "sklearn"} & set(printed.split())


# --- ROUGE --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rouge_score():
    return importlib.import_module("rouge_score.rouge_scorer").RougeScorer(
        ["rouge1", "rouge2", "rougeL"], use_stemmer=True
    )


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_equals_rouge_score_on_any_text(name, rouge_score):
    @settings(max_examples=150, deadline=None)
    @given(prediction=texts | st.text(max_size=40), reference=texts | st.text(max_size=40))
    def law(prediction, reference):
        expected = rouge_score.score(reference, prediction)[name].fmeasure
        assert corpus_score(name, [prediction], [reference]) == pytest.approx(100 * expected, abs=1e-12)

    law()


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_the_mean_over_rows_of_the_best_reference(name, rouge_score):
    rows = [
        ("a cat sat on the mats", ["the dog ran", "the cat sat on a mat"]),
        ("", ["nothing"]),
        ("Running, they ran.", ["They were running and ran"]),
    ]
    best = [max(rouge_score.score(r, p)[name].fmeasure for r in refs) for p, refs in rows]
    assert corpus_score(name, *zip(*rows, strict=True)) == pytest.approx(100 * np.mean(best), abs=1e-12)


# --- BLEU and chrF ------------------------------------------------------------------------------------------


def library_score(name, rows):
    """The whole list through sacrebleu, whose references are lists by place, None where a row has fewer."""
    sacrebleu = importlib.import_module("sacrebleu")
    streams = list(itertools.zip_longest(*(references for _, references in rows)))
    function = sacrebleu.corpus_bleu if name == "bleu" else sacrebleu.corpus_chrf
    return function([prediction for prediction, _ in rows], streams).score


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_scores_from_sums_equal_sacrebleu_on_any_list(name):
    @settings(max_examples=150, deadline=None)
    @given(rows=rows_of_texts)
    def law(rows):
        # 1e-9 of 100: numpy's exp and log may differ from math's in the last place.
        assert corpus_score(name, *zip(*rows, strict=True)) == pytest.approx(library_score(name, rows), abs=1e-9)

    law()


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_score_of_a_resample_equals_sacrebleu_on_the_resampled_texts(name):
    rng = np.random.default_rng(3)
    rows = [(" ".join(rng.choice(WORDS, rng.integers(1, 12))), [" ".join(rng.choice(WORDS, 9))]) for _ in range(30)]
    stats = np.stack([metric(name).statistics(*row, None, None) for row in rows])
    picks = rng.integers(0, len(rows), (50, len(rows)))
    scores = metric(name).score(stats[picks].sum(axis=1))
    assert scores.shape == (50,)
    assert scores == pytest.approx([library_score(name, [rows[i] for i in pick]) for pick in picks], abs=1e-9)


@pytest.mark.parametrize(("name", "scorer"), [("bleu", "BLEU"), ("chrf", "CHRF")])
def test_signature_is_that_of_sacrebleu_without_the_number_of_references(name, scorer):
    used = getattr(importlib.import_module("sacrebleu"), scorer)()
    used.corpus_score(["a"], [["a"]])
    assert f"nrefs:1|{metric(name).signature}" == str(used.get_signature())


# --- answers ------------------------------------------------------------------------------------------------


def test_exact_match_overlooks_whitespace_and_nothing_else():
    assert corpus_score("exact_match", [" a  b\n", "A b", "a b."], ["a b"] * 3) == pytest.approx(100 / 3)
    assert corpus_score("exact_match", ["x"], [["y", "x"]]) == 100


def test_accuracy_overlooks_case_outer_space_and_one_final_period():
    predictions = [" Positive.\n", "POSITIVE", "positive .", "positive!", "very positive", ""]
    assert corpus_score("accuracy", predictions, ["positive"] * 6) == 50
    assert corpus_score("accuracy", ["b"], [["a", "B."]]) == 100


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_answer_is_valid_if_it_is_one_of_the_choices(name):
    valid = metric(name).answer_valid
    assert valid is not None
    assert valid("Yes.", ["yes", "no"])
    assert not valid("perhaps", ["yes", "no"])
    assert valid("perhaps", None)


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from("abcx"), st.sampled_from("abc")), min_size=1, max_size=20))
def test_macro_f1_equals_scikit_learn_over_the_choices_that_occur(pairs):
    sklearn_metrics = importlib.import_module("sklearn.metrics")
    predictions, references = zip(*pairs, strict=True)
    occurring = [choice for choice in "abcd" if choice in predictions or choice in references]
    expected = sklearn_metrics.f1_score(references, predictions, labels=occurring, average="macro", zero_division=0)
    assert corpus_score("macro_f1", predictions, references, answer_choices=list("abcd")) == pytest.approx(
        100 * expected
    )


def test_macro_f1_counts_an_answer_outside_the_choices_as_a_miss_of_the_target():
    stats = metric("macro_f1").statistics("perhaps", ["no"], None, ["yes", "no"])
    assert stats.tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("reference", "answer_choices", "message"),
    [
        ("yes", None, 'metric "macro_f1" needs answer_choices: add them or choose "accuracy"'),
        (
            "ja",
            ["yes", "no"],
            'metric "macro_f1": the target "ja" is not among the answer_choices; known: no, yes',
        ),
        (
            "yes",
            ["Yes", "yes."],
            'metric "macro_f1": case and a final period do not count, so two answer_choices are equal: "Yes", "yes."',
        ),
    ],
)
def test_macro_f1_refuses_choices_that_cannot_be_classes(reference, answer_choices, message):
    with pytest.raises(FlantuneError) as refusal:
        metric("macro_f1").statistics("yes", [reference], None, answer_choices)
    assert str(refusal.value) == message


STARS = ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]


@pytest.mark.parametrize(
    ("prediction", "reference", "answer_choices", "error"),
    [
        ("4 stars", "5 stars", STARS, 1),
        ("I give 3.5 of 5", "5 stars", STARS, 1.5),
        ("four", "5 stars", STARS, 4),  # no number: as wrong as 1 star
        ("four", "2 stars", STARS, 3),  # as wrong as 5 stars
        ("11", "2 stars", STARS, 3),
        ("-4", "2 stars", STARS, 3),
        ("", "3", None, 4),
        ("", "-3", None, 4),
        ("-3", "3", None, 6),
        ("−3", "3", None, 6),
        ("3-4", "3", None, 0),
        ("covid-19", "19", None, 0),
        (".5", "0", None, 0.5),
        ("1,250.5 EUR", "1250", None, 0.5),
        ("1,2", "1", None, 0),
        ("1,2345", "1", None, 0),
        ("9" * 400, "1", None, 2),  # overflows: no number
        ("2", "2", ["low", "high"], 0),
    ],
)
def test_absolute_error_of(prediction, reference, answer_choices, error):
    assert corpus_score(
        "mean_absolute_error", [prediction], [reference], answer_choices=answer_choices
    ) == pytest.approx(error)


@given(prediction=st.text(max_size=8) | st.integers(-9, 9).map(str), reference=st.sampled_from(STARS))
def test_no_answer_costs_more_than_the_farthest_choice(prediction, reference):
    def error(answer):
        return corpus_score("mean_absolute_error", [answer], [reference], answer_choices=STARS)

    assert 0 <= error(prediction) <= max(error(choice) for choice in STARS)


def test_a_number_is_valid_within_the_range_of_numeric_choices():
    valid = metric("mean_absolute_error").answer_valid
    assert valid is not None
    assert valid("2.5 stars", STARS)
    assert not valid("6", STARS)
    assert not valid("six", None)
    assert valid("600", None)


def test_a_target_without_a_number_is_refused():
    with pytest.raises(FlantuneError) as refusal:
        corpus_score("mean_absolute_error", ["3"], ["three"])
    assert str(refusal.value) == 'metric "mean_absolute_error": the target "three" holds no number'


def test_only_errors_and_the_length_ratio_fall_when_a_model_improves():
    falling = {name for name, each in METRICS.items() if not each.higher_is_better}
    assert falling == {"mean_absolute_error", "length_ratio", "ter", "perplexity"}
    assert {name for name, each in METRICS.items() if each.unit != "0-100"} == falling


# --- texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        ("The cat!", ["a cat"], 100),  # articles, case and punctuation go
        ("the the cat sat", ["cat"], 100 * 2 / 3),
        ("b b", ["b c", "b b d"], 80),
        ("", ["cat"], 0),
        ("the", ["..."], 100),  # both empty
        ("dog", ["cat"], 0),
    ],
)
def test_token_f1_of(prediction, references, score):
    assert corpus_score("token_f1", [prediction], [references]) == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "references", "counts"),
    [
        ("person: Ada Lovelace\ncity: Paris", ["City:  Paris\n\nPERSON: Ada  Lovelace"], [2, 0, 0]),
        ("person: ada", ["person: Ada"], [0, 1, 1]),  # the text's case counts
        ("city: Paris\ncity: Paris", ["city: Paris"], [1, 1, 0]),
        ("None.", ["none"], [0, 0, 0]),
        ("none", ["city: Paris"], [0, 0, 1]),
        ("I see no names here", ["none"], [0, 1, 0]),
        ("", ["none"], [0, 0, 0]),
        ("time: 10:30", ["time: 10:30"], [1, 0, 0]),
        ("city: Paris", ["city: Rome", "city: Paris"], [1, 0, 0]),
    ],
)
def test_entity_counts_of(prediction, references, counts):
    assert metric("entity_f1").statistics(prediction, references, None, None).tolist() == counts


def test_entity_f1_is_of_the_summed_counts_and_100_where_there_is_nothing():
    predictions, references = ["a: x\nb: y", "none", "a: z"], ["a: x", "c: q", "a: z"]
    assert corpus_score("entity_f1", predictions, references) == pytest.approx(100 * 4 / 6)
    assert corpus_score("entity_f1", ["none", ""], ["none", "none"]) == 100


def test_a_target_line_that_is_no_entity_is_refused():
    with pytest.raises(FlantuneError) as refusal:
        corpus_score("entity_f1", ["none"], ["Paris"])
    assert str(refusal.value) == 'metric "entity_f1": the target line "Paris" is neither "type: text" nor "none"'


def test_length_ratio_divides_all_predicted_words_by_those_of_the_closest_references():
    assert corpus_score("length_ratio", ["one two – three", "x"], [["a", "a b"], "a b c"]) == pytest.approx(4 / 5)


# --- rules --------------------------------------------------------------------------------------------------

LIST = "1. Milk.\n\n2. Eggs.\n- Bread"

RULE_CASES = [
    ({"rule": "words", "min": 3, "max": 3}, "one – two-three 4", True),
    ({"rule": "words", "max": 2}, "one two three", False),
    ({"rule": "words", "min": 1}, " \n- ", False),
    ({"rule": "words", "min": 1, "max": None, "any": None}, "x", True),
    ({"rule": "lines", "min": 3, "max": 3}, LIST, True),
    ({"rule": "lines", "max": 2}, LIST, False),
    ({"rule": "items", "min": 3, "max": 3}, LIST, True),
    ({"rule": "items", "min": 3, "max": 3}, "milk, eggs, and bread", True),
    ({"rule": "items", "min": 3, "max": 3}, "milk; eggs And bread.", True),
    ({"rule": "items", "min": 1, "max": 1}, "sandwich", True),
    ({"rule": "items", "min": 1}, "", False),
    ({"rule": "sentences", "min": 2, "max": 2}, "Dr. Who paid 3.5 dollars. Why?", True),
    ({"rule": "sentences", "min": 2, "max": 2}, "it is late. go home", True),
    (
        {"rule": "sentences", "min": 1, "max": 1},
        '"Stop!" he said at 5 p.m. sharp, well... e.g. J. Who.',
        True,
    ),
    ({"rule": "sentences", "min": 2, "max": 2}, "We met at 5 p.m. Then we left.", True),
    ({"rule": "sentences", "min": 3, "max": 3}, LIST, True),
    ({"rule": "sentences", "min": 1, "max": 1}, "4.", True),
    ({"rule": "sentences", "max": 0}, "...", True),
    ({"rule": "sentences", "min": 2, "max": 2}, "So do I. You too!", True),
    ({"rule": "contains", "any": ["cat", "dog"]}, "A Dog.", True),
    ({"rule": "contains", "any": ["cat"]}, "concatenate cats", False),
    ({"rule": "contains", "any": ["C++"]}, "I write C++ daily", True),
    ({"rule": "contains", "all": ["new york", "rain"]}, "Rain in New\nYork", True),
    ({"rule": "contains", "all": ["new york", "sun"]}, "Rain in New York", False),
    ({"rule": "contains", "all": ["rain"], "any": ["sun"]}, "rain", False),
    ({"rule": "avoids", "any": ["sorry"]}, "Sorry, no", False),
    ({"rule": "avoids", "any": ["sorry", "cannot"]}, "sorryish", True),
    ({"rule": "starts_with", "any": ["dear", "hi"]}, "\n Dear Ann", True),
    ({"rule": "starts_with", "any": ["dear"]}, "My dear", False),
    ({"rule": "ends_with", "any": ["thank you"]}, "Thank you! \n", True),
    ({"rule": "ends_with", "any": ["?"]}, "Is it so?", True),
    ({"rule": "ends_with", "any": ["so."]}, "It is so!", False),
    ({"rule": "ends_with", "any": ["such"]}, "It is so", False),
    ({"rule": "matches", "pattern": r"a.b"}, "xA\nBx", True),
    ({"rule": "matches", "pattern": r"^\d+$"}, "12 apples", False),
    ({"rule": "case", "is": "upper"}, "ÄB 3!", True),
    ({"rule": "case", "is": "upper"}, "AbC", False),
    ({"rule": "case", "is": "lower"}, "äb 3 猫", True),
    ({"rule": "case", "is": "lower"}, "33", False),
    ({"rule": "json", "keys": ["a", "b"]}, '{"a": 1, "b": [], "c": null}', True),
    ({"rule": "json", "keys": ["a"]}, '```json\n{"a": 1}\n```', True),
    ({"rule": "json", "keys": []}, " {} ", True),
    ({"rule": "json", "keys": ["a"]}, '{"b": 1}', False),
    ({"rule": "json", "keys": ["a"]}, '["a"]', False),
    ({"rule": "json", "keys": ["a"]}, "{a: 1}", False),
    ({"rule": "json", "keys": ["a"]}, "[" * 100_000, False),
]


@pytest.mark.parametrize(("rule", "text", "kept"), RULE_CASES)
def test_rule_is_kept(rule, text, kept):
    assert passes(rule, text) is kept


def test_table_of_rule_cases_has_a_kept_and_a_broken_case_of_every_rule():
    assert {(rule["rule"], kept) for rule, _, kept in RULE_CASES} >= {
        *((name, kept) for name in RULES if name != "sentences" for kept in (True, False)),
        ("sentences", True),
    }


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"rule": "word", "max": 3},
            'unknown rule "word"; did you mean "words"? '
            "(avoids, case, contains, ends_with, items, json, lines, matches, sentences, starts_with, words)",
        ),
        (
            {"max": 3},
            'unknown rule "None"; known: '
            "avoids, case, contains, ends_with, items, json, lines, matches, sentences, starts_with, words",
        ),
        ({"rule": "words", "maxi": 3}, 'rule "words": unknown key "maxi"; did you mean "max"? (max, min)'),
        ({"rule": "words", "max": "3"}, 'a rule\'s "max" must be a number, not "3"'),
        ({"rule": "avoids", "any": []}, 'rule "avoids" asks for nothing: give any'),
        ({"rule": "words", "min": None}, 'rule "words" asks for nothing: give min or max'),
        ({"rule": "contains", "any": 5}, 'a rule needs a list of texts, not "5"'),
        ({"rule": "case", "is": "title"}, 'rule "case": "is" must be upper or lower, not "title"'),
        (
            {"rule": "matches", "pattern": "("},
            'rule "matches": the pattern "(" is no regular expression: missing ) at position 1',
        ),
        ("words", 'a rule must be an object such as {"rule": "words", "max": 5}, not "words"'),
    ],
)
def test_rule_that_cannot_be_checked_is_refused(rule, message):
    with pytest.raises(FlantuneError) as refusal:
        passes(rule, "some text")
    assert str(refusal.value) == message


def test_row_counts_only_if_it_keeps_all_its_rules():
    rules = [{"rule": "words", "max": 2}, {"rule": "starts_with", "any": ["a"]}]
    rows = [{"rules": rules}] * 4
    assert corpus_score("rules_passed", ["a b", "a b c", "b a", "A"], [""] * 4, rows) == 50


@pytest.mark.parametrize("row", [None, {}, {"rules": []}])
def test_row_without_rules_is_refused(row):
    with pytest.raises(FlantuneError) as refusal:
        metric("rules_passed").statistics("text", [""], row, None)
    assert str(refusal.value) == 'metric "rules_passed" needs a list of rules in the field "rules" of each row'


# --- all metrics --------------------------------------------------------------------------------------------

OF_TEXTS = [name for name, each in METRICS.items() if not each.measured]


@pytest.mark.parametrize("name", OF_TEXTS)
def test_scores_of_a_stack_of_sums_are_the_scores_of_each(name):
    choices = ["4", "3", "5"] if name in ("quadratic_kappa", "spearman") else ["4", "none", "yes"]
    row = {"rules": [{"rule": "words", "max": 1}]}
    reference = "none" if name.startswith("entity_f1") else "4"
    predictions = ["4", "none", "a: b", "", "yes yes"]
    stats = np.stack([metric(name).statistics(text, [reference], row, choices) for text in predictions])
    assert stats.dtype == np.float64
    sums = np.cumsum(stats, axis=0)
    scores = metric(name).score(sums)
    assert scores.shape == (5,)
    assert scores.tolist() == [float(metric(name).score(each)) for each in sums]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", OF_TEXTS)
def test_a_perfect_prediction_reaches_the_best_score(name):
    classes = {"macro_f1": ["yes", "no"], "balanced_accuracy": ["yes", "no"]}
    scales = {each: ["1", "2", "3"] for each in ("quadratic_kappa", "pearson", "spearman")}
    forms = {"json_valid": ['{"a": 4}'], "json_field_f1": ['{"a": 4}'], "code_parses": ["a = 4"]}
    texts = {**classes, **scales, **forms}.get(name, ["type: four words and 4 more"])
    row = {"rules": [{"rule": "words", "min": 1}]}
    best = {"mean_absolute_error": 0, "length_ratio": 1, "ter": 0}.get(name, 100)
    choices = {**classes, **scales}.get(name, ["yes", "no"])
    assert corpus_score(name, texts, texts, [row] * len(texts), choices) == pytest.approx(best)


def test_a_pattern_that_backtracks_for_ever_counts_as_not_matched():
    assert not passes({"rule": "matches", "pattern": "(x|x)*y"}, "x" * 60)
