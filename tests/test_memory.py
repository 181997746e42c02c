"""How much memory a process has had."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAT = """
import subprocess, sys
held = b"x" * 400_000_000
print(subprocess.check_output([sys.executable, "-c", "from flantune.memory import peak_memory; print(peak_memory())"],
                              text=True))
"""


def test_a_small_process_does_not_inherit_the_peak_of_the_large_one_that_started_it():
    peak = int(subprocess.run([sys.executable, "-c", FAT], capture_output=True, text=True, check=True).stdout)
    assert 5e6 < peak < 200e6


WITH_MANY_SHAPES = """
import sys
from flantune.memory import peak_memory
from flantune.settings import keep_few_kernels
if sys.argv[1] == "few":
    keep_few_kernels()
import torch
weight = torch.randn(512, 512, dtype=torch.bfloat16)
def grown(shapes):
    before = peak_memory()
    for rows in shapes:
        torch.nn.functional.linear(torch.zeros(rows, 512, dtype=torch.bfloat16), weight)
    return peak_memory() - before
grown(range(600, 610))
print(grown(range(1, 500)))
"""


def test_streams_of_ever_new_lengths_do_not_fill_the_memory_with_kernels():
    pytest.importorskip("torch")
    if "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no bfloat16 kernels are made for this processor")
    # A test before this one may have loaded a model, which sets oneDNN's limit for this process and its children.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_CACHE_CAPACITY")}
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", WITH_MANY_SHAPES, which], env=environment, capture_output=True, check=True
            ).stdout
        )
        for which in ("few", "all")
    )
    assert few < many / 2


OVER_AND_OVER = """
import resource, sys
from flantune.settings import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
import torch
def use():
    held = [torch.ones(10_000_000) for _ in range(5)]
def cleared():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):  # until each block has its place
    use()
before = cleared()
for _ in range(10):
    use()
print(cleared() - before)
"""


def test_memory_that_was_used_is_used_again_unless_the_user_has_chosen_otherwise():
    pytest.importorskip("torch")
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split("."))) < (2, 35):
        pytest.skip("another C library than GNU's, or one that takes 32 MiB at most")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    kept, given_back, chosen = (
        int(
            subprocess.run(
                [sys.executable, "-c", OVER_AND_OVER, which], env=environment | more, capture_output=True, check=True
            ).stdout
        )
        for which, more in (("kept", {}), ("plain", {}), ("kept", {"MALLOC_TRIM_THRESHOLD_": "65536"}))
    )
    assert kept < given_back / 10
    assert kept < chosen / 10
