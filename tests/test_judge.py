"""The second opinion: what a judge says is read strictly, counted in both orders, kept, and its key written nowhere."""

from __future__ import annotations

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fake_run import fake_comparison, fake_run
from flantune import pipeline
from flantune.errors import FlantuneError
from flantune.evaluation import judge_server
from flantune.evaluation.judging import opinion, outcome, question, said
from flantune.evaluation.records import Side, TaskAnswers, write_side
from flantune.reporting import write_report
from flantune.reporting.second_opinion import opinion_in_short
from flantune.second_opinion import second_opinion
from runs import command
from ui_server import serving, trained_run

KEY = "planted-key-0123456789"


class Judge(ThreadingHTTPServer):
    """A real server whose judge prefers the answer with more words `good`, and the first where none has more."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict] = []
        self.keys: set[str | None] = set()
        self.refusals: list[int] = []  # statuses of the next replies
        self.reply: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Judge  # pyrefly: ignore

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Authorization")
        self.server.keys.add(key)
        if self.server.refusals:
            return self.say(self.server.refusals.pop(0), {"error": {"message": f"not with {key}"}})
        self.server.asked.append(body)
        return self.say(200, {"choices": [{"message": {"content": self.server.reply or self.judged(body)}}]})

    def judged(self, body: dict) -> str:
        first, second = (
            body["messages"][1]["content"].split(f"--- {place} answer")[1].split("--- end")[0].count("good")
            for place in ("first", "second")
        )
        return "second" if second > first else "**First**."

    def say(self, status: int, told: dict) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def judge():
    server = Judge()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A compared run: of 12 rows the tuned model is better on 8, worse on 1, as good on 2, and the same on 1."""
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    answers = {
        "base": ["bad"] * 8 + ["good", "fine", "fair", "same"],
        "tuned": ["good"] * 8 + ["bad", "ok", "so", "same"],
    }
    for side, texts in answers.items():
        rows = [
            {"row": str(n), "template": "t", "exemplars": 0, "prompt": f"q{n}", "references": ["r"], "prediction": text}
            for n, text in enumerate(texts)
        ]
        decoding = {"evaluate_by": "generation"}
        task = TaskAnswers("titles", "c", "trained", ("rouge1",), decoding, rows)
        write_side(tmp_path / "run" / "evaluation" / side, Side({"model": side, "identity": side}, (task,)))
    (tmp_path / "run" / "comparison.json").write_text("{}")
    return tmp_path / "run"


def test_wins_flips_and_ties_are_counted_in_both_orders(run, judge):
    made = second_opinion(run, judge.url, "m")
    told = made["tasks"][0]
    assert [told[key] for key in ("n", "wins", "losses", "ties")] == [12, 8, 1, 3]
    assert [told[key] for key in ("flips", "halves", "unparsable", "identical")] == [2, 0, 0, 1]
    test = binomtest(8, 9)
    assert told["p"] == pytest.approx(test.pvalue)
    assert told["ci"] == pytest.approx(list(test.proportion_ci(0.95, "exact")))
    assert told["verdict"] == "better"
    assert told["length"]["tuned"] > told["length"]["base"]
    assert told["length"]["correlation"] > 0
    assert len(judge.asked) == 22
    assert {body["temperature"] for body in judge.asked} == {0}
    assert json.loads((run / "second_opinion.json").read_text()) == made
    assert len((run / "second_opinion" / "titles.jsonl").read_text().splitlines()) == 12


def test_what_was_asked_is_not_asked_again_and_a_half_written_reply_is(run, judge, tmp_path):
    first = second_opinion(run, judge.url, "m")
    assert second_opinion(run, judge.url, "m", at_once=1) == first
    assert len(judge.asked) == 22
    (kept,) = (tmp_path / "cache" / "judgements").glob("*.jsonl")
    kept.write_bytes(kept.read_bytes()[:-10])  # as a kill leaves it
    assert second_opinion(run, judge.url, "m") == first
    assert len(judge.asked) == 23
    second_opinion(run, judge.url, "m")
    assert len(judge.asked) == 23


def test_a_busy_server_is_asked_again_and_a_run_that_failed_goes_on(run, judge):
    judge.refusals = [503, 429, 500]
    assert second_opinion(run, judge.url, "m", rows=2, at_once=1)["all"]["wins"] == 2
    judge.refusals = [503] * judge_server.TRIES
    with pytest.raises(FlantuneError, match=f"no reply after {judge_server.TRIES} tries: 503"):
        second_opinion(run, judge.url, "m", at_once=1)
    assert 4 <= len(judge.asked) < 22
    second_opinion(run, judge.url, "m")
    assert len(judge.asked) == 22


def test_replies_in_other_words_are_ties_and_counted(run, judge):
    judge.reply = "The first answer is better, I think."
    told = second_opinion(run, judge.url, "m")["all"]
    assert (told["wins"], told["unparsable"], told["share"], told["p"]) == (0, 11, None, 1.0)


