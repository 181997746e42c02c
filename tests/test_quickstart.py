"""The first thing a newcomer runs, whole, while other tests run; alone it takes nine minutes or so on two cores."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from browser import open_browser
from early import Early

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

FOUR = ["starter/code_translation", "starter/dialogue_summary", "starter/entity_recognition", "starter/review_rating"]


def begin_early(folder: Path) -> Early:
    """The command, in the user's cache, where the embedded model lies."""
    command = [sys.executable, "-m", "flantune", "quickstart", "--out", folder / "first"]
    threads = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    return Early(folder, command, {**os.environ, "HF_HUB_OFFLINE": "1", "CI": "1", **threads})


@pytest.fixture(scope="module")
def quickstart(early) -> tuple[Path, str, str]:
    """The run's folder, what was printed, and the news on the way."""
    made = early.ended()
    assert made.returncode == 0, made.stderr
    return early.folder / "first", made.stdout, made.stderr


@pytest.fixture(scope="module")
def verdicts(quickstart) -> dict[str, str]:
    comparison = json.loads((quickstart[0] / "comparison.json").read_text())
    return {entry["task"]: entry["verdict"] for entry in comparison["tasks"] if entry["main"]}


def test_all_four_trained_tasks_are_better(verdicts):
    assert [task for task in FOUR if verdicts[task] == "better"] == FOUR


def test_no_unseen_task_and_no_ability_to_keep_is_shown_worse(verdicts):
    assert [task for task, verdict in verdicts.items() if verdict == "worse"] == []


def test_it_stays_within_six_gigabytes(quickstart):
    told = re.search(r"at most ([\d.]+) GB of memory", quickstart[2])
    assert told is not None
    assert float(told[1]) < 6


def test_it_says_what_to_do_next(quickstart):
    run, printed, _ = quickstart
    assert printed.splitlines()[-3:] == [
        f"report:  {run}/report.html   (open it in a browser)",
        f"chat:    flantune chat {run} --base",
        "yours:   flantune init mails.csv   (makes a task of your own data)",
    ]


def test_its_report_opens_in_a_browser_and_is_photographed(quickstart, tmp_path):
    report = quickstart[0] / "report.html"
    picture = Path(os.environ.get("FLANTUNE_SCREENSHOT", tmp_path / "report.png"))
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 1500}, device_scale_factor=1, color_scheme="light")
        page.goto(report.as_uri())
        assert "better" in (page.locator("body").text_content() or "")
        page.screenshot(path=picture)
        page.close()
    assert picture.stat().st_size > 20_000
