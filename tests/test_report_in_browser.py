"""The report in a real browser: nothing runs that should not, no network is asked, and browsing works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from browser import violations
from cross_site import CORPUS
from fake_run import BREAKOUT, fake_run, hostile_run, long_run
from flantune.reporting import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(fake_run(tmp_path_factory.mktemp("runs") / "first"))


@contextmanager
def watched(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page of which nothing may come but itself: no dialog, no error, no request, no second page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    dialogs, requests, errors = [], [], []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(address)
    yield page
    assert dialogs == []
    assert errors == []
    assert {url.split("#")[0] for url in requests} <= {address.split("#")[0], "data:,"}
    assert len(context.pages) == 1
    context.close()


def text_of(page: Any, name: str) -> str:
    return page.locator(f"#answers-{name}").text_content()


def holds(page: Any, name: str, text: str) -> None:
    """Waits until a part of the row that is shown reads so."""
    page.locator(f"#answers-{name}", has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def outcome(page: Any, key: str) -> Any:
    return page.locator(f'#answers-outcomes [data-outcome="{key}"]')


def test_the_rows_of_both_models_can_be_browsed_filtered_and_searched(browser: Any, report: Path) -> None:
    with watched(browser, report.as_uri()) as page:
        # The first row of the first task is hostile in all its texts.
        assert text_of(page, "name") == "test-001"
        for part in ("prompt", "base", "tuned", "references"):
            assert BREAKOUT in text_of(page, part)
        assert page.locator("#answers-row script, #answers-row img").count() == 0

        assert text_of(page, "place") == "1 of 60"
        assert page.locator("#answers-previous").is_disabled()
        page.locator("#answers-next").click()
        assert text_of(page, "name") == "test-002"
        page.locator("#answers-list").focus()
        page.keyboard.press("ArrowUp")
        assert text_of(page, "place") == "1 of 60"
        page.keyboard.press("End")
        assert text_of(page, "name") == "test-060"
        assert page.locator('#answers-list [aria-selected="true"]').get_attribute("aria-posinset") == "60"

        counts = {key: int(outcome(page, key).text_content().split()[-1]) for key in ("", "won", "lost", "same")}
        assert counts[""] == 60 == counts["won"] + counts["lost"] + counts["same"]
        for key, count in counts.items():
            outcome(page, key).click()
            assert outcome(page, key).get_attribute("aria-pressed") == "true"
            assert text_of(page, "place") == (f"1 of {count}" if count else "")
        outcome(page, "").click()

        page.locator("#answers-sort").select_option("won")
        first, last = (
            scores(page),
            (page.locator("#answers-list").focus(), page.keyboard.press("End"), scores(page))[2],
        )
        assert first[1] - first[0] > 0 > last[1] - last[0]
        page.locator("#answers-template").select_option(label="held_out_recap")
        assert text_of(page, "place") == "1 of 30"
        assert "held-out phrasing" in text_of(page, "phrasing")
        page.locator("#answers-find").fill("TEST-004")
        holds(page, "place", "1 of 1")
        assert text_of(page, "name") == "test-004"
        page.locator("#answers-find").fill("nowhere in any row")
        page.get_by_text("No such row.").wait_for()
        assert not page.locator("#answers-row").is_visible()
        page.locator("#answers-task").select_option(label="intent")
        page.locator("#answers-find").fill("")
        holds(page, "place", "1 of 75")


def scores(page: Any) -> tuple[float, float]:
    """What the row that is shown scores by the main metric: base, tuned."""
    _, base, _, tuned, *_ = page.locator("#answers-scores .major").text_content().split()
    return float(base), float(tuned)


def test_what_was_forgotten_stands_in_a_section_and_its_texts_stay_text(browser: Any, report: Path) -> None:
    with watched(browser, report.as_uri()) as page:
        section = page.locator("#forgetting")
        assert section.locator(".tasks .who b").all_text_contents()[:4] == [
            "knowledge",
            "plain text",
            "dialogue_title",
            "kept_behaviour",
        ]
        assert section.text_content().count(BREAKOUT) == 3  # the sentence, the text's name, a task's name
        assert section.locator("script, img").count() == 0
        shorter = section.locator(".forms .line").first
        assert "31.4 → 5.2" in shorter.text_content()
        assert "cut at the length limit 15 → 0 %" in shorter.text_content()
        page.locator('.rail a[href="#forgetting"]').click()
        page.wait_for_url("**#forgetting")


def test_a_link_leads_back_to_the_row_and_what_was_filtered(browser: Any, report: Path) -> None:
    with watched(browser, report.as_uri()) as page:
        page.locator("#answers-task").select_option(label="intent")
        page.locator("#answers-find").fill("conversation")
        outcome(page, "won").click()
        page.wait_for_url("**outcome=won&find=conversation")
        page.locator("#answers-next").click()
        name, place = text_of(page, "name"), text_of(page, "place")
        page.wait_for_url(report.as_uri() + page.locator("#answers-link").get_attribute("href"))
        address = page.evaluate("location.href")
        assert page.locator("#answers-link").get_attribute("href") == "#" + address.partition("#")[2]
    with watched(browser, address) as page:
        assert (text_of(page, "name"), text_of(page, "place")) == (name, place)
        assert page.locator("#answers-find").input_value() == "conversation"
        assert outcome(page, "won").get_attribute("aria-pressed") == "true"
        assert page.evaluate("document.getElementById('answers').getBoundingClientRect().top < innerHeight")
    with watched(browser, report.as_uri() + "#answers?task=../../x&line=NaN&outcome=<img>&sort=__proto__") as page:
        assert text_of(page, "place") == "1 of 60"


@pytest.mark.parametrize(
    ("base", "tuned", "gone", "new"),
    [
        ("the cat sat", "the dog sat", ["cat"], ["dog"]),
        ("one two", "one two", [], []),
        ("", "all of it", [], ["all of it"]),
        ("a b c d", "b d", ["a", "c"], []),
        ("x\n\ny", "x\n\nz", ["y"], ["z"]),
        ("猫は座った", "犬は座った", ["猫"], ["犬"]),
        ("w " * 3000 + "only here", "v " * 3000, None, None),
    ],
)
def test_the_words_that_only_one_side_has_are_marked_and_no_text_is_lost(
    browser: Any, report: Path, base: str, tuned: str, gone: list[str] | None, new: list[str] | None
) -> None:
    with watched(browser, report.as_uri()) as page:
        marked = page.evaluate(
            """([base, tuned]) => {
              const sides = wordDifferences(base, tuned);
              return ["del", "ins"].map((tag, side) => {
                const box = document.createElement("div");
                showMarked(box, sides[side], tag);
                return [box.textContent, [...box.querySelectorAll(tag)].map((each) => each.textContent)];
              });
            }""",
            [base, tuned],
        )
        assert [text for text, _ in marked] == [base, tuned]
        if gone is not None:
            assert [words for _, words in marked] == [gone, new]


def test_tables_sort_and_the_page_turns_dark(browser: Any, report: Path) -> None:
    with watched(browser, report.as_uri(), color_scheme="light") as page:
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


@pytest.mark.parametrize("width", [390, 900, 1440])
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


def test_the_report_prints_all_its_parts(browser: Any, report: Path) -> None:
    with watched(browser, report.as_uri()) as page:
        pdf = page.pdf(format="A4", print_background=True, prefer_css_page_size=True)
        assert pdf.count(b"/Type /Page\n") in range(4, 16)
        page.emulate_media(media="print")
        assert not page.locator(".rail").is_visible()
        assert page.locator("#made").is_visible()


def test_all_that_can_be_reached_has_a_name_and_enough_contrast(browser: Any, report: Path) -> None:
    for scheme in ("light", "dark"):
        with watched(browser, report.as_uri(), color_scheme=scheme) as page:
            nameless = page.evaluate(
                """() => [...document.querySelectorAll("button, select, input, a, [role], [tabindex]")]
                  .filter((each) => each.checkVisibility() && !["img", "option"].includes(each.getAttribute("role")))
                  .filter((each) => !(each.ariaLabel || each.textContent.trim() || each.title))
                  .map((each) => each.outerHTML)"""
            )
            assert nameless == []
            pale = page.evaluate(CONTRAST)
            assert pale == []
            levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((each) => +each.tagName[1])")
            assert levels[0] == 1
            assert all(after - before <= 1 for before, after in pairwise(levels))


# Texts whose contrast with their background is below 4.5 to 1 (WCAG 2.2, 1.4.3), by the colours that are drawn.
CONTRAST = """() => {
  const channel = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const behind = (each) => {
    for (let box = each; box; box = box.parentElement) {
      const colour = parse(getComputedStyle(box).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility() && !each.disabled &&
    [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) &&
    !["SCRIPT", "STYLE", "OPTION"].includes(each.tagName)).filter((each) => {
      const style = getComputedStyle(each);
      const ink = parse(each instanceof SVGElement ? style.fill : style.color);
      const [a, b] = [light(ink), light(behind(each))].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05) < 4.5;
    }).map((each) => each.outerHTML.slice(0, 120));
}"""


def test_axe_finds_a_button_without_a_name_and_pale_text(browser: Any) -> None:
    page = browser.new_page()
    page.set_content("<button></button><p style='color: #bbb'>pale</p>")
    assert {"button-name", "color-contrast"} <= {rule for _, rule, _ in violations(page)}
    page.close()


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, report: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert violations(page) == []
    page.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(hostile_run(tmp_path_factory.mktemp("hostile") / CORPUS[0].replace("/", "⧸"), CORPUS))


def test_of_three_hundred_strings_made_to_run_a_script_none_does(browser: Any, hostile: Path) -> None:
    """In every text of a run; without the page's policy, so that escaping alone holds."""
    assert len(CORPUS) >= 300
    with watched(browser, hostile.as_uri(), bypass_csp=True) as page:
        shown = page.evaluate(
            """() => {
              const select = document.getElementById("answers-task"), said = [];
              for (let task = 0; task < select.options.length; task++) {
                select.value = task;
                select.dispatchEvent(new Event("change"));
                said.push(document.getElementById("answers-tuned").textContent);
              }
              document.querySelectorAll("details").forEach((each) => { each.open = true; });
              document.querySelectorAll("th button, button").forEach((each) => each.click());
              return said;
            }"""
        )
        assert len(shown) == len(CORPUS)
        page.mouse.move(640, 450)
        elements = page.evaluate("[...new Set([...document.querySelectorAll('*')].map((each) => each.tagName))]")
        assert not {"IMG", "IFRAME", "OBJECT", "EMBED", "FORM", "BASE", "VIDEO", "math", "animate"} & set(elements)
        handlers = (
            "[...document.querySelectorAll('*')].filter((e) => e.getAttributeNames().some((n) => n.startsWith('on')))"
        )
        assert page.evaluate(f"{handlers}.length") == 0


def test_ten_thousand_predictions_are_all_there_and_few_are_drawn(browser: Any, tmp_path: Path) -> None:
    run = long_run(tmp_path / "many", 1250)
    made = write_report(run)
    predictions = sum(path.stat().st_size for path in (run / "evaluation").rglob("*.jsonl"))
    assert made.stat().st_size < 1_000_000 + predictions
    with watched(browser, made.as_uri()) as page:
        page.locator("#answers-list").focus()
        page.keyboard.press("End")
        assert text_of(page, "name") == "row-1249"
        assert page.locator("#answers-list [role=option]").count() < 40


def test_what_is_made_and_parsed_at_opening_does_not_grow_with_the_predictions(browser: Any, tmp_path: Path) -> None:
    """So that the opening time does not either, but for reading the file: benchmarks/opening_report.py."""
    opened = []
    for rows in (125, 1250):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.add_init_script(COUNT_PARSED)
        page.goto(write_report(long_run(tmp_path / f"run-{rows}", rows)).as_uri())
        elements = page.evaluate("document.querySelectorAll('*').length")
        opened.append((elements, page.evaluate("window.parsed")))
        context.close()
    (few, few_parsed), (many, many_parsed) = opened
    assert few == many < 3500
    assert few_parsed == many_parsed == 2  # the list of tasks, and the rows of the task that is shown


COUNT_PARSED = """window.parsed = 0;
const parse = JSON.parse;
JSON.parse = (...given) => { window.parsed++; return parse(...given); };"""
