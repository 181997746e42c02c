"""Runs on one or several ranks that may be killed at a chosen moment: each rank is a fork of one warm process.

A fresh process takes ten seconds to import what a fork of a second has already. The ranks meet as those of torchrun
do, by the same variables of the environment, and the parent does what torchrun does when one dies: it ends the others.

    with Trials(cache) as trials:
        whole = trials.run(["recipe.yaml", "output=whole"])
        killed = trials.run(["recipe.yaml", "output=run"], kill=("save", 7))
        again = trials.run(resume="run", ranks=2)

What the first trial had to import is imported before the next one, so that later ones begin at once.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import system_calls
from flantune.progress import Silent
from warm import renew_threads


@dataclass(frozen=True)
class Ended:
    """How a trial ended.

    Attributes:
        codes: Of each rank: 0, or the exit code, or minus the signal.
        text: What rank 0 printed.
        moments: How many there were of each kind on rank 0.
        calls: Names of the system calls that might have met a fault.
    """

    codes: list[int]
    text: str
    moments: dict[str, int]
    calls: list[str]


class Trials:
    """The warm process.

    Args:
        cache: Its FLANTUNE_CACHE.
        faults: Whether system calls may fail; this needs a C compiler.
    """

    def __init__(self, cache: Path, *, faults: bool = False) -> None:
        self._cache, self._faults = cache, faults
        self._log = cache.with_name("system_calls.log")

    def __enter__(self) -> Trials:
        environment = {**os.environ, "FLANTUNE_CACHE": str(self._cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        if self._faults:
            environment["LD_PRELOAD"] = str(system_calls.built(self._cache.parent))
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()

    def forget_answers(self) -> None:
        """The next comparison asks its models afresh."""
        shutil.rmtree(self._cache / "predictions", ignore_errors=True)

    def run(
        self,
        arguments: list[str] | None = None,
        *,
        resume: Path | str | None = None,
        ranks: int = 1,
        machines: int = 1,
        other: list[str] | None = None,
        kill: tuple[str, int] | None = None,
        by: str = "SIGKILL",
        rank: int = 0,
        compare: bool = False,
        fault: tuple[str, str, int] | None = None,
    ) -> Ended:
        """Trains, or goes on.

        Args:
            arguments: A recipe and overrides; with `resume`, overrides alone.
            resume: The run to go on with, or "auto".
            ranks: How many processes.
            machines: On how many machines the ranks are, each with a cache of its own.
            other: Further arguments of the last rank.
            kill: Kind and number, from 0, of the moment of a rank at which it sends itself a signal: "begin" before its
                first step, "step" after one, "save" in a checkpoint, "validating" before a validation, "validated" as
                it is written down, "evaluation" in the comparison, "order" as a window is written, "end" after all; or
                "at" and the number of steps that the run has done so far.
            by: The signal, or several.
            rank: Which rank.
            compare: Whether base and tuned model are compared afterwards.
            fault: A folder inside the run's, one of `system_calls.FAULTS`, and the number, from 0, of the call in that
                folder at which the rank meets it.
        """
        self._log.unlink(missing_ok=True)
        asked: dict[str, Any] = {
            **{"arguments": arguments or [], "resume": resume and str(resume), "ranks": ranks, "machines": machines},
            **{"other": other or [], "kill": kill, "by": by, "rank": rank, "compare": compare, "fault": fault},
            "log": str(self._log),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        ended = json.loads(self._process.stdout.readline())
        return Ended(**ended, calls=self._log.read_text().split() if fault is not None else [])


class Moments:
    """Counts the moments of a run, and sends a signal at one of them.

    What touches a file of the run's folder is a moment: opening, renaming, removing, making a folder.
    """

    def __init__(self, run: Path, kill: list[Any] | None, numbers: list[signal.Signals]) -> None:
        self._run, self._kill, self._numbers = str(run), kill, numbers
        self.counts: Counter[str] = Counter()
        sys.addaudithook(self._audited)

    def of_steps(self, steps: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same steps; each is a moment when all that its driver does after it is done."""

        def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
            for result in steps(*arguments, **options):
                yield result
                self._passed("step")
                if self._kill is not None and self._kill == ["at", result.after.step]:
                    self._send()

        return counted

    def of_validations(self, measured: Callable[..., Any]) -> Callable[..., Any]:
        """The same validations; each is a moment before it begins."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._passed("validating")
            return measured(*arguments, **options)

        return counted

    def of_evaluation(self) -> None:
        """Some rows of an evaluation are done."""
        self._passed("evaluation")

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = str(arguments[0]) if arguments else ""
        if event == "open" and "/.window-" in path:
            self._passed("order")
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and path.startswith(self._run):
            parts = {
                "/checkpoints": "save",
                "/best": "validated",
                "/validation": "validated",
                "/.validation": "validated",
                "/evaluation": "evaluation",
            }
            kind = next((kind for part, kind in parts.items() if part in path[len(self._run) :]), None)
            self._passed(kind or ("end" if "step" in self.counts and "metrics" not in path else "begin"))

    def _send(self) -> None:
        for number in self._numbers:
            os.kill(os.getpid(), number)

    def _passed(self, kind: str) -> None:
        self.counts[kind] += 1
        if self._kill is not None and self._kill == [kind, self.counts[kind] - 1]:
            self._send()


class Spoken(Silent):
    """Prints news, for the parent, and tells of what is evaluated."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._evaluating = False

    def say(self, line: str) -> None:
        """A line of news."""
        print(line, flush=True)

    def phase(self, title: str, total: int, done: int = 0) -> None:
        """A phase begins."""
        self._evaluating = title.startswith("evaluating")

    def advance(self, units: int, note: str = "") -> None:
        """Units of the phase are done."""
        if self._evaluating:
            self._moments.of_evaluation()


