"""Trackers of experiments that a recipe names: each through its own package, none of which is needed to train.

What is told is numbers by step, and the recipe without its `variables`; nothing of the environment, of the machine or
of the code. A tracker that fails is told of once, and the run goes on without it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flantune.errors import FlantuneError
from flantune.files import write_json
from flantune.recipe import Recipe
from flantune.run_folder import read_json
from flantune.settings import is_set

PROJECT = "flantune"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}


def check_loggers(recipe: Recipe) -> None:
    """Whether the packages of a recipe's loggers are installed; none is imported.

    Raises:
        FlantuneError: One is not.
    """
    for number, name in enumerate(recipe.loggers):
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise FlantuneError(
                f"the logger {name} needs its package; pip install 'flantune[{name}]'", recipe.place("loggers", number)
            )


@dataclass(frozen=True)
class Logged:
    """A run as a tracker is told of it.

    Attributes:
        run: The run's folder.
        known: How the tracker calls the run; None for a run that it does not know yet.
        start: Steps done when the run goes on; 0 for a new one.
        recipe: By key, without `variables`.
    """

    run: Path
    known: str | None
    start: int
    recipe: Mapping[str, Any]


class Tracker(Protocol):
    """One tracker's side of a run.

    Attributes:
        name_there: How it calls the run.
        told: The last step that it has the numbers of; those up to there are not told again.
        validated: The same of validations.
    """

    name_there: str
    told: int
    validated: int

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after a step."""

    def close(self) -> None:
        """The run ended here, though it may go on later."""


class TensorBoard:
    """Event files in `RUN/tensorboard`; what was written after the step that a run goes on from is purged when read."""

    def __init__(self, logged: Logged) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.name_there, self.told, self.validated = "tensorboard", logged.start, logged.start
        purge = {"purge_step": logged.start + 1} if logged.known is not None else {}
        self._writer = SummaryWriter(str(logged.run / "tensorboard"), **purge)
        if logged.known is None:
            text = "\n".join(f"    {key}: {value}" for key, value in logged.recipe.items())
            self._writer.add_text("recipe", text)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class WandB:
    """Weights & Biases; where to and whether at all over the network is for its own settings (`WANDB_MODE`).

    Offline, what a killed process had not yet written is lost, and no run can be gone on with. So a run that goes on is
    told of from its beginning, in a folder that takes the place of the one before.
    """

    def __init__(self, logged: Logged) -> None:
        import wandb

        self.name_there = logged.known or uuid.uuid4().hex[:12]
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )
        self._run = wandb.init(
            id=self.name_there,
            name=logged.run.name,
            dir=str(logged.run),
            resume="allow",
            config=dict(logged.recipe),
            settings=settings,
            project=None if is_set("WANDB_PROJECT") else PROJECT,
        )
        self.told = self.validated = max(0, self._run.starting_step - 1)
        for folder in (logged.run / "wandb").glob(f"offline-run-*-{self.name_there}"):
            if folder.name not in Path(self._run.dir).parts:
                shutil.rmtree(folder)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Waits until all is written or sent."""
        self._run.finish()


class MLflow:
    """MLflow: at `MLFLOW_TRACKING_URI`, else in the database `RUN/mlflow.db`, as `mlflow ui` reads it."""

    def __init__(self, logged: Logged) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        at = None if is_set("MLFLOW_TRACKING_URI") else f"sqlite:///{(logged.run / 'mlflow.db').absolute()}"
        self._client = MlflowClient(at)
        if logged.known is None:
            artifacts = None if at is None else (logged.run / "mlflow").absolute().as_uri()
            found = self._client.get_experiment_by_name(PROJECT)
            experiment = found.experiment_id if found else self._client.create_experiment(PROJECT, artifacts)
            self.name_there = self._client.create_run(experiment, run_name=logged.run.name).info.run_id
            params = [Param(key, str(value)[:500]) for key, value in logged.recipe.items()]
            for first in range(0, len(params), 100):  # its limit for one call
                self._client.log_batch(self.name_there, params=params[first : first + 100])
        else:
            self.name_there = logged.known
            self._client.set_terminated(self.name_there, "RUNNING")
        self.told, self.validated = (self._last(name) for name in ("train/loss", "eval/loss"))

    def _last(self, name: str) -> int:
        history = self._client.get_metric_history(self.name_there, name)
        return max((metric.step for metric in history), default=0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_allowed(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self.name_there, metrics=metrics)

    def close(self) -> None:
        """Marks the run as ended."""
        self._client.set_terminated(self.name_there)


def _allowed(name: str) -> str:
    """A name with only what MLflow allows in one."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


class Trackio:
    """Trackio: a local database (`TRACKIO_DIR`, else its usual place), as `trackio show` reads it."""

    def __init__(self, logged: Logged) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        # Its runs are known by name, and other runs in folders of that name may be there.
        self.name_there = logged.known or f"{logged.run.name}-{uuid.uuid4().hex[:6]}"
        with _no_output():
            self._run = trackio.init(
                project=PROJECT,
                name=self.name_there,
                config=dict(logged.recipe),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        told = SQLiteStorage.get_logs(PROJECT, self.name_there) if logged.known is not None else []
        self.told, self.validated = (
            max((line["step"] for line in told if name in line), default=0) for name in ("train/loss", "eval/loss")
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Waits until all is written."""
        with _no_output():
            self._run.finish()


TRACKERS: dict[str, Callable[[Logged], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


class Loggers:
    """The trackers of one run.

    Args:
        run: The run's folder; `loggers.json` in it keeps how each tracker calls the run.
        recipe: Names them.
        start: Steps done when the run goes on.
        report: Told once of each that fails.
    """

    def __init__(self, run: Path, recipe: Recipe, *, start: int, report: Callable[[str], None]) -> None:
        self._report = report
        self._trackers: dict[str, Tracker] = {}
        known = read_json(run / "loggers.json") or {}
        config = dict(_flat(recipe.model_dump(mode="json", exclude={"variables"}, exclude_none=True)))
        for name in recipe.loggers:
            with self._guarded(name):
                self._trackers[name] = TRACKERS[name](Logged(run, known.get(name), start, config))
        if self._trackers:
            names = {name: tracker.name_there for name, tracker in self._trackers.items()}
            write_json(run / "loggers.json", {**known, **names})

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of training after a step, to all who have not been told of it."""
        for name, tracker in list(self._trackers.items()):
            if step > tracker.told:
                with self._guarded(name):
                    tracker.log(step, values)

    def validated(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a validation, to all who have not been told of it."""
        for name, tracker in list(self._trackers.items()):
            if step > tracker.validated:
                with self._guarded(name):
                    tracker.log(step, values)

    def close(self) -> None:
        """Ends all."""
        for name, tracker in list(self._trackers.items()):
            with self._guarded(name):
                tracker.close()

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """What a tracker raises or warns of is one line, and the end of that tracker."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the packages' own, about each other's versions
                yield
        except Exception as error:
            self._trackers.pop(name, None)
            told = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            self._report(f"warning: the logger {name} fails and is left out from here on: {told[:200]}")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings and lists, by dotted key."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield name, value
        return
    for key, each in inside:
        yield from _flat(each, f"{name}.{key}" if name else str(key))


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    """Standard output is for results; some packages print to it."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
