"""The order on disk: its key, its cache, what is dropped or shortened, and what a crash or a bad disk may do."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.mixture.order import build_order, order_key
from flantune.mixture.window import WindowBuilder, draw_function
from flantune.tasks.task import load_task
from small_mixture import (
    DRAWS,
    LETTER_TEMPLATES,
    LETTERS,
    RULE,
    SUM_TEMPLATES,
    SUMS,
    ByteEncoder,
    made_task,
    member,
    members,
    rule,
)

TARGET_TOO_LONG = "target longer than a packed row"
BOTH_TOO_LONG = "prompt and target longer than a packed row"


def content(folder):
    """Every file below a folder, by its path in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def identities(folder):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}


def rows_of(order):
    return [order.row(r) for r in range(len(order))]


def never(done, total):
    raise AssertionError("a window was made")


@pytest.fixture
def small(tmp_path):
    return members(tmp_path / "tasks")


# The order and its rows


def test_an_order_made_twice_has_the_same_bytes(small, tmp_path):
    first, second = (build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path / name) for name in ("one", "two"))
    assert first.key == second.key
    assert content(first.folder) == content(second.folder)


def test_every_draw_stands_in_one_segment_that_says_where_it_comes_from(small, tmp_path):
    order = build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path)
    segments = sorted((s for row in rows_of(order) for s in row), key=lambda s: s.draw)
    assert [s.draw for s in segments] == list(range(DRAWS))
    drawn = draw_function(small, RULE).draws(range(DRAWS))
    for s in segments:
        assert (s.task, s.row, s.template) == (drawn.tasks[s.draw], drawn.rows[s.draw], drawn.templates[s.draw])
        task = small[s.task].task
        prompt, target = task.render(task.training_templates[s.template], small[s.task].rows[s.row], "")
        assert bytes(s.input_ids[1:]).decode() == prompt
        assert bytes(s.target_ids[:-1]).decode() == target
        assert (s.input_ids[0], s.target_ids[-1], s.length) == (256, 257, len(prompt) + len(target) + 2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(30, 120), st.integers(1, 60), st.integers(0, 9))
def test_windows_hold_their_draws_once_within_capacity(small, window, capacity, draws, seed):
    changed = rule(window=window, capacity=capacity, seed=seed)
    builder = WindowBuilder(small, changed, ByteEncoder())
    for number in range(-(-draws // window)):
        rows, dropped = builder.window(number, draws)
        found = [s.draw for row in rows for s in row] + [lost["draw"] for lost in dropped]
        assert sorted(found) == list(range(number * window, min((number + 1) * window, draws)))
        assert all(sum(s.length for s in row) <= capacity for row in rows)


def test_any_row_at_random_equals_the_walk_over_windows_made_in_any_order(small, tmp_path):
    order = build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path)
    builder = WindowBuilder(small, RULE, ByteEncoder())
    windows = {number: builder.window(number, DRAWS)[0] for number in (3, 0, 6, 5, 1, 2, 4)}
    walk = [(number, row) for number in sorted(windows) for row in windows[number]]
    assert len(order) == len(walk)
    for r in (len(order) - 1, 0, *range(1, len(order), 3), 2):
        assert (order.window_of(r), order.row(r)) == walk[r]


def test_there_is_no_row_before_the_first_nor_after_the_last(small, tmp_path):
    order = build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path)
    for number in (-1, len(order)):
        with pytest.raises(IndexError, match=rf"^no packed row {number}; the order has {len(order)}$"):
            order.row(number)


