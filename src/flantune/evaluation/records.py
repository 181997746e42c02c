"""What is kept of an evaluation: a file of settings and a file of answers a task, enough to score them again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flantune.errors import FlantuneError
from flantune.evaluation.metrics import METRICS, Metric, kept_metric, metric
from flantune.evaluation.predict import DECODING, Prediction
from flantune.evaluation.prompts import EvaluationSet
from flantune.files import read_json_lines, write_json, write_json_lines

Group = Literal["trained", "unseen", "kept"]
KEPT = "kept_abilities"  # the cluster of tasks that ask whether something was forgotten
SETTINGS = "settings.json"
PLAIN_TEXT = "_plain_text.jsonl"  # no task's name begins so
# What must be equal on both sides of a comparison, of the whole evaluation and of each row.
ALIKE = ("system", "precision", "batch_tokens")
ROW = ("row", "repeat", "template", "exemplars", "prompt", "references", "choices", "fields")


@dataclass(frozen=True)
class TaskAnswers:
    """One model's answers on one task.

    Attributes:
        task: The task's name.
        cluster: Its cluster.
        group: Trained on; not trained on; or an ability that should be kept.
        metrics: Names, the main one first.
        decoding: How answers were made: `evaluate_by`, `max_new_tokens`, `method`, `version`; of sampled ones also
            `temperature`, `top_p`, `seed`, `repeats`.
        rows: One a row, as `predict.predictions` makes them.
        told: What is said of metrics that are not flantune's: name to `higher_is_better`, `unit`, `signature`.
    """

    task: str
    cluster: str
    group: Group
    metrics: tuple[str, ...]
    decoding: Mapping[str, Any]
    rows: Sequence[Prediction]
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def scored_by(self) -> list[Metric]:
        """Its metrics. Those that are not flantune's are known by what is told of them: no code but flantune's runs."""
        return [kept_metric(name, **self.told[name]) if name in self.told else metric(name) for name in self.metrics]


@dataclass(frozen=True)
class Side:
    """One model's answers on all tasks.

    Attributes:
        settings: `model`, `identity`, `precision`, `device`, `system`, `batch_tokens` and so on, as in settings.json.
        tasks: In the order of the evaluation.
        plain_text: How likely the model finds each paragraph of the plain text, as `likelihood.text_records` has it;
            None where that was not measured.
    """

    settings: Mapping[str, Any]
    tasks: tuple[TaskAnswers, ...]
    plain_text: Sequence[Prediction] | None = None

    @property
    def name(self) -> str:
        """How the model is called."""
        return str(self.settings["model"])

    def only(self, tasks: Sequence[str]) -> Side:
        """Some of the tasks, and nothing else.

        Raises:
            FlantuneError: One of them was not evaluated.
        """
        there = {it.task: it for it in self.tasks}
        if missing := [name for name in tasks if name not in there]:
            raise FlantuneError(f'{self.name} has no answers on task "{missing[0]}" ({", ".join(there)})')
        return Side(self.settings, tuple(there[name] for name in tasks))


def task_answers(questions: EvaluationSet, rows: Sequence[Prediction], *, trained: bool) -> TaskAnswers:
    """Answers to a task's questions with what is said of the task."""
    spec = questions.task.spec
    group: Group = "trained" if trained else "kept" if spec.cluster == KEPT else "unseen"
    decoding = {
        "evaluate_by": spec.evaluate_by,
        "max_new_tokens": spec.max_new_tokens,
        "method": "greedy",
        "version": DECODING,
    }
    if questions.sampled is not None:
        repeats = 1 + max(item.repeat for item in questions.items)
        drawn = dict(zip(("temperature", "top_p", "seed"), questions.sampled, strict=True))
        decoding |= {"method": "sampling", **drawn, "repeats": repeats}
    if all("other" in row for row in rows):
        decoding |= {"both_scorers": True}
    if not questions.answered:
        decoding |= {"evaluate_by": "target", "max_new_tokens": 0}
    told = {
        by.name: {key: getattr(by, key) for key in ("higher_is_better", "unit", "signature")}
        for by in questions.metrics
        if by.name not in METRICS
    }
    return TaskAnswers(questions.task.name, spec.cluster, group, tuple(spec.metrics), decoding, rows, told)


def write_side(folder: Path, side: Side) -> None:
    """Writes `TASK.jsonl` for each task, `_plain_text.jsonl` where there is any, and then `settings.json`."""
    if side.plain_text is not None:
        write_json_lines(folder / PLAIN_TEXT, list(side.plain_text))
    for it in side.tasks:
        write_json_lines(folder / f"{it.task}.jsonl", list(it.rows))
    told = [
        {
            "task": it.task,
            "cluster": it.cluster,
            "group": it.group,
            "metrics": list(it.metrics),
            "decoding": dict(it.decoding),
            **({"told": dict(it.told)} if it.told else {}),
        }
        for it in side.tasks
    ]
    write_json(folder / SETTINGS, {**side.settings, "tasks": told})


