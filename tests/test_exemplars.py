"""Few-shot prompts: FLAN's rules as laws."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.few_shot import Question, candidates, fitting, with_exemplars
from flantune.tasks import Task
from flantune.tasks.exemplars import FORMATS, exemplar_format
from flantune.tasks.sources import Rows
from flantune.tasks.task import Asked

TEXTS = st.text(min_size=1, max_size=20)


@given(name=st.sampled_from(sorted(FORMATS)), solved=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5),
       question=TEXTS)  # fmt: skip
def test_a_prompt_shows_each_exemplar_and_then_the_question(name, solved, question):
    prompt, at = exemplar_format(name).prompt(solved, question), 0
    for text in [*(text for pair in solved for text in pair), question]:
        at = prompt.index(text, at) + len(text)


@given(name=st.sampled_from(sorted(FORMATS)), question=TEXTS)
def test_without_exemplars_the_prompt_is_the_question(name, question):
    assert exemplar_format(name).prompt([], question) == question


def test_braces_in_an_exemplar_stay_braces():
    prompt = exemplar_format("lines").prompt([("{target}", "{n}")], "{input}")
    assert prompt == "{target}\n{n}\n\n{input}"


def test_an_unknown_format_is_told_with_the_nearest():
    with pytest.raises(FlantuneError) as caught:
        exemplar_format("line")
    assert str(caught.value).startswith('unknown exemplar format "line"; did you mean "lines"?')


@given(key=st.integers(0, 2**64 - 1), rows=st.integers(1, 300), data=st.data())
def test_candidates_are_different_rows_and_never_the_question(key, rows, data):
    without = data.draw(st.integers(0, rows - 1))
    found = list(candidates(key, rows, without))
    assert len(set(found)) == len(found)
    assert without not in found
    assert all(0 <= row < rows for row in found)


words = st.sampled_from(["a", "b", "c", "d", "A ", "e"])
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=12)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(words, words), min_size=1, max_size=12), wanted=st.integers(0, 6), key=st.integers(0, 99)
)
def test_exemplars_share_the_template_and_never_repeat_the_question_s_input(rows, wanted, key):
    task = Task("t", {"train": [{"x": x, "y": y} for x, y in rows]}, ["1 {{ x }} ||| {{ y }}", "2 {{ x }} ||| {{ y }}"])
    pool = task.split("train")
    asked = [Asked(task.templates[i % 2], pool[i], pool.place(i)) for i in range(len(pool))]
    questions = [Question(each, i, wanted, key + i) for i, each in enumerate(asked)]
    rendered = task.render_all(asked)
    for i, exemplars in enumerate(with_exemplars(task, pool, questions, rendered)):
        question = task.render(asked[i].template, asked[i].row, asked[i].place)
        inputs = [given.strip().casefold() for given, _ in [question, *exemplars]]
        assert len(set(inputs)) == len(inputs)
        assert all(given.startswith(str(i % 2 + 1)) for given in inputs)
        others = {x.strip().casefold() for x, _ in rows} - {rows[i][0].strip().casefold()}
        assert len(exemplars) == min(wanted, len(others))


def test_the_choice_of_exemplars_depends_on_the_key_only():
    task = Task("t", {"train": [{"x": f"x{i}", "y": f"y{i}"} for i in range(40)]}, ["{{ x }} ||| {{ y }}"])
    pool = task.split("train")
    asked = [Asked(task.templates[0], pool[i], pool.place(i)) for i in range(40)]
    rendered = task.render_all(asked)
    all_at_once = with_exemplars(task, pool, [Question(a, i, 3, i) for i, a in enumerate(asked)], rendered)
    alone = [with_exemplars(task, pool, [Question(a, i, 3, i)], [rendered[i]])[0] for i, a in enumerate(asked)]
    assert all_at_once == alone
    assert len({tuple(each) for each in all_at_once}) > 30


@given(lengths=st.lists(st.integers(1, 9), max_size=6), room=st.integers(0, 60))
def test_the_last_exemplars_give_way_first_and_no_more_than_needed(lengths, room):
    form, solved = exemplar_format("lines"), [("i" * n, "t") for n in lengths]
    prompt, kept = fitting(form, solved, "question", lambda text: len(text) <= room)
    assert prompt == form.prompt(solved[:kept], "question")
    assert kept == 0 or len(prompt) <= room
    assert kept == len(solved) or len(form.prompt(solved[: kept + 1], "question")) > room


def test_rows_of_equal_content_give_one_exemplar_at_most():
    rows = Rows.of([{"x": "same", "y": str(i)} for i in range(5)])
    task = Task("t", {"train": list(rows)}, ["{{ x }} ||| {{ y }}"])
    asked = Asked(task.templates[0], rows[0], rows.place(0))
    assert with_exemplars(task, rows, [Question(asked, 0, 3, 7)], task.render_all([asked])) == [[]]
