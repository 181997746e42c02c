"""What a plan warns about, each warning with its whole text and the border from which on it is told."""

from __future__ import annotations

import pytest

from flantune.mixture.round_trips import TARGETS, round_trips
from flantune.mixture.warnings import LEARNING_RATES, learning_rate, lost_in_tokens, warm_up, warnings
from small_mixture import ByteEncoder, made_task, member, members

QUIET = {
    "task": "mails",
    "draws": 90,
    "dropped": 0,
    "reasons": {},
    "shortened": 0,
    "samples": {"dropped": [], "shortened": []},
    "epochs": 4.0,
    "loss_share": 0.02,
}
OTHER = {**QUIET, "task": "reviews", "loss_share": 0.599}
LONG, LONG_TARGET = "prompt and target longer than a packed row", "target longer than a packed row"


def sample(line, **said):
    return {"place": f"/home/someone/mails.csv:{line}", "template": "polite", "draw": 1, "row": line, **said}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, None),
        (
            {"dropped": 10, "reasons": {LONG: 10}},
            "mails: 10 of 100 draws are too long for a packed row and dropped; raise mixture.capacity or name a field "
            "in the task's `shorten`",
        ),
        (
            {
                "dropped": 10,
                "reasons": {LONG: 9, "renders an empty input or target": 1},
                "samples": {
                    "dropped": [sample(3, reason="renders an empty input or target"), sample(7, reason=LONG)],
                    "shortened": [],
                },
            },
            "mails: 9 of 100 draws are too long for a packed row and dropped (such as mails.csv:7 in template polite); "
            "raise mixture.capacity or name a field in the task's `shorten`",
        ),
        ({"dropped": 10, "reasons": {"renders an empty input or target": 10}}, None),  # the task wants it so
        (
            {
                "dropped": 10,
                "reasons": {LONG_TARGET: 10},
                "samples": {"dropped": [sample(7, reason=LONG_TARGET)], "shortened": []},
            },
            "mails: 10 of 100 draws have a target that is longer than a packed row and are dropped (such as "
            "mails.csv:7 in template polite); raise mixture.capacity (of an encoder-decoder "
            "mixture.target_capacity) or leave such rows out with `where`",
        ),
        ({"draws": 100, "shortened": 1}, None),
        (
            {"draws": 1000, "shortened": 11, "samples": {"dropped": [], "shortened": [sample(9, cut=12)]}},
            "mails: 11 of 1,000 prompts are shortened to fit into a packed row (such as mails.csv:9 in template "
            "polite); raise mixture.capacity, or see that what gives way is not asked for",
        ),
        ({"epochs": 4.04}, "mails: each row is seen 4.0 times; past four, more epochs mostly memorize"),
        ({"epochs": 40.0}, "mails: each row is seen 40.0 times; past four, more epochs mostly memorize"),
        (
            {"loss_share": 0.6},
            "mails: 60.0 % of the loss; the others may hardly learn (lower its `weight` or `loss_weight`, or count "
            "long targets less: training.loss.per)",
        ),
        (
            {"loss_share": 0.0194},
            "mails: only 1.9 % of the loss; it may hardly learn (raise its `weight` or `loss_weight`, or count "
            "short targets more: training.loss.per)",
        ),
        ({"loss_share": 0.0, "draws": 0}, None),
    ],
)
def test_a_warning_is_told_exactly_when_there_is_reason(change, text):
    assert warnings([{**QUIET, **change}, OTHER]) == ([] if text is None else [text])


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_single_task_is_told_nothing_about_its_share(share):
    assert warnings([{**QUIET, "loss_share": share}]) == []


def test_of_a_hundred_tasks_one_is_small_with_less_than_a_tenth_of_an_even_share():
    tasks = [{**QUIET, "task": f"task{i}", "loss_share": 0.01} for i in range(100)]
    tasks[3] = {**tasks[3], "loss_share": 0.0011}
    assert warnings(tasks) == []
    tasks[3] = {**tasks[3], "loss_share": 0.0009}
    assert [line.partition(":")[0] for line in warnings(tasks)] == ["task3"]


def test_every_task_is_warned_about_by_itself():
    told = warnings([{**QUIET, "dropped": 1, "reasons": {LONG: 1}, "epochs": 9.0}, {**OTHER, "epochs": 5.0}])
    assert [line.partition(":")[0] for line in told] == ["mails", "mails", "reviews"]


def test_of_many_warnings_of_one_kind_five_are_told():
    told = warnings([{**QUIET, "task": f"task{i}", "epochs": 9.0} for i in range(1007)])
    assert [line.partition(":")[0] for line in told[:5]] == [f"task{i}" for i in range(5)]
    assert told[5:] == ["and so with 1,002 more tasks (flantune plan --json lists all)"]


