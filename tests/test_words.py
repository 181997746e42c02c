"""Words and hashes of runs of words: one form of a text whatever its type, and one hash for the same words alone."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.mixture.words import Grams, WordHashes, batches, spread, tokens_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("?! -- ...", []),
        ("The END.\r\nOf  it", ["the", "end", "of", "it"]),
        ("don't / don’t", ["don", "t", "don", "t"]),
        ("snake_case x1", ["snake", "case", "x1"]),
        ("ﬁve ½ Ａ", ["five", "1", "2", "a"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("Cafe\u0301 Café", ["café", "café"]),
        ("東京に行く ok", ["東", "京", "に", "行", "く", "ok"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("한국어 말", ["한국어", "말"]),
        ("a😀b", ["a", "b"]),
    ],
)
def test_words_are_runs_of_letters_and_digits_without_case(text, words):
    assert words_of(text) == words


@given(st.text())
def test_words_do_not_depend_on_case_and_compatibility_form(text):
    assert words_of(unicodedata.normalize("NFKC", text)) == words_of(text)
    assert words_of(" ".join(words_of(text))) == words_of(text)
    assert words_of(f"{text}\u2014{text}") == words_of(text) * 2


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_takes_the_short_way_to_the_same_words(text):
    assert words_of(text) == words_of(f"{text} é")[:-1]


def test_tokens_keep_signs_that_say_something_and_drop_those_between_sentences():
    assert tokens_of("Is 2+3 = 5, or not?") == ["is", "2", "+", "3", "=", "5", "or", "not"]
    assert tokens_of("f(x) <= y_1;") == ["f", "(", "x", ")", "<", "=", "y", "1"]
    assert tokens_of("so good :) 😀 “really”") == ["so", "good", ")", "😀", "really"]


@given(st.text())
def test_the_tokens_that_are_words_are_the_words(text):
    assert [token for token in tokens_of(text) if words_of(token)] == words_of(text)


def test_hashes_of_words_are_the_same_everywhere():
    assert WordHashes().of(["one", "two", "one", ""]).tolist() == [
        3815355558890182089,
        17721195508129203971,
        3815355558890182089,
        16476032584258269876,
    ]
    assert spread(np.arange(3)).tolist() == [0, 16294208416658607535, 7960286522194355700]


def test_hashes_of_words_stay_the_same_when_the_memory_of_them_is_full():
    known = WordHashes()
    known.MOST = 3
    words = [f"w{i % 5}" for i in range(20)]
    assert known.of(words).tolist() == WordHashes().of(words).tolist()
    assert len(known) <= 3


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 15))
def test_two_runs_have_one_hash_if_and_only_if_their_words_are_the_same(numbers, n):
    hashes = Grams(spread(np.array(numbers, np.int64) + 1)).of(n).tolist()
    runs = [tuple(numbers[i : i + n]) for i in range(len(numbers) - n + 1)]
    assert len(hashes) == len(runs)
    assert len(set(zip(hashes, runs, strict=True))) == len(set(hashes)) == len(set(runs))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=3000), st.data())
def test_a_run_has_one_hash_wherever_it_stands_and_however_it_is_asked(numbers, data):
    keys = spread(np.array(numbers) + 1)
    start = data.draw(st.integers(0, len(numbers) - 1))
    end = data.draw(st.integers(start + 1, len(numbers)))
    whole = Grams(keys).between(np.array([start]), np.array([end]))[0]
    assert whole == Grams(keys[start:end]).of(end - start)[0]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "a", "b c", "d e f"])), max_size=12), st.integers(1, 8)
)
def test_batches_give_all_words_of_all_texts_with_a_gap_after_each(texts, most):
    texts.sort(key=lambda item: item[0])
    made = list(batches(texts, most))
    words = [(row, word) for row, text in texts for word in (*words_of(text), "")]
    assert [pair for flat, rows in made for pair in zip(rows.tolist(), flat, strict=True)] == words
    assert all(flat[-1] == "" and len(flat) < most + 4 for flat, _ in made)