def test_rows_of_a_window_are_not_sorted_by_length(tmp_path):
    task = made_task(tmp_path / "tasks", "words", [{"w": "x" * n} for n in range(1, 61)], ["{{ w }} ||| {{ w }}"])
    rows, _ = WindowBuilder([member(task)], rule(window=60, capacity=122), ByteEncoder()).window(0, 60)
    longest = [max(s.length for s in row) for row in rows]
    assert len(rows) > 20
    assert longest != sorted(longest, reverse=True)
    # Half of the tokens come from half of the rows, give or take what a shuffle of so few rows does.
    early = sum(s.length for row in rows[: len(rows) // 2] for s in row) / sum(s.length for row in rows for s in row)
    assert early == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("per", "power"), [("token", 0), ("square_root", 0.5), ("example", 1)])
def test_loss_weight_counts_targets_of_different_lengths_as_the_rule_says(per, power, small, tmp_path):
    small[1] = dataclasses.replace(small[1], loss_weight=2.5)
    order = build_order(small, rule(per=per), DRAWS, ByteEncoder(), tmp_path)
    for s in (s for row in rows_of(order) for s in row):
        assert s.loss_weight * len(s.target_ids) ** power == pytest.approx([1, 2.5][s.task], rel=1e-12)


# What is too long


def test_an_example_longer_than_a_row_is_dropped_with_its_reason(tmp_path):
    lengths = [(3, 3), (90, 3), (3, 94), (3, 95), (3, 200), (46, 48), (46, 49)]  # 1 token more each: begin, end
    rows = [{"q": "q" * asked, "a": "a" * answered} for asked, answered in lengths]
    task = made_task(tmp_path / "tasks", "words", rows, ["{{ q }} ||| {{ a }}"])
    order = build_order([member(task)], rule(capacity=96), len(rows), ByteEncoder(), tmp_path)
    kept = {s.row for row in rows_of(order) for s in row}
    reasons = {lost["row"]: lost["reason"] for lost in order.dropped()}
    assert kept == {0, 1, 5}
    assert reasons == {2: BOTH_TOO_LONG, 3: TARGET_TOO_LONG, 4: TARGET_TOO_LONG, 6: BOTH_TOO_LONG}
    assert sorted(lost["draw"] for lost in order.dropped()) == sorted(
        draw
        for draw, row in enumerate(draw_function([member(task)], rule()).draws(range(7)).rows)
        if int(row) in reasons
    )


def test_a_window_with_nothing_left_has_no_rows_and_the_rest_go_on(tmp_path):
    rows = [{"q": "q" * (200 if i < 8 else 5), "a": "a"} for i in range(10)]
    task = made_task(tmp_path / "tasks", "words", rows, ["{{ q }} ||| {{ a }}"])
    order = build_order([member(task)], rule(window=1), 20, ByteEncoder(), tmp_path)
    assert len(order) == 4
    assert {s.row for row in rows_of(order) for s in row} == {8, 9}
    assert [order.window_of(r) for r in range(4)] == sorted(order.row(r)[0].draw for r in range(4))


def test_an_order_with_nothing_left_is_an_error_that_counts_the_reasons(tmp_path):
    rows = [{"q": "q" * 20, "a": "a" * n} for n in (1, 2, 40)]
    task = made_task(tmp_path / "tasks", "words", rows, ["{{ q }} ||| {{ a }}"])
    with pytest.raises(FlantuneError) as told:
        build_order([member(task)], rule(capacity=16, window=3), 3, ByteEncoder(), tmp_path)
    assert sorted(str(told.value).removeprefix("nothing is left to train on: ").split("; ")[0].split(", ")) == [
        f"1 x {TARGET_TOO_LONG}",
        f"2 x {BOTH_TOO_LONG}",
    ]
    assert str(told.value).endswith("; raise mixture.capacity (now 16)")


def only_segment(task, capacity):
    (row,), dropped = WindowBuilder([member(task)], rule(capacity=capacity, window=1), ByteEncoder()).window(0, 1)
    assert not dropped
    return row[0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=120))
