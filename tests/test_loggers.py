"""Trackers by their real packages, offline: what each wrote is read back with its own reader."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flantune import loggers
from flantune.errors import FlantuneError
from flantune.loggers import PACKAGES, Loggers, check_loggers
from flantune.recipe import load_recipe
from runs import write_recipe
from test_validation import with_validation_split
from trials import Trials

SECRET = "hunter2-and-a-half"
Points = list[tuple[int, float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("loggers")


@pytest.fixture(scope="module", autouse=True)
def _offline(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        patch.setenv("MY_API_TOKEN", SECRET)
        for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def recipe(folder):
    path = with_validation_split(write_recipe(folder))
    path.write_text(path.read_text().replace("training: {", "training: {loss: {per: example}, "))
    return str(path)


@pytest.fixture(scope="module")
def trials(folder, _offline):
    with Trials(folder / "cache") as made:
        yield made


# --- each package's own reader: points of a series, in the order in which they were written


def tensorboard_points(run: Path, name: str) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    return [(event.step, event.value) for event in read.Scalars(name)]


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of a run's file, which is a LevelDB log behind a header of seven bytes."""
    data, at, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the end of a block that no header fits into
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts = (b"" if kind in (1, 2) else parts) + data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts


def wandb_points(run: Path, name: str) -> Points:
    record: Any = importlib.import_module("wandb.proto.wandb_internal_pb2").Record

    found = []
    for path in sorted((run / "wandb").glob("offline-run-*/run-*.wandb")):
        for data in wandb_records(path):
            items = record.FromString(data).history.item
            values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            if name in values:
                found.append((values["_step"], values[name]))
    return found


def mlflow_points(run: Path, name: str) -> Points:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    (experiment,) = [it for it in client.search_experiments() if it.name == "flantune"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    return [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]


def trackio_points(run: Path, name: str) -> Points:
    from trackio.sqlite_storage import SQLiteStorage

    there = json.loads((run / "loggers.json").read_text())["trackio"]
    return [(line["step"], line[name]) for line in SQLiteStorage.get_logs("flantune", there) if name in line]


READERS: dict[str, Callable[[Path, str], Points]] = {
    "tensorboard": tensorboard_points,
    "wandb": wandb_points,
    "mlflow": mlflow_points,
    "trackio": trackio_points,
}


def installed(name: str):
    missing = importlib.util.find_spec(PACKAGES[name]) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"needs {PACKAGES[name]}"))


@pytest.mark.filterwarnings("ignore")  # the packages' own
@pytest.mark.parametrize("name", [installed(name) for name in READERS])
def test_a_run_that_was_killed_goes_on_in_the_same_logged_run_with_each_step_once(tmp_path, trials, recipe, name):
    run = tmp_path / "run"
    asked = [recipe, f"loggers=[{name}]", f"variables={{password: {SECRET}}}", "validation={every: 3, rows: 4}"]
    killed = trials.run([*asked, f"output={run}"], kill=("at", 5), by="SIGKILL")
    assert killed.codes == [-signal.SIGKILL], killed.text
    ended = trials.run(resume=run)
    assert ended.codes == [0], ended.text
    assert "warning" not in ended.text, ended.text
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = READERS[name](run, "train/loss")
    assert [step for step, _ in found] == [line["step"] + 1 for line in log]
    assert [loss for _, loss in found] == pytest.approx([line["loss"] for line in log], rel=1e-6)
    validated = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert READERS[name](run, "eval/words_rouge1") == [
        (line["step"], pytest.approx(line["scores"]["words"]["rouge1"], rel=1e-6)) for line in validated
    ]
    secret = SECRET.encode()
    written = [path for place in (run, tmp_path.parent / "trackio") for path in place.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert [path for path in written if secret in path.read_bytes() and path.name != "recipe.yaml"] == []


def test_a_logger_whose_package_is_missing_is_told_before_anything_is_done(recipe, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FlantuneError) as caught:
        check_loggers(load_recipe(recipe, ["loggers=[tensorboard, wandb]"]))
    assert str(caught.value).endswith("the logger tensorboard needs its package; pip install 'flantune[tensorboard]'")


class Failing:
    """A tracker whose server goes away after two steps."""

    def __init__(self, logged: loggers.Logged) -> None:
        self.name_there, self.told, self.validated, self.steps = "there", 0, 0, []

    def log(self, step: int, values: dict[str, float]) -> None:
        self.steps.append(step)
        if step > 2:
            raise ConnectionError("the server is gone\nand more of it")

    def close(self) -> None:
        self.steps.append(-1)


def test_a_logger_that_fails_is_told_of_once_and_left_out(tmp_path, recipe, monkeypatch):
    made = []
    monkeypatch.setitem(loggers.TRACKERS, "wandb", lambda logged: made.append(Failing(logged)) or made[0])
    told = []
    log = Loggers(tmp_path, load_recipe(recipe, ["loggers=[wandb]"]), start=0, report=told.append)
    for step in range(1, 6):
        log.step(step, {"train/loss": 1.0})
    log.close()
    assert made[0].steps == [1, 2, 3]
    assert told == ["warning: the logger wandb fails and is left out from here on: the server is gone"]


def test_a_logger_that_cannot_be_reached_does_not_keep_a_run_from_its_end(tmp_path, trials, recipe, monkeypatch):
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("needs tensorboard")
    run = tmp_path / "run"
    assert trials.run([recipe, f"output={run}", "loggers=[tensorboard]"], kill=("at", 3), by="SIGTERM").codes == [143]
    shutil.rmtree(run / "tensorboard")
    (run / "tensorboard").write_text("a file where a folder should be")
    ended = trials.run(resume=run)
    assert ended.codes == [0], ended.text
    assert ended.text.count("warning: the logger tensorboard fails and is left out from here on") == 1
