"""Orders that lie elsewhere: a shared disk, or any store that fsspec reaches (`s3://`, `gs://`, `memory://`, ...)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError
from flantune.files import disk_errors, file_digest
from flantune.mixture.shards import NAME


class Elsewhere:
    """A place where orders lie by their keys, as in the cache.

    Args:
        address: A folder, or what fsspec knows: `s3://bucket/orders`.
    Raises:
        FlantuneError: A protocol that fsspec does not know, or whose package is not installed.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        try:
            self._store, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise FlantuneError(f"cannot be used: {error}", address) from None
        self.address = address
        self._names: dict[str, dict[int, str]] = {}

    def windows(self, key: str) -> dict[int, str]:
        """Names of the files of an order's windows, by window.

        Raises:
            FlantuneError: The place cannot be read.
        """
        with self._told(), contextlib.suppress(FileNotFoundError):
            self._store.invalidate_cache()
            names = [path.rsplit("/", 1)[-1] for path in self._store.ls(f"{self._root}/{key}", detail=False)]
            return {int(found[1]): found[0] for found in map(NAME.fullmatch, sorted(names)) if found}
        return {}

    def fetch(self, key: str, number: int, folder: Path) -> Path | None:
        """Copies a window's file into a folder; None where there is none that is whole.

        Raises:
            FlantuneError: The place cannot be read, or the folder not written.
        """
        if key not in self._names:
            self._names[key] = self.windows(key)
        name = self._names[key].pop(number, None)  # a second try would fetch the same bytes
        if name is None:
            return None
        aside = folder / f".{name}"
        with self._told(), disk_errors(folder):
            self._store.get_file(f"{self._root}/{key}/{name}", str(aside))
        if not name.endswith(f"-{file_digest(aside)[:32]}.arrow"):
            aside.unlink()
            return None
        return aside.rename(folder / name)

    def put(self, key: str, path: Path) -> None:
        """Copies a window's file there. One that was copied in part is told from a whole one by its name.

        Raises:
            FlantuneError: The place cannot be written.
        """
        with self._told():
            self._store.makedirs(f"{self._root}/{key}", exist_ok=True)
            self._store.put_file(str(path), f"{self._root}/{key}/{path.name}")

    @contextlib.contextmanager
    def _told(self) -> Any:
        """Turns what a store raises into one line; its libraries have errors of their own making."""
        try:
            yield
        except (FlantuneError, FileNotFoundError):
            raise
        except Exception as error:
            raise FlantuneError(f"cannot be reached: {error}", self.address) from error
