"""Small real runs: tasks, recipe and tiny model on disk, and the command line in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from flantune.cli import main
from tiny import save_tiny_model
from warm import warm_python

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll", "larch"]
# Changes of a tiny recipe with which it learns a little: base and tuned answer some rows alike and others not.
LEARNING = ("training.draws=256", "training.learning_rate=1e-2", "training.precision=fp32")


def write_task(folder: Path, name: str, *, rows: int = 40, metrics: str = "[rouge1]", choices: bool = False) -> Path:
    """A task of `rows` training and 12 test rows: the answer is a word of the text, or which of two words it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, shift in (("train", rows, 0), ("test", 12, 5)):
        lines = []
        for i in range(count):
            words = [WORDS[(i * step + shift + len(name)) % len(WORDS)] for step in (1, 5, 7)]
            answer = ("yes" if i % 2 else "no") if choices else words[i % 3]
            lines.append(json.dumps({"text": f"{' '.join(words)} {split} {i}", "answer": answer}))
        (folder / f"{name}-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = f"""\
name: {name}
origins: [{name}]
cluster: words
source:
  kind: jsonl
  splits: {{train: {name}-train.jsonl, test: {name}-test.jsonl}}
{'answer_choices: ["yes", "no"]' if choices else ""}
evaluate_by: {"choices" if choices else "generation"}
max_new_tokens: 6
metrics: {metrics}
templates:
  - name: plain
    text: "Text: {{{{ text }}}} ||| {{{{ answer }}}}"
  - name: question
    text: "Which word, of {{{{ text }}}}? ||| {{{{ answer }}}}"
  - name: other_words
    held_out: true
    text: "Say it: {{{{ text }}}} ||| {{{{ answer }}}}"
"""
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_recipe(folder: Path, *, extra: str = "") -> Path:
    """A recipe of two trained tasks and one unseen task for a tiny model, everything inside `folder`."""
    save_tiny_model(folder / "tiny")
    for name, choices in (("words", False), ("verdict", True), ("other", False)):
        write_task(folder, name, choices=choices, metrics="[accuracy]" if choices else "[rouge1, exact_match]")
    path = folder / "recipe.yaml"
    path.write_text(
        f"""\
name: small
model: tiny
tasks: [words.yaml, verdict.yaml]
unseen: [other.yaml]
mixture: {{rates: equal, capacity: 128, window: 16}}
training: {{draws: 64, rows_per_step: 2, learning_rate: 1e-3, compile: false, checkpoint_every: 2}}
evaluation: {{rows: 12, resamples: 199}}
output: {folder / "run"}
{extra}
""",
        encoding="utf-8",
    )
    return path


def flantune(*arguments: object, cache: Path, **options) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, with a cache of its own; a warm process: see warm.py."""
    environment = {**os.environ, "FLANTUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "CI": "1"}
    environment["OMP_NUM_THREADS"] = "1"  # more only delay tiny models
    return subprocess.run(
        [warm_python(), "-m", "flantune", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        **options,
    )


def command(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    monkeypatch.setattr("sys.argv", ["flantune", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def rows_of(path: Path) -> list[Any]:
    """The values of a file of JSON lines, which may hold other line breaks than \\n inside."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
