"""A person's own CSV or JSONL becomes a task and a recipe."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from flantune.errors import FlantuneError, nearest
from flantune.files import write_text
from flantune.tasks.source import SourceChoice, read_split

MOST_CHOICES = 20


@dataclass(frozen=True)
class Made:
    """What was written."""

    task: Path
    recipe: Path
    rows: int
    kind: str


def init_task(file: Path, *, input_: str, target: str, instruction: str | None = None) -> Made:
    """Writes NAME.yaml (the task) and NAME-recipe.yaml beside the file.

    A target with few different values that repeat is taken as a closed set of answers (scored by accuracy, numbers
    also by their error); anything else as free text (scored by ROUGE). Splits are by a hash of each row: 80 % train,
    20 % test.

    Raises:
        FlantuneError: Not a table, an unknown column (with the nearest), or a file of that name exists.
    """
    kind = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}.get(file.suffix.lower())
    if kind is None:
        raise FlantuneError("a .csv, .tsv or .jsonl file is wanted", file)
    source = SourceChoice.model_validate({"kind": kind, "splits": {"all": file.name}})
    rows = read_split(source, "all", file.parent, {})
    for column in (input_, target):
        if column not in rows.rows[0]:
            raise FlantuneError(f'no column "{column}"; {nearest(column, rows.rows[0])}', file)
    name = re.sub(r"[^a-z0-9_.-]+", "-", file.stem.lower()).strip("-.") or "task"
    targets = Counter(str(row.get(target, "")).strip() for row in rows.rows)
    closed = 2 <= len(targets) <= MOST_CHOICES and len(rows) >= 4 * len(targets) and "" not in targets
    numeric = closed and all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in targets)
    choices = sorted(targets, key=float) if numeric else sorted(targets)
    task, recipe = file.with_name(f"{name}.yaml"), file.with_name(f"{name}-recipe.yaml")
    for path in (task, recipe):
        if path.exists():
            raise FlantuneError("exists already; move it away, or edit it", path)
    metrics = (
        ["mean_absolute_error", "accuracy"] if numeric else ["accuracy", "macro_f1"] if closed else ["rouge1", "rougeL"]
    )
    write_text(
        task, _task_text(name, kind, file.name, input_, target, choices if closed else None, metrics, instruction)
    )
    write_text(recipe, _recipe_text(name, task.name))
    return Made(task, recipe, len(rows), f"{len(choices)} different answers" if closed else "free text")


def _field(name: str) -> str:
    return f"{{{{ {name} }}}}" if name.isidentifier() else f"{{{{ row[{json.dumps(name)}] }}}}"


def _task_text(
    name: str,
    kind: str,
    file: str,
    input_: str,
    target: str,
    choices: list[str] | None,
    metrics: list[str],
    instruction: str | None,
) -> str:
    given, asked = _field(input_), _field(target)
    words = f"{target.replace('_', ' ')}"
    request = instruction or f"What is the {words} of this {input_.replace('_', ' ')}?"
    options = " Answer with one of: {{ answer_choices | join(', ') }}." if choices else ""
    templates = [
        ("request_first", f"{request}{options}\n\n{given} ||| {asked}", False),
        ("request_last", f"{given}\n\n{request}{options} ||| {asked}", False),
        ("form", f"{input_}: {given}\n{target}: ||| {asked}", False),
        ("read_then_answer", f"Read this:\n\n{given}\n\nNow answer: {request}{options} ||| {asked}", False),
        ("other_words", f"Please give the {words} for the following text.{options}\n\n{given} ||| {asked}", True),
    ]
    lines = [
        f"# Made from {file}; edit freely, then: flantune tasks check {name}.yaml",
        f"name: {name}",
        f"description: {json.dumps(request)}",
        "cluster: mine",
        f"origins: [{json.dumps(file)}]",
        "source:",
        f"  kind: {kind}",
        f"  splits: {{all: {json.dumps(file)}}}",
        "  fractions: {train: 0.8, test: 0.2}   # by a hash of each row: appending rows moves none",
    ]
    if choices is not None:
        lines.append(f"answer_choices: {json.dumps(choices, ensure_ascii=False)}")
    lines += [
        f"evaluate_by: {'choices' if choices is not None else 'generation'}",
        f"max_new_tokens: {16 if choices is not None else 100}",
        f"metrics: [{', '.join(metrics)}]   # the first one decides the verdict",
        f"shorten: {input_}   # gives way when a prompt is too long",
        "templates:   # several phrasings, so that the model learns the task and not one sentence",
    ]
    for label, text, held_out in templates:
        lines.append(f"  - name: {label}")
        if held_out:
            lines.append("    held_out: true   # never trained on: does it understand other words too?")
        lines.append(f"    text: {json.dumps(text, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _recipe_text(name: str, task: str) -> str:
    return f"""\
# flantune plan {name}-recipe.yaml   shows what it will do; flantune train {name}-recipe.yaml   does it.
name: {name}
model: smollm2-135m-instruct      # or a folder, or a name on the hub
tasks:
  - {task}                        # add more tasks: one model learns them all
  - task: starter/instructions    # general instructions, so that it stays an assistant
    share: 0.2
unseen:                           # only evaluated: what should not be forgotten
  - starter/kept_knowledge
  - starter/kept_behaviour
training:
  epochs: 2
  learning_rate: 2e-4
  loss: {{per: square_root}}
"""