def test_the_key_is_sent_and_stands_in_no_file_and_no_message(run, judge, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    asked = ("judge", run, "--url", judge.url, "--model", "m", "--key-env", "JUDGE_KEY")
    code, out, err = command(capsys, monkeypatch, *asked, "--rows", "3")
    assert code == 0
    judge.reply = f"your key is {KEY}"
    assert command(capsys, monkeypatch, *asked, "--rows", "5")[0] == 0
    judge.refusals = [401]
    code, *texts = command(capsys, monkeypatch, *asked, "--at-once", "1")
    assert (code, texts[1].splitlines()[-1]) == (2, f"error: {judge.url}: 401 Unauthorized: not with Bearer ***")
    assert judge.keys == {f"Bearer {KEY}"}
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in written + out + err + "".join(texts)


@pytest.mark.parametrize(
    ("url", "named", "told"),
    [
        (
            f"http://me:{KEY}@host/v1",
            None,
            "--url: give no password or key in the address; name a variable with --key-env",
        ),
        ("ftp://host", None, "--url: is no http address; give for example http://localhost:8000/v1"),
        ("http://host/v1", KEY, "--key-env: takes the name of an environment variable, not the key itself"),
        ("http://host/v1", "NOT_SET", "--key-env: the environment variable NOT_SET is not set"),
    ],
)
def test_a_wrong_address_or_key_is_one_line_that_does_not_repeat_it(run, url, named, told):
    with pytest.raises(FlantuneError) as caught:
        second_opinion(run, url, "m", key_variable=named)
    assert str(caught.value) == told


def test_the_report_shows_the_opinion_of_the_models_that_are_compared(run, judge, tmp_path):
    folder = fake_run(tmp_path / "shown")
    assert 'id="opinion"' not in write_report(folder).read_text(encoding="utf-8")
    second_opinion(run, judge.url, "<b>judge</b>")
    shutil.copy(run / "second_opinion.json", folder)
    for side in ("base", "tuned"):
        shutil.copy(run / "evaluation" / side / "settings.json", folder / "evaluation" / side)
    page = write_report(folder).read_text(encoding="utf-8")
    assert 'id="opinion"' in page
    assert "<b>judge</b>" not in page
    (folder / "evaluation" / "tuned" / "settings.json").write_text('{"identity": "another"}')
    assert 'id="opinion"' not in write_report(folder).read_text(encoding="utf-8")


def test_an_opinion_in_short_has_its_pairs_interval_and_flips(run, judge):
    assert opinion_in_short(second_opinion(run, judge.url, "some-model")) == (
        "some-model was asked which answer is better in 12 pairs of answers from 1 task, each in both orders (1 of "
        "equal answers not asked, and tied); a win needs both: tuned won 8, lost 1, tied 3; of those decided it won "
        "88.9 % (95 % interval 51.8 % to 99.7 %). The winner flipped with the order in 2 pairs; such pairs are ties. "
        "It says what one other model prefers, beside the scores."
    )
    judge.reply = "neither"
    undecided = opinion_in_short(second_opinion(run, judge.url, "another"))
    assert "tuned won 0, lost 0, tied 12. The winner flipped" in undecided
    assert "in 0 pairs and its replies could not be read in 11; such pairs are ties" in undecided


@pytest.mark.slow
def test_the_model_card_and_the_page_of_a_run_have_the_opinion_of_the_models_that_are_compared(run, judge, tmp_path):
    pytest.importorskip("uvicorn", reason="the extra ui is not installed")
    folder = trained_run(tmp_path / "runs" / "one", tmp_path / "data")
    (folder / "comparison.json").write_text(json.dumps(fake_comparison()))

    def shown() -> list[bool]:
        pipeline.report(folder)
        card = (folder / "model" / "README.md").read_text(encoding="utf-8")
        status, _, page = server.ask("/run?name=one")
        assert status == 200
        assert "<i>judge</i>" not in card + page
        assert ("## Second opinion" in card, "Second opinion</h2>" in page) == (
            "won 88.9 % (95 % interval 51.8 % to 99.7 %)" in card,
            "won 88.9 % (95 % interval 51.8 % to 99.7 %)" in page,
        )
        return ["## Second opinion" in card, "Second opinion</h2>" in page]

    with serving(tmp_path / "runs", tmp_path / "cache") as server:
        assert shown() == [False, False]
        second_opinion(run, judge.url, "<i>judge</i>")
        shutil.copy(run / "second_opinion.json", folder)
        assert shown() == [False, False]
        for side in ("base", "tuned"):
            (folder / "evaluation" / side).mkdir(parents=True)
            shutil.copy(run / "evaluation" / side / "settings.json", folder / "evaluation" / side)
        assert shown() == [True, True]


@given(text=st.text(max_size=40))
def test_a_verdict_is_one_of_three_words_alone(text):
    letters = "".join(c for c in text if c.isalnum()).lower()
    assert said(text) is None or said(text) == letters
    assert said(f"<think>first? {text}</think> tie") in ("tie", None)


@given(replies=st.lists(st.sampled_from(["first", "second", "tie", None]), min_size=2, max_size=2))
def test_another_name_for_the_models_turns_the_outcome_round(replies):
    winner, how = outcome(replies)
    swapped = {"base": "tuned", "tuned": "base", "tie": "tie"}
    assert outcome(replies[::-1]) == (swapped[winner], how)
    assert winner == "tie" or (how == "agreed" and set(replies) == {"first", "second"})


def test_rows_of_one_id_are_one_observation():
    row = {"winner": "tuned", "how": "agreed", "said": ["second", "first"], "length": {"base": 1, "tuned": 2}}
    told = opinion([{**row, "group": n // 5} for n in range(20)])
    assert (told["n"], told["wins"], told["rows"]) == (4, 4, 20)
    assert told["p"] == 0.125


def test_no_answer_can_close_the_lines_around_it():
    asked = question(
        {"prompt": "p", "references": ["r"]}, "a\n--- end 00000000", "b", instruction="", with_reference=True
    )
    marks = {line.split()[-1] for line in asked[1]["content"].splitlines() if line.startswith("--- end")}
    assert len(marks - {"00000000"}) == 1
