"""Weights in parts on several ranks: the same run as on one, checkpoints in parts for any number, a whole model."""

from __future__ import annotations

import json
import random
import shutil
from itertools import pairwise, product
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ranks import assert_alike, column, under_torchrun
from tiny import save_tiny_model, save_tiny_t5

FULL, HYBRID = "training.sharding=full", "training.sharding=hybrid"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharding")


def finished(trials, arguments, run, **how):
    """A run that ends well; what it said."""
    ended = trials.run([*arguments, f"output={run}"], **how)
    assert set(ended.codes) == {0}, ended.text
    return ended.text


# --- the same run


@pytest.mark.parametrize(
    ("ranks", "machines", "sharding"),
    [(2, 1, FULL), pytest.param(3, 1, FULL, marks=pytest.mark.slow), (4, 2, HYBRID)],
)
def test_losses_norms_weights_and_the_models_files_are_those_of_one_process(
    folder, trials, arguments, alone, ranks, machines, sharding
):
    run = folder / f"on-{ranks}"
    assert finished(trials, [*arguments, sharding], run, ranks=ranks, machines=machines) == ""
    assert_alike(run, alone)
    found, expected = ({path.name for path in (each / "model").iterdir()} for each in (run, alone))
    assert found == expected
    for name in expected - {"model.safetensors"}:
        assert (run / "model" / name).read_bytes() == (alone / "model" / name).read_bytes(), name


def test_a_rank_without_a_micro_batch_takes_part_and_changes_nothing(folder, trials, arguments, alone):
    run = folder / "idle"
    said = finished(trials, [*arguments, FULL, "training.rows_at_once=4"], run, ranks=2)
    assert said == (
        "warning: 2 ranks share 1 micro-batches a step, so some have nothing to do; raise training.rows_per_step"
    )
    assert_alike(run, alone)


KINDS = {
    "an adapter with dropout in bfloat16": ["training.precision=bf16", "adapter.method=lora", "adapter.dropout=0.3"],
    "averaged weights pulled to the base in bfloat16": [
        *("training.precision=bf16", "training.average=0.9", "training.pull=0.1", "training.weight_decay=0.1"),
        "training.activation_checkpointing=true",
    ],
    "t5": ["model.name={t5}"],
}
SLOW_KINDS = {
    "t5 with a head of its own in bfloat16": ["model.name={t5_v1_1}", "training.precision=bf16"],
    "schedule-free": ["training.optimizer=schedule_free", "training.schedule=constant"],
    "dora": ["adapter.method=dora"],
    "compiled": ["training.compile=true"],
}


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_KINDS)])
def test_it_is_the_same_run_with(folder, trials, arguments, kind):
    if kind == "schedule-free":
        pytest.importorskip("schedulefree")
    models = {
        "t5": save_tiny_t5(folder / "t5"),
        "t5_v1_1": save_tiny_t5(folder / "t5_v1_1", tie_word_embeddings=False, feed_forward_proj="gated-gelu"),
    }
    settings = [setting.format(**models) for setting in (KINDS | SLOW_KINDS)[kind]]
    runs = [folder / f"{kind}-{ranks}" for ranks in (1, 2)]
    said = [
        finished(trials, [*arguments, *settings, FULL], run, ranks=ranks)
        for run, ranks in zip(runs, (1, 2), strict=True)
    ]
    assert said[0] == said[1]
    if "bfloat16" not in kind:
        assert_alike(*runs)
        return
    first, second = (column(run, "loss") for run in runs)
    assert first[0] == second[0]
    assert first == pytest.approx(second, rel=1e-2)  # gradients are rounded before they are summed, or after


# --- checkpoints in parts


def stopped(trials, arguments, run, step, **how) -> Path:
    """The newest checkpoint of a run that was stopped after a step."""
    ended = trials.run([*arguments, f"output={run}"], kill=("at", step), by="SIGTERM", **how)
    assert set(ended.codes) == {143}, ended.text
    return run / "checkpoints" / f"step-{step + 1}"


def test_each_rank_writes_its_part_which_is_an_equal_share_of_the_state(folder, trials, arguments):
    newest = stopped(trials, arguments, folder / "whole", 2)
    total = (newest / "state.safetensors").stat().st_size
    newest = stopped(trials, [*arguments, FULL], folder / "parts", 2, ranks=4)
    sizes = [path.stat().st_size for path in sorted(newest.glob("state-*.safetensors"))]
    assert len(sizes) == 4
    headers = 20_000  # names and places of tensors, which a file of a tiny model is half of
    assert max(sizes) < total / 4 + headers
    assert sum(sizes) < total + 4 * headers


