"""The built wheel in a fresh environment: what `pip install flantune[train]` gives, away from this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    made = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-4000:]
    return made.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("flantune-*.whl"))


def test_the_wheel_holds_the_starter_collection_and_no_weights(wheel):
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


def test_a_fresh_environment_with_the_wheel_runs_the_quickstart(wheel, tmp_path):
    import torch

    python = tmp_path / "fresh" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "fresh", cwd=tmp_path)
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, f"torch=={torch.__version__.partition('+')[0]}", cwd=tmp_path)
    run(*pip, "-c", ROOT / "requirements" / "constraints.txt", f"{wheel}[train]", cwd=tmp_path)
    flantune = python.with_name("flantune")
    assert run(flantune, "--version", cwd=tmp_path).startswith("flantune ")
    small = ("training.draws=24", "evaluation.rows=4", "evaluation.resamples=199", "training.compile=false")
    printed = run(flantune, "quickstart", "--out", tmp_path / "first", *small, cwd=tmp_path)
    assert "Trained tasks" in printed
    assert f"flantune chat {tmp_path / 'first'} --base" in printed
    comparison = json.loads((tmp_path / "first" / "comparison.json").read_text())
    assert len({entry["task"] for entry in comparison["tasks"]}) == 9
    assert (tmp_path / "first" / "report.html").exists()
    assert (tmp_path / "first" / "model" / "model.safetensors").exists()
