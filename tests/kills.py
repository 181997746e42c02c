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
KINDS = {"save": 4, "evaluation": 4, "step": 3, "begin": 1, "end": 1}
RESUMES = 3
LOSS = 1e-5  # of sums that are grouped otherwise


def steps_of(run: Path) -> list[tuple[int, list[int], str]]:
    """Of each line of the log: step, first row and the row after the last, hash of the draws consumed."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["step"], line["rows"], line["draws"]) for line in map(json.loads, lines)]


def losses_of(run: Path) -> list[float]:
    """The loss of each step."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def answers_of(run: Path) -> dict[str, str]:
    """What base and tuned model answered, and the comparison; by file, without the run's own path."""
    files = [*sorted((run / "evaluation").rglob("*.jsonl")), run / "comparison.json"]
    return {str(path.relative_to(run)): path.read_text().replace(str(run), "RUN") for path in files}


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
    *,
    compare: bool = False,
) -> list[str]:
    """Runs the same command, killed at one moment after the other, until it is done.

    Args:
        trials: Where processes come from.
        arguments: A recipe and overrides; the run's folder is put behind them.
        run: The run's folder; removed first.
        moments: Where to kill.
        ranks: How many processes: of the first start, of the next, ...; the last number is used on.
        compare: Whether base and tuned model are compared, and answer afresh.
    Returns:
        How each start ended, the last one first.
    """
    shutil.rmtree(run, ignore_errors=True)
    if compare:
        trials.forget_answers()
    told = []
    for start, moment in enumerate([*moments, None]):
        count = ranks[min(start, len(ranks) - 1)]
        ended = trials.run([*arguments, f"output={run}"], resume="auto", ranks=count, kill=moment, compare=compare)
        told.insert(0, f"{moment} on {count}: {ended.codes} {ended.text}")
        if ended.codes == [0] * count:
            break
    return told


def unlike(run: Path, whole: Path, *, weights: bool = True, answers: bool = False) -> list[str]:
    """In what a run differs from one that nobody killed; its draws must be the same in any case."""
    if not (run / "model").exists():
        return ["it has no model"]
    wrong = [] if steps_of(run) == steps_of(whole) else ["draws"]
    if losses_of(run) != losses_of(whole) if weights else not _near(losses_of(run), losses_of(whole)):
        wrong.append("losses")
    if weights and weights_of(run) != weights_of(whole):
        wrong.append("weights")
    if answers and answers_of(run) != answers_of(whole):
        wrong.append("answers")
    if (run / "checkpoints").exists():
        wrong.append("checkpoints are left")
    return wrong


def _near(losses: list[float], expected: list[float]) -> bool:
    return len(losses) == len(expected) and all(
        abs(loss - other) <= LOSS * abs(other) for loss, other in zip(losses, expected, strict=True)
    )


def rows_changed_again_and_again(trials: Trials, arguments: list[str], run: Path, dice: random.Random) -> list[str]:
    """Stops a run, and goes on with it with another number of rows a step, up to five times; what was wrong.

    Args:
        trials: Where processes come from.
        arguments: A recipe and overrides.
        run: The run's folder; removed first.
        dice: Chooses numbers of rows and when to stop.
    """
    shutil.rmtree(run, ignore_errors=True)
    wrong, before, given = [], 0, [*arguments, f"output={run}"]
    for number in range(6):
        rows = dice.choice([count for count in range(1, 8) if count != before])
        told = (
            f"training.rows_per_step is {rows} now and was {before}: going on at packed row "
            f"{steps_of(run)[-1][1][1] if number else 0}, so none is left out and none comes twice"
        )
        stop = ("step", dice.randrange(3)) if number < 5 else None
        changed = [*given, f"training.rows_per_step={rows}"] if number == 0 else [f"training.rows_per_step={rows}"]
        ended = trials.run(changed, resume=run if number else None, kill=stop, by="SIGTERM")
        if number and told not in ended.text.splitlines():
            wrong.append(f"not told: {told}; but: {ended.text}")
        if (run / "model").exists():  # it may have been told to stop after its last step
            break
        if ended.codes != [143]:
            return [*wrong, f"{ended.codes}: {ended.text}"]
        before = rows
    steps = steps_of(run)
    if [rows[0] for _, rows, _ in steps] != [0, *(rows[1] for _, rows, _ in steps[:-1])]:
        wrong.append(f"rows are left out or come twice: {steps}")
    return wrong


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
