"""Kills a run again and again at moments that a seed chooses, until it is done; then says what is other than it was."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np

from flantune.mixture.window import draw_function
from flantune.preparation import prepare
from flantune.recipe import load_recipe
from tiny import save_tiny_model
from trials import Trials

# How often a kind of moment is chosen; "end" begins when the last step is done.
KINDS = {"save": 5, "step": 3, "begin": 1, "end": 1}
RESUMES = 3


def steps_of(run: Path) -> list[tuple[int, list[int], str]]:
    """Of each line of the log: step, first row and the row after the last, hash of the draws consumed."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["step"], line["rows"], line["draws"]) for line in map(json.loads, lines)]


def weights_of(run: Path) -> bytes:
    """The bytes of the trained model."""
    return (run / "model" / "model.safetensors").read_bytes()


def chosen_moment(dice: random.Random, moments: dict[str, int]) -> tuple[str, int]:
    """Kind and number of a moment, among those that an uninterrupted run had."""
    kinds = [kind for kind in KINDS if moments.get(kind)]
    kind = dice.choices(kinds, [KINDS[kind] for kind in kinds])[0]
    return kind, dice.randrange(moments[kind])


def border_steps(arguments: list[str], run: Path) -> list[int]:
    """Steps done when a task has begun another epoch or the mixture another phase, of a run that was trained."""
    recipe = load_recipe(arguments[0], arguments[1:])
    prepared = prepare(recipe)
    total = prepared.order.draws
    draws = draw_function(prepared.members, prepared.rule).draws(np.arange(total))
    begun: dict[tuple[int, int], int] = {}
    for number, task, epoch in zip(range(total), draws.tasks.tolist(), draws.epochs.tolist(), strict=True):
        begun.setdefault((task, epoch), number)
    borders = {number for (_, epoch), number in begun.items() if epoch} | {start for start, _ in prepared.rule.phases}
    rows = [{segment.draw for segment in prepared.order.row(r)} for r in range(len(prepared.order))]
    return sorted({step + 1 for step, (first, last), _ in steps_of(run) if borders & set().union(*rows[first:last])})


def killed_again_and_again(
    trials: Trials,
    arguments: list[str],
    run: Path,
    moments: list[tuple[str, int]],
    ranks: list[int],
) -> list[str]:
    """Runs the same command, killed at one moment after the other, until it is done.

    Args:
        trials: Where processes come from.
        arguments: A recipe and overrides; the run's folder is put behind them.
        run: The run's folder; removed first.
        moments: Where to kill.
        ranks: How many processes: of the first start, of the next, ...; the last number is used on.
    Returns:
        How each start ended, the last one first.
    """
    shutil.rmtree(run, ignore_errors=True)
    told = []
    for start, moment in enumerate([*moments, None]):
        count = ranks[min(start, len(ranks) - 1)]
        ended = trials.run([*arguments, f"output={run}"], resume="auto", ranks=count, kill=moment)
        told.insert(0, f"{moment} on {count}: {ended.codes} {ended.text}")
        if ended.codes == [0] * count:
            break
    return told


def write_t0_recipe(folder: Path, tasks: Path, data: Path) -> Path:
    """A recipe over all files of the T0 collection: 33 tasks of few rows, so that each is seen several times.

    Args:
        folder: Of the recipe and its tiny model.
        tasks: `examples/t0`.
        data: Where `t0_train_50k` lies.
    """
    config = save_tiny_model(folder / "tiny") / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 2048', '"max_position_embeddings": 65536'))
    chosen = [{"task": str(path), "train_rows": 6} for path in sorted(tasks.glob("*.yaml"))]
    recipe = {
        "name": "t0",
        "model": "tiny",
        "variables": {"DATA": str(data)},
        "tasks": chosen,
        "mixture": {"rates": "equal", "capacity": 2048, "phases": [{"from_share": 0.6, "rates": "proportional"}]},
        "ledger": {"decontaminate": "skip", "duplicates": "skip"},
        "training": {
            **{"draws": 400, "rows_per_step": 4, "precision": "fp32", "compile": False},
            **{"checkpoint_every": 1, "keep_checkpoints": 2},
        },
        "evaluation": {"split": "train", "rows": 2},
    }
    path = folder / "t0.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return path
