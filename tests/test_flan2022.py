"""The FLAN 2022 mixture out of a recipe: each task's share by draws against a computation that shares no code.

Names and counts are read from the table of the FLAN collection's tasks, where it is present.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flantune.mixture.draw import DrawFunction, MixedTask
from flantune.mixture.shape import rated
from flantune.preparation import shape_by_counts
from flantune.recipe import load_recipe

ROOT = Path(__file__).parent.parent
TABLE = ROOT.parent / "shared" / "facts" / "flan2022_tasks.csv"
DRAWS = 10**6
POINT = 0.0001  # 0.01 percentage points, of a share
pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="no table of the FLAN 2022 tasks beside the repository")

# google-research/FLAN, flan/v2/run_example.py and mixtures.py
WEIGHTS = {"Flan2021": 0.40, "T0": 0.32, "NIv2": 0.20, "CoT": 0.05, "Dialog": 0.03}
CAPS = {"Flan2021": 30_000, "T0": 20_000, "NIv2": 5_000, "CoT": 100_000, "Dialog": 200_000}
OPTIONS_SHOWN_HALF_THE_TIME = {"Flan2021", "T0"}
ANY_TASK_TEMPLATES = (Fraction(1),) * 10


@pytest.fixture(scope="module")
def table():
    """All rows of the table, those left out of the mixture too."""
    return list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def expected(table):
    """Of each task by submixture, in floating point: capped proportions, inverted parts at 0.3 of the plain ones."""
    table = [row for row in table if not row["note"].startswith("left out")]
    capped = {row["task"]: min(int(row["examples"]), CAPS[row["submixture"]]) for row in table}
    found = defaultdict(dict)
    for row in table:
        peers = [r for r in table if r["submixture"] == row["submixture"]]
        inverted = [r["task"] for r in peers if r["note"].startswith("input inversion")]
        plain = [r["task"] for r in peers if r["task"] not in inverted]
        kind, part = (plain, 1.0) if row["task"] in plain else (inverted, 0.3)
        part /= 1.3 if inverted else 1.0
        share = WEIGHTS[row["submixture"]] * part * capped[row["task"]] / sum(capped[task] for task in kind)
        found[row["submixture"]][row["task"]] = share
    return found


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("flan") / "flan2022.yaml"
    script = [sys.executable, str(ROOT / "scripts" / "flan2022_recipe.py"), str(TABLE)]
    path.write_bytes(subprocess.run(script, capture_output=True, check=True).stdout)
    return load_recipe(path)


@pytest.fixture(scope="module")
def drawn(recipe, table):
    """Tasks in the recipe's order, and the first million draws."""
    rows = {row["task"]: int(row["examples"]) for row in table}
    tasks = []
    for placed in recipe.trained():
        shown, few = Fraction(str(placed.options)), Fraction(str(placed.few_shot.share))
        options = (1 - shown, shown) if shown < 1 else (Fraction(1),)
        tasks.append(
            MixedTask(placed.choice.task, rows[placed.choice.task], ANY_TASK_TEMPLATES, options, (1 - few, few))
        )
    function = DrawFunction(tasks, rated(shape_by_counts(recipe, rows)), recipe.seed)
    return tasks, function.draws(np.arange(DRAWS))


def test_every_task_and_submixture_has_its_share_of_a_million_draws(drawn, expected):
    tasks, draws = drawn
    realised = dict(zip((task.name for task in tasks), np.bincount(draws.tasks) / DRAWS, strict=True))
    assert sum(len(part) for part in expected.values()) == len(tasks) == 1883
    for name, part in expected.items():
        assert abs(sum(realised[task] for task in part) - WEIGHTS[name]) < POINT
        for task, share in part.items():
            assert abs(realised[task] - share) < POINT


def test_every_task_is_within_a_few_draws_of_its_share(drawn, expected):
    tasks, draws = drawn
    counts = np.bincount(draws.tasks, minlength=len(tasks))
    shares = {task: share for part in expected.values() for task, share in part.items()}
    missed = [abs(count - DRAWS * shares[task.name]) for task, count in zip(tasks, counts, strict=True)]
    assert max(missed) < 3


def test_variants_are_each_a_quarter_or_a_half_of_their_submixture(drawn, expected):
    tasks, draws = drawn
    for name, part in expected.items():
        members = [number for number, task in enumerate(tasks) if task.name in part]
        here = np.isin(draws.tasks, members)
        few_shot, shown = draws.shots[here] == 1, draws.options[here] == 1
        assert abs(few_shot.mean() - 0.5) * WEIGHTS[name] < POINT
        if name in OPTIONS_SHOWN_HALF_THE_TIME:
            assert abs(shown.mean() - 0.5) * WEIGHTS[name] < POINT
            # The two meet by chance, so a quarter has the deviation of a sample of that many draws, or less.
            assert abs((few_shot & shown).mean() - 0.25) < 5 * (0.25 * 0.75 / here.sum()) ** 0.5
        else:
            assert not shown.any()


def test_inverted_tasks_are_drawn_at_0_3_of_the_plain_ones(drawn, expected):
    tasks, draws = drawn
    counts = np.bincount(draws.tasks, minlength=len(tasks))
    by_name = {task.name: int(count) for task, count in zip(tasks, counts, strict=True)}
    for submixture in ("CoT", "Dialog"):
        names = list(expected[submixture])
        inverted = sum(by_name[name] for name in names if "input_inversion" in name)
        assert inverted / (sum(by_name[name] for name in names) - inverted) == pytest.approx(0.3, rel=1e-3)


def test_submixtures_come_evenly_in_every_window(drawn, expected):
    tasks, draws = drawn
    for name, weight in WEIGHTS.items():
        members = [number for number, task in enumerate(tasks) if task.name in expected[name]]
        here = np.isin(draws.tasks, members)[: DRAWS // 512 * 512].reshape(-1, 512)
        assert abs(here.sum(axis=1) - 512 * weight).max() < 3
