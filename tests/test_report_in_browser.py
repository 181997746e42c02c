"""The report in a real browser: nothing runs that should not, no network is asked, and browsing works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import open_browser
from fake_run import BREAKOUT, fake_run
from flantune.reporting import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(fake_run(tmp_path_factory.mktemp("runs") / "first"))


def test_the_report_works_and_stays_by_itself(browser: Any, report: Path, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    dialogs, requests, errors = [], [], []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.on(
        "console",
        lambda message: errors.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(report.as_uri())

    # The first row of the first task is hostile in all its texts.
    assert page.locator("#answers-name").text_content() == "Row test-001"
    for part in ("prompt", "base", "tuned", "references"):
        assert BREAKOUT in page.locator(f"#answers-{part}").text_content()
    assert page.locator("#answers-row script, #answers-row img").count() == 0

    assert page.locator("#answers-place").text_content() == "1 of 60"
    assert page.locator("#answers-previous").is_disabled()
    page.locator("#answers-next").click()
    assert page.locator("#answers-place").text_content() == "2 of 60"
    assert page.locator("#answers-name").text_content() == "Row test-002"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#answers-place").text_content() == "1 of 60"

    filters = {b.get_attribute("data-filter"): b for b in page.locator(".filter").all()}
    counts = {name: int(button.locator(".count").text_content()) for name, button in filters.items()}
    assert counts["all"] == 60
    assert counts["held_out"] == 30
    assert counts["better"] + counts["worse"] == 60
    for name, button in filters.items():
        button.click()
        assert page.locator("#answers-place").text_content() == f"1 of {counts[name]}"
        assert button.get_attribute("aria-pressed") == "true"
    assert "held-out phrasing" in page.locator("#answers-template").text_content()
    page.locator("#answers-task").select_option(label="intent  (unseen tasks)")
    assert page.locator("#answers-kept").text_content() == "60 of 75 rows, drawn by hash"

    # A table sorts by number, and again the other way round.
    head = page.locator("#numbers th", has_text="Difference")
    differences = page.locator("#numbers tbody td:nth-child(6)")
    for order in ("descending", "ascending"):
        head.locator("button").click()
        values = [float(cell.get_attribute("data-v")) for cell in differences.all()]
        assert head.get_attribute("aria-sort") == order
        assert values == sorted(values, reverse=order == "descending")

    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before

    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.reload()
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert dialogs == []
    assert errors == []
    assert set(requests) <= {report.as_uri(), "data:,"}
    page.close()


@pytest.mark.parametrize("width", [390, 900, 1400])
def test_no_part_is_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_without_a_script_all_but_the_browsing_is_there(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("svg.row").first.is_visible()
    assert page.locator("#numbers tbody tr").count() == 16
    assert page.get_by_text("Browsing needs JavaScript").is_visible()
    assert not page.locator("#browser").is_visible()
    context.close()
