"""A real `flantune ui` in a process of its own, and runs for it that cost no training."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flantune.recipe import Recipe
from flantune.run_folder import write_recipe as keep_recipe
from runs import write_recipe


@dataclass
class Server:
    """A server that listens.

    Attributes:
        process: Its process.
        address: What it printed: the address to open, with its token.
    """

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    @property
    def token(self) -> str:
        return self.address.rpartition("/")[2]

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of a request as the page itself would send it; None leaves a header out."""
        sent: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "Cookie": f"flantune-{self.port}={self.token}",
        }
        if method == "POST":
            sent |= {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
            sent["Content-Length"] = str(len(body or b""))
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def json(self, path: str, value: object, **headers: str | None) -> tuple[int, object]:
        """Status and content of the answer to a POST of JSON."""
        status, _, text = self.ask(path, "POST", json.dumps(value).encode(), Accept="application/json", **headers)
        return status, json.loads(text)


@contextmanager
def serving(folder: Path, cache: Path) -> Iterator[Server]:
    """Serves a folder of runs until the end of the block."""
    environment = {**os.environ, "FLANTUNE_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "flantune", "ui", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        address = process.stdout.readline().strip()
        assert address, process.stderr.read()
        yield Server(process, address)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()


def trained_run(folder: Path, data: Path) -> Path:
    """A run whose tuned model is the base model: its tasks, its recipe, its model."""
    recipe = Recipe.load(write_recipe(data))
    folder.mkdir(parents=True)
    keep_recipe(folder, recipe)
    shutil.copytree(data / "tiny", folder / "model")
    return folder
