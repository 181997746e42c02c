"""What flantune reads from the environment, in one file."""

from __future__ import annotations

import os
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


def library_folders() -> dict[str, str]:
    """What the system needs to start this Python once more, nothing private: where its shared libraries lie."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}


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
