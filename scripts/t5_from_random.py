"""Make a T5 of about 16 million random weights, and train it packed and padded on the same examples.

Usage:
    python scripts/t5_from_random.py make DIR --data DATA
    python scripts/t5_from_random.py compare DIR --data DATA [--draws 8000] [--points 8] [--precision fp32]
    python scripts/t5_from_random.py loss DIR --data DATA

`make` writes a model folder: T5's architecture with random weights, and a tokenizer of 16,384 tokens learned from the
training rows of recipes/four_tasks.yaml. Train it as any model: flantune train recipes/four_tasks.yaml model=DIR ...

`compare` trains it three times over the same order, from the same weights, with the same optimizer: once as flantune
does, on streams without padding; once on padded batches through the library's own attention with its masks, the loss
summed by hand; and once more so with the examples of each batch in reverse, which changes nothing but how sums are
rounded, and so shows how far apart rounding alone takes two runs. Prints their losses of steps and of held-out rows.

`loss` prints the mean loss of the target tokens of the same held-out rows for any such model, a run's say.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from flantune.evaluation.prompts import evaluation_set
from flantune.learner import learner_of
from flantune.mixture.order import Order
from flantune.models.load import load_model
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.preparation import prepare, trained_tasks
from flantune.progress import Silent
from flantune.recipe import Recipe
from flantune.training.loop import train
from flantune.training.loss import token_losses
from flantune.training.optimizer import MasterOptimizer
from flantune.training.schedule import Schedule

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "four_tasks.yaml"
VOCABULARY = 16_384
SHAPE = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 6, "num_heads": 4}
HELD_OUT = 64  # rows a task
TRAINING = (
    "training.learning_rate=1e-3",
    "training.rows_per_step=1",
    "training.checkpoint_every=0",
)

Pair = tuple[list[int], list[int]]


def make(folder: Path, data: str) -> None:
    """Writes the model's folder."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # line breaks and braces come back
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(data), trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    torch.manual_seed(0)
    tokens: dict[str, Any] = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    config = transformers.T5Config(vocab_size=VOCABULARY, dropout_rate=0.0, **tokens, **SHAPE)
    model = transformers.T5ForConditionalGeneration(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million weights, {len(fast)} tokens")


def _texts(data: str) -> Iterator[str]:
    for task in trained_tasks(_recipe("smollm2-135m-instruct", data)):
        rows = task.split("train")
        for number in range(min(len(rows), 10_000)):
            yield from (value for value in rows[number].values() if isinstance(value, str))


def _recipe(model: str, data: str, *overrides: str) -> Recipe:
    return Recipe.load(RECIPE, [f"model={model}", f"variables.data={data}", *TRAINING, *overrides])


def compare(folder: Path, data: str, draws: int, points: int, precision: str) -> None:
    """Prints the losses of both ways at `points` moments of a run."""
    recipe = _recipe(str(folder), data, f"training.draws={draws}", f"training.precision={precision}")
    prepared = prepare(recipe)
    prepared.order.complete()
    learner = learner_of(recipe, prepared.rule.capacity, Silent())
    held_out = _held_out(recipe, learner.loaded.format)
    padded, control = _padded_copy(learner.model), _padded_copy(learner.model)
    rows_per_step = recipe.training.rows_per_step
    steps = -(-len(prepared.order) // rows_per_step)
    shown = {round(steps * point / points) for point in range(1, points + 1)}
    print(f"{draws} examples, {steps} steps; losses in nats per target token, {len(held_out)} held-out rows")
    print("      | training                  | held out                                  | seconds")
    print(" step | packed  padded  reversed  | packed  padded  reversed  packed - padded | packed  padded")
    seconds = [0.0, 0.0]
    ways = zip(
        train(
            learner.model,
            prepared.order,
            learner.optimizer,
            learner.schedule,
            rows_per_step=rows_per_step,
            rows_at_once=recipe.training.rows_at_once,
            summed_loss=learner.summed_loss,
        ),
        _train_padded(padded, prepared.order, recipe, learner.schedule),
        _train_padded(control, prepared.order, recipe, learner.schedule, backwards=True),
        strict=True,
    )
    for result, (loss, took), (reversed_loss, _) in ways:
        seconds = [seconds[0] + result.seconds, seconds[1] + took]
        if result.after.step in shown:
            with torch.compiler.set_stance("force_eager"):  # what is compiled for training is not for this
                packed_loss = _held_out_loss(learner.model, held_out)
                padded_loss, control_loss = (_padded_held_out_loss(model, held_out) for model in (padded, control))
            print(
                f"{result.after.step:>5} | {result.loss:.4f}  {loss:.4f}  {reversed_loss:.4f}    | "
                f"{packed_loss:.4f}  {padded_loss:.4f}  {control_loss:.4f}    {packed_loss - padded_loss:>+15.4f} | "
                f"{seconds[0]:>6.0f}  {seconds[1]:>6.0f}",
                flush=True,
            )


def loss(folder: Path, data: str) -> None:
    """Prints a model's loss on held-out rows."""
    recipe = _recipe(str(folder), data, "training.precision=fp32", "training.compile=false")
    loaded = load_model(str(folder), precision="fp32", report=print)
    rows = _held_out(recipe, loaded.format)
    print(f"{_held_out_loss(loaded.model, rows):.4f} nats per target token of {len(rows)} held-out rows")


def _held_out(recipe: Recipe, encoder: Any) -> list[Pair]:
    pairs: list[Pair] = []
    for task in trained_tasks(recipe):
        asked = evaluation_set(task, split="test", rows=HELD_OUT, templates="seen", seed=recipe.seed)
        pairs += encoder.ids_of_all([it.prompt for it in asked.items], [it.references[0] for it in asked.items])
    return [(given[:1024], target) for given, target in pairs]


def _padded_copy(model: Any) -> Any:
    """The same weights with the library's own attention."""
    import transformers

    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    made = transformers.T5ForConditionalGeneration._from_config(config, dtype=model.dtype)
    made.load_state_dict(model.state_dict())
    return made.train()


def _train_padded(
    model: Any, order: Order, recipe: Recipe, schedule: Schedule, *, backwards: bool = False
) -> Iterator[tuple[float, float]]:
    """The loss of each step and its seconds; a step has the rows of flantune's, a micro-batch those of one row."""
    training = recipe.training
    optimizer = MasterOptimizer(
        model,
        weight_decay=training.weight_decay,
        betas=training.betas,
        max_gradient_norm=training.max_gradient_norm,
    )
    first = 0
    while rows := order.rows(first, training.rows_per_step):
        began, total = time.perf_counter(), 0.0
        weight = sum(s.loss_weight * len(s.target_ids) for row in rows for s in row)
        for row in rows:
            together = list(reversed(row)) if backwards else list(row)
            losses, of = _padded_losses(model, [(list(s.input_ids), list(s.target_ids)) for s in together])
            weights = torch.tensor([together[number].loss_weight for number in of])
            loss = (losses * weights).sum() / weight
            loss.backward()
            optimizer.collect()
            total += float(loss.detach())
        optimizer.step(schedule(order.progress(first, first + len(rows))))
        yield total, time.perf_counter() - began
        first += len(rows)


def _padded_losses(model: Any, pairs: Sequence[Pair]) -> tuple[torch.Tensor, list[int]]:
    """(N,) losses of all target tokens of a padded batch, and the number of each one's example."""
    start = start_token(model)
    assert start is not None
    inputs = [torch.tensor(given) for given, _ in pairs]
    targets = [torch.tensor(target) for _, target in pairs]
    shifted = [torch.tensor([start, *target[:-1]]) for _, target in pairs]
    pad = torch.nn.utils.rnn.pad_sequence
    logits = model(
        input_ids=pad(inputs, batch_first=True),
        attention_mask=pad([torch.ones_like(given) for given in inputs], batch_first=True),
        decoder_input_ids=pad(shifted, batch_first=True),
        use_cache=False,
    ).logits
    real = torch.cat([row[: len(target)] for row, target in zip(logits, targets, strict=True)])
    owners = [number for number, target in enumerate(targets) for _ in target]
    return token_losses(real, torch.cat(targets)), owners


@torch.no_grad()
def _held_out_loss(model: Any, pairs: Sequence[Pair]) -> float:
    """Mean loss of a held-out target token, on streams."""
    model.eval()
    losses = []
    for first in range(0, len(pairs), 8):
        stream = stream_of([(given, target, 1.0) for given, target in pairs[first : first + 8]], start_token(model))
        losses.append(token_losses(target_logits(model, stream), stream.targets))
    model.train()
    return float(torch.cat(losses).mean())


@torch.no_grad()
def _padded_held_out_loss(model: Any, pairs: Sequence[Pair]) -> float:
    model.eval()
    losses = [_padded_losses(model, pairs[first : first + 8])[0] for first in range(0, len(pairs), 8)]
    model.train()
    return float(torch.cat(losses).mean())


def main() -> None:
    """Makes, compares or measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "compare", "loss"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--draws", type=int, default=8000)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    given = parser.parse_args()
    if given.what == "make":
        make(given.folder, given.data)
    elif given.what == "loss":
        loss(given.folder, given.data)
    else:
        compare(given.folder, given.data, given.draws, given.points, given.precision)


if __name__ == "__main__":
    main()
