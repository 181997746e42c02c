"""What a run writes of its steps: `metrics.jsonl`, `trainer_state.json`, and the loggers that the recipe names."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.evaluation.validation_lines import Line
from flantune.files import disk_errors, write_text
from flantune.loggers import Loggers
from flantune.memory import peak_memory
from flantune.recipe import Recipe
from flantune.trainer_state import TrainerState, training_values, validation_values

if TYPE_CHECKING:
    from flantune.training.loop import StepResult

SECONDS_BETWEEN_STATES = 30.0  # a state holds the whole history, so it is not written after every step


class RunLog:
    """The log of one run, on its first rank.

    Args:
        run: The run's folder.
        recipe: The run's.
        steps: Of the whole run, as planned.
        start: Steps done. Lines of later ones are cut off, since these come again, and a torn last line too.
        validations: The lines of `validation.jsonl` up to there.
        report: Told once of a logger that fails.
    Attributes:
        lines: Of `metrics.jsonl` when the log begins.
    Raises:
        FlantuneError: The disk is full or cannot be written.
    """

    def __init__(
        self,
        run: Path,
        recipe: Recipe,
        *,
        steps: int,
        start: int,
        validations: Sequence[Line],
        report: Callable[[str], None],
    ) -> None:
        self._path = run / "metrics.jsonl"
        with disk_errors(self._path):
            there = self._path.read_text(encoding="utf-8").split("\n")[:-1] if self._path.exists() else []
            write_text(self._path, "".join(f"{line}\n" for line in there[:start]))
            self._file = self._path.open("a", encoding="utf-8")
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in there[:start]]
        self._state = TrainerState(run, recipe, steps)
        self._loggers = Loggers(run, recipe, start=start, report=report)
        by_step = {line["step"]: line for line in validations}
        for line in self.lines:
            self._tell(line)
            if line["step"] + 1 in by_step:
                self._tell_validation(by_step[line["step"] + 1])
        self._written = time.monotonic()

    def step(self, line: Mapping[str, Any]) -> None:
        """A line of `step_line`, when the step is done.

        Raises:
            FlantuneError: The disk is full or cannot be written.
        """
        with disk_errors(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self._tell(line)
        if time.monotonic() - self._written > SECONDS_BETWEEN_STATES:
            self.write_state()

    def validated(self, line: Line) -> None:
        """A line of `validation.jsonl`, when it is written."""
        self._tell_validation(line)
        self.write_state()

    def _tell(self, line: Mapping[str, Any]) -> None:
        self._state.add_step(line)
        self._loggers.step(line["step"] + 1, tagged({**training_values(line), **_of_machine(line)}))

    def _tell_validation(self, line: Line) -> None:
        self._state.add_validation(line)
        self._loggers.validated(line["step"], tagged(validation_values(line)))

    def write_state(self, *, done: bool = False) -> None:
        """Writes `trainer_state.json`; `done` when the model is about to appear."""
        self._state.write(done=done)
        self._written = time.monotonic()

    def close(self) -> None:
        """Ends the log, however the run ended."""
        self._file.close()
        self._loggers.close()


def step_line(result: StepResult, tasks: Sequence[str], *, epoch: float, flops: int) -> dict[str, Any]:
    """What `metrics.jsonl` says of a step.

    Args:
        result: The step.
        tasks: Names of the tasks by number.
        epoch: Passes over all training rows that are done, on average.
        flops: Useful floating point operations of the step.
    """
    return {
        "step": result.before.step,
        "rows": [result.before.row, result.after.row],
        "draws": result.after.draws,
        "epoch": epoch,
        "loss": result.loss,
        "loss_by_task": {tasks[task]: loss for task, loss in result.loss_by_task.items()},
        "tokens": result.tokens,
        "target_tokens": result.target_tokens,
        "learning_rate": result.learning_rate,
        "gradient_norm": result.gradient_norm,
        "seconds": result.seconds,
        "tokens_per_second": result.speed,
        "tflop": flops / 1e12,
        "memory_gb": peak_memory() / 2**30,
    }


def _of_machine(line: Mapping[str, Any]) -> dict[str, float]:
    """What a tracker is told besides: where the run is, how fast, and in how much memory."""
    speed = line["tflop"] / line["seconds"]
    return {name: line[name] for name in ("epoch", "tokens_per_second", "memory_gb")} | {"tflop_per_second": speed}


def tagged(values: Mapping[str, float]) -> dict[str, float]:
    """The values by the names that trackers group by: train/loss, train/loss/TASK, eval/average."""
    return {
        f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}": value
        for name, value in values.items()
    }


@contextlib.contextmanager
def ended(log: RunLog | None) -> Iterator[RunLog | None]:
    """Ends a log when the block ends, however that is, with the state as of then."""
    try:
        yield log
    finally:
        if log is not None:
            with contextlib.suppress(FlantuneError):  # a full disk may be what the run ends of; that is told already
                log.write_state()
            log.close()
