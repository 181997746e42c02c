"""Runs on one or several ranks that may be killed at a chosen moment: each rank is a fork of one warm process.

A fresh process takes ten seconds to import what a fork of a second has already. The ranks meet as those of torchrun
do, by the same variables of the environment, and the parent does what torchrun does when one dies: it ends the others.

    with Trials(cache) as trials:
        whole = trials.run(["recipe.yaml", "output=whole"])
        killed = trials.run(["recipe.yaml", "output=run"], kill=("save", 7))
        again = trials.run(resume="run", ranks=2)
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flantune.progress import Silent


@dataclass(frozen=True)
class Ended:
    """How a trial ended.

    Attributes:
        codes: Of each rank: 0, or the exit code, or minus the signal.
        text: What rank 0 printed.
        moments: How many there were of each kind on rank 0.
    """

    codes: list[int]
    text: str
    moments: dict[str, int]


class Trials:
    """The warm process.

    Args:
        cache: Its FLANTUNE_CACHE.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def __enter__(self) -> Trials:
        environment = {**os.environ, "FLANTUNE_CACHE": str(self._cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()

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
                it is written down, "end" after all; or "at" and the number of steps that the run has done so far.
            by: The signal.
            rank: Which rank.
        """
        asked = [arguments or [], resume and str(resume), ranks, machines, other or [], kill, by, rank]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


class Moments:
    """Counts the moments of a run, and sends a signal at one of them.

    What touches a file of the run's folder is a moment: opening, renaming, removing, making a folder.
    """

    def __init__(self, run: Path, kill: list[Any] | None, number: signal.Signals) -> None:
        self._run, self._kill, self._number = str(run), kill, number
        self.counts: Counter[str] = Counter()
        sys.addaudithook(self._audited)

    def of_steps(self, steps: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same steps; each is a moment when all that its driver does after it is done."""

        def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
            for result in steps(*arguments, **options):
                yield result
                self._passed("step")
                if self._kill is not None and self._kill == ["at", result.after.step]:
                    os.kill(os.getpid(), self._number)

        return counted

    def of_validations(self, measured: Callable[..., Any]) -> Callable[..., Any]:
        """The same validations; each is a moment before it begins."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._passed("validating")
            return measured(*arguments, **options)

        return counted

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = str(arguments[0]) if arguments else ""
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and path.startswith(self._run):
            parts = {
                "/checkpoints": "save",
                "/best": "validated",
                "/validation": "validated",
                "/.validation": "validated",
            }
            kind = next((kind for part, kind in parts.items() if part in path[len(self._run) :]), None)
            self._passed(kind or ("end" if "step" in self.counts and "metrics" not in path else "begin"))

    def _passed(self, kind: str) -> None:
        self.counts[kind] += 1
        if self._kill is not None and self._kill == [kind, self.counts[kind] - 1]:
            os.kill(os.getpid(), self._number)


class Spoken(Silent):
    """Prints news, for the parent."""

    def say(self, line: str) -> None:
        """A line of news."""
        print(line, flush=True)


def main() -> None:
    """Answers each line of standard input with how its trial ended."""
    import peft  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from flantune import pipeline, validation  # noqa: F401

    torch.set_num_threads(1)  # more would be lost in a fork
    for line in sys.stdin:
        print(json.dumps(_ended(*json.loads(line))), flush=True)


def _ended(
    arguments: list[str],
    resume: str | None,
    ranks: int,
    machines: int,
    other: list[str],
    kill: list[Any] | None,
    by: str,
    rank: int,
) -> dict[str, Any]:
    port = _free_port()
    told, tell = os.pipe()
    processes = []
    for number in range(ranks):
        process = os.fork()
        if process == 0:
            _be(number, ranks, machines, port, tell)
            given = arguments + (other if number == ranks - 1 else [])
            _train(given, resume, kill if number == rank else None, signal.Signals[by])
        processes.append(process)
    os.close(tell)
    codes = _waited(processes)
    with os.fdopen(told) as said:
        lines = said.read().splitlines()
    counts = [line.removeprefix("moments ") for line in lines if line.startswith("moments ")]
    text = "\n".join(line for line in lines if not line.startswith("moments "))
    return {"codes": codes, "text": text, "moments": json.loads(counts[0]) if counts else {}}


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


def _train(arguments: list[str], resume: str | None, kill: list[Any] | None, number: signal.Signals) -> None:
    """Trains and ends the process; never returns."""
    from flantune import pipeline, validation
    from flantune.cli.train import chosen_run
    from flantune.errors import FlantuneError
    from flantune.progress import Interrupted
    from flantune.run_folder import output_folder
    from flantune.training import loop
    from flantune.training.distributed import RankLost

    code = 1
    try:
        recipe, run = chosen_run(arguments[0] if arguments else None, arguments[1:], resume)
        moments = Moments(run or output_folder(recipe), kill, number)
        loop.train = moments.of_steps(loop.train)
        validation.measured = moments.of_validations(validation.measured)
        pipeline.train(recipe, resume=run, listener=Spoken())
        print(f"moments {json.dumps(moments.counts)}", flush=True)
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
