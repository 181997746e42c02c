"""A real Chromium without a network, for the tests of pages; skipped where none is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_browser() -> Iterator[Any]:
    """A browser that is closed at the end of the block."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    found = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
    if found is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which(found), args=FLAGS)
        yield browser
        browser.close()


def violations(page: Any) -> list[tuple[str, str, str]]:
    """What axe-core finds wrong with a page for people who see, hear or point less well: impact, rule, element."""
    pytest.importorskip("axe_playwright_python", reason="the axe-playwright-python package is not installed")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [(rule["impact"], rule["id"], node["html"]) for rule in found["violations"] for node in rule["nodes"]]
