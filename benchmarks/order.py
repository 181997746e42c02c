"""What it costs to go from rows to packed rows on disk, beside the same work with `datasets` and TRL's packing.

    pip install trl
    python benchmarks/order.py [RECIPE] [--draws N] [--rounds N] [--workers N]

Each side is a process of its own, in turn; both begin with rows that are open and a tokenizer that is loaded, render
the same examples in the same templates, and end with packed rows of the recipe's capacity on disk. TRL stands there
twice: as its trainer prepares a data set of prompts and completions, a row at a time, and with the two steps in
batches and without the trainer's second tokenization, which is the quickest that we found. Prints the median ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from flantune.mixture.order import Order
from flantune.mixture.window import draw_function
from flantune.preparation import mix
from flantune.quickstart import RECIPE
from flantune.recipe import load_recipe

SIDES = ("flantune", "trainer", "batches")


def main() -> None:
    """Measures and prints, or is one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=str(RECIPE))
    parser.add_argument("--draws", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="processes on either side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(side(given)))
        return
    ratios: dict[str, list[float]] = {name: [] for name in SIDES[1:]}
    for number in range(given.rounds):
        seconds = {name: measured(name, given) for name in SIDES}
        for name, found in ratios.items():
            found.append(seconds[name] / seconds["flantune"])
        told = ", ".join(f"{name} {given.draws / each:,.0f} examples/s" for name, each in seconds.items())
        print(f"round {number + 1}: {told}", flush=True)
    for name, found in ratios.items():
        print(f"median ratio to {name}: {median(found):.2f} ({min(found):.2f} to {max(found):.2f})")


def measured(name: str, given: argparse.Namespace) -> float:
    """Seconds of one side, in a process of its own."""
    command = [sys.executable, __file__, given.recipe, "--draws", str(given.draws), "--workers", str(given.workers)]
    made = subprocess.run([*command, "--side", name], check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(made.stdout.splitlines()[-1])["seconds"])


def side(given: argparse.Namespace) -> dict[str, Any]:
    """One side's seconds, packed rows and tokens."""
    mixed = mix(load_recipe(given.recipe, [f"training.draws={given.draws}"]))
    with tempfile.TemporaryDirectory() as folder:
        if given.side == "flantune":
            return ours(mixed, given.workers, Path(folder))
        return theirs(mixed, given.workers, Path(folder), trainer=given.side == "trainer")


def ours(mixed: Any, workers: int, folder: Path) -> dict[str, Any]:
    """flantune, with so many processes; one means this one."""
    began = time.perf_counter()
    order = Order(mixed.members, mixed.rule, mixed.draws, mixed.encoder, folder, writers=workers if workers > 1 else 0)
    order.complete()
    seconds = time.perf_counter() - began
    tokens = sum(int(w.columns()["input_length"].sum() + w.columns()["target_length"].sum()) for w, _ in order.opened())
    return {"seconds": seconds, "rows": len(order), "tokens": tokens}


def theirs(mixed: Any, workers: int, folder: Path, *, trainer: bool) -> dict[str, Any]:
    """The same examples through `datasets.map` and `trl.pack_dataset`."""
    import datasets
    from jinja2 import Environment
    from trl import pack_dataset

    os.environ["TOKENIZERS_PARALLELISM"] = "true" if workers == 1 else "false"
    datasets.disable_progress_bars()
    datasets.disable_caching()
    drawn = draw_function(mixed.members, mixed.rule).draws(range(mixed.draws))
    places = list(zip(drawn.tasks.tolist(), drawn.rows.tolist(), drawn.templates.tolist(), strict=True))
    rows = datasets.Dataset.from_list(
        [
            {"task": task, "template": template, "row": json.dumps(mixed.members[task].rows[row])}
            for task, row, template in places
        ]
    )
    environment = Environment(trim_blocks=True)
    texts = [
        [[environment.from_string(part.strip()) for part in it.text.split("|||")] for it in m.task.training_templates]
        for m in mixed.members
    ]
    tokenizer, capacity = mixed.encoder.tokenizer, mixed.rule.capacity
    choices = [m.task.spec.answer_choices for m in mixed.members]
    options = [c if isinstance(c, list) else [] for c in choices]

    def rendered(example: dict[str, Any]) -> dict[str, Any]:
        values = json.loads(example["row"])
        listed = options[example["task"]]
        values |= {"answer_choices": listed, "options": "\n".join(f"- {it}" for it in listed)}
        prompt, completion = (it.render(values) for it in texts[example["task"]][example["template"]])
        return {
            "prompt": [{"role": "system", "content": mixed.encoder.system}, {"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": completion}],
        }

    def one_tokenized(example: dict[str, Any]) -> dict[str, Any]:
        prompt = tokenizer.apply_chat_template(example["prompt"], add_generation_prompt=True, tokenize=True)
        whole = tokenizer.apply_chat_template(example["prompt"] + example["completion"], tokenize=True)
        prompt, whole = (it if isinstance(it, list) else it["input_ids"] for it in (prompt, whole))
        return {"input_ids": whole, "completion_mask": [0] * len(prompt) + [1] * (len(whole) - len(prompt))}

    def many_tokenized(batch: dict[str, list[Any]]) -> dict[str, Any]:
        prompts = tokenizer.apply_chat_template(batch["prompt"], add_generation_prompt=True, tokenize=False)
        targets = [turns[0]["content"] + tokenizer.eos_token for turns in batch["completion"]]
        heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        tails = tokenizer(targets, add_special_tokens=False)["input_ids"]
        return {
            "input_ids": [head + tail for head, tail in zip(heads, tails, strict=True)],
            "completion_mask": [[0] * len(h) + [1] * len(t) for h, t in zip(heads, tails, strict=True)],
        }

    how: dict[str, Any] = {"num_proc": workers if workers > 1 else None}
    began = time.perf_counter()
    made = rows.map(rendered, remove_columns=rows.column_names, **how)
    if trainer:
        made = made.map(one_tokenized, remove_columns=made.column_names, **how)
    else:
        made = made.map(many_tokenized, batched=True, remove_columns=made.column_names, **how)
    packed = pack_dataset(made, capacity, strategy="bfd", map_kwargs=how)
    packed.save_to_disk(folder / "packed")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows": len(packed), "tokens": sum(map(len, packed["input_ids"]))}


if __name__ == "__main__":
    main()
