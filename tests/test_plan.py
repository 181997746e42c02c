"""Plan and receipt: counted from the order itself, and what they warn about."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

from flantune.mixture.order import build_order
from flantune.mixture.plan import plan, receipt, warnings
from flantune.mixture.window import draw_function
from small_mixture import DRAWS, RULE, ByteEncoder, made_task, member, members, rule


@pytest.fixture
def mixture(tmp_path):
    """Letters, sums, and notes of which some are too long."""
    notes = [{"note": "n" * (12 * n), "short": "s" * n} for n in range(1, 11)]
    task = made_task(tmp_path / "tasks", "notes", notes, ["{{ note }} ||| {{ short }}"], origins=["a", "b"])
    return [*members(tmp_path / "tasks"), member(task, loss_weight=3.0)]


@pytest.fixture
def order(mixture, tmp_path):
    return build_order(mixture, RULE, DRAWS, ByteEncoder(), tmp_path / "orders")


def counted(order, rows):
    """Draws, tokens, loss and templates of each task, added up segment by segment."""
    sums: dict[str, Counter[int]] = defaultdict(Counter)
    templates = Counter()
    for r in range(rows):
        for s in order.row(r):
            sums["draws"][s.task] += 1
            sums["input"][s.task] += len(s.input_ids)
            sums["target"][s.task] += len(s.target_ids)
            templates[s.task, s.template] += 1
    return sums, templates


def test_plan_counts_what_stands_in_the_order(mixture, order):
    made = plan(mixture, RULE, order, draws=DRAWS, steps=17)
    sums, _ = counted(order, len(order))
    for i, (task, given) in enumerate(zip(made["tasks"], mixture, strict=True)):
        draws = sums["draws"][i]
        assert task["task"] == given.task.name
        assert task["rows"] == len(given.rows)
        assert task["draws"] == draws
        assert task["epochs"] == pytest.approx(draws / len(given.rows))
        assert task["mean_input_tokens"] == pytest.approx(sums["input"][i] / draws)
        assert task["mean_target_tokens"] == pytest.approx(sums["target"][i] / draws)
        assert task["target_token_share"] == pytest.approx(sums["target"][i] / sums["target"].total())
        assert task["dropped"] == sum(lost["task"] == i for lost in order.dropped)
    assert [task["rate"] for task in made["tasks"]] == pytest.approx([24 / 40, 6 / 40, 10 / 40])
    assert [task["origins"] for task in made["tasks"]] == [["words"], [], ["a", "b"]]
    assert [task["cluster"] for task in made["tasks"]] == ["other", "arithmetic", "other"]
    tokens = sums["input"].total() + sums["target"].total()
    assert made["tokens"] == tokens
    assert made["target_tokens"] == sums["target"].total()
    assert made["fill"] == pytest.approx(tokens / (len(order) * RULE.capacity))
    assert (made["draws"], made["steps"], made["packed_rows"], made["capacity"]) == (DRAWS, 17, len(order), 96)


def test_draws_and_drops_of_the_plan_are_all_draws(mixture, order):
    made = plan(mixture, RULE, order, draws=DRAWS, steps=1)
    drawn = Counter(draw_function(mixture, RULE).draws(range(DRAWS)).tasks.tolist())
    assert sum(task["dropped"] for task in made["tasks"]) > 0
    assert {i: task["draws"] + task["dropped"] for i, task in enumerate(made["tasks"])} == drawn


def test_loss_share_follows_tokens_times_weight(mixture, order):
    loss = Counter()
    for r in range(len(order)):
        for s in order.row(r):
            loss[s.task] += len(s.target_ids) * (3 if s.task == 2 else 1)
    made = plan(mixture, RULE, order, draws=DRAWS, steps=1)
    assert [task["loss_share"] for task in made["tasks"]] == pytest.approx([loss[i] / loss.total() for i in range(3)])


def test_loss_share_per_example_follows_draws(mixture, tmp_path):
    per_example = rule(per="example")
    made_order = build_order(mixture, per_example, DRAWS, ByteEncoder(), tmp_path / "orders")
    made = plan(mixture, per_example, made_order, draws=DRAWS, steps=1)
    weights = [task["draws"] * (3 if task["task"] == "notes" else 1) for task in made["tasks"]]
    assert [task["loss_share"] for task in made["tasks"]] == pytest.approx([w / sum(weights) for w in weights])


@pytest.mark.parametrize("loss_weight", [1e-30, 1.0, 1e30])
def test_shares_sum_to_one(loss_weight, mixture, tmp_path):
    weighted = [member(given.task, loss_weight=loss_weight) for given in mixture]
    made_order = build_order(weighted, RULE, DRAWS, ByteEncoder(), tmp_path / "orders")
    made = plan(weighted, RULE, made_order, draws=DRAWS, steps=1)["tasks"]
    told = receipt(weighted, RULE, made_order, len(made_order))["tasks"]
    for tasks, names in (
        (made, ("rate", "target_token_share", "loss_share")),
        (told, ("planned_share", "share", "target_token_share", "loss_share")),
    ):
        for name in names:
            assert sum(task[name] for task in tasks) == pytest.approx(1)


def test_receipt_of_a_whole_run_agrees_with_the_plan(mixture, order):
    made = plan(mixture, RULE, order, draws=DRAWS, steps=1)
    told = receipt(mixture, RULE, order, len(order))
    assert told["packed_rows"] == made["packed_rows"]
    assert told["draws"] == DRAWS - len(order.dropped)
    for planned, task in zip(made["tasks"], told["tasks"], strict=True):
        for name in ("task", "draws", "epochs", "target_token_share", "loss_share"):
            assert task[name] == planned[name]
        assert task["planned_share"] == planned["rate"]
        assert sum(task["dropped"].values()) == planned["dropped"]
        assert task["share"] == pytest.approx(task["draws"] / told["draws"])


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_receipt_counts_only_the_rows_that_were_trained_on(part, mixture, order):
    rows = int(part * len(order))
    told = receipt(mixture, RULE, order, rows)
    sums, templates = counted(order, rows)
    begun = {order.window_of(r) for r in range(rows)}
    assert (told["packed_rows"], told["draws"]) == (rows, sums["draws"].total())
    for i, (task, given) in enumerate(zip(told["tasks"], mixture, strict=True)):
        assert (task["draws"], task["input_tokens"], task["target_tokens"]) == tuple(
            sums[name][i] for name in ("draws", "input", "target")
        )
        names = [template.name for template in given.task.training_templates]
        assert task["templates"] == {name: templates[i, number] for number, name in enumerate(names)}
        lost = Counter(it["reason"] for it in order.dropped if it["task"] == i and it["draw"] // 16 in begun)
        assert task["dropped"] == lost


def test_plan_and_receipt_are_the_same_after_json(mixture, order):
    for made in (plan(mixture, RULE, order, draws=DRAWS, steps=1), receipt(mixture, RULE, order, 3)):
        assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_a_task_without_a_draw_has_a_line_of_zeros(mixture, tmp_path):
    made_order = build_order(mixture, RULE, 1, ByteEncoder(), tmp_path / "orders")
    made = plan(mixture, RULE, made_order, draws=1, steps=1)
    told = [(task["draws"], task["mean_input_tokens"] > 0, task["loss_share"]) for task in made["tasks"]]
    assert sorted(told) == [(0, False, 0), (0, False, 0), (1, True, 1)]


# Warnings

QUIET = {"task": "mails", "draws": 90, "dropped": 0, "epochs": 4.0, "loss_share": 0.02}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, None),
        (
            {"dropped": 10},
            "mails: 10 of 100 draws are too long for a packed row and dropped; raise mixture.capacity or name a field "
            "in the task's `shorten`",
        ),
        (
            {"epochs": 4.04},
            "mails: each row is seen 4.0 times; past four, more epochs mostly memorize",
        ),
        (
            {"loss_share": 0.0194},
            "mails: only 1.9 % of the loss; it may hardly learn (training.loss.per: example or square_root counts "
            "short targets more)",
        ),
    ],
)
def test_a_warning_is_told_exactly_when_there_is_reason(change, text):
    other = {**QUIET, "task": "reviews", "loss_share": 0.98}
    assert warnings([{**QUIET, **change}, other]) == ([] if text is None else [text])


def test_a_single_task_is_not_told_that_its_share_is_small():
    assert warnings([{**QUIET, "loss_share": 0.0}]) == []


def test_every_task_is_warned_about_by_itself():
    told = warnings([{**QUIET, "dropped": 1, "epochs": 9.0}, {**QUIET, "task": "reviews", "epochs": 5.0}])
    assert [line.partition(":")[0] for line in told] == ["mails", "mails", "reviews"]


def test_the_plan_warns_about_the_task_that_loses_examples(mixture, order):
    made = plan(mixture, RULE, order, draws=DRAWS, steps=1)
    dropped = made["tasks"][2]["dropped"]
    assert made["warnings"][0].startswith(f"notes: {dropped} of {dropped + made['tasks'][2]['draws']} draws are")
    assert not any(line.startswith(("letters", "sums")) for line in made["warnings"])
