"""docs/training.md: its recipes load, and it leaves out no choice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from flantune.recipe import load_recipe
from flantune.recipe.schema import Adapter, Loss, Training

PAGE = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_each_recipe_of_the_page_is_one(text, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"tasks: [a]\n{text}", encoding="utf-8")
    load_recipe(path)


@pytest.mark.parametrize(
    ("section", "key"), [(Training, "schedule"), (Training, "optimizer"), (Loss, "per"), (Adapter, "method")]
)
def test_each_choice_of_a_key_has_its_row(section, key):
    rows = re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)
    assert set(get_args(section.model_fields[key].annotation)) - {"none"} <= set(rows)
