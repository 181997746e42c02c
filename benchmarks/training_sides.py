"""The sides of `training.py`: the work that they share, flantune, the trainers beside it, and the machine's peak."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch

from flantune.memory import peak_memory
from flantune.mixture.window import Segment
from flantune.preparation import mix
from flantune.recipe import Recipe, load_recipe

POOL, BATCH, HELD_OUT = 640, 8, 24
LEARNING_RATE = 5e-5
SHAPES = {
    "t5-small": {"d_model": 512, "num_heads": 8, "num_layers": 6, "num_decoder_layers": 6, "d_ff": 2048},
    "t5-base": {"d_model": 768, "num_heads": 12, "num_layers": 12, "num_decoder_layers": 12, "d_ff": 3072},
}
Batches = list[list[Segment]]


@dataclass(frozen=True)
class Row:
    """What is compared with what.

    Attributes:
        settings: Of the trainer, other than its defaults.
        by_length: Whether batches are those of the sampler by length.
        lora: Rank 16 on all linear layers, instead of all weights.
        shape: Of a T5 with random weights; None for the recipe's model.
        compiling: Steps in which the trainer compiles.
    """

    trainer: Literal["trl", "seq2seq"]
    settings: dict[str, Any] = field(default_factory=dict)
    by_length: bool = True
    lora: bool = False
    shape: str | None = None
    compiling: int = 1


WHOLE: dict[str, Any] = {"gradient_checkpointing": False}
ROWS = {
    "full-default": Row("trl", by_length=False),
    "full-best": Row("trl", WHOLE),
    "full-padding-free": Row("trl", {**WHOLE, "padding_free": True, "max_length": None}),
    "full-compiled": Row("trl", {**WHOLE, "torch_compile": True}, compiling=2),
    "lora-default": Row("trl", by_length=False, lora=True),
    "lora-best": Row("trl", WHOLE, lora=True),
    "t5-small-default": Row("seq2seq", by_length=False, shape="t5-small"),
    "t5-small-best": Row("seq2seq", {"bf16": True}, shape="t5-small"),
    "t5-base-best": Row("seq2seq", {"bf16": True}, shape="t5-base"),
}


def run_side(side: str, name: str, given: Any, folder: Path) -> dict[str, Any]:
    """What one side reports. `work` comes first and writes what the others read."""
    row = ROWS[name]
    if side == "work":
        return made_work(row, given, folder)
    if side == "peak":
        return {"flops": peak()}
    work = json.loads((folder / "work.json").read_text())
    batches = [[Segment(**s) for s in batch] for batch in work["batches"]]
    recipe = Recipe.model_validate(work["recipe"])
    train = flantune_side if side == "flantune" else trl_side if row.trainer == "trl" else seq2seq_side
    measured, trained = train(row, recipe, batches)
    memory = peak_memory()
    held_out = [Segment(**s) for s in work["held_out"]]
    return {**measured, "memory": memory, "heldout": heldout_loss(recipe, row, trained, held_out)}


# --- the work


def made_work(row: Row, given: Any, folder: Path) -> dict[str, Any]:
    """Draws examples, cuts them into batches, writes them down and counts what they take."""
    steps = row.compiling + given.steps
    recipe = benchmark_recipe(row, given, folder)
    mixed = mix(load_recipe(given.recipe, [f"training.draws={POOL}", *given.overrides]))
    order = mixed.order(workers=0)
    drawn = sorted((s for packed in order.rows(0, POOL) for s in packed), key=lambda s: s.draw)
    pool = [as_read(segment, row) for segment in drawn]
    held_out, pool = pool[:HELD_OUT], pool[HELD_OUT:]
    batches = by_length(pool, steps) if row.by_length else cut(pool)[:steps]
    work = {
        "recipe": recipe.model_dump(mode="json"),
        "batches": [[vars(s) for s in batch] for batch in batches],
        "held_out": [vars(s) for s in held_out],
    }
    (folder / "work.json").write_text(json.dumps(work))
    tokens = sum(s.length for batch in batches for s in batch)
    return {
        "steps": steps,
        "examples": BATCH,
        "tokens": tokens,
        "flops_per_token": flops(recipe, batches) / tokens,
        "about": f"{recipe.model.name}, {'LoRA' if row.lora else 'all weights'}, trainer's settings {row.settings}",
    }


def benchmark_recipe(row: Row, given: Any, folder: Path) -> Recipe:
    """The recipe with the trainers' optimizer settings, so that both sides do the same to the weights."""
    changes = [
        *given.overrides,
        "training.rows_per_step=1",
        f"training.learning_rate={LEARNING_RATE}",
        "training.schedule=constant",
        "training.warmup=0",
        "training.betas=[0.9, 0.999]",
        "training.weight_decay=0",
        "training.loss.per=token",
    ]
    if row.lora:
        changes += ["adapter.method=lora", "adapter.rank=16", "adapter.alpha=32"]
    if row.shape is not None:
        changes.append(f"model={random_t5(row.shape, folder, load_recipe(given.recipe).model.name)}")
    return load_recipe(given.recipe, changes)