def test_a_prompt_that_is_too_long_keeps_the_most_of_its_field_that_fits_and_the_whole_target(tmp_path, text):
    row = {"mail": text, "note": "a target"}
    task = made_task(tmp_path, "mails", [row], ["Mail: {{ mail }} End. ||| {{ note }}"], shorten="mail")
    segment = only_segment(task, capacity=60)
    assert bytes(segment.target_ids[:-1]).decode() == "a target"
    kept = bytes(segment.input_ids[1:]).decode().removeprefix("Mail: ").removesuffix(" End.")
    assert text.startswith(kept)
    longest = max(n for n in range(len(text) + 1) if len(f"Mail: {text[:n]} End.".encode()) <= 60 - 9 - 1)
    assert kept == text[:longest]


def test_a_prompt_that_fits_is_not_shortened(tmp_path):
    task = made_task(tmp_path, "mails", [{"mail": "x" * 40}], ["{{ mail }} ||| yes"], shorten="mail")
    assert only_segment(task, capacity=45).input_ids[1:] == list(b"x" * 40)
    assert only_segment(task, capacity=44).input_ids[1:] == list(b"x" * 39)


def test_a_target_that_shows_the_field_that_gives_way_is_whole_all_the_same(tmp_path):
    task = made_task(tmp_path, "mails", [{"mail": "word " * 6}], ["Say: {{ mail }} ||| {{ mail }}!"], shorten="mail")
    segment = only_segment(task, capacity=50)
    assert bytes(segment.target_ids[:-1]).decode() == "word " * 6 + "!"
    assert bytes(segment.input_ids[1:]).decode() == "Say: word word wo"


def test_a_field_that_begins_with_white_space_is_shortened_all_the_same(tmp_path):
    # The first half of it renders an empty prompt, which is an error in a whole row only.
    task = made_task(tmp_path, "mails", [{"mail": " " * 60 + "x" * 40}], ["{{ mail }} ||| yes"], shorten="mail")
    assert only_segment(task, capacity=25).input_ids[1:] == list(b"x" * 20)


def test_a_computed_field_that_fails_on_a_short_text_is_no_hindrance(tmp_path):
    task = made_task(
        tmp_path,
        "mails",
        [{"mail": "x" * 60 + "\n" + "body " * 10}],
        ["{{ mail }} ({{ second }}) ||| yes"],
        fields={"second": "{{ mail.split('\n')[1][:4] }}"},
        shorten="mail",
    )
    assert bytes(only_segment(task, capacity=86).input_ids[1:]).decode() == "x" * 60 + "\nbody body bod (body)"


@pytest.mark.parametrize(
    ("template", "shorten"),
    [
        ({"text": "{{ mail }} ||| yes", "inverted": True}, "mail"),  # the mail is the answer's ground there
        ({"text": "{{ mail }} ||| yes"}, "number"),  # no text
        ({"text": "{{ mail }} ||| yes"}, "other"),  # not what is too long
        ({"text": "{{ mail }} ||| yes"}, None),
    ],
)
def test_nothing_else_gives_way(template, shorten, tmp_path):
    row = {"mail": "x" * 60, "number": 7, "other": "y" * 20}
    task = made_task(tmp_path, "mails", [row], [template], **({"shorten": shorten} if shorten else {}))
    rows, dropped = WindowBuilder([member(task)], rule(capacity=40), ByteEncoder()).window(0, 1)
    assert rows == []
    assert dropped == [{"draw": 0, "task": 0, "row": 0, "reason": BOTH_TOO_LONG}]


# The key


