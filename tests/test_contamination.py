"""Contamination: the same rows as a plain comparison of every row with every row, and the rules on real cases."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.mixture import contamination, run_index
from flantune.mixture.contamination import Match, Overlap, overlaps
from flantune.mixture.row_text import RowText, TaskTexts
from flantune.mixture.words import tokens_of, words_of

ALPHABET = [*"abcdefghijklmnop"]


def said(start: int, end: int) -> str:
    """Words number start to end of the alphabet."""
    return " ".join(ALPHABET[start:end])


def task(name: str, *rows: RowText | str) -> TaskTexts:
    """A task of rows; a bare text is a row's question."""
    return TaskTexts(name, [RowText((row,)) if isinstance(row, str) else row for row in rows])


def flagged(training: list[TaskTexts], evaluation: list[TaskTexts]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(it.trained, it.evaluated, it.evaluation_rows) for it in overlaps(training, evaluation)]


# A plain statement of the rules: every evaluation row against every training row


def runs_of(row: RowText) -> set[tuple[str, ...]]:
    found = set()
    for text in (*row.question, *row.answer):
        words = words_of(text)
        n = min(13, len(words))
        if n >= 8:
            found |= {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    return found


def holds(row: RowText, run: tuple[str, ...]) -> bool:
    texts = [words_of(text) for text in (*row.question, *row.answer)]
    return any(tuple(words[i : i + len(run)]) == run for words in texts for i in range(len(words)))


def asks(row: RowText) -> tuple[str, ...] | None:
    texts = tuple(" ".join(tokens_of(text)) for text in row.question if tokens_of(text))
    return texts if texts and all(len(words_of(text)) < 8 for text in row.question) else None


def plainly(training, evaluation, *, common_rows: int, common_share: float) -> list[tuple]:
    result = []
    for trained in training:
        for evaluated in evaluation:
            counts = Counter(run for row in evaluated.rows for run in runs_of(row))
            most = max(common_rows, common_share * len(evaluated.rows))
            pairs = [
                (i, j)
                for i, row in enumerate(evaluated.rows)
                for j, other in enumerate(trained.rows)
                if (asks(row) is not None and asks(row) == asks(other))
                or any(counts[run] <= most and holds(other, run) for run in runs_of(row))
            ]
            if pairs:
                ours, theirs = (tuple(sorted(set(side))) for side in zip(*pairs, strict=True))
                result.append((trained.task, evaluated.task, ours, theirs))
    return result


PIECES = [
    said(0, 8),
    said(0, 13),
    said(3, 16),
    said(5, 12),
    said(0, 4),
    "alpha",
    "Bravo!",
    "charlie,",
    "+",
    "-",
    "z",
]
texts = st.lists(st.sampled_from(PIECES), max_size=4).map(" ".join)
rows = st.builds(RowText, st.tuples(texts) | st.tuples(texts, texts), st.just(()) | st.tuples(texts))
sides = st.lists(st.lists(rows, max_size=6), max_size=3)


@given(sides, sides, st.integers(0, 4), st.sampled_from([0.0, 0.4]))
@settings(max_examples=300)
def test_the_rows_found_are_those_of_a_plain_comparison(trained, evaluated, common_rows, common_share):
    training = [TaskTexts(f"trained{i}", given) for i, given in enumerate(trained)]
    evaluation = [TaskTexts(f"evaluated{i}", given) for i, given in enumerate(evaluated)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination, "COMMON_ROWS", common_rows)
        patch.setattr(contamination, "COMMON_SHARE", common_share)
        for module in (contamination, run_index):  # many batches of few words
            patch.setattr(module, "BATCH_WORDS", 20)
        found = overlaps(training, evaluation, show=99)
    assert [(it.trained, it.evaluated, it.evaluation_rows, it.training_rows) for it in found] == plainly(
        training, evaluation, common_rows=common_rows, common_share=common_share
    )
    for overlap in found:
        ours, theirs = ({it.task: it.rows for it in side} for side in (evaluation, training))
        assert {match.evaluation_row for match in overlap.shown} == set(overlap.evaluation_rows)
        for match in overlap.shown:
            assert match.training_row in overlap.training_rows
            row, other = ours[overlap.evaluated][match.evaluation_row], theirs[overlap.trained][match.training_row]
            if match.kind == "same question":
                assert asks(row) == asks(other)
            else:
                run = tuple(match.text.split())
                assert holds(row, run)
                assert holds(other, run)
                assert (len(run) >= 13) == (match.kind == "words in a row")


# The rules, one by one


def test_thirteen_words_in_a_row_are_a_leak_and_twelve_are_none():
    evaluation = [task("exam", f"{said(0, 13)} and so on")]
    assert flagged([task("mails", f"z {said(0, 13)} z")], evaluation) == [("mails", "exam", (0,))]
    assert flagged([task("mails", f"z {said(0, 12)} z")], evaluation) == []
    assert flagged([task("mails", f"{said(0, 6)} z {said(6, 13)}")], evaluation) == []


def test_a_run_does_not_go_over_from_one_text_into_another():
    evaluation = [task("exam", RowText((said(0, 7), said(7, 14))))]
    assert flagged([task("mails", said(0, 14))], evaluation) == []
    assert flagged([task("mails", RowText((said(0, 7),), (said(7, 14),)))], [task("exam", said(0, 14))]) == []


def test_a_whole_text_of_eight_to_twelve_words_is_found_inside_another_text():
    training = [task("mails", f"z {said(0, 12)} z")]
    assert flagged(training, [task("exam", said(2, 10), said(0, 12), said(2, 9), f"{said(2, 10)} z")]) == [
        ("mails", "exam", (0, 1))
    ]


def test_a_short_question_is_a_leak_where_all_of_it_is_the_same():
    training = [task("mails", RowText(("Who wrote  HAMLET?", "in English"), ("Shakespeare",)))]
    assert flagged(training, [task("exam", RowText(("who wrote Hamlet", "In english!"), ("Marlowe",)))]) != []
    assert flagged(training, [task("exam", "who wrote Hamlet")]) == []
    assert flagged(training, [task("exam", RowText(("in English", "who wrote Hamlet")))]) == []


def test_short_answers_are_no_leak():
    training = [task("mails", RowText(("a question",), ("positive",)))]
    assert flagged(training, [task("exam", RowText(("another question",), ("positive",)))]) == []


def test_signs_of_a_short_question_count():
    training = [task("sums", "What is 2 + 3?")]
    assert flagged(training, [task("exam", "what is 2 - 3", "what is 2 + 3", "what is 23")]) == [("sums", "exam", (1,))]


def test_questions_without_a_word_or_sign_are_no_leak():
    assert flagged([task("mails", "?", "")], [task("exam", "!", "", RowText(()))]) == []


def test_answers_are_compared_with_training_prompts_and_targets():
    training = [task("mails", RowText(("x",), (said(0, 13),)))]
    assert flagged(training, [task("exam", RowText(("y",), (f"so: {said(0, 13)}",)))]) == [("mails", "exam", (0,))]


def test_case_punctuation_and_line_ends_do_not_hide_a_leak():
    text = said(0, 13).upper().replace(" ", ",\r\n — ")
    assert flagged([task("mails", f"({text})")], [task("exam", said(0, 13))]) != []


def test_a_run_in_many_evaluation_rows_is_phrasing_and_no_leak():
    phrase = said(0, 14)
    training = [task("mails", f"{phrase}: w w w", f"{phrase}: {said(3, 16)} 7 8 9")]
    ten = [f"{phrase}: {i}" for i in range(10)]
    assert flagged(training, [task("exam", *ten)]) == [("mails", "exam", tuple(range(10)))]
    assert flagged(training, [task("exam", *ten, f"{phrase}: 10")]) == []
    content = f"{phrase}: {said(3, 16)} 7"
    found = overlaps(training, [task("exam", *ten, content)])
    assert [(it.evaluation_rows, it.training_rows) for it in found] == [((10,), (1,))]
    assert found[0].shown[0].text == f"{phrase} {said(3, 16)} 7"


def test_phrasing_is_told_by_the_share_of_a_tasks_rows():
    rows = [f"{said(0, 13)} {i}" for i in range(11)] + [f"{i}" for i in range(600)]
    assert flagged([task("mails", said(0, 13))], [task("exam", *rows)]) == [("mails", "exam", tuple(range(11)))]


def test_matches_are_shown_with_all_words_in_common_longest_first():
    training = [task("mails", "first", f"x {said(0, 13)} y", f"x {said(1, 16)} y", said(1, 9))]
    evaluation = [task("exam", f"{said(0, 13)} z", f"z {said(1, 16)}", said(1, 9), "first")]
    assert overlaps(training, evaluation, show=4) == [
        Overlap(
            "mails",
            "exam",
            (0, 1, 2, 3),
            (0, 1, 2, 3),
            (
                Match("words in a row", 1, 2, said(1, 16)),
                Match("words in a row", 0, 1, said(0, 13)),
                Match("whole text", 2, 1, said(1, 9)),
                Match("same question", 3, 0, "first"),
            ),
        )
    ]
    assert [match.evaluation_row for match in overlaps(training, evaluation, show=1)[0].shown] == [1]


def test_pairs_of_tasks_come_in_the_order_of_both():
    training = [task(name, said(0, 13)) for name in ("b", "a")]
    evaluation = [task(name, said(0, 13)) for name in ("z", "y")]
    assert [found[:2] for found in flagged(training, evaluation)] == [("b", "z"), ("b", "y"), ("a", "z"), ("a", "y")]


def test_nothing_is_found_in_nothing():
    assert overlaps([], []) == []
    assert overlaps([task("mails", said(0, 13))], []) == []
    assert overlaps([task("mails")], [task("exam", said(0, 13)), task("empty")]) == []


def test_training_rows_are_walked_once():
    class Once(list):
        walks = 0

        def __iter__(self):
            self.walks += 1
            return super().__iter__()

    rows = Once([RowText((said(0, 13),)), RowText((said(1, 14),))])
    assert len(overlaps([TaskTexts("mails", rows)], [task("exam", said(0, 13)), task("test", said(1, 14))])) == 2
    assert rows.walks == 1
