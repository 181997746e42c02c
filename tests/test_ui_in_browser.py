"""The local page in a real browser: curves that grow, prompts, both models side by side, and no foreign script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from browser import violations
from cross_site import CORPUS
from fake_run import fake_metrics, fake_run, fake_validations, hostile_run
from flantune.reporting import write_report
from ui_server import Server, serving, trained_run

pytest.importorskip("uvicorn", reason="the extra ui is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ui")
    write_report(fake_run(place / "runs" / "first"))
    trained_run(place / "runs" / "tiny", place / "data")
    changed = trained_run(place / "runs" / "changed", place / "data") / "model" / "model.safetensors"
    weights = load_file(changed)
    # As it is, the tiny model repeats the last token that it read.
    last = "model.layers.1.mlp.down_proj.weight"
    save_file({**weights, last: 500 * weights[last]}, changed, {"format": "pt"})
    growing = fake_run(place / "runs" / "growing")
    (growing / "comparison.json").unlink()
    (growing / "metrics.jsonl").unlink()
    (growing / "validation.jsonl").unlink()
    write_report(hostile_run(place / "runs" / CORPUS[0], CORPUS[:300]))
    return place


@pytest.fixture(scope="module")
def server(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(place / "runs", tmp_path_factory.mktemp("cache")) as started:
        yield started


@contextmanager
def entered(browser: Any, server: Server, **options: Any) -> Iterator[Any]:
    """A page that has come in by the printed address; nothing may be asked elsewhere, nothing may go wrong."""
    context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
    page = context.new_page()
    wrong, asked = [], []
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.address)
    yield page
    assert wrong == []
    own = f"http://127.0.0.1:{server.port}/"
    assert [url for url in asked if not url.startswith(own) and url != "data:,"] == []
    context.close()


def at(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def test_the_runs_lead_to_their_curves_and_to_the_report(browser: Any, server: Server) -> None:
    with entered(browser, server) as page:
        assert server.token not in page.url
        page.get_by_role("link", name="first").click()
        assert page.locator("h1").text_content() == "Better on 4 of 7 tasks, worse on 1."
        page.wait_for_load_state()
        assert page.locator("svg.lines").count() == 17
        assert page.locator("svg.row").count() == 8
        page.get_by_role("link", name="The whole report").click()
        page.locator("#answers-place", has_text="1 of 60").wait_for()  # a script writes it once the page is there
        page.locator("#answers-next").click()
        assert page.locator("#answers-name").text_content() == "test-002"


def test_a_report_in_the_folder_cannot_use_the_page(browser: Any, server: Server, place: Path) -> None:
    """Its script runs, in an origin of its own: what it asks of the server is refused."""
    run = fake_run(place / "runs" / "foreign")
    (run / "report.html").write_text(
        "<!doctype html><title>x</title><p id=said></p><script>"
        "fetch('/ask', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})"
        ".then((answer) => answer.status, () => 'refused').then((said) => { document.title = said; });"
        "try { document.title = document.cookie; } catch { document.getElementById('said').textContent = 'no cookie'; }"
        "</script>",
        encoding="utf-8",
    )
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.address)
    page.goto(at(server, "/report?name=foreign"))
    page.wait_for_function("document.title === 'refused'")
    assert page.locator("#said").text_content() == "no cookie"
    context.close()


def test_the_curves_grow_while_the_run_trains(browser: Any, server: Server, place: Path) -> None:
    lines = fake_metrics()
    with entered(browser, server) as page:
        page.get_by_role("link", name="growing").click()
        page.get_by_text("No step is logged yet").wait_for()
        with (place / "runs" / "growing" / "metrics.jsonl").open("a", encoding="utf-8") as log:
            for first, last in ((0, 3), (3, 90)):
                log.write("".join(json.dumps(line) + "\n" for line in lines[first:last]))
                log.flush()
                page.locator(".progress", has_text=f"{last} of 240 steps, training").wait_for()
        assert page.locator("svg.lines").count() == 10
        for count, step in ((1, 60), (2, 120)):
            found = "".join(json.dumps(line) + "\n" for line in fake_validations()[:count])
            (place / "runs" / "growing" / "validation.jsonl").write_text(found, encoding="utf-8")
            page.get_by_text(f"the best validation, after step {step}").wait_for()
            assert page.locator("svg.lines").count() == 17
            if count == 1:
                page.locator("details.validations summary").click()
        assert page.locator("details.validations table").is_visible()
        page.goto(at(server, "/"))
        page.locator("li", has_text="growing").get_by_text("90 of 240 steps").wait_for()


def test_a_row_is_shown_in_every_template(browser: Any, server: Server) -> None:
    with entered(browser, server) as page:
        page.goto(at(server, "/tasks?name=tiny"))
        page.get_by_role("link", name="words").first.click()
        page.locator("article h2").first.wait_for()
        page.wait_for_load_state()
        assert page.locator("article h2").all_text_contents() == [
            "plain",
            "question",
            "other_words held out from training",
        ]
        before = page.locator("article .text").first.text_content()
        page.get_by_role("link", name="Next row").click()
        assert page.locator("article .text").first.text_content() != before
        page.get_by_role("link", name="train", exact=True).click()
        assert "Row 0 of 40" in page.locator(".stepper").text_content()
        page.goto(at(server, "/task?task=starter/intent"))
        assert page.locator("article").count() == 12


@pytest.mark.parametrize("streamed", [True, False], ids=["word by word", "at once"])
def test_both_models_are_asked_the_same_in_the_template_that_is_chosen(
    browser: Any, server: Server, streamed: bool
) -> None:
    with entered(browser, server) as page:
        page.goto(at(server, "/play?name=tiny"))
        page.get_by_label("Task").select_option("words")
        page.get_by_label("Template").select_option("question")
        assert page.locator("#question").input_value().startswith("Which word, of ")
        page.get_by_label("Row").fill("3")
        page.get_by_label("Row").blur()
        page.get_by_text("test 3?").or_(page.locator("#expected")).first.wait_for()
        page.get_by_label("word by word").set_checked(streamed)
        page.get_by_role("button", name="Ask").click()
        page.locator("#tuned:not(.empty):not(.writing)").wait_for()
        page.get_by_role("button", name="Ask").and_(page.locator(":enabled")).wait_for()
        assert page.locator("#base").text_content() == page.locator("#tuned").text_content() != ""
        assert page.locator("#answers del, #answers ins").count() == 0


def test_words_that_only_one_of_the_models_said_are_marked(browser: Any, server: Server) -> None:
    with entered(browser, server) as page:
        page.goto(at(server, "/play?name=changed"))
        page.locator("#question").fill("amber birch cedar")
        page.get_by_role("button", name="Ask").click()
        page.get_by_role("button", name="Ask").and_(page.locator(":enabled")).wait_for()
        assert page.locator("#said").text_content() == ""
        base, tuned = (page.locator(f"#{who}").text_content() for who in ("base", "tuned"))
        assert base != tuned
        marked = page.locator("#base del").all_text_contents() + page.locator("#tuned ins").all_text_contents()
        assert marked
        assert all(words in (base, tuned) or words in base + tuned for words in marked)


def test_three_hundred_strings_made_to_run_a_script_run_none_in_the_page(browser: Any, server: Server) -> None:
    with entered(browser, server, bypass_csp=True) as page:
        assert page.locator("li", has_text=CORPUS[0]).count() == 1
        page.get_by_role("link", name=CORPUS[0]).first.click()
        page.locator(".tasks .line").nth(299).wait_for()
        assert page.locator(".tasks .line").count() == 300
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        page.mouse.move(700, 400)
    for text in CORPUS[:40]:
        for path in ("/run?name=", "/task?task=", "/play?name="):
            status, _, body = server.ask(path + "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "replace")))
            assert status in (200, 404)
            assert text not in body or not set(text) & set("<>\"'")


PAGES = ("/", "/run?name=first", "/tasks", "/task?task=starter/intent", "/play?name=tiny")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, server: Server, width: int, scheme: str) -> None:
    with entered(browser, server, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        for path in PAGES:
            page.goto(at(server, path))
            page.locator("h1").wait_for()
            assert violations(page) == [], path
        mistake = page.context.new_page()
        mistake.goto(at(server, "/run?name=none"))
        assert violations(mistake) == []


@pytest.mark.parametrize("width", [390, 900, 1440])
def test_no_page_is_wider_than_the_window(browser: Any, server: Server, width: int) -> None:
    with entered(browser, server, viewport={"width": width, "height": 900}) as page:
        for path in PAGES:
            page.goto(at(server, path))
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
