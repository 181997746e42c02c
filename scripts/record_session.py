"""Runs the commands of docs/your-own-data.md for real and records them as docs/your-own-data.svg and as text.

python scripts/record_session.py            runs the commands and writes picture and text
python scripts/record_session.py --train    records the training too (some minutes)

The rows are the reviews of the starter collection, under column names that a shop might have.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flantune

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, PICTURE = DOCS / "your-own-data.md", DOCS / "your-own-data.svg"
BEGIN, END = "<!-- recorded by scripts/record_session.py -->\n", "<!-- end of the recording -->\n"
COMMANDS = [
    "head -3 kundenmeinungen.csv",
    "flantune init kundenmeinungen.csv",
    "flantune tasks lint kundenmeinungen.yaml",
    "flantune plan recipe.yaml",
]
TRAINING = "flantune train recipe.yaml training.draws=200"


def main() -> None:
    """Records the session."""
    commands = [*COMMANDS, *([TRAINING] if "--train" in sys.argv[1:] else [])]
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "kundenmeinungen.csv")
        said = [(command, *run(command, Path(folder))) for command in commands]
    text = "".join(f"$ {command}\n{output}\n" for command, output, _ in said).rstrip() + "\n"
    seconds = sum(spent for _, _, spent in said)
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    recorded = f"{BEGIN}```\n{text}```\n\nThese commands took {seconds:.0f} seconds.\n{END}"
    PAGE.write_text(before + recorded + after, encoding="utf-8")
    PICTURE.write_text(picture(text), encoding="utf-8")


def write_table(path: Path) -> None:
    """The starter collection's reviews as a shop's export: semicolons, German names, a number, a date, a constant."""
    reviews = Path(flantune.__file__).parent / "starter" / "review_rating"
    lines = [
        line
        for name in ("train", "validation", "test")
        for line in (reviews / f"{name}.jsonl").read_text().splitlines()
    ]
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        table = csv.writer(stream, delimiter=";")
        table.writerow(["Vorgang", "Eingang", "Sterne", "Kommentar", "Mandant"])
        for number, row in enumerate(map(json.loads, lines)):
            table.writerow([70_000 + number, f"2026-03-{number % 28 + 1:02d}", row["stars"], row["review"], "Nordkauf"])


def run(command: str, folder: Path) -> tuple[str, float]:
    """What a command prints, and the seconds that it takes."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    began = time.monotonic()
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    shown = "\n".join(line.removeprefix("\ufeff")[:100].rstrip() for line in done.stdout.splitlines())
    return shown + "\n", time.monotonic() - began


def picture(text: str) -> str:
    """The session as an SVG of a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=102, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    for line in text.splitlines():
        console.print(Text(line, style="bold" if line.startswith("$ ") else ""))
    drawn = console.export_svg(title="flantune init")
    return re.sub(r"terminal-\d+", "terminal", drawn)  # rich numbers its styles anew each time


if __name__ == "__main__":
    main()
