"""How much memory a process has had."""

import subprocess
import sys

FAT = """
import subprocess, sys
held = b"x" * 400_000_000
print(subprocess.check_output([sys.executable, "-c", "from flantune.memory import peak_memory; print(peak_memory())"],
                              text=True))
"""


def test_a_small_process_does_not_inherit_the_peak_of_the_large_one_that_started_it():
    peak = int(subprocess.run([sys.executable, "-c", FAT], capture_output=True, text=True, check=True).stdout)
    assert 5e6 < peak < 200e6
