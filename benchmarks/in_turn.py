"""Sides of a benchmark, each a process of its own, one after the other; and the medians of what pairs of runs show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

OUTSIDE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
Result = dict[str, Any]


def alone(side: str, script: str, *arguments: str) -> Result:
    """What a side prints as the last line of its standard output, in JSON."""
    command = [sys.executable, script, *arguments, "--side", side]
    made = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **OUTSIDE})
    if made.returncode:
        sys.exit(f"{side} failed:\n{made.stderr[-4000:]}")
    return json.loads(made.stdout.splitlines()[-1])


def in_turn(sides: tuple[str, ...], pairs: int, run: Callable[[str], Result]) -> Iterator[tuple[int, str, Result]]:
    """Runs all sides so many times, every other time backwards; yields number of the pair, side, result."""
    for pair in range(pairs):
        for side in sides if pair % 2 == 0 else sides[::-1]:
            yield pair + 1, side, run(side)


def spread(values: list[float], form: str = ".2f") -> str:
    """The median and the range."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
