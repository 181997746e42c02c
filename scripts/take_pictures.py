"""Take the pictures of docs/ in a real browser: the report of a run, and the local page, on a wide and a narrow screen.

Usage: python scripts/take_pictures.py RUN [--out docs/pictures] [--task TASK]

RUN is a trained and compared run. The playground asks both of its models for real. Needs Chromium, and the extras `ui`
and `dev`.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from flantune.reporting import write_report
from flantune.settings import cache_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import open_browser
from ui_server import serving

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
WIDE, NARROW = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
LIMIT = 250_000  # bytes of a picture


def take(page: Any, path: Path) -> None:
    """Writes what stands on the screen, in 256 colors."""
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size / 1000:.0f} kB")
    assert size < LIMIT, path


def scroll(page: Any, place: str) -> None:
    """Brings an element to the top."""
    page.evaluate("place => document.querySelector(place).scrollIntoView({ behavior: 'instant' })", place)


def of_report(browser: Any, address: str, out: Path) -> None:
    """The report: its first screen, wide, dark and narrow, what was forgotten, and the answers side by side."""
    for name, size, scheme, place in (
        ("report-1440", WIDE, "light", "body"),
        ("report-1440-dark", WIDE, "dark", "body"),
        ("report-390", NARROW, "light", "body"),
        ("report-forgetting-1440", WIDE, "light", "#forgetting"),
        ("report-answers-1440", WIDE, "light", "#answers"),
    ):
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.goto(address)
        for _ in range(5):  # parts that come into sight get their height only then
            scroll(page, place)
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        take(page, out / f"{name}.png")
        page.close()


def of_page(browser: Any, run: Path, task: str, out: Path) -> None:
    """The local page: the run, its prompts, and both models asked about a row of the task."""
    with serving(run.parent, cache_folder()) as server:
        here = f"http://127.0.0.1:{server.port}"
        named = f"name={quote(run.name)}"
        for suffix, size in (("1440", WIDE), ("390", NARROW)):
            context = browser.new_context(viewport=size)
            page = context.new_page()
            page.goto(server.address)
            page.goto(f"{here}/run?{named}", wait_until="domcontentloaded")
            _taken(page, "#live svg", out / f"ui-run-{suffix}.png")
            page.goto(f"{here}/play?{named}", wait_until="domcontentloaded")
            page.locator("[name=task]").select_option(task)
            page.locator("#expected").wait_for()
            page.locator("[type=submit]").click()
            page.locator("[type=submit]:enabled").wait_for(timeout=180_000)
            assert page.locator("#said").text_content() == ""
            take(page, out / f"ui-play-{suffix}.png")
            context.close()


def _taken(page: Any, awaited: str, path: Path) -> None:
    page.locator(awaited).first.wait_for()
    # Its events never end, so the network is never idle.
    page.evaluate("window.stop()")
    take(page, path)


def main() -> None:
    """Takes all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=PICTURES)
    parser.add_argument("--task", default="dialogue_summary", help="asked about in the playground")
    given = parser.parse_args()
    run = given.run.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser:
        of_report(browser, write_report(run).as_uri(), given.out)
        of_page(browser, run, given.task, given.out)


if __name__ == "__main__":
    main()