def random_t5(shape: str, folder: Path, tokenizer_of: str) -> Path:
    """A T5 with random weights, without dropout, beside a tokenizer that is not asked for anything."""
    import transformers

    from flantune.models.load import load_format

    torch.manual_seed(0)
    ids = {"vocab_size": 32128, "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = transformers.T5Config(feed_forward_proj="relu", d_kv=64, dropout_rate=0.0, **ids, **SHAPES[shape])
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder / shape)
    load_format(tokenizer_of).tokenizer.save_pretrained(folder / shape)
    return folder / shape


def as_read(segment: Segment, row: Row) -> Segment:
    """The example with equal weights of all its tokens; for a T5 shape with ids folded into its vocabulary."""
    given, target = segment.input_ids, segment.target_ids
    if row.shape is not None:
        given, target = ([*(i % 32000 + 2 for i in ids[:-1]), 1] for ids in (given, target))
    return Segment(**{**vars(segment), "input_ids": given, "target_ids": target, "loss_weight": 1.0})


def cut(segments: list[Segment]) -> Batches:
    """Batches one after the other, without a last one that is smaller."""
    return [segments[at : at + BATCH] for at in range(0, len(segments) - BATCH + 1, BATCH)]


def by_length(pool: list[Segment], steps: int) -> Batches:
    """Evenly spaced batches of those that transformers' sampler by length makes of the pool: long ones and short."""
    from transformers.trainer_pt_utils import get_length_grouped_indices

    seeded = torch.Generator().manual_seed(0)
    sequence = get_length_grouped_indices([s.length for s in pool], BATCH, generator=seeded)
    whole = cut([pool[i] for i in sequence])
    return [whole[number * len(whole) // steps] for number in range(steps)]


def flops(recipe: Recipe, batches: Batches) -> float:
    """Of forward and backward passes: matrix products by torch's own count of flantune's step, and attention.

    A model without values tells the products. Nothing that sharing of prompts or another trick saves is taken off.
    """
    import transformers
    from torch.utils.flop_counter import FlopCounterMode

    from flantune.models import packed_attention
    from flantune.models.adapters import add_adapter
    from flantune.models.load import load_format
    from flantune.models.relative_bias import give_bias_by_distance
    from flantune.models.stream import start_token, stream_of, target_logits

    source = load_format(recipe.model.name).tokenizer.name_or_path
    config = transformers.AutoConfig.from_pretrained(source)
    paired = config.is_encoder_decoder
    kind = transformers.AutoModelForSeq2SeqLM if paired else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config, attn_implementation=packed_attention.register())
    give_bias_by_distance(model)
    if recipe.adapter.method != "none":
        model = add_adapter(model, recipe.adapter, base_name="")
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            stream = stream_of([(s.input_ids, s.target_ids, 1.0) for s in batch], start_token(model))
            target_logits(model, stream.to(torch.device("meta"))).sum().backward()
    width, layers = config.hidden_size if not paired else config.d_model, config.num_hidden_layers
    pairs = 0.0
    for given, target in ((len(s.input_ids), len(s.target_ids)) for batch in batches for s in batch):
        pairs += given**2 + target**2 / 2 + given * target if paired else (given + target) ** 2 / 2
    return counter.get_total_flops() + 3 * 4 * pairs * width * layers


def peak() -> float:
    """FLOP/s of the quickest bfloat16 product of a few shapes."""
    best = 0.0
    for rows, inner, columns in ((2048, 1536, 576), (2048, 576, 3072), (4096, 4096, 4096)):
        one, other = torch.randn(rows, inner).bfloat16(), torch.randn(columns, inner).bfloat16()
        for _ in range(8):
            began, count = time.perf_counter(), 0
            while time.perf_counter() - began < 0.25:
                torch.nn.functional.linear(one, other)
                count += 1
            best = max(best, 2 * rows * inner * columns * count / (time.perf_counter() - began))
    return best


# --- flantune


class Given:
    """The batches in place of an order's packed rows: what the loop asks of an order."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def rows(self, first: int, count: int) -> Batches:
        """Batches [first, first + count)."""
        return self.batches[first : first + count]

    def progress(self, first: int, last: int) -> float:
        """Share of the run that lies before the middle of the batches [first, last)."""
        return (first + last) / 2 / len(self.batches)


def flantune_side(row: Row, recipe: Recipe, batches: Batches) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Learner and loop as `flantune train` has them."""
    from flantune.learner import learner_of
    from flantune.progress import Silent
    from flantune.training.loop import train

    began = time.perf_counter()
    learner = learner_of(recipe, mean_tokens(batches), Silent())
    order: Any = Given(batches)
    done = train(
        learner.model,
        order,
        learner.optimizer,
        learner.schedule,
        rows_per_step=1,
        rows_at_once=1,
        seed=recipe.seed,
        summed_loss=learner.summed_loss,
        share_prefixes=learner.share_prefixes,
    )
    clock = [(time.perf_counter(), time.process_time()), *((time.perf_counter(), time.process_time()) for _ in done)]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(clock)]
    weights = dict(zip(learner.optimizer.names, learner.optimizer.masters, strict=True))
    untimed = clock[row.compiling][0] - began
    return measured(row, batches, steps, untimed, "bfloat16 with float32 masters, compiled"), weights


