"""How fast flantune answers beside transformers' `generate`, on the same prompts and model.

    python benchmarks/generation.py [--pairs 3] [--prompts 200] [--new-tokens 60] [--task TASK] [KEY=VALUE ...]

TASK is a starter task or a task file, KEY=VALUE a variable of its paths; by default the starter's dialogues. Three
sides run in turn, each in a process of its own that is timed behind loading and a small warm-up:

    flantune   what `flantune compare` runs, in bfloat16 with the head in float32
    best       transformers' best setting found: bfloat16, prompts sorted by length, batches of 16
    default    the model as transformers loads it (here in float32), prompts as they come, batches of 8

All are greedy and write at most the same number of tokens. An untuned model seldom ends its answer, so nearly all of
them are written. Prints for each run and as medians:

    tokens/s           tokens of the answers (end tokens not counted) over wall time, reading of the prompts included
    CPU s              processors' time of the same span
    memory             largest resident size of the process
    equal texts        answers that are those of `default`, whose arithmetic is the finest
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from statistics import median
from typing import Any

from in_turn import Result, alone, in_turn, spread

MODEL = "smollm2-135m-instruct"
SIDES = ("flantune", "best", "default")


def main() -> None:
    """Measures and prints, or is one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variables", nargs="*", help="KEY=VALUE, variables of the task's paths")
    parser.add_argument("--task", default="starter/dialogue_summary")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=60)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="some of the sides")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args()
    if given.side:
        print(json.dumps(measured(given)))
        return
    found: dict[str, list[Result]] = {side: [] for side in given.sides}
    results = in_turn(tuple(given.sides), given.pairs, lambda side: alone(side, __file__, *sys.argv[1:]))
    for pair, side, result in results:
        found[side].append(result)
        print(f"pair {pair}: {side:8} {told(result)}", flush=True)
    for side, results in found.items():
        middle = {key: median(r[key] for r in results) for key in ("tokens", "seconds", "cpu", "memory")}
        print(f"median:  {side:8} {told({**results[0], **middle})}{equal(results[0], found.get('default'))}")
    for other in [side for side in found if side != "flantune" and "flantune" in found]:
        pairs = list(zip(found["flantune"], found[other], strict=True))
        for name, key in (("tokens/s", "seconds"), ("tokens/CPU-s", "cpu")):
            ratios = [(a["tokens"] / a[key]) / (b["tokens"] / b[key]) for a, b in pairs]
            print(f"flantune : {other}, {name}: {spread(ratios)}")


def told(result: Result) -> str:
    """One line about a side."""
    return (
        f"{result['tokens'] / result['seconds']:6.1f} tokens/s, {result['cpu']:6.1f} CPU s, "
        f"{result['memory'] / 1e9:5.2f} GB ({result['tokens']:.0f} tokens in {result['seconds']:.1f} s)"
    )


def equal(result: Result, default: list[Result] | None) -> str:
    """The share of answers that are the default's."""
    if default is None:
        return ""
    same = sum(a == b for a, b in zip(result["texts"], default[0]["texts"], strict=True))
    return f", {same} of {len(result['texts'])} texts equal"


def measured(given: argparse.Namespace) -> Result:
    """What one side writes and takes."""
    from flantune.memory import peak_memory

    prompts = asked(given)
    answer = flantune_answers if given.side == "flantune" else library_answers
    answer_all = answer(given.side, given.new_tokens)
    answer_all(prompts[:2])
    began, cpu = time.perf_counter(), time.process_time()
    answers = answer_all(prompts)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    tokens = sum(len(ids) for ids in answers)
    return {"tokens": tokens, "seconds": seconds, "cpu": cpu, "memory": peak_memory(), "texts": answers}


def asked(given: argparse.Namespace) -> list[list[int]]:
    """Token ids of the prompts: rows of the task's splits one after the other, its templates in turn."""
    from flantune.models.load import load_format
    from flantune.tasks import find_task

    task, form = find_task(given.task, dict(v.split("=", 1) for v in given.variables)), load_format(MODEL)
    rows = ((split, number) for split in task.split_names() for number in range(len(task.split(split))))
    prompts = []
    for place, (split, number) in zip(range(given.prompts), rows, strict=False):
        read = task.split(split)
        text, _ = task.render(task.templates[place % len(task.templates)], read[number], read.place(number))
        prompts.append(form.prompt_ids(text))
    return prompts


def flantune_answers(side: str, new_tokens: int) -> Any:
    """Token ids of the answers, by flantune."""
    from flantune.evaluation.generate import generate
    from flantune.models.load import load_model

    loaded = load_model(MODEL, answering=True)

    def answers(prompts: list[list[int]]) -> list[list[int]]:
        written: list[list[int]] = [[] for _ in prompts]

        def keep(number: int, ids: Any) -> None:
            written[number] = list(ids)

        generate(loaded, prompts, max_new_tokens=new_tokens, each_token=keep)
        return written

    return answers


def library_answers(side: str, new_tokens: int) -> Any:
    """Token ids of the answers, by transformers."""
    import torch
    import transformers

    from flantune.models.load import load_format

    form = load_format(MODEL)
    kind: Any = transformers.AutoModelForCausalLM
    best = side == "best"
    model = kind.from_pretrained(form.tokenizer.name_or_path, **({"dtype": torch.bfloat16} if best else {})).eval()
    rows = 16 if best else 8
    rules = {"do_sample": False, "max_new_tokens": new_tokens, "eos_token_id": list(form.stop_ids), "pad_token_id": 0}

    def answers(prompts: list[list[int]]) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i])) if best else list(range(len(prompts)))
        written: list[list[int]] = [[] for _ in prompts]
        for first in range(0, len(order), rows):
            batch = order[first : first + rows]
            longest = max(len(prompts[i]) for i in batch)
            ids = torch.tensor([[0] * (longest - len(prompts[i])) + prompts[i] for i in batch])
            mask = torch.tensor([[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in batch])
            for number, new in zip(batch, model.generate(ids, attention_mask=mask, **rules)[:, longest:], strict=True):
                ends = [place for place, token in enumerate(new.tolist()) if token in form.stop_ids]
                written[number] = new.tolist()[: ends[0] if ends else None]
        return written

    return answers


if __name__ == "__main__":
    main()
