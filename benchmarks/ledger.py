"""What it costs to look for evaluation rows in training rows, and for duplicates among these.

    python benchmarks/ledger.py [--training N] [--evaluation N] [--words N] [--text FILE ...]

Makes up rows of realistic length from the words of texts (the starter tasks by default), some of which hold a piece of
an evaluation row, and prints for each part the time and how far memory grew over that of the process before.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from flantune.memory import peak_memory

TASKS = 10
LEAKS_EVERY = 500
TASK = """\
name: {name}
source: {{kind: jsonl, splits: {{train: {name}.jsonl}}}}
metrics: [rouge1]
templates:
  - {{name: plain, text: "{{{{ text }}}} ||| {{{{ summary }}}}"}}
"""


def main() -> None:
    """Makes the rows, and measures in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=int, default=100_000)
    parser.add_argument("--evaluation", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=200, help="mean words of a text; each has a summary of a tenth")
    parser.add_argument("--text", nargs="*", type=Path, default=starter_rows())
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        measure(given.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_rows(Path(folder), given.training, given.evaluation, given.words, words_in(given.text))
        subprocess.run([sys.executable, __file__, "--measure", folder], check=True)


def starter_rows() -> list[Path]:
    """The rows of the starter tasks."""
    import flantune

    return sorted((Path(flantune.__file__).parent / "starter").glob("*/*.jsonl"))


def words_in(files: list[Path]) -> np.ndarray:
    """All words of the text values of JSONL files, as often as they are there."""
    words: list[str] = []
    for path in files:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in lines:
                words += " ".join(value for value in json.loads(line).values() if isinstance(value, str)).split()
    return np.array([word for word in words if len(word) <= 20])  # without addresses, which are runs of words


def make_rows(folder: Path, training: int, evaluation: int, mean: int, words: np.ndarray) -> None:
    """Writes trained tasks of equal size and one evaluated task; lengths are log-normal."""
    dice = np.random.default_rng(0)

    def text(length: float) -> str:
        return " ".join(words[dice.integers(0, len(words), max(3, int(length * dice.lognormal(-0.18, 0.6))))])

    asked = [{"text": text(mean), "summary": text(mean / 10)} for _ in range(evaluation)]
    tasks = {"evaluated": iter(asked)}
    for task in range(TASKS):
        rows = ({"text": text(mean), "summary": text(mean / 10)} for _ in range(training // TASKS))
        tasks[f"trained{task}"] = (
            {**row, "text": f"{row['text']} {asked[i % len(asked)]['text']}"} if i % LEAKS_EVERY == 0 else row
            for i, row in enumerate(rows)
        )
    for name, rows in tasks.items():
        (folder / f"{name}.yaml").write_text(TASK.format(name=name))
        with (folder / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def measure(folder: Path) -> None:
    """Reads the rows, looks for both, and prints."""
    from flantune.mixture.audit import Evaluated, audit
    from flantune.mixture.window import Member
    from flantune.tasks.task import load_task

    began = time.perf_counter()
    asked = load_task(folder / "evaluated.yaml")
    rows = list(asked.split("train"))
    numbers = list(map(str, range(len(rows))))
    evaluated = [Evaluated(asked, numbers, rows, numbers)]
    tasks = [load_task(folder / f"trained{task}.yaml") for task in range(TASKS)]
    members = [Member(task, task.split("train")) for task in tasks]
    print(f"{sum(len(member.rows) for member in members):,} training rows, {len(rows):,} evaluation rows; ", end="")
    print(f"read in {time.perf_counter() - began:.1f} s")
    for title in ("overlaps", "duplicates"):
        before, began, worked = peak_memory() / 2**20, time.perf_counter(), time.process_time()
        found = audit(
            members,
            evaluated,
            folder / "ledgers",
            decontaminate="report" if title == "overlaps" else "skip",
            duplicates="keep" if title == "duplicates" else "skip",
        )
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        pairs = found.told["contamination"] or found.told["duplicates"] or []
        rows = sum(it["training_rows"] if "training_rows" in it else it["exact"] + it["near"] for it in pairs)
        print(
            f"{title}: {seconds:.1f} s ({worked:.1f} s of a processor), {peak_memory() / 2**20 - before:,.0f} MB more, "
            f"{rows:,} training rows found"
        )


if __name__ == "__main__":
    main()
