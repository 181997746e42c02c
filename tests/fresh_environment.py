"""Builds the wheel, installs it where nothing else is, and has it do a short quickstart.

python tests/fresh_environment.py     in an empty folder: wheel/, fresh/ and first/
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: object) -> None:
    """Runs a command as in a shell that knows nothing of this Python."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    subprocess.run([str(part) for part in command], env=environment, check=True)


def main() -> None:
    """Everything, in the current folder."""
    folder = Path.cwd()
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "wheel", ROOT)
    wheel = next((folder / "wheel").glob("flantune-*.whl"))
    python = folder / "fresh" / "bin" / "python"
    run(sys.executable, "-m", "venv", folder / "fresh")
    # What is not imported needs no compiling.
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    run(*pip, f"torch=={version('torch').partition('+')[0]}")
    run(*pip, "-c", ROOT / "requirements" / "constraints.txt", f"{wheel}[train]")
    flantune = python.with_name("flantune")
    run(flantune, "--version")
    small = ("training.draws=24", "evaluation.rows=4", "evaluation.resamples=199", "training.compile=false")
    run(flantune, "quickstart", "--out", folder / "first", *small)


if __name__ == "__main__":
    main()