def main() -> None:
    """Answers each line of standard input with how its trial ended."""
    import peft  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from flantune import pipeline, validation  # noqa: F401

    torch.set_num_threads(1)  # more would be lost in a fork
    for line in sys.stdin:
        print(json.dumps(_ended(json.loads(line))), flush=True)


def _ended(asked: dict[str, Any]) -> dict[str, Any]:
    port = _free_port()
    told, tell = os.pipe()
    processes = []
    for number in range(asked["ranks"]):
        process = os.fork()
        if process == 0:
            renew_threads()
            _be(number, asked["ranks"], asked["machines"], port, tell)
            if number == asked["ranks"] - 1:
                asked["arguments"] += asked["other"]
            if number != asked["rank"]:
                asked |= {"kill": None, "fault": None}
            _train(asked)
        processes.append(process)
    os.close(tell)
    codes = _waited(processes)
    with os.fdopen(told) as said:
        lines = said.read().splitlines()
    counts = {"moments": {}, "modules": []}
    with contextlib.suppress(FileNotFoundError):  # it was killed
        counts = json.loads(_summary(asked).read_text())
        _summary(asked).unlink()
    for name in counts["modules"]:
        with contextlib.suppress(Exception):  # made while something ran, and no module of a file
            importlib.import_module(name)
    return {"codes": codes, "text": "\n".join(lines), "moments": counts["moments"]}


def _summary(asked: dict[str, Any]) -> Path:
    """Where rank 0 says what it passed and what it imported; a pipe would not hold it."""
    return Path(asked["log"]).with_suffix(".summary")


def _be(number: int, ranks: int, machines: int, port: int, tell: int) -> None:
    """What a launcher tells a rank; only rank 0 is heard."""
    on_machine = ranks // machines
    if ranks > 1:
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number % on_machine), "WORLD_SIZE": str(ranks)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(on_machine)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if machines > 1:
        os.environ["FLANTUNE_CACHE"] += f"-{number // on_machine}"
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(tell if number == 0 else quiet, 1)
    os.dup2(tell if number == 0 else quiet, 2)


def _train(asked: dict[str, Any]) -> None:
    """Trains and ends the process; never returns."""
    from flantune import pipeline, validation
    from flantune.cli.train import chosen_run
    from flantune.errors import FlantuneError
    from flantune.progress import Interrupted
    from flantune.run_folder import output_folder
    from flantune.training import loop
    from flantune.training.distributed import RankLost

    code, arguments, before = 1, asked["arguments"], set(sys.modules)
    try:
        recipe, begun = chosen_run(arguments[0] if arguments else None, arguments[1:], asked["resume"])
        run = begun or output_folder(recipe)
        moments = Moments(run, asked["kill"], [signal.Signals[name] for name in asked["by"].split()])
        loop.train = moments.of_steps(loop.train)
        validation.measured = moments.of_validations(validation.measured)
        with _faults(run, asked["fault"], Path(asked["log"])):
            pipeline.train(recipe, resume=begun, listener=Spoken(moments))
            if asked["compare"] and os.environ.get("RANK", "0") == "0":
                pipeline.compare(run, listener=Spoken(moments))
        if os.environ.get("RANK", "0") == "0":
            summary = {"moments": moments.counts, "modules": sorted(set(sys.modules) - before)}
            _summary(asked).write_text(json.dumps(summary))
        code = 0
    except FlantuneError as error:
        print(f"error: {error}", flush=True)
        code = 2
    except (Interrupted, RankLost) as stopped:
        print(stopped, flush=True)
        code = stopped.exit_code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        os._exit(code)


def _faults(run: Path, fault: list[Any] | None, log: Path) -> contextlib.AbstractContextManager[None]:
    if fault is None:
        return contextlib.nullcontext()
    folder, name, at = fault
    return system_calls.armed(run / folder, name, at, log)


def _waited(processes: list[int]) -> list[int]:
    """Exit codes; when one process fails, the others are killed."""
    codes: dict[int, int] = {}
    while len(codes) < len(processes):
        process, status = os.wait()
        codes[process] = os.waitstatus_to_exitcode(status)
        if codes[process] < 0:
            for other in processes:
                if other not in codes:
                    os.kill(other, signal.SIGKILL)
    return [codes[process] for process in processes]


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    main()