# The recipe


@pytest.mark.parametrize(
    ("rate", "method", "optimizer", "text"),
    [
        (2e-4, "none", "adamw", None),
        (1e-3, "none", "adamw", None),
        (2e-4, "lora", "adamw", None),
        (3e-3, "ia3", "adamw", None),
        (1e-3, "none", "adafactor", None),
        (
            0.01,
            "none",
            "adamw",
            "training.learning_rate 0.01 is far above what is usual for full fine-tuning (1e-06 to 0.002); it will not "
            "learn stably",
        ),
        (
            1e-7,
            "none",
            "muon",
            "training.learning_rate 1e-07 is far below what is usual for full fine-tuning (1e-06 to 0.002); it will "
            "hardly learn",
        ),
        (
            2e-6,
            "dora",
            "adamw",
            "training.learning_rate 2e-06 is far below what is usual for LoRA (1e-05 to 0.005); it will hardly learn",
        ),
        (
            2e-5,
            "ia3",
            "adamw",
            "training.learning_rate 2e-05 is far below what is usual for IA3 (0.0001 to 0.05); it will hardly learn",
        ),
        (
            1.0,
            "none",
            "adafactor",
            "training.learning_rate 1 is far above what is usual for Adafactor (1e-05 to 0.01); it will not learn "
            "stably",
        ),
    ],
)
def test_a_learning_rate_far_out_of_the_usual_range_is_told(rate, method, optimizer, text):
    assert learning_rate(rate, method, optimizer) == text


@pytest.mark.parametrize("kind", LEARNING_RATES)
def test_both_ends_of_a_range_are_usual(kind):
    method, optimizer = {
        "full fine-tuning": ("none", "adamw"),
        "LoRA": ("rslora", "adamw"),
        "IA3": ("ia3", "adamw"),
        "Adafactor": ("lora", "adafactor"),
    }[kind]
    low, high = LEARNING_RATES[kind]
    assert [learning_rate(rate, method, optimizer) is None for rate in (low, high, low * 0.9, high * 1.1)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("share", "optimizer", "text"),
    [
        (0.05, "adamw", None),
        (0.5, "adamw", None),
        (0.0, "adafactor", None),
        (
            0.0,
            "adamw",
            "training.warmup is 0: the first steps, at the full learning rate, follow few rows; 0.03 to 0.1 is usual",
        ),
        (
            0.7,
            "adafactor",
            "training.warmup is 0.7: the learning rate rises for most of the run; 0.03 to 0.1 is usual",
        ),
    ],
)
def test_no_warm_up_and_more_warm_up_than_training_are_told(share, optimizer, text):
    assert warm_up(share, optimizer) == text


# Tokenizers

LOST = {ord("\n"): " ", ord("{"): None, ord("}"): None}


class Faithful(ByteEncoder):
    """Gives every text back."""

    def text(self, ids):
        return bytes(i for i in ids if i < 256).decode()


class Lossy(Faithful):
    """Writes line feeds as spaces and knows no braces, as T5's tokenizer does."""

    def text(self, ids):
        return super().text(ids).translate(LOST)


def test_targets_that_a_tokenizer_cannot_write_are_told(tmp_path):
    rows = [{"name": f"f{i}", "code": f"def f{i}():\n    return {{}}"} for i in range(100)]
    codes = member(made_task(tmp_path, "codes", rows, ["{{ name }} ||| {{ code }}", "{{ code }} ||| {{ name }}"]))
    pairs = round_trips([codes], Lossy())[0]
    assert len(pairs) == TARGETS
    assert sum(target != back for target, back in pairs) == TARGETS // 2  # of every second template
    first = next(target for target, back in pairs if target != back)
    start = max(0, first.index("\n") - 10)
    assert lost_in_tokens("codes", pairs, "t5-small") == (
        f"codes: the tokenizer of t5-small cannot write 32 of 64 targets: {first[start : start + 20]!r} comes back as "
        f"{first.translate(LOST)[start : start + 20]!r}; choose another model, or other targets"
    )


def test_nothing_is_told_of_a_tokenizer_that_can_write_all(tmp_path):
    tasks = members(tmp_path)
    found = round_trips(tasks, Faithful())
    assert [len(pairs) for pairs in found] == [24, 6]  # no more than there are rows
    assert [lost_in_tokens(each.task.name, pairs, "any") for each, pairs in zip(tasks, found, strict=True)] == [
        None
    ] * 2


def test_many_tasks_are_sampled_less_each(tmp_path):
    few = members(tmp_path)
    assert {len(pairs) for pairs in round_trips(few * 1000, Faithful())} == {2}
