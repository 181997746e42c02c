"""Processes of minutes that begin with the first test and are waited for by the tests that need them.

The tests run one after another, most of them on one core. What is begun here has the lowest priority and its threads
do not spin while they wait for each other, so it takes what the tests leave, and is no load to those that watch
heartbeats or wait for a browser.

A test module that needs such a process has a function `begin_early(folder) -> Early`; the fixture `early` gives what
it returned. Nothing begins unless a test of the module was chosen, and one runs at a time, for the sake of memory.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Early:
    """A process of lowest priority; what it prints goes to files.

    Args:
        folder: Its own, for the test's use too.
        command: What it runs.
        environment: Its variables; how its threads wait is added.
    """

    def __init__(self, folder: Path, command: Sequence[object], environment: Mapping[str, str] = os.environ) -> None:
        self.folder = folder
        with self._path("stdout").open("wb") as out, self._path("stderr").open("wb") as err:
            self._process = subprocess.Popen(
                ["nice", "-n", "19", "flock", str(folder.parent / "early.lock"), *map(str, command)],
                cwd=folder,
                env={**environment, "OMP_WAIT_POLICY": "PASSIVE"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def _path(self, stream: str) -> Path:
        return self.folder / f"early.{stream}"

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Waits for its end."""
        code = self._process.wait()
        out, err = (self._path(stream).read_text(encoding="utf-8") for stream in ("stdout", "stderr"))
        return subprocess.CompletedProcess(self._process.args, code, out, err)

    def stop(self) -> None:
        """Ends it and what it started, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
