"""Writes the recipe of the FLAN 2022 mixture from a table of its tasks, or what each task gets by it.

python scripts/flan2022_recipe.py tasks.csv > flan2022.yaml        the recipe
python scripts/flan2022_recipe.py tasks.csv --draws 1000000        its submixtures and tasks: shares and epochs

The table has the columns submixture, task, examples and note; a note with "left out" leaves the task out, one with
"input inversion" makes it an inverted one. Weights, caps and variants are those of google-research/FLAN, flan/v2
(run_example.py and mixtures.py), Longpre et al. 2023, arXiv:2301.13688.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flantune.mixture.shape import rated
from flantune.preparation import shape_by_counts
from flantune.recipe import recipe_from

SUBMIXTURES: dict[str, dict[str, Any]] = {
    "Flan2021": {"weight": 0.40, "cap": 30_000, "options": 0.5},
    "T0": {"weight": 0.32, "cap": 20_000, "options": 0.5},
    "NIv2": {"weight": 0.20, "cap": 5_000},
    "CoT": {"weight": 0.05, "cap": 100_000},
    "Dialog": {"weight": 0.03, "cap": 200_000},
}
INVERTED = 0.3  # weight of the inverted tasks of a submixture beside 1 for the plain ones
Table = list[dict[str, str]]


def main() -> None:
    """Prints the recipe, or the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--draws", type=int, help="plan so many draws instead of printing the recipe")
    chosen = parser.parse_args()
    with chosen.table.open(encoding="utf-8", newline="") as lines:
        table = [row for row in csv.DictReader(lines) if "left out" not in row["note"]]
    if chosen.draws is None:
        from ruamel.yaml import YAML

        YAML().dump(recipe_of(table), sys.stdout)
    else:
        print_plan(table, chosen.draws)


def recipe_of(table: Table) -> dict[str, Any]:
    """The recipe as plain values."""
    return {
        "name": "flan2022",
        "tasks": [submixture(name, table) for name in SUBMIXTURES],
        "mixture": {"rates": "explicit", "few_shot": {"share": 0.5, "exemplars": {5: 1}}, "capacity": 2048},
        "training": {"loss": {"per": "token"}},  # every target token the same, as T5X has it by default
    }


def submixture(name: str, table: Table) -> dict[str, Any]:
    """One of the five; where it has inverted tasks, they and the plain ones are mixtures of their own in it."""
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for row in table:
        if row["submixture"] == name:
            kinds["input inversion" in row["note"]].append(row["task"])
    settings = dict(SUBMIXTURES[name])
    if not kinds[True]:
        return {"mixture": name, **settings, "tasks": kinds[False]}
    cap = settings.pop("cap")
    plain = {"mixture": f"{name} plain", "weight": 1, "cap": cap, "tasks": kinds[False]}
    inverted = {"mixture": f"{name} inverted", "weight": INVERTED, "cap": cap, "tasks": kinds[True]}
    return {"mixture": name, **settings, "rates": "explicit", "tasks": [plain, inverted]}


def print_plan(table: Table, draws: int) -> None:
    """Shares of submixtures, and of the largest and smallest tasks of each with the epochs they see."""
    rows = {row["task"]: int(row["examples"]) for row in table}
    whole = rated(shape_by_counts(recipe_from(recipe_of(table)), rows))
    for part in whole.parts:
        shares = sorted(((part.rate * share, name) for name, share in part.tasks().items()), reverse=True)
        print(f"{part.name:<10} {100 * float(part.rate):8.4f} %  {len(shares):>5} tasks")
        print_tasks([(float(share), name) for share, name in [*shares[:2], *shares[-1:]]], rows, draws)


def print_tasks(shares: Sequence[tuple[float, str]], rows: dict[str, int], draws: int) -> None:
    """One line a task."""
    for share, name in shares:
        print(f"  {100 * share:8.4f} %  {share * draws / rows[name]:9.4f} epochs of {rows[name]:>10,} rows  {name}")


if __name__ == "__main__":
    main()
