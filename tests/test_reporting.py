"""Report, model card and terminal tables of a made-up run whose texts try to break out."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import shutil
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from fake_run import (
    BREAKOUT,
    HOSTILE,
    LONG,
    RECIPE,
    fake_comparison,
    fake_plan,
    fake_run,
    fake_validations,
)
from flantune.errors import FlantuneError
from flantune.reporting import charts, comparison_table, model_card, plan_table, safe, write_report
from flantune.reporting.answers import even_limit
from flantune.reporting.curves import training_view
from flantune.reporting.formats import main_metrics
from flantune.reporting.ledger import ledger_lines
from flantune.reporting.verdict_view import headline, sentence

BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, text, contents of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._inside != "style":
            self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def source(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_every_number_of_the_main_metrics_is_on_the_page(page: Page) -> None:
    for entry in fake_comparison()["tasks"]:
        if not entry["main"]:
            continue
        digits = 1 if entry["unit"] == "0-100" else 2
        values = [
            entry["base"],
            entry["tuned"],
            entry["smallest_detectable"],
            *entry["base_ci"],
            *entry["tuned_ci"],
        ]
        values += [entry["difference"], *entry["ci"]]
        values += [side[name] for side in entry["by_phrasing"].values() for name in ("base", "tuned")]
        values += [value for value in entry["baselines"].values() if value is not None]
        for value in values:
            assert f"{abs(value):.{digits}f}" in page.text, (entry["task"], value)
        assert f"{entry['p_adjusted']:.4f}"[:4] in page.text


def test_the_page_has_no_script_but_its_own(page: Page) -> None:
    tasks = len({entry["task"] for entry in fake_comparison()["tasks"]})
    assert [attributes.get("type") for attributes, _ in page.scripts] == ["application/json"] * (1 + tasks) + [None]
    assert all("src" not in attributes for _, attributes in page.elements)
    handlers = {name for _, attributes in page.elements for name in attributes if name.startswith("on")}
    assert handlers == set()
    assert "innerHTML" not in page.scripts[-1][1]
    assert not {"img", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}


def test_the_policy_allows_exactly_the_script_and_the_style_of_the_page(page: Page, source: str) -> None:
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    style = source[source.index("<style>") + len("<style>") : source.index("</style>")]
    script, style = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (page.scripts[-1][1], style)
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not any("style" in attributes for _, attributes in page.elements)


def test_hostile_text_is_shown_as_text_with_its_marks_visible(page: Page, source: str) -> None:
    assert BREAKOUT in page.text
    assert "{{ 7*7 }}" in page.text
    assert "⟨U+202E⟩override" in page.text
    assert "␛[31mred" in page.text
    assert not BIDI.search(source)
    assert "\x1b" not in source
    assert "\u2028" not in source


def browsed(page: Page) -> list[dict]:
    """Tasks whose rows can be browsed, as the page holds them."""
    about, *rows = (json.loads(text) for attributes, text in page.scripts if attributes.get("type"))
    return [{**task, "rows": its} for task, its in zip(about, rows, strict=True)]


def test_all_rows_to_browse_come_back_from_the_scripts_as_they_were(page: Page) -> None:
    tasks = browsed(page)
    assert [task["title"] for task in tasks][:2] == ["dialogue_summary", "entity_recognition"]
    assert [task["total"] for task in tasks] == [len(task["rows"]) for task in tasks] == [60] * 5 + [75, 60, 60]
    first = tasks[0]["rows"][0]
    assert first["row"] == "test-001"
    assert BREAKOUT in first["prompt"]
    assert BREAKOUT in first["tuned"]
    assert len(first["references"]) == 2
    assert {held for _, held in tasks[0]["templates"]} == {True, False}
    assert not set("<>&") & {c for attributes, text in page.scripts if attributes.get("type") for c in text}


@given(sizes=st.lists(st.integers(0, 400)), most=st.integers(0, 2000))
def test_the_limit_of_rows_is_the_largest_that_keeps_all_tasks_together_below_it(sizes: list[int], most: int) -> None:
    limit = even_limit(sizes, most)

    def kept(limit: int) -> int:
        return sum(min(size, limit) for size in sizes)

    assert kept(limit) <= most
    assert kept(limit) == sum(sizes) or kept(limit + 1) > most


def test_of_too_many_rows_some_are_drawn_that_hold_both_phrasings(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flantune.reporting.answers.MOST_ROWS", 80)
    tasks = browsed(Page(write_report(run, tmp_path / "few.html").read_text(encoding="utf-8")))
    assert [len(task["rows"]) for task in tasks] == [10] * 8
    for task in tasks:
        assert {task["templates"][row["template"]][1] for row in task["rows"]} == {True, False}
        assert [row["line"] for row in task["rows"]] != list(range(1, 11))


def test_a_lower_score_counts_as_better_where_lower_is_better(page: Page) -> None:
    rating = next(task for task in browsed(page) if task["title"] == "review_rating")
    assert rating["lower"]
    for row in rating["rows"]:
        base, tuned = row["scores"][0]
        if base != tuned:
            assert (row["gain"] > 0) == (float(tuned) < float(base))


def test_rows_with_text_in_common_with_training_rows_and_answers_that_were_cut_are_marked(page: Page) -> None:
    summaries = next(task for task in browsed(page) if task["title"] == "dialogue_summary")
    assert [row["row"] for row in summaries["rows"] if row.get("leak")] == ["test-031"]
    cut = [row["line"] for row in summaries["rows"] if row.get("unfinished") == [True, False]]
    assert cut == [number + 1 for number in range(60) if number % 7 == 3]


def test_the_same_files_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "a.html").read_bytes() == write_report(run, tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(
    "missing",
    [["plan.json"], ["mixture.json"], ["metrics.jsonl"], ["plan.json", "mixture.json"], ["evaluation"],
     ["plan.json", "mixture.json", "metrics.jsonl", "evaluation", "recipe.yaml", "environment.json"]],
    ids="+".join,
)  # fmt: skip
def test_files_that_are_missing_leave_their_part_out(run: Path, tmp_path: Path, missing: list[str]) -> None:
    part = Path(shutil.copytree(run, tmp_path / "part"))
    for name in missing:
        path = part / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(write_report(part).read_text(encoding="utf-8"))
    assert "+13.2" in page.text
    assert len(page.scripts) == (1 if "evaluation" in missing else 10)
    if "metrics.jsonl" in missing:
        assert "no metrics.jsonl" in page.text
    if "mixture.json" in missing and "plan.json" not in missing:
        assert "no mixture.json" in page.text


def test_scores_that_are_not_numbers_are_shown_as_nothing(run: Path, tmp_path: Path) -> None:
    part = Path(shutil.copytree(run, tmp_path / "part"))
    comparison = fake_comparison()
    comparison["tasks"][0] |= {
        "base": float("nan"),
        "difference": float("nan"),
        "ci": [float("nan"), float("inf")],
    }
    comparison["tasks"][0] |= {"p_adjusted": None, "smallest_detectable": None}
    comparison["average"]["unseen"] = {"tasks": 0, "base": None, "tuned": None, "difference": None}
    (part / "comparison.json").write_text(json.dumps(comparison), encoding="utf-8")
    text = write_report(part).read_text(encoding="utf-8")
    assert not re.search(r">\s*-?(nan|inf)|None|Undefined", text)
    assert render(comparison_table(comparison))


def test_half_a_surrogate_pair_does_not_stop_the_report(run: Path, tmp_path: Path) -> None:
    part = Path(shutil.copytree(run, tmp_path / "part"))
    for side in ("base", "tuned"):
        path = part / "evaluation" / side / "starter" / "knowledge.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace('"prediction": "', '"prediction": "\\ud83d', 1))
    assert "⟨U+D83D⟩" in write_report(part).read_text(encoding="utf-8")


def test_a_run_without_a_comparison_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FlantuneError) as told:
        write_report(tmp_path)
    assert str(told.value) == f"{tmp_path}: nothing to report yet; first: flantune compare {tmp_path}"


def test_only_the_end_of_an_absolute_path_is_told(source: str) -> None:
    assert "first/model" in source
    assert "/home/someone" not in source


def test_a_task_whose_loss_rises_is_named(page: Page) -> None:
    assert f"The loss ends clearly above its lowest point: All tasks, {LONG}" in page.text
    assert "not a finite number in 1 step, first in step 200" in page.text


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["better"] * 4 + ["worse", "equivalent"], "Better on 4 of 6 tasks, worse on 1."),
        (["better", "no difference shown"], "Better on 1 of 2 tasks, worse on none."),
        (["worse", "equivalent"], "Worse on 1 of 2 tasks, better on none."),
        (["equivalent", "no difference shown"], "No difference is shown on 2 tasks."),
        (["better"], "Better on 1 of 1 task, worse on none."),
    ],
)
def test_the_verdict_is_told_in_one_line(verdicts: list[str], said: str) -> None:
    entries = [{"verdict": verdict, "group": "trained"} for verdict in verdicts]
    assert "".join(text for _, text in headline([*entries, {"verdict": "worse", "group": "kept"}])) == said


def test_the_verdict_on_a_group_is_told_in_words() -> None:
    verdicts = ["better", "worse", "no difference shown", "no difference shown"]
    assert sentence("unseen", [{"verdict": verdict} for verdict in verdicts]) == (
        "Of 4 tasks that it never saw, 1 got better, 1 got worse and 2 are not decided by these rows."
    )
    assert sentence("kept", [{"verdict": "equivalent"}]) == (
        "Of 1 ability that it should keep, 1 stayed the same within the margin."
    )


def test_lines_of_the_log_that_are_no_steps_draw_no_curve(run: Path, tmp_path: Path) -> None:
    part = Path(shutil.copytree(run, tmp_path / "part"))
    log = part / "metrics.jsonl"
    with log.open("a", encoding="utf-8") as more:
        more.write(json.dumps({"step": 100, "validation": {"starter/intent": {"loss": 1.0}}}) + "\n")
    assert write_report(part).read_bytes() == write_report(run, tmp_path / "whole.html").read_bytes().replace(
        b"<title>first", b"<title>part"
    ).replace(b"<bdi>first</bdi>", b"<bdi>part</bdi>")


def training_part(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text[text.index('<section id="training">') : text.index('<section id="mixture">')]


def test_validations_are_drawn_beside_the_training_loss_with_the_best_marked(run: Path, tmp_path: Path) -> None:
    part = training_part(write_report(run, tmp_path / "report.html"))
    assert "the best validation, after step 180" in part
    # A chart of the loss each for all tasks and five of them, then of the scores: average, worst, five tasks.
    charts_ = re.findall(r'<svg class="lines".*?</svg>', part)
    with_validation = [chart for chart in charts_ if 'class="validated"' in chart]
    assert len(with_validation) == 13
    assert len(charts_) == 17
    for place, chart in enumerate(with_validation):
        assert chart.count('class="best"') == chart.count('class="best mark"') == 1
        # Of the last of the four, two losses are not finite.
        assert chart.count("<circle") == (2 if place in (0, 5) else 3)
    assert "validation 1.3 → 0.8, 0.8 at the best step" in part
    assert "26 → 50, 56 at the best step" in part
    row = re.search(r"mean_<wbr>absolute_<wbr>error</span></td>(.*?)</tr>", part)
    assert row is not None
    assert re.findall(r">([\d.]+)<", row[1]) == ["2.2", "1.2", "1.4"]


def test_of_a_run_without_validation_the_report_says_nothing_of_it(run: Path, tmp_path: Path) -> None:
    without = Path(shutil.copytree(run, tmp_path / "without"))
    (without / "validation.jsonl").unlink()
    part = training_part(write_report(without))
    assert "svg" in part
    assert "alidat" not in part
    assert "best" not in part


def test_validations_without_answers_or_without_a_finite_value_are_drawn_as_far_as_they_go(
    run: Path, tmp_path: Path
) -> None:
    part = Path(shutil.copytree(run, tmp_path / "part"))
    nothing = {"scores": {}, "scaled": {}, "average": None, "worst": None, "value": None}
    lines = [line | nothing for line in fake_validations()[2:]]
    (part / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    text = training_part(write_report(part))
    assert "validation 0.6 → 0.7</p>" in text
    assert "Answers to validation rows" not in text
    assert 'class="best' not in text


def test_a_validation_stands_at_the_step_whose_loss_is_that_of_the_same_weights() -> None:
    steps, validations = [{"step": n, "loss": 1.0, "loss_by_task": {"a": 1.0}} for n in range(4)], fake_validations()
    line = validations[0] | {"step": 2, "loss": 1.0, "loss_by_task": {"a": 1.0}, "scores": {}}
    view = training_view(steps, ["a"], [line])
    assert view is not None
    svg = view["losses"][1]["curve"].svg
    (best,) = re.findall(r'class="best" d="M([\d.]+)', svg)
    (dots,) = re.findall(r'class="dots" d="([^"]+)"', svg)
    assert dots.split("M")[3].split()[0] == best


@pytest.mark.parametrize("number", range(3))
def test_better_is_to_the_right_for_every_metric(number: int) -> None:
    names = ("rougeL", "mean_absolute_error", "macro_f1")
    entry = next(e for e in fake_comparison()["tasks"] if e["main"] and e["metric"] == names[number])
    shared = charts.difference_axis([entry])
    axis = shared if entry["unit"] == "0-100" else charts.own_difference_axis(entry, shared)
    place, low, high = charts.improvement(entry)
    assert (axis.at(place) > axis.at(0.0)) == (entry["verdict"] == "better")
    assert axis.at(0.0) == pytest.approx(shared.at(0.0))
    for value in (low, high):
        assert axis.low <= value <= axis.high
    if not entry["higher_is_better"]:
        own = charts.own_axis([entry["base"], entry["tuned"]], higher_is_better=False)
        assert own.at(entry["tuned"]) > own.at(entry["base"])


@pytest.mark.parametrize("count", [10, 22, 40, 100, 400])
def test_noise_alone_is_no_rise_and_a_rise_stands_out_of_it(count: int) -> None:
    steps, dice = list(range(count)), random.Random(count)
    for _ in range(50):
        flat = [2 + dice.gauss(0, 0.6) for _ in steps]
        lost = [value + max(0, 6 * step - 3 * count) / count for step, value in enumerate(flat)]
        flat_rises, lost_rises = (charts.curve(steps, values, (0, count - 1)).rises for values in (flat, lost))
        assert not flat_rises
        assert lost_rises or count < 100


def test_a_long_run_is_drawn_with_few_points() -> None:
    steps = range(50_000)
    drawn = charts.curve(list(steps), [1.0 + 1 / (step + 1) for step in steps], (0, 49_999))
    assert len(drawn.svg) < 20_000
    assert not drawn.rises


def test_a_curve_of_one_step_or_of_none_that_is_finite_can_be_drawn() -> None:
    assert charts.curve([7], [1.5], (7, 7)).last == 1.5
    assert charts.curve([7, 8], [float("nan"), None], (7, 8)).not_finite == (7, 8)


def render(table: Table, width: int = 100) -> str:
    out = StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(table)
    return out.getvalue()


def test_the_comparison_fits_a_hundred_columns_and_says_verdicts_in_words() -> None:
    text = render(comparison_table(fake_comparison()))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "▲ better" in text
    assert "▼ worse" in text
    assert "＝ equivalent" in text
    assert "Trained tasks" in text
    assert "Unseen tasks" in text
    assert "Abilities to keep" in text
    assert "…" not in text
    line = next(line for line in text.splitlines() if "dialogue_summary" in line)
    assert line.split()[:7] == ["dialogue_summary", "rougeL", "60", "18.2", "31.5", "+13.2", "[+9.2,"]


@pytest.mark.parametrize("make", [comparison_table, plan_table])
def test_tables_are_no_wider_in_a_wide_terminal_and_free_of_control_characters(make) -> None:
    data = fake_comparison() if make is comparison_table else fake_plan()
    for task in data["tasks"]:
        task["task"] = f"{HOSTILE}[bold]{task['task']}"
        task["cluster"] = HOSTILE
    text = render(make(data), width=200)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text
    assert not BIDI.search(text)
    assert "[bold" in text  # no markup of rich's


def test_the_plan_fits_eighty_columns() -> None:
    text = render(plan_table(fake_plan()), width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "28.0 %" in text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("a\x1bPq#0\x1b\\b", "ab"),
        ("a\x1b(0b", "ab"),
        ("a\x08\x07\rb", "ab"),
        ("one\r\ntwo\u2028three\u0085four", "one\ntwo\nthree\nfour"),
        ("\u202eevil\u202c \u2066x\u2069", "evil x"),
        ("\x1b\x1b[31m[31mx", "[31mx"),
        (7, "7"),
    ],
)
def test_what_is_printed_of_a_text_cannot_steer_the_terminal(text: object, printed: str) -> None:
    assert safe(text) == printed


def front_matter(card: str) -> dict:
    assert card.startswith("---\n")
    return YAML(typ="safe").load(card.split("---\n")[1])


def test_the_card_of_a_whole_model_says_what_the_hub_asks() -> None:
    card = model_card(fake_comparison(), fake_plan(), RECIPE, "HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0")
    assert front_matter(card) == {
        "license": "apache-2.0",
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["flantune"],
        "model-index": front_matter(card)["model-index"],
    }
    row = next(line for line in card.splitlines() if line.startswith("| dialogue"))
    assert row.endswith("| rougeL | 60 | 18.2 | 31.5 | +13.2 \\[+9.2, +16.9] | 0.0016 | ▲ better |")


def test_the_hub_reads_the_results_of_a_card_with_base_and_interval() -> None:
    hub = pytest.importorskip("huggingface_hub")
    comparison = fake_comparison()
    told = hub.ModelCard(model_card(comparison, fake_plan(), RECIPE, "org/base", "mit", encoder_decoder=True)).data
    assert (told.model_name, told.pipeline_tag) == ("first", "text2text-generation")
    assert len(told.eval_results) == len(main_metrics(comparison))
    first, entry = told.eval_results[0], main_metrics(comparison, "trained")[0]
    assert (first.metric_type, first.metric_value) == (entry["metric"], pytest.approx(entry["tuned"], abs=1e-4))
    assert first.metric_args["base"] == pytest.approx(entry["base"], abs=1e-4)
    assert first.metric_args["interval_of_difference"] == pytest.approx(entry["ci"], abs=1e-4)


@pytest.mark.parametrize("adapter", [False, True])
def test_the_card_of_an_encoder_decoder_loads_it_as_one(adapter: bool) -> None:
    recipe = RECIPE + ("adapter:\n  method: lora\n" if adapter else "")
    comparison = fake_comparison()
    comparison["tuned"].pop("method", None)
    card = model_card(comparison, None, recipe, "org/base", "mit", encoder_decoder=True)
    assert f"{'AutoPeftModelFor' if adapter else 'AutoModelFor'}Seq2SeqLM.from_pretrained" in card
    assert "CausalLM" not in card


def test_the_card_of_an_adapter_names_peft() -> None:
    recipe = RECIPE + "adapter:\n  method: lora\n"
    comparison = fake_comparison()
    del comparison["tuned"]["method"]
    told = front_matter(model_card(comparison, fake_plan(), recipe, "org/base", None))
    assert (told["base_model_relation"], told["library_name"]) == ("adapter", "peft")
    assert "license" not in told


def test_a_folder_as_base_model_is_not_claimed_to_be_on_the_hub() -> None:
    for base in ("/models/mine", "./mine", "a/b/c", 'x: "\n- y'):
        assert "base_model" not in front_matter(model_card(fake_comparison(), None, RECIPE, base, None))


def test_text_from_data_stays_text_in_the_card() -> None:
    comparison, plan = fake_comparison(), fake_plan()
    comparison["tasks"][0]["task"] = f"a|b [link](http://x) ![i](y) https://z www.z {HOSTILE}\n\n# heading"
    comparison["verdict"] = HOSTILE
    card = model_card(comparison, plan, RECIPE, "org/base", None)
    body = card.split("---\n", 2)[2]  # what stands before is data to who reads it
    prose = body.split("````yaml")[0] + body.split("````\n")[-1]
    assert not re.search(r"(?<!\\)<(script|img)", prose)
    assert not re.search(r"(?<!\\)\]\(", prose)
    assert "\n# heading" not in card
    assert not re.search(r"https?://|www\.", prose)
    assert not BIDI.search(card)
    assert "\x1b" not in card
    assert "````yaml\nname: first" in card  # the recipe holds three backticks, so its fence has four


def test_the_card_without_a_plan_leaves_the_mixture_out() -> None:
    assert "## Training mixture" not in model_card(fake_comparison(), None, RECIPE, "org/base", "mit")


# The ledger


def ledger_text(page: Page) -> str:
    return " ".join(page.text[page.text.index("Licences and leaks") : page.text.index("Answers, row by row")].split())


def test_the_page_shows_the_text_in_common_where_it_stands_and_the_scores_without_these_rows(page: Page) -> None:
    text = ledger_text(page)
    assert f"dialogue_summary: 7 of 60 evaluation rows in 9 training rows of {LONG}" in text
    assert "test.jsonl:31 and mails.csv:12 · words in a row, 41 words" in text
    assert "the ribbon helped a lot" in text
    assert "18.2 → 31.5" in text
    assert "17.8 → 29.3" in text


def test_the_page_tells_what_was_left_out_repeats_and_was_allowed_and_the_licences(page: Page) -> None:
    text = ledger_text(page)
    assert f"left out of {LONG}, of 420 training rows: 4 hold text of evaluation rows, 3 repeat other rows" in text
    assert (
        f"training rows of {LONG} that repeat rows of {LONG}: 2 exactly, 1 nearly (mails.csv:9 repeats mails.csv:4)"
        in (text)
    )
    assert "intent is evaluated as unseen though it shares samsum" in text
    assert "Licences CC0-1.0dialogue_summaryours" in text
    assert text.endswith("not statedintent")


def test_the_page_names_no_folder_of_the_data(source: str) -> None:
    assert "/home/someone/secret" not in source


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"contamination": []}, "No text of an evaluation row was found in a training row"),
        ({"contamination": None, "duplicates": None}, "The recipe asked not to look."),
        (None, "The run's plan says nothing about it."),
    ],
)
def test_the_page_says_where_nothing_was_found_or_looked_for(tmp_path: Path, change, told: str) -> None:
    run = fake_run(tmp_path / "run")
    plan = fake_plan()
    plan["ledger"] = None if change is None else {**plan["ledger"], **change}
    (run / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    assert told in ledger_text(Page(write_report(run).read_text(encoding="utf-8")))


def test_the_card_tells_licences_and_scores_without_the_rows_in_common() -> None:
    card = model_card(fake_comparison(), fake_plan(), RECIPE, "org/base", "mit")
    assert "| dialogue\\_summary | summarization | flantune/starter/dialogue\\_summary | CC0-1.0 | 420 |" in card
    assert "| starter/entity" not in card
    mixture = card[card.index("## Training mixture") : card.index("## How it was trained")]
    lines = [line for line in mixture.split("\n") if line.startswith("- ")]
    assert lines[0].endswith("7 of 60 evaluation rows have text in common with training rows of " + escaped(LONG) + ".")
    assert lines[1] == "- dialogue\\_summary without them, 53 rows: rougeL 17.8 → 29.3."
    assert sum("the recipe allows it" in line for line in lines) == 1


def escaped(name: str) -> str:
    return name.replace("_", "\\_")


def test_the_lines_for_the_terminal_show_whole_places_and_the_text_in_common() -> None:
    lines = ledger_lines(fake_plan())
    assert lines[0].startswith("starter/dialogue_summary, row test-031 ")
    assert (
        f"(/home/someone/secret/test.jsonl:31) and {LONG} (/home/someone/secret/mails.csv:12), words in a row, 41"
        in (lines[0])
    )
    assert lines[2].endswith(
        "2 exactly, 1 nearly (/home/someone/secret/mails.csv:9 repeats /home/someone/secret/mails.csv:4)"
    )
    assert lines[-1].startswith("licences: CC0-1.0 (dialogue_summary); ours")
    assert ledger_lines({"tasks": []}) == []


def test_the_terminal_shows_no_more_than_some_pairs_of_tasks() -> None:
    plan = fake_plan()
    plan["ledger"]["contamination"] *= 22
    assert "and 2 more pairs of tasks with text in common (flantune plan --json)" in ledger_lines(plan)
