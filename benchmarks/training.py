"""How fast flantune trains beside TRL's SFTTrainer and transformers' Seq2SeqTrainer, on the same rows and model.

    pip install --no-deps --target DIR trl                                       (needed by full-* and lora-*)
    PYTHONPATH=DIR python benchmarks/training.py ROW [--pairs 5] [--steps 5] [--recipe RECIPE] [KEY=VALUE ...]

ROW is one of

    full-default  full-best  full-padding-free  full-compiled
    lora-default  lora-best  t5-small-default  t5-small-best  t5-base-best

The two sides run in turn, each in a process of its own, and train the same batches of eight examples in the same
sequence: the recipe's examples as they are drawn for a trainer's defaults, and in the sequence of transformers' sampler
by length for its best setting. flantune's side is what `flantune train` runs (learner, loop, streams); only the packing
of its order is undone, so that a step of both has the same examples. Prints, for each pair and as medians:

    tokens/s          prompt and target tokens, no padding, over the wall time of all steps but the first
    tokens/CPU-s      the same over the processors' time
    memory            largest resident size of the process that trained
    held-out loss     of the same 24 other examples, by the trained weights in float32, one example at a time
    middle step       tokens/s by the median of each side's steps, which one slow step does not move
    of the peak       the arithmetic that the real tokens need, over what this machine's bfloat16 products reach
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from in_turn import Result, alone, in_turn, spread
from training_sides import ROWS, run_side

from flantune.quickstart import RECIPE

RATIOS = {"tokens_per_second": "tokens/s", "tokens_per_cpu_second": "tokens/CPU-s", "memory": "memory"}


def main() -> None:
    """Measures and prints, or is one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=sorted(ROWS))
    parser.add_argument("overrides", nargs="*", help="changes of the recipe, as for `flantune train`")
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="timed steps and one more before them")
    parser.add_argument("--only", choices=("flantune", "peer"), help="one side alone, once a pair")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args()
    if given.side:
        print(json.dumps(run_side(given.side, given.row, given, Path(given.work))))
        return
    if ROWS[given.row].trainer == "trl" and given.only != "flantune" and importlib.util.find_spec("trl") is None:
        sys.exit("this row needs TRL: pip install --no-deps --target DIR trl, and run with PYTHONPATH=DIR")
    with tempfile.TemporaryDirectory() as folder:
        compared(given, folder)


def compared(given: argparse.Namespace, folder: str) -> None:
    """Runs the pairs and prints what they show."""
    work = of_side("work", given, folder)
    print(f"{work['steps']} steps of {work['examples']} examples, {work['tokens']:,} tokens ({work['about']})")
    flops = work["flops_per_token"]
    peaks = [of_side("peak", given, folder)["flops"]]
    sides = ("flantune", "peer") if given.only is None else (given.only,)
    found: dict[str, list[Result]] = {side: [] for side in sides}
    for pair, side, result in in_turn(sides, given.pairs, lambda side: of_side(side, given, folder)):
        found[side].append(result)
        print(f"pair {pair}: {side:8} {told(result, flops / peaks[0])}", flush=True)
    peaks.append(of_side("peak", given, folder)["flops"])
    print(f"bfloat16 matrix products: {max(peaks) / 1e12:.3f} TFLOP/s; a real token needs {flops / 1e9:.3f} GFLOP")
    for side, results in found.items():
        middle = {key: median(r[key] for r in results) for key in results[0] if key not in ("step_speeds", "about")}
        print(f"median:  {side:8} {told({**results[0], **middle}, flops / max(peaks))}; {results[0]['about']}")
    if len(sides) == 2:
        print_ratios(found["flantune"], found["peer"])


def of_side(side: str, given: argparse.Namespace, folder: str) -> Result:
    """What one side reports, in a process of its own."""
    changed = [given.row, *given.overrides, "--recipe", given.recipe, "--steps", str(given.steps), "--work", folder]
    return alone(side, __file__, *changed)


def told(result: Result, part: float) -> str:
    """One line about a side. part: of the peak that one token a second takes."""
    speed = result["tokens_per_second"]
    steps = f" (steps {' '.join(f'{s:.0f}' for s in result['step_speeds'])})" if "step_speeds" in result else ""
    return (
        f"{speed:5.0f} tokens/s, {result['tokens_per_cpu_second']:4.0f} tokens/CPU-s, {100 * speed * part:3.0f} % of "
        f"the peak, {result['memory'] / 1e9:5.2f} GB, held-out {result['heldout']:.4f}, "
        f"{result['setup_seconds']:.0f} s before the timed steps{steps}"
    )


def print_ratios(ours: list[Result], theirs: list[Result]) -> None:
    """Medians of the ratios of each pair, with their range."""
    for key, name in RATIOS.items():
        ratios = [one[key] / other[key] for one, other in zip(ours, theirs, strict=True)]
        print(f"flantune : peer, {name}: {spread(ratios)}")
    middle = [
        median(one["step_speeds"]) / median(other["step_speeds"]) for one, other in zip(ours, theirs, strict=True)
    ]
    print(f"flantune : peer, tokens/s of the middle step: {spread(middle)}")
    apart = [one["heldout"] - other["heldout"] for one, other in zip(ours, theirs, strict=True)]
    print(f"flantune - peer, held-out loss: {spread(apart, '+.4f')}")


if __name__ == "__main__":
    main()
