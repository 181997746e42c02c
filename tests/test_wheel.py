"""The built wheel in a fresh environment: what `pip install flantune[train]` gives, away from this checkout."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

import fresh_environment
from early import Early

pytestmark = pytest.mark.slow


def begin_early(folder: Path) -> Early:
    """All that takes minutes."""
    return Early(folder, [sys.executable, fresh_environment.__file__])


@pytest.fixture(scope="module")
def made(early):
    """What was printed, and where the files are."""
    ended = early.ended()
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    return ended.stdout, early.folder


def test_the_wheel_holds_the_starter_collection_and_no_weights(made):
    wheel = next((made[1] / "wheel").glob("flantune-*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for part in (
        "starter/quickstart.yaml",
        "starter/review_rating/train.jsonl",
        "starter/plain_text.txt",
        "reporting/page/report.html.j2",
        "reporting/page/answers.js",
        "py.typed",
    ):
        assert f"flantune/{part}" in names
    assert not [name for name in names if name.endswith((".safetensors", ".gguf", ".bin"))]
    assert wheel.stat().st_size < 1_500_000


def test_a_fresh_environment_with_the_wheel_runs_the_quickstart(made):
    printed, folder = made
    assert "\nflantune " in f"\n{printed}"  # its version
    assert "Trained tasks" in printed
    assert f"flantune chat {folder / 'first'} --base" in printed
    comparison = json.loads((folder / "first" / "comparison.json").read_text())
    assert len({entry["task"] for entry in comparison["tasks"]}) == 9
    assert (folder / "first" / "report.html").exists()
    assert (folder / "first" / "model" / "model.safetensors").exists()