def key(folder, *, rows=LETTERS, templates=LETTER_TEMPLATES, encoder="bytes", draws=DRAWS, fields=None, mix=None, **r):
    letters = made_task(folder, "letters", rows, templates, **{"shorten": "word", **(fields or {})})
    sums = made_task(folder, "sums", SUMS, SUM_TEMPLATES)
    return order_key([member(letters, **(mix or {})), member(sums)], rule(**r), draws, ByteEncoder(encoder))


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [*LETTERS[:-1], {**LETTERS[-1], "word": "larsh"}]},
        {"rows": LETTERS[:-1]},
        {"rows": LETTERS[::-1]},
        {"rows": [{**row, "word": i} for i, row in enumerate(LETTERS)]},
        {"templates": [*LETTER_TEMPLATES[:2], "{{ letters }}: one word? ||| {{ word }}"]},
        {"templates": LETTER_TEMPLATES[:2]},
        {"templates": LETTER_TEMPLATES[::-1]},
        {"templates": [{"text": LETTER_TEMPLATES[0], "weight": 2}, *LETTER_TEMPLATES[1:]]},
        {"templates": [{"text": LETTER_TEMPLATES[0], "held_out": True}, *LETTER_TEMPLATES[1:]]},
        {"templates": [{"text": LETTER_TEMPLATES[0], "inverted": True}, *LETTER_TEMPLATES[1:]]},
        {"fields": {"fields": {"word": "{{ word | upper }}"}}},
        {"fields": {"answer_choices": ["a", "b"]}},
        {"fields": {"shorten": "letters"}},
        {"encoder": "another tokenizer"},
        {"draws": DRAWS + 1},
        {"mix": {"share": 0.5}},
        {"mix": {"loss_weight": 2.0}},
        {"mix": {"weight": 3.0}},
        {"rates": "equal"},
        {"cap": 5},
        {"rates": "temperature"},
        {"seed": 1},
        {"capacity": 97},
        {"window": 17},
        {"per": "example"},
    ],
    ids=lambda change: "-".join(change),
)
def test_the_key_changes_with_all_that_the_order_depends_on(change, tmp_path):
    assert key(tmp_path / "tasks", **change) != key(tmp_path / "tasks")


def test_the_key_changes_with_the_order_of_keys_in_a_nested_object(tmp_path):
    # A template that shows the object shows its keys in this order.
    turned = [{**row, "more": {"b": 1, "a": 2}} for row in LETTERS]
    assert key(tmp_path, rows=turned) != key(tmp_path, rows=[{**row, "more": {"a": 2, "b": 1}} for row in LETTERS])


def test_the_key_changes_with_the_order_of_computed_fields(tmp_path):
    fields = {"word": "{{ word | upper }}", "twice": "{{ word }}{{ word }}"}
    turned = dict(reversed(fields.items()))
    assert key(tmp_path, fields={"fields": fields}) != key(tmp_path, fields={"fields": turned})


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 5.0},  # of rates that have none
        {"mix": {"inverted": 0.5}},  # of a task without inverted templates
        {"fields": {"description": "Spelling.", "metrics": ["rouge1"], "max_new_tokens": 9}},
        {"templates": [*LETTER_TEMPLATES, {"text": "Letters of {{ word }}? ||| {{ letters }}", "held_out": True}]},
        {"templates": [{"name": "renamed", "text": LETTER_TEMPLATES[0]}, *LETTER_TEMPLATES[1:]]},
    ],
    ids=lambda change: "-".join(change),
)
def test_the_key_does_not_change_with_what_the_order_does_not_show(change, tmp_path):
    assert key(tmp_path / "tasks", **change) == key(tmp_path / "tasks")


def test_the_key_does_not_change_with_the_place_or_the_age_of_files(tmp_path):
    here = key(tmp_path / "tasks")
    assert key(tmp_path / "moved" / "elsewhere") == here
    for path in (tmp_path / "tasks").iterdir():
        os.utime(path, (1, 1))
    again = [member(load_task(tmp_path / "tasks" / f"{name}.yaml")) for name in ("letters", "sums")]
    assert order_key(again, RULE, DRAWS, ByteEncoder()) == here


def test_the_output_folder_is_no_part_of_the_key(small, tmp_path):
    orders = [build_order(small, RULE, DRAWS, ByteEncoder(), tmp_path / name) for name in ("one", "other")]
    assert len({order.key for order in orders}) == 1
    assert orders[0].folder == tmp_path / "one" / orders[0].key
