"""A person's own CSV or JSONL becomes a task and a recipe."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flantune.errors import FlantuneError, nearest
from flantune.files import write_text
from flantune.recipe.load import run_name
from flantune.tasks.source import Row, SourceChoice, read_split
from flantune.tasks.template import SEPARATOR, check_syntax, fields_used

MOST_CHOICES = 20
FRACTIONS = {"train": 0.8, "test": 0.2}


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
        FlantuneError: Not a table, an unknown column (with the nearest), a file of that name exists, or so few
            rows that none is left to test with.
    """
    kind = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}.get(file.suffix.lower())
    if kind is None:
        raise FlantuneError("a .csv, .tsv or .jsonl file is wanted", file)
    if not file.is_file():
        raise FlantuneError("no such file; check its path", file)
    name = run_name(file.stem)
    task, recipe = file.with_name(f"{name}.yaml"), file.with_name(f"{name}-recipe.yaml")
    for path in (task, recipe):
        if path.exists():
            raise FlantuneError("exists already; move it away, or edit it", path)
    source = SourceChoice.model_validate({"kind": kind, "splits": {"all": file.name}, "fractions": FRACTIONS})
    parts = {split: len(read_split(source, split, file.parent, {})) for split in FRACTIONS}
    rows = read_split(source.model_copy(update={"fractions": None}), "all", file.parent, {}).rows
    for column in (input_, target):
        if column not in rows[0]:
            raise FlantuneError(f'no column "{column}"; {nearest(column, rows[0])}', file)
    if not all(parts.values()):
        counts = " and ".join(f"{count} to {split}" for split, count in parts.items())
        raise FlantuneError(f"too few rows: by the hash of each, {counts}; both need some, so add rows", file)
    choices = _closed_set(rows, target)
    numeric = all(NUMBER.fullmatch(choice) for choice in choices)
    if "answer_choices" in (input_, target) and choices:
        raise FlantuneError('templates call the list of answers "answer_choices"; rename the column', file)
    metrics = (
        ["rouge1", "rougeL"]
        if not choices
        else ["mean_absolute_error", "accuracy"]
        if numeric
        else ["accuracy", "macro_f1"]
    )
    write_text(task, _task_text(name, kind, file.name, input_, target, choices, metrics, instruction))
    try:
        write_text(recipe, _recipe_text(name, task.name))
    except BaseException:
        task.unlink()
        raise
    return Made(task, recipe, len(rows), f"{len(choices)} different answers" if choices else "free text")


NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def _closed_set(rows: Sequence[Row], target: str) -> list[str]:
    """The different answers, numbers by size; none where there are many, or too few rows of each."""
    answers = Counter(str(row.get(target, "")).strip() for row in rows)
    if not 2 <= len(answers) <= MOST_CHOICES or len(rows) < 4 * len(answers) or "" in answers:
        return []
    return sorted(answers, key=float if all(NUMBER.fullmatch(answer) for answer in answers) else str)


def _field(name: str) -> str:
    """Jinja that puts in a column, whatever its name is."""
    plain = f"{{{{ {name} }}}}"
    reserved = ("self", "super", "caller", "varargs", "kwargs")
    if name.isidentifier() and name not in reserved and check_syntax(plain) is None and fields_used(plain) == {name}:
        return plain
    return f"{{{{ {json.dumps(name, ensure_ascii=False)} | field }}}}"


def _words(text: str) -> str:
    """Jinja that puts in words as they are, braces and bars among them."""
    if any(mark in text for mark in ("{{", "{%", "{#", SEPARATOR)) or text.endswith("{"):
        return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
    return text


def _yaml(text: str) -> str:
    """Text as YAML in double quotes: JSON, with what YAML reads otherwise or not at all as escapes."""
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]",
        lambda found: f"\\u{ord(found[0]):04x}",
        json.dumps(text, ensure_ascii=False),
    )


def _task_text(
    name: str,
    kind: str,
    file: str,
    input_: str,
    target: str,
    choices: Sequence[str],
    metrics: Sequence[str],
    instruction: str | None,
) -> str:
    given, asked = _field(input_), _field(target)
    label, words = _words(input_), _words(target.replace("_", " "))
    question = instruction or f"What is the {target.replace('_', ' ')} of this {input_.replace('_', ' ')}?"
    request = _words(question)
    options = " Answer with one of: {{ answer_choices | join(', ') }}." if choices else ""
    templates = [
        ("request_first", f"{request}{options}\n\n{given} ||| {asked}", False),
        ("request_last", f"{given}\n\n{request}{options} ||| {asked}", False),
        ("form", f"{label}: {given}\n{_words(target)}: ||| {asked}", False),
        ("read_then_answer", f"Read this:\n\n{given}\n\nNow answer: {request}{options} ||| {asked}", False),
        ("other_words", f"Please give the {words} for the following text.{options}\n\n{given} ||| {asked}", True),
    ]
    lines = [
        f"# Made from {' '.join(file.split())}; edit freely, then: flantune tasks check {name}.yaml",
        f"name: {_yaml(name)}",
        f"description: {_yaml(question)}",
        "cluster: mine",
        f"origins: [{_yaml(file)}]",
        "source:",
        f"  kind: {kind}",
        f"  splits: {{all: {_yaml(file)}}}",
        f"  fractions: {{{', '.join(f'{split}: {share}' for split, share in FRACTIONS.items())}}}"
        "   # by a hash of each row: appending rows moves none",
    ]
    if choices:
        lines.append(f"answer_choices: [{', '.join(map(_yaml, choices))}]")
    lines += [
        f"evaluate_by: {'choices' if choices else 'generation'}",
        f"max_new_tokens: {16 if choices else 100}",
        f"metrics: [{', '.join(metrics)}]   # the first one decides the verdict",
        f"shorten: {_yaml(input_)}   # gives way when a prompt is too long",
        "templates:   # several phrasings, so that the model learns the task and not one sentence",
    ]
    for label, text, held_out in templates:
        lines.append(f"  - name: {label}")
        if held_out:
            lines.append("    held_out: true   # never trained on: does it understand other words too?")
        lines.append(f"    text: {_yaml(text)}")
    return "\n".join(lines) + "\n"


def _recipe_text(name: str, task: str) -> str:
    return f"""\
# flantune plan {name}-recipe.yaml   shows what it will do; flantune train {name}-recipe.yaml   does it.
name: {_yaml(name)}
model: smollm2-135m-instruct      # or a folder, or a name on the hub
tasks:
  - {_yaml(task)}                 # add more tasks: one model learns them all
  - task: starter/instructions    # general instructions, so that it stays an assistant
    share: 0.2
unseen:                           # only evaluated: what should not be forgotten
  - starter/kept_knowledge
  - starter/kept_behaviour
training:
  epochs: 3
  learning_rate: 2e-4
  loss: {{per: square_root}}
"""
