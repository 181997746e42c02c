"""Plan and receipt: counted from the order itself, or estimated from a part of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fake_run import fake_run
from flantune.mixture.order import Order, build_order
from flantune.mixture.plan import PLANNED_WINDOWS, plan, planned_windows
from flantune.mixture.receipt import receipt
from flantune.mixture.window import draw_function, option_ways
from flantune.reporting import write_report
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
    made = plan(mixture, RULE, order, draws=DRAWS, rows_per_step=4)
    sums, _ = counted(order, len(order))
    lengths = defaultdict(list)
    for r in range(len(order)):
        for s in order.row(r):
            lengths[s.task, "input"].append(len(s.input_ids))
            lengths[s.task, "target"].append(len(s.target_ids))
    for i, (task, given) in enumerate(zip(made["tasks"], mixture, strict=True)):
        draws = sums["draws"][i]
        assert task["task"] == given.task.name
        assert task["rows"] == len(given.rows)
        assert task["draws"] == draws
        assert task["epochs"] == pytest.approx((draws + task["dropped"]) / len(given.rows))
        assert task["mean_input_tokens"] == pytest.approx(sums["input"][i] / draws)
        assert task["mean_target_tokens"] == pytest.approx(sums["target"][i] / draws)
        assert task["target_token_share"] == pytest.approx(sums["target"][i] / sums["target"].total())
        assert task["p95_input_tokens"] == np.percentile(lengths[i, "input"], 95)
        assert task["p95_target_tokens"] == np.percentile(lengths[i, "target"], 95)
        assert task["shortened"] == 0
        assert task["reasons"] == Counter(lost["reason"] for lost in order.dropped() if lost["task"] == i)
        assert task["dropped"] == sum(task["reasons"].values())
    assert [task["rate"] for task in made["tasks"]] == pytest.approx([24 / 40, 6 / 40, 10 / 40])
    assert [task["origins"] for task in made["tasks"]] == [["words"], [], ["a", "b"]]
    assert [task["cluster"] for task in made["tasks"]] == ["other", "arithmetic", "other"]
    tokens = sums["input"].total() + sums["target"].total()
    assert made["tokens"] == tokens
    assert made["target_tokens"] == sums["target"].total()
    assert made["fill"] == pytest.approx(tokens / (len(order) * RULE.capacity))
    totals = (DRAWS, -(-len(order) // 4), len(order), 96)
    assert (made["draws"], made["steps"], made["packed_rows"], made["capacity"]) == totals
    assert (made["exact"], made["windows"], made["counted_windows"]) == (True, 7, 7)


def test_draws_and_drops_of_the_plan_are_all_draws(mixture, order):
    made = plan(mixture, RULE, order, draws=DRAWS, rows_per_step=4)
    drawn = Counter(draw_function(mixture, RULE).draws(range(DRAWS)).tasks.tolist())
    assert sum(task["dropped"] for task in made["tasks"]) > 0
    assert {i: task["draws"] + task["dropped"] for i, task in enumerate(made["tasks"])} == drawn


def test_loss_share_follows_tokens_times_weight(mixture, order):
    loss = Counter()
    for r in range(len(order)):
        for s in order.row(r):
            loss[s.task] += len(s.target_ids) * (3 if s.task == 2 else 1)
    made = plan(mixture, RULE, order, draws=DRAWS, rows_per_step=4)
    assert [task["loss_share"] for task in made["tasks"]] == pytest.approx([loss[i] / loss.total() for i in range(3)])


def test_loss_share_per_example_follows_draws(mixture, tmp_path):
    per_example = rule(per="example")
    made_order = build_order(mixture, per_example, DRAWS, ByteEncoder(), tmp_path / "orders")
    made = plan(mixture, per_example, made_order, draws=DRAWS, rows_per_step=4)
    weights = [task["draws"] * (3 if task["task"] == "notes" else 1) for task in made["tasks"]]
    assert [task["loss_share"] for task in made["tasks"]] == pytest.approx([w / sum(weights) for w in weights])


@pytest.mark.parametrize("loss_weight", [1e-30, 1.0, 1e30])
def test_shares_sum_to_one(loss_weight, mixture, tmp_path):
    weighted = [member(given.task, loss_weight=loss_weight) for given in mixture]
    made_order = build_order(weighted, RULE, DRAWS, ByteEncoder(), tmp_path / "orders")
    made = plan(weighted, RULE, made_order, draws=DRAWS, rows_per_step=4)["tasks"]
    told = receipt(weighted, RULE, made_order, len(made_order))["tasks"]
    for tasks, names in (
        (made, ("rate", "target_token_share", "loss_share")),
        (told, ("planned_share", "share", "target_token_share", "loss_share")),
    ):
        for name in names:
            assert sum(task[name] for task in tasks) == pytest.approx(1)


def test_receipt_of_a_whole_run_agrees_with_the_plan(mixture, order):
    made = plan(mixture, RULE, order, draws=DRAWS, rows_per_step=4)
    told = receipt(mixture, RULE, order, len(order))
    assert told["packed_rows"] == made["packed_rows"]
    assert told["draws"] == DRAWS - len(order.dropped())
    for planned, task in zip(made["tasks"], told["tasks"], strict=True):
        for name in ("task", "draws", "epochs", "input_tokens", "target_tokens", "target_token_share", "loss_share"):
            assert task[name] == planned[name]
        assert (task["loss_weight"], task["shortened"]) == (planned["loss_weight"], planned["shortened"])
        assert task["planned_share"] == planned["rate"]
        assert task["dropped"] == planned["reasons"]
        for variant, shares in planned["planned"].items():
            assert {name: told["planned_share"] for name, told in task[variant].items()} == shares
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
        drawn = {name: told["draws"] for name, told in task["templates"].items()}
        assert drawn == {name: templates[i, number] for number, name in enumerate(names)}
        lost = Counter(it["reason"] for it in order.dropped() if it["task"] == i and it["draw"] // 16 in begun)
        assert task["dropped"] == lost


def test_plan_and_receipt_are_the_same_after_json(mixture, order):
    for made in (plan(mixture, RULE, order, draws=DRAWS, rows_per_step=4), receipt(mixture, RULE, order, 3)):
        assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_a_task_without_a_draw_has_no_lengths_and_no_warning(mixture, tmp_path):
    made_order = build_order(mixture, RULE, 1, ByteEncoder(), tmp_path / "orders")
    made = plan(mixture, RULE, made_order, draws=1, rows_per_step=4)
    told = [(task["draws"], task["mean_input_tokens"] is not None, task["loss_share"]) for task in made["tasks"]]
    assert sorted(told) == [(0, False, 0), (0, False, 0), (1, True, 1)]
    assert [line.partition(" (")[0] for line in made["warnings"]] == [
        f"{name}: 100.0 % of the loss; the others may hardly learn"
        for name in (task["task"] for task in made["tasks"] if task["draws"])
    ]


def test_the_plan_shows_where_examples_are_dropped_and_shortened(tmp_path):
    rows = [{"text": "t" * length, "answer": "a" * wanted} for length, wanted in ((10, 5), (150, 5), (10, 120))]
    given = [member(made_task(tmp_path, "texts", rows, ["{{ text }} ||| {{ answer }}"], shorten="text"))]
    made = plan(given, RULE, build_order(given, RULE, 3, ByteEncoder(), tmp_path / "orders"), draws=3, rows_per_step=1)
    task = made["tasks"][0]
    assert (task["draws"], task["shortened"], task["dropped"]) == (2, 1, 1)
    cut, lost = task["samples"]["shortened"][0], task["samples"]["dropped"][0]
    assert (cut["row"], cut["template"], cut["cut"]) == (1, "t0", 151 - (96 - 6))
    assert (lost["row"], lost["template"], lost["reason"]) == (2, "t0", "target longer than a packed row")
    assert [sample["place"].endswith(f"texts.jsonl:{line}") for sample, line in ((cut, 2), (lost, 3))] == [True, True]
    assert made["warnings"] == [
        "texts: 1 of 3 draws have a target that is longer than a packed row and are dropped (such as texts.jsonl:3 in "
        "template t0); raise mixture.capacity (of an encoder-decoder "
        "mixture.target_capacity) or leave such rows out with `where`",
        "texts: 1 of 2 prompts are shortened to fit into a packed row (such as texts.jsonl:2 in template t0); raise "
        "mixture.capacity, or see that what gives way is not asked for",
    ]


# Long orders


@hypothesis.given(windows=st.integers(1, 10_000))
def test_planned_windows_are_spread_evenly(windows):
    numbers = planned_windows(windows)
    gaps = set(np.diff([*numbers, windows]).tolist())
    assert numbers[0] == 0
    assert len(numbers) == min(windows, PLANNED_WINDOWS)
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_a_long_order_is_planned_from_a_part_that_is_like_the_whole(mixture, tmp_path):
    draws = 16 * 120
    order = Order(mixture, RULE, draws, ByteEncoder(), tmp_path / "orders")
    made = plan(mixture, RULE, order, draws=draws, rows_per_step=4)
    assert len(order.missing()) == 120 - PLANNED_WINDOWS
    assert (made["exact"], made["windows"], made["counted_windows"]) == (False, 120, PLANNED_WINDOWS)
    drawn = Counter(draw_function(mixture, RULE).draws(range(draws)).tasks.tolist())
    for i, (task, given) in enumerate(zip(made["tasks"], mixture, strict=True)):
        assert task["draws"] + task["dropped"] == drawn[i]
        assert task["epochs"] == drawn[i] / len(given.rows)
    told = receipt(mixture, RULE, order, len(order))
    for name in ("input_tokens", "target_tokens"):
        assert sum(task[name] for task in made["tasks"]) == pytest.approx(told[name], rel=0.05)  # of 512 draws
    assert made["packed_rows"] == pytest.approx(len(order), rel=0.05)
    assert [task["loss_share"] for task in made["tasks"]] == pytest.approx(
        [task["loss_share"] for task in told["tasks"]], abs=0.03
    )


def test_a_long_order_of_like_windows_is_estimated_exactly(tmp_path):
    rows = [{"text": "same", "answer": "yes"}]
    given = [member(made_task(tmp_path, "texts", rows, ["{{ text }} ||| {{ answer }}"]))]
    order = Order(given, RULE, 16 * 100, ByteEncoder(), tmp_path / "orders")
    made = plan(given, RULE, order, draws=16 * 100, rows_per_step=4)
    told = receipt(given, RULE, order, len(order))
    assert (made["packed_rows"], made["tokens"]) == (len(order), told["input_tokens"] + told["target_tokens"])


# How tasks are asked


@pytest.fixture
def asked(tmp_path):
    """A task with options, exemplars and an inverted template, asked otherwise from draw 100 on."""
    rows = [{"text": f"word {i}", "answer": ("yes", "no")[i % 2]} for i in range(40)]
    templates = [
        {"text": "{{ text }} {{ options }} ||| {{ answer }}", "weight": 3},
        "{{ text }} ||| {{ answer }}",
        {"text": "{{ answer }}! ||| {{ text }}", "inverted": True},
    ]
    fields = {"answer_choices": ["yes", "no"], "options": {"styles": ["dashes", "letters"]}}
    task = made_task(tmp_path / "tasks", "verdicts", rows, templates, **fields)
    few_shot = {"few_shot": 0.5, "exemplars": {1: 1.0, 2: 1.0}}
    begin = member(task, options=0.5, **few_shot)
    return [replace(begin, later=((100, replace(begin, options=1.0, inverted=0.0)),))]


def test_receipt_counts_variants_as_the_order_holds_them(asked, tmp_path):
    order = build_order(asked, rule(capacity=400), 200, ByteEncoder(), tmp_path / "orders")
    told = receipt(asked, rule(capacity=400), order, len(order))
    segments = [segment for number in range(len(order)) for segment in order.row(number)]
    styles = [style.name if style else "none" for style, _ in option_ways(asked[0])]
    templates = asked[0].task.training_templates
    for variant, name_of in {
        "templates": lambda s: templates[s.template].name,
        "options": lambda s: styles[s.options] if templates[s.template].uses_options else "none",
        "exemplars": lambda s: str(s.exemplars),
        "inverted": lambda s: "inverted" if templates[s.template].inverted else "straight",
    }.items():
        entries = told["tasks"][0][variant]
        for quantity, value in {
            "draws": lambda s: 1,
            "input_tokens": lambda s: len(s.input_ids),
            "target_tokens": lambda s: len(s.target_ids),
            "loss_weight": lambda s: len(s.target_ids) * s.loss_weight,
        }.items():
            sums = Counter()
            for segment in segments:
                sums[name_of(segment)] += value(segment)
            assert {name: entry[quantity] for name, entry in entries.items() if entry["draws"]} == sums
        assert sum(entry["share"] for entry in entries.values()) == pytest.approx(1)
        assert sum(entry["planned_share"] for entry in entries.values()) == pytest.approx(1)
        if variant != "templates":
            assert told["variants"][variant] == entries  # of the only task


def test_planned_variants_are_those_of_all_phases(asked, tmp_path):
    made = plan(
        asked,
        rule(capacity=400),
        build_order(asked, rule(capacity=400), 200, ByteEncoder(), tmp_path / "orders"),
        draws=200,
        rows_per_step=4,
    )
    planned = made["tasks"][0]["planned"]
    assert planned["inverted"] == pytest.approx({"straight": (0.8 + 1) / 2, "inverted": 0.2 / 2})
    assert planned["templates"] == pytest.approx({"t0": (0.6 + 0.75) / 2, "t1": (0.2 + 0.25) / 2, "t2": 0.1})
    shown = (0.6 * 0.5 + 0.75) / 2
    assert planned["options"] == pytest.approx({"none": 1 - shown, "dashes": shown / 2, "letters": shown / 2})


def test_realised_shares_of_variants_are_those_planned(asked, tmp_path):
    order = build_order(asked, rule(capacity=400), 400, ByteEncoder(), tmp_path / "orders")
    told = receipt(asked, rule(capacity=400), order, len(order))
    for variant in ("templates", "options", "exemplars", "inverted"):
        for entry in told["tasks"][0][variant].values():
            assert entry["share"] == pytest.approx(entry["planned_share"], abs=0.02)


def test_plan_and_receipt_of_encoder_decoder_rows_tell_both_capacities(mixture, tmp_path):
    two = rule(capacity=96, target_capacity=32)
    order = build_order(mixture, two, DRAWS, ByteEncoder(), tmp_path / "orders")
    made = plan(mixture, two, order, draws=DRAWS, rows_per_step=4)
    sums, _ = counted(order, len(order))
    assert (made["capacity"], made["target_capacity"]) == (96, 32)
    assert made["input_fill"] == sums["input"].total() / (96 * len(order))
    assert made["target_fill"] == sums["target"].total() / (32 * len(order))


def test_the_report_shows_what_plan_and_receipt_say(asked, tmp_path):
    order = build_order(asked, rule(capacity=400), 200, ByteEncoder(), tmp_path / "orders")
    made = plan(asked, rule(capacity=400), order, draws=200, rows_per_step=4)
    told = receipt(asked, rule(capacity=400), order, len(order))
    run = fake_run(tmp_path / "run")
    for name, content in (("plan", made), ("mixture", told)):
        (run / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    assert f"200 draws in {made['packed_rows']} packed rows of 400 tokens" in page
    task = told["tasks"][0]
    for entry in (task, *(entry for each in told["variants"].values() for entry in each.values())):
        for quantity in ("draws", "input_tokens", "target_tokens"):
            assert f">{entry[quantity]:,}</td>" in page
    for name, entry in task["templates"].items():
        assert (
            f"{name} {entry['draws']} ({entry['share']:.1%}, planned {entry['planned_share']:.1%})".replace("%", " %")
            in page
        )
