"""The page about mixtures: its recipes are recipes, its picture and its table are what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flantune.recipe import load_recipe

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "mixtures.md").read_text(encoding="utf-8")
TABLE = ROOT.parent / "shared" / "facts" / "flan2022_tasks.csv"
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: text.splitlines()[0])
def test_each_recipe_of_the_page_is_one(text, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_recipe(path).trained()


def test_the_picture_is_fresh():
    script = ROOT / "scripts" / "draw_mixtures.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not TABLE.exists(), reason="no table of the FLAN 2022 tasks beside the repository")
def test_the_shares_of_the_worked_example_are_those_of_the_script():
    script = [sys.executable, str(ROOT / "scripts" / "flan2022_recipe.py"), str(TABLE), "--draws", "1000000"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    parts = re.findall(r"^(\w+) +([\d.]+) % +([\d]+) tasks\n +([\d.]+) %.*\n.*\n +([\d.]+) %", printed, re.MULTILINE)
    told = re.findall(r"^\| (\w+) \| (\d+) % \| ([\d,]+) \| ([\d.]+) %.*? \| ([\d.]+) %", PAGE, re.MULTILINE)
    assert len(parts) == len(told) == 5
    for (name, *numbers), (name_told, *numbers_told) in zip(parts, told, strict=True):
        assert name == name_told
        for number, number_told in zip(numbers, numbers_told, strict=True):
            assert float(number) == pytest.approx(float(number_told.replace(",", "")), rel=0.03)