def read_side(folder: Path) -> Side:
    """What `write_side` wrote.

    Raises:
        FlantuneError: No evaluation is kept there, or a file of it is missing.
    """
    if not (folder / SETTINGS).exists():
        raise FlantuneError(
            "no evaluation is kept here; make one with flantune compare RUN, or flantune evaluate RECIPE MODEL", folder
        )
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    tasks = []
    for told in settings.pop("tasks"):
        path = folder / f"{told['task']}.jsonl"
        if not path.exists():
            raise FlantuneError(f"{SETTINGS} names this file, which is missing; evaluate again", path)
        tasks.append(
            TaskAnswers(
                told["task"],
                told["cluster"],
                told["group"],
                tuple(told["metrics"]),
                told["decoding"],
                read_json_lines(path),
                told.get("told", {}),
            )
        )
    plain_text = None
    if "plain_text" in settings:
        if not (folder / PLAIN_TEXT).exists():
            raise FlantuneError(f"{SETTINGS} names this file, which is missing; evaluate again", folder / PLAIN_TEXT)
        plain_text = read_json_lines(folder / PLAIN_TEXT)
    return Side(settings, tuple(tasks), plain_text)


def paired(base: Side, other: Side) -> Side:
    """The other side with its rows in the base's order.

    Raises:
        FlantuneError: Tasks, rows, prompts, decoding or another setting differ; the message names the first that does.
    """

    def refuse(what: str, ours: Any, theirs: Any) -> FlantuneError:
        told = f"{_short(ours)} and {_short(theirs)}" if _short(ours) != _short(theirs) else "beyond their beginning"
        return FlantuneError(
            f"{base.name} and {other.name} cannot be compared: {what} differs ({told}); evaluate both on the rows of "
            "one recipe with --recipe"
        )

    for key in ALIKE:
        if base.settings.get(key) != other.settings.get(key):
            raise refuse(f'"{key}"', base.settings.get(key), other.settings.get(key))
    names = [[it.task for it in side.tasks] for side in (base, other)]
    if set(names[0]) != set(names[1]):
        raise refuse('"tasks"', *(", ".join(each) for each in names))
    tasks = []
    for ours, theirs in zip(base.tasks, other.only(names[0]).tasks, strict=True):
        for key in sorted(ours.decoding.keys() | theirs.decoding.keys()):
            if ours.decoding.get(key) != theirs.decoding.get(key):
                raise refuse(f'"decoding.{key}" of task {ours.task}', ours.decoding.get(key), theirs.decoding.get(key))
        if ours.metrics != theirs.metrics:
            raise refuse(f'"metrics" of task {ours.task}', ", ".join(ours.metrics), ", ".join(theirs.metrics))
        for name, said in ours.told.items():
            if (other_said := theirs.told.get(name)) != said:
                raise refuse(f'metric "{name}" of task {ours.task}', *map(_as_text, (said, other_said)))
        tasks.append(replace(theirs, rows=_in_order(ours, theirs, refuse)))
    return Side(other.settings, tuple(tasks), other.plain_text)


def _in_order(ours: TaskAnswers, theirs: TaskAnswers, refuse: Any) -> list[Prediction]:
    """Rows of one task joined by what they ask, never by position."""
    counts = [Counter(str(row["row"]) for row in side.rows) for side in (ours, theirs)]
    if counts[0] != counts[1]:
        odd = next(iter((counts[0] - counts[1]) + (counts[1] - counts[0])))
        raise refuse(f'"rows" of task {ours.task}', *(f"row {odd} {count[odd]} times" for count in counts))
    waiting: dict[str, list[Prediction]] = {}
    for row in theirs.rows:
        waiting.setdefault(str(row["row"]), []).append(row)
    ordered = []
    for row in ours.rows:
        found = waiting[str(row["row"])]
        # The first that asks the same; else the first, whose difference is told.
        other = next((each for each in found if all(each.get(key) == row.get(key) for key in ROW)), found[0])
        for key in ROW:
            if row.get(key) != other.get(key):
                raise refuse(f'"{key}" of row {row["row"]} of task {ours.task}', row.get(key), other.get(key))
        tokens = [row.get("measured", {}).get("perplexity", [0, 0])[1] for row in (row, other)]
        if tokens[0] != tokens[1]:  # of other tokens it is another measure
            raise refuse(f'"target tokens" (of perplexity) of row {row["row"]} of task {ours.task}', *tokens)
        found.remove(other)
        ordered.append(other)
    return ordered


def _as_text(told: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in (told or {}).items())


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