PAIRS = list(product((1, 2, 3, 4), repeat=2))


def tour(pairs, dice) -> list[int]:
    """Numbers of ranks one after the other, in which each pair stands side by side."""
    rest, numbers = list(pairs), [1]
    while rest:
        step = [pair for pair in rest if pair[0] == numbers[-1]]
        # From 1 to 1 last, or from where nothing is left to where something is.
        chosen = dice.choice(step) if step else (numbers[-1], dice.choice(rest)[0])
        numbers.append(chosen[1])
        rest = [pair for pair in rest if pair != chosen]
    return numbers


def test_a_tour_has_all_pairs():
    assert set(pairwise(tour(PAIRS, random.Random(1)))) == set(PAIRS)


def resumed_on(trials, arguments, run, numbers, how) -> None:
    """A run that is stopped after every second step, and gone on with on the next number of ranks."""
    shutil.rmtree(run, ignore_errors=True)
    for start, (ranks, sharding) in enumerate(zip(numbers, how, strict=True)):
        last = start == len(numbers) - 1
        ended = trials.run(
            [*arguments, sharding, f"output={run}"],
            resume="auto",
            ranks=ranks,
            kill=None if last else ("at", 2 * start + 1),
            by="SIGTERM",
        )
        assert set(ended.codes) == ({0} if last else {143}), ended.text


@pytest.mark.parametrize(
    ("numbers", "how"),
    [
        ((4, 3, 2), (FULL, FULL, FULL)),
        ((2, 1, 3), (FULL, "training.sharding=none", FULL)),
    ],
    ids=["in parts on fewer and fewer ranks", "in parts, whole, and in parts again"],
)
def test_a_run_goes_on_with_the_parts_of_any_number_of_ranks(folder, trials, arguments, alone, numbers, how):
    run = folder / "resumed"
    resumed_on(trials, arguments, run, numbers, how)
    assert_alike(run, alone)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_goes_on_over_all_sixteen_pairs_of_numbers_of_ranks(folder, trials, arguments, seed):
    many = [*arguments, "training.draws=320"]
    whole, run, dice = folder / "long", folder / f"tour-{seed}", random.Random(seed)
    if not whole.exists():
        finished(trials, many, whole)
    numbers = tour(PAIRS, dice)
    resumed_on(trials, many, run, numbers, [dice.choice((FULL, HYBRID, "training.sharding=none")) for _ in numbers])
    assert_alike(run, whole)


def test_damage_to_one_rank_s_part_is_told_of_and_the_checkpoint_before_takes_over(folder, trials, arguments, alone):
    run = folder / "damaged"
    newest = stopped(trials, [*arguments, FULL], run, 4, ranks=2)
    part = newest / "state-00001.safetensors"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = finished(trials, [*arguments, FULL], run, resume="auto", ranks=2)
    assert said == f"warning: {newest}: the checkpoint is damaged; going on from the one before"
    assert_alike(run, alone)


def test_a_part_says_where_in_its_weight_it_lies(folder, trials, arguments):
    newest = stopped(trials, [*arguments, FULL], folder / "places", 1, ranks=2)
    name = "master.model.embed_tokens.weight"
    rows = []
    for number in range(2):
        with safe_open(newest / f"state-0000{number}.safetensors", "pt") as file:
            begins = json.loads(file.metadata()["DCP_SHARDING_INFO"])[name]["saved_offsets"]
            rows.append((begins, file.get_slice(name).get_shape()))
    assert rows == [([0, 0], [150, 32]), ([150, 0], [150, 32])]


# --- what is refused, and what ends


def test_a_rank_with_another_model_is_named_before_anything_is_trained(folder, trials, arguments):
    other = save_tiny_model(folder / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    ended = trials.run(
        [*arguments, FULL, f"output={folder / 'mixed'}"], ranks=2, machines=2, other=[f"model.name={other}"]
    )
    assert ended.codes == [2, 1]
    assert ended.text == "error: rank 1 has another model than rank 0; copy it to where that rank runs"


def test_a_rank_that_dies_ends_the_run_with_its_name_and_the_run_goes_on(folder, trials, arguments, alone):
    run = folder / "dead"
    ended = under_torchrun(folder, "SIGKILL", [*arguments, FULL, f"output={run}"])
    assert ended.returncode == 1
    assert "rank      : 1 (local_rank: 1)\n  exitcode  : -9" in ended.stderr
    assert "RuntimeError" not in ended.stderr
    finished(trials, [*arguments, FULL], run, resume="auto", ranks=2)
    assert_alike(run, alone)
