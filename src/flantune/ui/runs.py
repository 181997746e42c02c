"""The runs in a folder, as far as the page may see them: only what was found by looking, never a path from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError
from flantune.reporting import charts
from flantune.reporting.formats import main_metrics
from flantune.reporting.html import model_name, read_json, read_json_lines
from flantune.reporting.verdict_view import headline

AT_WORK = 120.0  # seconds since the last line of the log within which a run counts as training
MOST_RUNS = 500


@dataclass
class Log:
    """`metrics.jsonl`, read on from where it was read last.

    Attributes:
        path: The file.
        lines: Its records, those that are steps and those that are not.
    """

    path: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    _offset: int = 0

    def read_on(self) -> bool:
        """Whether there is something new. A file that became shorter (a run was gone on with) is read anew."""
        try:
            size = self.path.stat().st_size
            if size < self._offset:
                self._offset = 0
                self.lines.clear()
            if size == self._offset:
                return False
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                whole = stream.read(size - self._offset).rpartition(b"\n")[0]  # the last line may be half written
        except OSError:
            return False
        if not whole:
            return False
        self._offset += len(whole) + 1
        self.lines += [record for line in whole.split(b"\n") if (record := _record(line)) is not None]
        return True

    def steps(self, most: int | None = None) -> list[dict[str, Any]]:
        """Records of steps, a step that was done again once; evenly fewer where there are more than `most`."""
        steps = list({line["step"]: line for line in self.lines if "step" in line and "loss" in line}.values())
        stride = -(-len(steps) // most) if most and steps else 1
        return steps if stride <= 1 else [*steps[:-1:stride], steps[-1]]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


@dataclass(frozen=True)
class Run:
    """A run's folder.

    Attributes:
        name: Its path below the folder of all runs.
        folder: Where it is.
    """

    name: str
    folder: Path

    def state(self) -> str:
        """One of compared, trained, training, stopped, begun."""
        if (self.folder / "comparison.json").exists():
            return "compared"
        if (self.folder / "model").is_dir():
            return "trained"
        log = self.folder / "metrics.jsonl"
        if not log.exists():
            return "begun"
        return "training" if time.time() - log.stat().st_mtime < AT_WORK else "stopped"

    def validations(self) -> list[dict[str, Any]]:
        """The records of `validation.jsonl`, which is written anew each time; none where it is damaged."""
        try:
            return read_json_lines(self.folder / "validation.jsonl")
        except (ValueError, OSError):
            return []

    def json(self, name: str) -> Any:
        """A JSON file of the run; None where there is none, or where it is damaged."""
        try:
            return read_json(self.folder / name)
        except (ValueError, OSError):
            return None


class Runs:
    """All runs of a folder.

    Args:
        folder: Holds runs, or folders of runs, or is a run itself.
    Raises:
        FlantuneError: No such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FlantuneError("no such folder; flantune quickstart makes a first run in runs/", folder)
        self.folder = folder.resolve()
        self._logs: dict[Path, Log] = {}

    def all(self) -> list[Run]:
        """Runs by name, the one that was changed last first; links that lead out of the folder are left out."""
        if (self.folder / "recipe.yaml").is_file():
            return [Run(self.folder.name, self.folder)]
        found = [path.parent for depth in ("*", "*/*") for path in sorted(self.folder.glob(f"{depth}/recipe.yaml"))]
        inside = [path for path in found if path.resolve().is_relative_to(self.folder)]
        runs = [Run(path.relative_to(self.folder).as_posix(), path) for path in inside]
        return sorted(runs, key=lambda run: (-_changed(run.folder), run.name))[:MOST_RUNS]

    def get(self, name: str) -> Run:
        """The run of a name.

        Raises:
            FlantuneError: No run of the folder is called so.
        """
        for run in self.all():
            if run.name == name:
                return run
        raise FlantuneError("there is no such run")

    def log(self, run: Run) -> Log:
        """The run's log, read up to now."""
        log = self._logs.setdefault(run.folder, Log(run.folder / "metrics.jsonl"))
        log.read_on()
        return log


def _changed(folder: Path) -> float:
    """When something of a run was last written."""
    names = ("recipe.yaml", "metrics.jsonl", "comparison.json", "report.html")
    return max((path.stat().st_mtime for name in names if (path := folder / name).exists()), default=0.0)


def summary(runs: Runs, run: Run) -> Mapping[str, Any]:
    """What the list of runs says of one."""
    plan, comparison, steps = run.json("plan.json") or {}, run.json("comparison.json"), runs.log(run).steps(300)
    losses: Sequence[Any] = [line["loss"] for line in steps]
    numbers = [line["step"] for line in steps]
    planned = plan.get("steps")
    done = numbers[-1] + 1 if numbers else 0
    span = (numbers[0], max(numbers[-1], (planned or 0) - 1)) if numbers else (0, 1)
    return {
        "name": run.name,
        "state": run.state(),
        "model": model_name({"model": plan["model"]}) if "model" in plan else None,
        "tasks": len(plan.get("tasks", ())),
        "steps": done,
        "planned": planned,
        "loss": losses[-1] if losses else None,
        "headline": headline(main_metrics(comparison)) if comparison and comparison.get("tasks") else None,
        "spark": charts.spark(numbers, losses, span) if len(numbers) > 1 else None,
        "changed": time.strftime("%Y-%m-%d %H:%M", time.localtime(_changed(run.folder))),
    }
