"""Validation while training: it touches nothing, decides the same after a kill, and its rows are nobody else's."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch

from families import ENCODER_DECODERS, FAMILIES, examples, tiny
from flantune.errors import FlantuneError
from flantune.evaluation.metrics import METRICS, metric
from flantune.evaluation.scale import on_one_scale
from flantune.evaluation.validation_lines import best_line, exhausted
from flantune.models.packed_attention import register
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.preparation import prepare
from flantune.recipe import load_recipe
from flantune.validation import Measured, goodness, undisturbed
from kills import killed_again_and_again, steps_of, weights_of
from runs import write_recipe

ASKED = ["validation.every=3", "validation.rows=6"]


def with_validation_split(recipe: Path) -> Path:
    """The recipe, whose tasks have a third split: the words of the test rows in other company."""
    for name in ("words", "verdict", "other"):
        rows = (recipe.parent / f"{name}-test.jsonl").read_text()
        (recipe.parent / f"{name}-validation.jsonl").write_text(rows.replace(" test ", " validation "))
        task = recipe.parent / f"{name}.yaml"
        splits = f"test: {name}-test.jsonl"
        task.write_text(task.read_text().replace(splits, f"{splits}, validation: {name}-validation.jsonl"))
    return recipe


def validated_recipe(folder: Path) -> str:
    """Path of a recipe whose tasks have a validation split."""
    path = with_validation_split(write_recipe(folder))
    path.write_text(path.read_text().replace("training: {", "training: {loss: {per: example}, "))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("validation")


@pytest.fixture(scope="module")
def recipe(folder):
    return validated_recipe(folder)


def lines(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def model_files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "model").iterdir() if path.suffix == ".safetensors"}


# --- it touches nothing


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["adapter={method: lora, rank: 4, dropout: 0.3}"],
        ["training.average=0.8", "training.precision=fp32"],
        pytest.param(["training.master_weights=false", "training.optimizer=adafactor"], marks=pytest.mark.slow),
        pytest.param(["training.optimizer=schedule_free", "training.schedule=constant"], marks=pytest.mark.slow),
        pytest.param(["training.activation_checkpointing=true"], marks=pytest.mark.slow),
        pytest.param(["training.compile=true"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_losses_and_last_weights_are_bitwise_those_without_validation(tmp_path, trials, recipe, overrides):
    if "training.optimizer=schedule_free" in overrides:
        pytest.importorskip("schedulefree")
    without, watched = tmp_path / "without", tmp_path / "watched"
    assert trials.run([recipe, *overrides, f"output={without}"]).codes == [0]
    ended = trials.run([recipe, *overrides, *ASKED, "validation.model=last", f"output={watched}"])
    assert ended.codes == [0], ended.text
    assert len(lines(watched)) >= 3
    assert losses(watched) == losses(without)
    assert model_files(watched) == model_files(without)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "t5", "t5gemma"])
def test_a_validation_leaves_random_state_modes_and_buffers_as_they_were(family):
    model = tiny(family, register())
    model.train()
    next(model.children()).eval()  # a mode that is not the whole model's
    modes = [module.training for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    stream = stream_of(examples(1, 3), start_token(model))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        answered = target_logits(model, stream)
        assert not answered.requires_grad
        torch.rand(3)
        model.register_buffer("made_meanwhile", torch.zeros(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert {name: buffer.tolist() for name, buffer in model.named_buffers()} == {
        name: buffer.tolist() for name, buffer in buffers.items()
    }
    assert "forward" not in model.get_output_embeddings().__dict__
    assert family in FAMILIES | ENCODER_DECODERS


# --- what it finds


@pytest.fixture(scope="module")
def watched(folder, trials, recipe):
    """A run with everything that a validation does, and how often each kind of moment came in it."""
    ended = trials.run([recipe, *ASKED, f"output={folder / 'watched'}"])
    assert ended.codes == [0], ended.text
    return folder / "watched", ended


def test_each_trained_task_has_a_loss_and_its_scores_and_unseen_tasks_have_none(watched):
    run, ended = watched
    found = lines(run)
    last = steps_of(run)[-1][0] + 1
    assert [line["step"] for line in found] == sorted({*range(3, last + 1, 3), last})
    for line in found:
        assert line["loss_by_task"].keys() == line["scaled"].keys() == {"words", "verdict"}
        assert line["scores"]["words"].keys() == {"rouge1", "exact_match"}
        assert line["scaled"]["verdict"] == line["scores"]["verdict"]["accuracy"]
        assert line["loss"] == pytest.approx(sum(line["loss_by_task"].values()) / 2)
        assert line["value"] == line["average"] == pytest.approx(sum(line["scaled"].values()) / 2)
        assert line["worst"] == min(line["scaled"].values())
    assert f"validation after step 3: loss {found[0]['loss']:.3f}, average" in ended.text


def test_the_model_is_that_of_the_best_validation_and_nothing_else_is_left(watched, trials, recipe, tmp_path):
    run, _ = watched
    best = best_line(lines(run))
    assert best is not None
    assert not (run / "best").exists()
    assert json.loads((run / "mixture.json").read_text())["packed_rows"] == best["row"]
    # The model of that step, reached by a run that ends there.
    stopped = trials.run([recipe, f"output={tmp_path / 'run'}"], kill=("at", best["step"]), by="SIGKILL")
    assert stopped.codes == [-signal.SIGKILL]
    again = trials.run([recipe, *ASKED, f"output={tmp_path / 'again'}"])
    assert again.codes == [0]
    assert lines(tmp_path / "again") == lines(run)
    assert weights_of(tmp_path / "again") == weights_of(run)


def test_the_loss_is_that_of_the_answers_one_by_one(folder, recipe, monkeypatch):
    from flantune.learner import learner_of
    from flantune.progress import Silent
    from flantune.training.distributed import ALONE
    from flantune.validation import measured

    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
    chosen = load_recipe(recipe, [*ASKED, "training.precision=fp32", "validation.metrics=false"])
    prepared = prepare(chosen)
    learner = learner_of(chosen, prepared.rule.capacity, Silent())
    found = measured(learner, prepared.validated, rows_at_once=1, batch_tokens=512, ranks=ALONE)
    assert found is not None
    for task in prepared.validated:
        assert task.questions is None
        segments = [segment for row in task.packed for segment in row]
        assert sorted(segment.row for segment in segments) == list(range(6))  # each row once
        total = 0.0
        for segment in segments:
            alone = stream_of([(segment.input_ids, segment.target_ids, 1.0)])
            with torch.no_grad():
                logits = target_logits(learner.model, alone)
            total += float(torch.nn.functional.cross_entropy(logits, alone.targets, reduction="sum"))
        assert found.losses[task.name] == pytest.approx(total / sum(len(s.target_ids) for s in segments), rel=1e-5)


# --- whose rows they are


def test_rows_come_from_the_split_alone_and_none_is_a_row_of_the_comparison(folder, recipe, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
    test, path = folder / "words-test.jsonl", folder / "words-validation.jsonl"
    kept = path.read_text()
    shared = test.read_text().splitlines()[:5]
    try:
        path.write_text("\n".join([*kept.splitlines()[:7], *shared]) + "\n")
        words, verdict = prepare(load_recipe(recipe, ["validation.every=3"])).validated
    finally:
        path.write_text(kept)
    assert (words.name, verdict.name) == ("words", "verdict")
    assert words.questions is not None
    texts = [item.values["text"] for item in words.questions.items]
    assert len(texts) == 7
    assert all(" validation " in text for text in texts)
    assert {item.template for item in words.questions.items} == {"plain", "question"}  # no held-out phrasing


def test_the_sample_is_fixed_by_the_seed(folder, recipe, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "cache"))

    def rows(*overrides: str) -> list[list[str]]:
        prepared = prepare(load_recipe(recipe, [*ASKED, *overrides]))
        return [[item.values["text"] for item in task.questions.items] for task in prepared.validated if task.questions]

    assert rows() == rows() == rows("training.draws=32")
    assert rows() != rows("seed=1")


def test_a_task_without_the_split_is_told_and_left_out(folder, recipe, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
    task = folder / "words.yaml"
    kept = task.read_text()
    try:
        task.write_text(kept.replace(", validation: words-validation.jsonl", ""))
        prepared = prepare(load_recipe(recipe, ASKED))
    finally:
        task.write_text(kept)
    assert [each.name for each in prepared.validated] == ["verdict"]
    assert 'words has no split "validation", so it is not validated' in prepared.plan["warnings"]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "validation.split=test",
            'the split "test" is what base and tuned are compared on; choose one that is not',
        ),
        ("validation.split=train", 'the split "train" is trained on; choose one that is not'),
        (
            "validation.split=valdation",
            'no trained task has a split "valdation"; did you mean "validation"? (validation)',
        ),
    ],
)
def test_rows_that_are_trained_or_compared_on_are_refused(folder, recipe, monkeypatch, override, told):
    monkeypatch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
    with pytest.raises(FlantuneError) as caught:
        prepare(load_recipe(recipe, [*ASKED, override]))
    assert str(caught.value).endswith(told), str(caught.value)


# --- what it decides


def line(step: int, value: float | None) -> dict:
    return {"step": step, "value": value}


def test_the_best_is_the_first_of_equals_and_never_one_without_a_value():
    assert best_line([]) is None
    assert best_line([line(1, None)]) is None
    assert best_line([line(1, 2.0), line(2, 3.0), line(3, 3.0), line(4, None)]) == line(2, 3.0)


def test_patience_counts_validations_since_the_best():
    values = [1.0, 3.0, 2.0, 3.0, None, 4.0, 1.0, 1.0, 1.0]
    found = [line(step, value) for step, value in enumerate(values)]
    stops = {
        patience: next((n for n in range(10) if exhausted(found[:n], patience)), None) for patience in (1, 2, 3, 4)
    }
    assert stops == {1: 3, 2: 4, 3: 5, 4: None}
    assert not any(exhausted(found[:n], None) for n in range(10))


def test_what_is_best_is_what_the_recipe_says():
    found = Measured({"a": 1.0, "b": 3.0}, {"a": {}, "b": {}}, {"a": 80.0, "b": 10.0})
    assert [goodness(found, best) for best in ("average", "worst", "loss")] == [45.0, 10.0, -2.0]
    without = Measured({"a": 1.0, "b": 3.0}, {}, {})
    assert [goodness(without, best) for best in ("average", "worst", "loss")] == [-2.0, -3.0, -2.0]
    assert goodness(Measured({"a": float("nan")}, {}, {}), "loss") is None


@pytest.mark.parametrize("name", [name for name, each in METRICS.items() if not each.measured])
def test_on_the_one_scale_better_is_higher_from_0_to_100_for_every_metric(name):
    by, dice = metric(name), random.Random(1)
    top = 100.0 if by.unit == "0-100" else 40.0
    scores = sorted((dice.uniform(0, top) for _ in range(50)), reverse=not by.higher_is_better)
    scaled = [on_one_scale(score, by, 1.5) for score in scores]
    assert scaled == sorted(scaled)
    assert scaled[0] >= 0
    assert scaled[-1] <= 100
    if by.unit != "0-100":
        assert on_one_scale(1.5, by, 1.5) == 50  # as good as always saying the same


# --- kills, ranks, early stopping


FALLING = ["validation.best=loss", "training.learning_rate=0.3", "training.precision=fp32"]  # gets worse soon
UNMOVED = ["validation.best=worst", "training.learning_rate=1e-6", "training.precision=fp32"]  # the worst score stays 0


def test_training_stops_when_nothing_gets_better_and_the_receipt_ends_at_the_best(tmp_path, trials, recipe):
    run = tmp_path / "run"
    ended = trials.run([recipe, *FALLING, "validation.every=1", "validation.metrics=false", "validation.patience=3",
                        f"output={run}"])  # fmt: skip
    assert ended.codes == [0], ended.text
    found = lines(run)
    best = best_line(found)
    assert best is not None
    assert len(found) == found[-1]["step"] == best["step"] + 3 == len(losses(run))
    planned = json.loads((run / "plan.json").read_text())["steps"]
    assert found[-1]["step"] < planned
    assert json.loads((run / "mixture.json").read_text())["packed_rows"] == best["row"]


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))])
def test_a_run_killed_anywhere_decides_the_same_bit_for_bit(tmp_path, folder, trials, recipe, watched, seed):
    whole, ended = watched
    dice, run = random.Random(seed), tmp_path / "run"
    kinds = {"save": 2, "validated": 4, "validating": 2, "end": 1, "step": 1}
    moments = [(kind, dice.randrange(ended.moments[kind])) for kind in dice.choices([*kinds], [*kinds.values()], k=3)]
    told = killed_again_and_again(trials, [recipe, *ASKED], run, moments, [1])
    assert (run / "model").exists(), told
    assert lines(run) == lines(whole), told
    assert steps_of(run) == steps_of(whole), told
    assert weights_of(run) == weights_of(whole), told
    assert (run / "mixture.json").read_bytes() == (whole / "mixture.json").read_bytes()
    assert not (run / "best").exists()
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize("step", [3, 4, 6])
def test_a_signal_around_a_validation_loses_none(tmp_path, trials, recipe, watched, step):
    whole, _ = watched
    run = tmp_path / "run"
    assert trials.run([recipe, *ASKED, f"output={run}"], kill=("at", step), by="SIGTERM").codes == [143]
    assert trials.run(resume=run).codes == [0]
    assert lines(run) == lines(whole)
    assert weights_of(run) == weights_of(whole)


def test_a_signal_during_a_validation_is_heeded_and_the_validation_comes_again(tmp_path, trials, recipe, watched):
    whole, _ = watched
    run = tmp_path / "run"
    stopped = trials.run([recipe, *ASKED, f"output={run}"], kill=("validating", 0), by="SIGTERM")
    assert stopped.codes == [143], stopped.text
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-2", "step-3"]
    assert not (run / "validation.jsonl").exists()
    assert trials.run(resume=run).codes == [0]
    assert lines(run) == lines(whole)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_share_a_validation_and_all_stop_where_one_would(tmp_path, trials, recipe, ranks):
    asked = [recipe, *UNMOVED, "validation.every=2", "validation.patience=2", "training.rows_per_step=4"]
    alone, run = tmp_path / "alone", tmp_path / "run"
    assert trials.run([*asked, f"output={alone}"]).codes == [0]
    ended = trials.run([*asked, f"output={run}"], ranks=ranks)
    assert ended.codes == [0] * ranks, ended.text
    found, expected = lines(run), lines(alone)
    assert [each["step"] for each in found] == [each["step"] for each in expected] == [2, 4, 6]
    assert [each["draws"] for each in found] == [each["draws"] for each in expected]
    assert [each["loss"] for each in found] == pytest.approx([each["loss"] for each in expected], rel=1e-3)


def test_best_weights_that_are_gone_are_told_with_a_way_on(tmp_path, trials, recipe):
    run = tmp_path / "run"
    asked = [recipe, *UNMOVED, "validation.every=2", f"output={run}"]
    assert trials.run(asked, kill=("at", 5), by="SIGTERM").codes == [143]
    shutil.rmtree(run / "best" / "step-2")
    refused = trials.run(resume=run)
    told = f"error: {run / 'best' / 'step-2'}: the best model was kept here and is gone; go on with the last weights: "
    assert refused.codes == [2]
    assert refused.text.splitlines()[-1] == f"{told}flantune train --resume {run} validation.model=last"
    assert trials.run(["validation.model=last"], resume=run).codes == [0]
