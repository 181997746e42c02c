"""Two small real tasks on disk, mixed: JSONL rows, task files, and an encoder whose tokens are bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flantune.mixture.window import Member, MixtureRule
from flantune.tasks.task import Task, load_task

RULE = MixtureRule("proportional", None, 2.0, window=16, capacity=96, per="token", seed=0)
DRAWS = 100
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll", "larch"]
LETTERS = [{"word": word, "letters": " ".join(word[:n])} for n in (4, 5) for word in WORDS]
SUMS = [{"a": a, "b": b, "sum": a + b} for a in range(3) for b in (10, 2000)]
LETTER_TEMPLATES = [
    "Spell {{ word }}. ||| {{ letters }}",
    "How is the word {{ word }} spelled, letter by letter? ||| {{ letters }}",
    "{{ letters }}: one word! ||| {{ word }}",
]
SUM_TEMPLATES = ["{{ a }} + {{ b }} = ||| {{ sum }}", "What is {{ a }} and {{ b }}? ||| It is {{ sum }}."]


class ByteEncoder:
    """Token ids are bytes; 256 begins a prompt and 257 ends an answer."""

    paired = False

    def __init__(self, version: str = "bytes") -> None:
        self.version = version

    def prompt_ids(self, text: str) -> list[int]:
        """256 and the bytes."""
        return [256, *text.encode()]

    def target_ids(self, text: str) -> list[int]:
        """The bytes and 257."""
        return [*text.encode(), 257]

    def ids_of_all(self, prompts: Sequence[str], targets: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Each as alone."""
        return [(self.prompt_ids(p), self.target_ids(t)) for p, t in zip(prompts, targets, strict=True)]

    def fingerprint(self) -> str:
        """What the test says it is."""
        return self.version


def made_task(
    folder: Path, name: str, rows: Sequence[dict[str, Any]], templates: Sequence[str | dict[str, Any]], **fields: Any
) -> Task:
    """Writes a task's rows and file, and reads them back. A template is its text, or all its fields."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = {
        "name": name,
        "source": {"kind": "jsonl", "splits": {"train": f"{name}.jsonl"}},
        "metrics": ["exact_match"],
        "templates": [
            {"name": f"t{i}", "text": it} if isinstance(it, str) else {"name": f"t{i}", **it}
            for i, it in enumerate(templates)
        ],
        **fields,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(spec, indent=1), encoding="utf-8")  # JSON is YAML
    return load_task(path)


def member(task: Task, **options: Any) -> Member:
    """A task with all its training rows."""
    return Member(task, task.split("train"), **options)


def members(folder: Path) -> list[Member]:
    """24 rows of spelling in three templates, the last inverted; six sums in two."""
    inverted = {"text": LETTER_TEMPLATES[2], "inverted": True}
    return [
        member(made_task(folder, "letters", LETTERS, [*LETTER_TEMPLATES[:2], inverted], origins=["words"])),
        member(made_task(folder, "sums", SUMS, SUM_TEMPLATES, cluster="arithmetic")),
    ]


def rule(**changes: Any) -> MixtureRule:
    """The mixture's rule, with changes."""
    return replace(RULE, **changes)
