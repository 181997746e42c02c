"""How much memory this process has had, in bytes."""

import resource
import sys
from pathlib import Path


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes.

    Linux hands `ru_maxrss` down through exec: a small program that a large one starts begins with the large one's peak.
    The kernel's `VmHWM` belongs to the program alone, so it is asked first.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
