"""What flantune reads from the environment, in one file."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Where fetched and converted models lie: `FLANTUNE_CACHE`, else the user's cache. May not exist yet."""
    chosen = os.environ.get("FLANTUNE_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("flantune"))


def cache_limit() -> str:
    """How large the cache may become before the least recently used of it is removed: `FLANTUNE_CACHE_LIMIT`."""
    return os.environ.get("FLANTUNE_CACHE_LIMIT") or "20GB"


def environment_value(name: str) -> str | None:
    """What a variable holds that a task's file names as `${env:NAME}`; None where it is not set, or empty."""
    return os.environ.get(name) or None


def is_set(name: str) -> bool:
    """Whether a variable that another package reads (`WANDB_PROJECT`, say) is set, so that its value is to hold."""
    return bool(os.environ.get(name))


def library_folders() -> dict[str, str]:
    """What the system needs to start this Python once more, nothing private: where its shared libraries lie."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}


KEPT_KERNELS = "64"


def keep_few_kernels() -> None:
    """Has oneDNN, which computes matrix products on processors, keep those of few shapes; before it computes the first.

    It keeps a kernel for each of 1,024 shapes. In a stream nearly every micro-batch has a shape of its own, so that few
    are met again, and in the course of 100 steps they fill a gigabyte. What the user has set holds.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, KEPT_KERNELS)


KEPT_BYTES = 2**30
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_memory() -> None:
    """Has the C library keep memory that is free for the next tensor, instead of giving it back at once.

    What comes from the system anew is cleared page by page: in training much of what a step needs, and some hundred
    megabytes in every layer that reads prompts. What the user has set holds, and so does another allocator.
    """
    chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform == "linux" and not chosen and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        # Before 2.35 it takes 32 MiB at most; one limit alone would fix the other where it begins, at 128 KiB.
        if mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) or mallopt(M_MMAP_THRESHOLD, 2**25):
            mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def load_as_published() -> None:
    """Has transformers load what a repository on the hub holds, or nothing.

    Where it finds pickles alone it would ask a service to make safetensors of them, and load those from a proposed
    change that the repository's owner has never seen.
    """
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


def package_index() -> str:
    """Address of the Python package index that pip or uv is set to use here, without a final slash.

    pip itself knows more ways to set it (its configuration files); this is for when there is no pip.
    """
    for variable in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if address := os.environ.get(variable):
            # uv allows a name before the address: internal=https://...
            scheme = address.find("://")
            return address[address.rfind("=", 0, scheme) + 1 :].rstrip("/") if scheme >= 0 else address
    return "https://pypi.org/simple"


@dataclass(frozen=True)
class Launch:
    """This process among those that a launcher such as torchrun started together.

    Attributes:
        rank: From 0.
        count: Processes of the run.
        local_rank: From 0 on this machine.
        local_count: Processes of the run on this machine.
        address: Host and port where the processes meet.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int
    address: tuple[str, int]


def launch() -> Launch | None:
    """What a launcher says in `RANK`, `WORLD_SIZE`, ...; None where this process is alone."""
    if int(os.environ.get("WORLD_SIZE") or 1) == 1 or not {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return None
    local, on_machine = os.environ.get("LOCAL_RANK") or 0, os.environ.get("LOCAL_WORLD_SIZE") or 1
    return Launch(
        int(os.environ["RANK"]),
        int(os.environ["WORLD_SIZE"]),
        int(local),
        int(on_machine),
        (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])),
    )
