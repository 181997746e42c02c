"""How long a report with many predictions takes to open in a real browser, by the browser's own clock.

Usage: python benchmarks/opening_report.py [--rows 10000] [--times 9]

A made-up run of eight tasks, each row answered by base and tuned model. Needs Chromium and the extra `dev`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import open_browser
from fake_run import TASKS, long_run
from flantune.reporting import write_report

TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return [page.domContentLoadedEventEnd, page.loadEventEnd, paint.startTime];
}"""


def main() -> None:
    """Opens the report, each time in a browser context of its own, and prints medians and slowest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="of all tasks together")
    parser.add_argument("--times", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        report = write_report(long_run(Path(folder) / "run", given.rows // len(TASKS)))
        measured, elements = [], 0
        for _ in range(given.times):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(report.as_uri())
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            measured.append(page.evaluate(TIMES))
            elements = page.evaluate("document.querySelectorAll('*').length")
            context.close()
        rows = given.rows // len(TASKS) * len(TASKS)
        print(f"{rows:,} rows, {2 * rows:,} predictions, {report.stat().st_size / 1e6:.1f} MB, {elements:,} elements")
        for name, values in zip(
            ("DOM content loaded", "loaded", "first contentful paint"), zip(*measured, strict=True), strict=True
        ):
            print(f"{name}: median {statistics.median(values):.0f} ms, slowest {max(values):.0f} ms")


if __name__ == "__main__":
    main()
