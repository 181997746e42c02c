"""A study: several runs of one recipe, each in a process of its own, compared on the same rows. Effects live here."""

from __future__ import annotations

import dataclasses
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from flantune.assessment import resampling
from flantune.errors import FlantuneError
from flantune.files import digest, read_json_lines, write_json
from flantune.progress import Listener, Silent, stop_signals
from flantune.recipe import Recipe
from flantune.run_folder import read_json, write_recipe
from flantune.study_plan import StudyRun

Kind = Literal["methods", "transfer", "data", "seeds"]
SECONDS_TO_SAVE = 60  # that a process has to save what it did when its time is over


def study(
    kind: Kind,
    recipe: Recipe,
    out: Path,
    runs: Sequence[StudyRun],
    *,
    draws: int,
    minutes: float | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Does the runs of a study, or the rest of them, and writes `study.json`, `results.json` and `report.html`.

    Args:
        kind: What is studied.
        recipe: What all runs have in common; all are evaluated on its rows.
        out: The study's folder; where it was begun, it is gone on with.
        runs: What it consists of: see `study_plan`.
        draws: Examples that each run is trained on.
        minutes: When the study stops, from now; what is missing then is named.
        listener: Who is told how far it is.
    Returns:
        The content of `results.json`.
    Raises:
        FlantuneError: A mistake in the recipe, another study in the folder, or a run that failed.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came; the run in progress saved what it did.
    """
    from flantune.evaluation.records import read_side
    from flantune.reporting.study_page import write_study_report
    from flantune.study_curves import data_result
    from flantune.study_results import methods_result, transfer_result
    from flantune.study_seeds import seeds_result

    listener = listener or Silent()
    result = {"methods": methods_result, "transfer": transfer_result, "data": data_result, "seeds": seeds_result}[kind]
    _begin(kind, recipe, out, draws, runs)
    with stop_signals(out, remedy="the same command goes on"), _alone(out, listener) as lock:
        processes = _Processes(out, lock, time.monotonic() + 60 * minutes if minutes is not None else None)
        missing = _run_all(runs, recipe, processes, listener)
    made: dict[str, Any] = {"kind": kind, "draws": draws, "missing": missing, "runs": [_told(out, run) for run in runs]}
    if "base" not in missing:
        base = read_side(out / "evaluation" / "base")
        sides = {run.name: read_side(out / "evaluation" / run.name) for run in runs if run.name not in missing}
        made |= result(base, sides, runs, resampling(base.settings))
    write_json(out / "results.json", made)
    write_study_report(out, made)
    return made


def _begin(kind: Kind, recipe: Recipe, out: Path, draws: int, runs: Sequence[StudyRun]) -> None:
    """The plan in the folder, which must be the one that is there already.

    Raises:
        FlantuneError: Another study, or something else, is there.
    """
    values = recipe.model_dump(mode="json", exclude={"output"})
    plan = {"kind": kind, "draws": draws, "recipe": values, "runs": [dataclasses.asdict(run) for run in runs]}
    there = read_json(out / "study.json")
    if there is None:
        if out.exists() and any(out.iterdir()):
            raise FlantuneError("the folder holds something else; choose another with --out", out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "study.json", plan)
    elif digest(there) != digest(plan):
        raise FlantuneError("another study was begun here; choose another folder with --out", out)
    write_recipe(out, recipe)


@contextmanager
def _alone(out: Path, listener: Listener) -> Iterator[int]:
    """A lock that the study's processes hold too: one that outlived a killed study is waited for."""
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            listener.say(f"waiting for a process that still works in {out}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _run_all(runs: Sequence[StudyRun], recipe: Recipe, processes: _Processes, listener: Listener) -> list[str]:
    """Trains and evaluates what is not there yet; names of what is missing when the time is over, the base's too."""
    listener.phase("study", len(runs) + 1)
    based = processes.evaluated("base", recipe.model.name)
    listener.advance(1, "base")
    missing = [] if based else ["base"]
    for run in runs:
        model = processes.out / "runs" / run.name / "model"
        if not (processes.trained(run) and processes.evaluated(run.name, str(model))):
            missing.append(run.name)
        listener.advance(1, run.name)
    return missing


@dataclasses.dataclass(frozen=True)
class _Processes:
    """Commands of flantune for one study, each in a process of its own.

    Attributes:
        out: The study's folder.
        lock: Descriptor of its lock.
        deadline: When they stop, by time.monotonic().
    """

    out: Path
    lock: int
    deadline: float | None

    def trained(self, run: StudyRun) -> bool:
        """Whether a run's model is there, made now or before."""
        folder = self.out / "runs" / run.name
        if (folder / "model").exists():
            return True
        arguments = ["train", str(self.out / "recipe.yaml"), *run.overrides, f"output={folder.resolve()}"]
        return self._ran([*arguments, "--resume", "auto", "--no-compare"], run.name)

    def evaluated(self, name: str, model: str) -> bool:
        """Whether a model's answers are there, made now or before; the settings are written last."""
        folder = self.out / "evaluation" / name
        if (folder / "settings.json").exists():
            return True
        return self._ran(["evaluate", str(self.out / "recipe.yaml"), model, "--out", str(folder)], name)

    def _ran(self, arguments: Sequence[str], name: str) -> bool:
        """Whether a command came to its end before the time was over.

        Raises:
            FlantuneError: It failed; its last line says why.
        """
        left = None if self.deadline is None else self.deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        log = self.out / f"{name}.log"
        with log.open("a", encoding="utf-8") as told:
            command = [sys.executable, "-m", "flantune", *arguments]
            process = subprocess.Popen(command, stdout=told, stderr=told, pass_fds=[self.lock])
            try:
                code = process.wait(left)
            except subprocess.TimeoutExpired:
                _stop(process)
                return False
            except BaseException:
                _stop(process)
                raise
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise FlantuneError(f"{arguments[0]} ended with exit code {code}: {lines[-1] if lines else 'no word'}", log)
        return True


def _stop(process: subprocess.Popen[Any]) -> None:
    """Has a process save what it did."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(SECONDS_TO_SAVE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _told(out: Path, run: StudyRun) -> dict[str, Any]:
    """What a run cost: seconds in steps, peak memory in GiB, bytes of what was saved; None where it is not there."""
    folder = out / "runs" / run.name
    trained = (folder / "model").exists()
    lines = read_json_lines(folder / "metrics.jsonl") if trained else []
    saved = sum(path.stat().st_size for path in (folder / "model").rglob("*.safetensors")) if trained else None
    return {
        "name": run.name,
        "tasks": list(run.tasks),
        "rows": list(run.rows),
        "seconds": sum(line["seconds"] for line in lines) if trained else None,
        "memory_gb": max(line["memory_gb"] for line in lines) if trained and lines else None,
        "saved_bytes": saved,
    }