def mean_tokens(batches: Batches) -> int:
    """Of a batch."""
    return sum(s.length for batch in batches for s in batch) // len(batches)


def measured(
    row: Row, batches: Batches, steps: list[tuple[float, float]], untimed: float, about: str
) -> dict[str, Any]:
    """Speeds over all steps but the first ones."""
    tokens = [sum(s.length for s in batch) for batch in batches][row.compiling :]
    timed = steps[row.compiling :]
    return {
        "tokens_per_second": sum(tokens) / sum(wall for wall, _ in timed),
        "tokens_per_cpu_second": sum(tokens) / sum(cpu for _, cpu in timed),
        "step_speeds": [count / wall for count, (wall, _) in zip(tokens, timed, strict=True)],
        "setup_seconds": untimed,
        "about": about,
    }


# --- the trainers


def trl_side(row: Row, recipe: Recipe, batches: Batches) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """TRL's SFTTrainer on rows that are tokenized already."""
    import trl
    from datasets import Dataset
    from peft import LoraConfig

    began = time.perf_counter()
    rows = [
        {"input_ids": s.input_ids + s.target_ids, "labels": [-100] * len(s.input_ids) + s.target_ids}
        for batch in batches
        for s in batch
    ]
    config = trl.SFTConfig(**{**common_settings(), **row.settings})
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if row.lora else None
    source = source_of(recipe)
    trainer = trl.SFTTrainer(source, args=config, train_dataset=Dataset.from_list(rows), peft_config=lora)
    about = f"trl {trl.__version__}, bf16 {config.bf16}, gradient checkpointing {config.gradient_checkpointing}"
    return of_trainer(trainer, row, batches, began, about)


def seq2seq_side(row: Row, recipe: Recipe, batches: Batches) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """transformers' Seq2SeqTrainer with its own padding."""
    import transformers
    from datasets import Dataset

    began = time.perf_counter()
    rows = [{"input_ids": s.input_ids, "labels": s.target_ids} for batch in batches for s in batch]
    config = transformers.Seq2SeqTrainingArguments(**{**common_settings(), **row.settings})
    model = transformers.T5ForConditionalGeneration.from_pretrained(recipe.model.name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(recipe.model.name)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    trainer = transformers.Seq2SeqTrainer(
        model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, model),
    )
    return of_trainer(trainer, row, batches, began, f"transformers {transformers.__version__}, bf16 {config.bf16}")


def common_settings() -> dict[str, Any]:
    """Where and how long; the rows come in the sequence in which flantune has them."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
    }


def of_trainer(
    trainer: Any, row: Row, batches: Batches, began: float, about: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Trains and times the steps."""
    import transformers

    clock: list[tuple[float, float]] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not clock:
                clock.append((time.perf_counter(), time.process_time()))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.append((time.perf_counter(), time.process_time()))

    trainer.add_callback(Clock())
    trainer.train()
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(clock)]
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return measured(row, batches, steps, clock[row.compiling][0] - began, about), weights


# --- what was learned


def source_of(recipe: Recipe) -> str:
    """The folder or hub name that transformers loads the recipe's model from."""
    from flantune.models.load import load_format

    return load_format(recipe.model.name).tokenizer.name_or_path


@torch.no_grad()
def heldout_loss(recipe: Recipe, row: Row, trained: dict[str, torch.Tensor], rows: list[Segment]) -> float:
    """Mean loss of a target token, by a model that is loaded anew and gets the trained weights by name."""
    import transformers

    from flantune.models.adapters import add_adapter

    kind = transformers.AutoModelForCausalLM if row.shape is None else transformers.AutoModelForSeq2SeqLM
    model: Any = kind.from_pretrained(source_of(recipe), dtype=torch.float32)
    model = add_adapter(model, recipe.adapter, base_name="") if row.lora else model
    weights = dict(model.named_parameters())
    for name, weight in trained.items():
        weights[name].copy_(weight)
    model.eval()
    total = 0.0
    for s in rows:
        target = torch.tensor(s.target_ids)
        if row.shape is None:
            logits = model(input_ids=torch.tensor([s.input_ids + s.target_ids])).logits[0, len(s.input_ids) - 1 : -1]
        else:
            logits = model(input_ids=torch.tensor([s.input_ids]), labels=target[None]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
    return total / sum(len(s.target_ids) for s in rows)
