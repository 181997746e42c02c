"""Metrics of agreement, edits and form, against the libraries that define them."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import metric
from test_metrics import corpus_score, texts

STARS = ["1", "2", "3", "4", "5"]
pairs = st.lists(st.tuples(st.sampled_from(STARS), st.sampled_from(STARS)), min_size=2, max_size=30)


@pytest.fixture(scope="module")
def sklearn():
    return importlib.import_module("sklearn.metrics")


def sides(pairs):
    return [said for said, _ in pairs], [wanted for _, wanted in pairs]


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@given(pairs=pairs)
def test_balanced_accuracy_equals_scikit_learn(sklearn, pairs):
    said, wanted = sides(pairs)
    theirs = 100 * sklearn.balanced_accuracy_score(wanted, said)
    assert corpus_score("balanced_accuracy", said, wanted, answer_choices=STARS) == pytest.approx(theirs)


@given(pairs=pairs)
def test_quadratic_kappa_equals_scikit_learn(sklearn, pairs):
    said, wanted = sides(pairs)
    if len({*said, *wanted}) > 1:  # of one value there is no chance agreement to correct for
        theirs = 100 * sklearn.cohen_kappa_score(wanted, said, labels=STARS, weights="quadratic")
        assert corpus_score("quadratic_kappa", said, wanted, answer_choices=STARS) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(("name", "function"), [("pearson", "pearsonr"), ("spearman", "spearmanr")])
@given(pairs=pairs)
def test_correlations_equal_scipy_where_both_sides_vary(name, function, pairs):
    said, wanted = sides(pairs)
    ours = corpus_score(name, said, wanted, answer_choices=STARS)
    if len(set(said)) > 1 and len(set(wanted)) > 1:
        theirs = getattr(importlib.import_module("scipy.stats"), function)(list(map(int, said)), list(map(int, wanted)))
        assert ours == pytest.approx(100 * theirs.statistic, abs=1e-7)
    else:
        assert ours == 0


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_correlation_counts_only_the_share_that_answers(name):
    assert corpus_score(name, STARS, STARS, answer_choices=STARS) == pytest.approx(100)
    assert corpus_score(name, [*STARS, *["no idea"] * 5], STARS * 2, answer_choices=STARS) == pytest.approx(50)


def test_an_answer_off_the_scale_is_as_far_as_can_be_for_kappa():
    silent = corpus_score("quadratic_kappa", ["1", "2", "?"], ["1", "2", "4"], answer_choices=STARS)
    assert silent == corpus_score("quadratic_kappa", ["1", "2", "1"], ["1", "2", "4"], answer_choices=STARS)


@pytest.mark.parametrize("name", ["quadratic_kappa", "spearman"])
def test_a_scale_needs_numbers(name):
    with pytest.raises(FlantuneError, match="needs answer_choices that are different numbers"):
        metric(name).statistics("good", ["good"], None, ["good", "bad"])
    with pytest.raises(FlantuneError, match='"6" is not among the answer_choices'):
        metric(name).statistics("1", ["6"], None, STARS)


@given(rows=st.lists(st.tuples(texts, texts.filter(str.strip)), min_size=1, max_size=5))
def test_ter_of_summed_counts_equals_sacrebleu(rows):
    said, wanted = sides(rows)
    theirs = importlib.import_module("sacrebleu.metrics").TER()
    assert corpus_score("ter", said, wanted) == pytest.approx(theirs.corpus_score(said, [wanted]).score)
    assert metric("ter").signature == str(theirs.get_signature()).removeprefix("nrefs:1|")


@given(said=texts, wanted=texts)
def test_rouge_lsum_equals_rouge_score_with_a_sentence_a_line(said, wanted):
    scorer = importlib.import_module("rouge_score.rouge_scorer").RougeScorer(["rougeLsum"], use_stemmer=True)
    theirs = 100 * scorer.score(wanted, said)["rougeLsum"].fmeasure
    assert corpus_score("rougeLsum", [said], [wanted]) == pytest.approx(theirs)


@given(said=st.text("abc", max_size=8), wanted=st.text("abc", max_size=8))
def test_edit_similarity_is_one_less_the_edits_for_a_character_of_the_longer_text(said, wanted):
    table = np.zeros((len(said) + 1, len(wanted) + 1))
    table[0], table[:, 0] = range(len(wanted) + 1), range(len(said) + 1)
    for i, a in enumerate(said, 1):
        for j, b in enumerate(wanted, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
    share = table[-1, -1] / max(len(said), len(wanted), 1)
    assert corpus_score("edit_similarity", [said], [wanted]) == pytest.approx(100 * (1 - share))


@given(
    said=st.sets(st.tuples(st.sampled_from(["per", "loc"]), st.integers(0, 4))),
    wanted=st.sets(st.tuples(st.sampled_from(["per", "loc"]), st.integers(0, 4))),
)
def test_entity_f1_equals_scikit_learn_on_pairs(sklearn, said, wanted):
    def lines(pairs):
        return "\n".join(f"{kind}: name {number}" for kind, number in sorted(pairs)) or "none"

    every = [(kind, number) for kind in ("per", "loc") for number in range(5)]
    marks = ([pair in side for pair in every] for side in (wanted, said))
    theirs = 100 * sklearn.f1_score(*marks, zero_division=1.0)
    assert corpus_score("entity_f1", [lines(said)], [lines(wanted)]) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("said", "wanted", "score"),
    [
        ("person: Ada Lovelace", "person: Ada Lovelace", 100),
        ("person: Lovelace", "person: Ada Lovelace", 50),
        ("person: love", "person: lovelace", 0),  # a part of a word is none
        ("place: Lovelace", "person: Ada Lovelace", 0),
        ("person: Ada\nperson: Lovelace", "person: Ada Lovelace", 100 / 3),
        ("none", "none", 100),
    ],
)
def test_partial_entities_count_half(said, wanted, score):
    assert corpus_score("entity_f1_partial", [said], [wanted]) == pytest.approx(score)


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ('{"name": "Ada", "tags": ["a", "b"]}', 100),
        ('```json\n{"tags": ["b", "a"], "name": "Ada"}\n```', 100),
        ('{"name": "Ada"}', 50),
        ('{"name": "Bo", "tags": ["a", "b"]}', 200 / 3),
        ("Ada", 0),
        ("[" * 100_000, 0),
    ],
)
def test_json_fields_are_pairs_of_path_and_value(said, score):
    wanted = json.dumps({"name": "Ada", "tags": ["a", "b"]})
    assert corpus_score("json_field_f1", [said], [wanted]) == pytest.approx(score)
    assert corpus_score("json_valid", [said], [wanted]) == (0 if score == 0 else 100)


def test_a_target_that_is_no_json_is_refused():
    with pytest.raises(FlantuneError, match='the target "Ada" is no JSON'):
        metric("json_field_f1").statistics("{}", ["Ada"], None, None)


@pytest.mark.parametrize(
    ("language", "code", "parses"),
    [
        (None, "def f(x):\n    return x", True),
        (None, "```python\nx = 1\n```", True),
        (None, "def f(x:\n    return", False),
        (None, " ", False),
        (None, "x = '\\d'", True),  # an odd escape is a warning, not an error
        (None, "(" * 100_000, False),
        ("JavaScript", "const f = (x) => { return x; };", True),
        ("javascript", "const f = (x => { return", False),
    ],
)
def test_code_parses_or_not(language, code, parses):
    if language is not None:
        pytest.importorskip("tree_sitter_javascript")
    row = {"language": language} if language else None
    assert metric("code_parses").statistics(code, ["x"], row, None).tolist() == [parses, 1]


def test_a_language_without_a_parser_is_refused_with_the_package_to_install():
    with pytest.raises(FlantuneError) as refusal:
        metric("code_parses").statistics("x", ["x"], {"language": "INTERCAL"}, None)
    assert str(refusal.value) == (
        'metric "code_parses": no parser for "intercal"; pip install tree-sitter tree-sitter-intercal'
    )
