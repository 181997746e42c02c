"""The local page as a server: who is let in, what can be reached, what its streams say, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_run import fake_run
from flantune.errors import FlantuneError
from flantune.evaluation.generate import generate
from flantune.models.load import load_model
from flantune.reporting import write_report
from flantune.ui.runs import Log, Runs
from ui_server import Server, serving, trained_run

pytest.importorskip("uvicorn", reason="the extra ui is not installed")
SECRET = "what stands outside of the folder"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ui")
    write_report(fake_run(place / "runs" / "first"))
    trained_run(place / "runs" / "group" / "tiny", place / "data")
    (place / "outside").mkdir()
    for name in ("report.html", "recipe.yaml", "metrics.jsonl"):
        (place / "outside" / name).write_text(SECRET)
    (place / "runs" / "linked").symlink_to(place / "outside")
    fake_run(place / "runs" / "halfway")
    (place / "runs" / "halfway" / "report.html").symlink_to(place / "outside" / "report.html")
    return place


@pytest.fixture(scope="module")
def server(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(place / "runs", tmp_path_factory.mktemp("cache")) as started:
        yield started


HOSTILE = {
    "a name that was made to lead here": ({"Host": "attack.example"}, 403),
    "another port": ({"Host": "127.0.0.1:1"}, 403),
    "no port": ({"Host": "127.0.0.1"}, 403),
    "another loopback name": ({"Host": "localhost.attack.example:80"}, 403),
    "no host": ({"Host": None}, 403),
    "an empty host": ({"Host": ""}, 403),
    "a foreign origin": ({"Origin": "http://attack.example"}, 403),
    "an origin of another port": ({"Origin": "http://127.0.0.1:1"}, 403),
    "a secure origin of another site": ({"Origin": "https://localhost"}, 403),
    "an opaque origin": ({"Origin": "null"}, 403),
    "an empty origin": ({"Origin": ""}, 403),
    "a page of another site": ({"Sec_Fetch_Site": "cross-site"}, 403),
    "a page of another port": ({"Sec_Fetch_Site": "same-site"}, 403),
    "no cookie": ({"Cookie": None}, 403),
    "a wrong token": ({"Cookie": "flantune-{port}=x"}, 403),
    "the cookie of another port": ({"Cookie": "flantune-1={token}"}, 403),
    "a cookie whose name only ends so": ({"Cookie": "x-flantune-{port}={token}"}, 403),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_requests_that_the_page_did_not_make_are_refused(server: Server, case: str, method: str) -> None:
    headers, status = HOSTILE[case]
    filled = {
        name: value and value.replace("{port}", str(server.port)).replace("{token}", server.token)
        for name, value in headers.items()
    }
    if method == "POST" and "Host" in filled and filled["Host"]:
        filled["Origin"] = f"http://{filled['Host']}"  # compared with the host, it would be let in
    path = "/" if method == "GET" else "/ask"
    got, _, text = server.ask(path, method, b'{"text": "x", "name": "first"}' if method == "POST" else None, **filled)
    assert got == status
    assert "first" not in text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": None}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": None}, 415),
        ({"Content_Length": str((1 << 20) + 1)}, 413),
        ({"Content_Length": None, "Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_a_post_that_a_form_of_a_foreign_page_could_send_is_refused(server: Server, headers, status: int) -> None:
    body = b'{"text": "x"}' if headers.get("Content_Length", "") is not None else b"1\r\nx\r\n0\r\n\r\n"
    assert server.ask("/ask", "POST", body, **headers)[0] == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    assert server.ask("/", method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/run?name=../outside",
        "/run?name=linked",
        "/run?name=/etc",
        "/run?name=",
        "/run?name=first/../first",
        "/report?name=linked",
        "/report?name=halfway",
        "/report?name=first%00",
        "/events?name=../outside",
        "/play?name=../outside",
        "/prompts?name=group/tiny&task=../../outside",
        "/task?task=/etc/passwd.yaml",
        "/task?task=super_ni:/etc/passwd",
        "/task?task=starter/intent&row=-1",
        "/task?task=starter/intent&row=999999",
        "/task?task=starter/intent&split=../train",
        "/static/../serve.py",
        "/static/%2e%2e%2fserve.py",
        "/static/ui.css/../../app.py",
        "/static/layout.html.j2",
        "/nothing",
    ],
)
def test_nothing_outside_of_the_runs_can_be_reached(server: Server, path: str) -> None:
    status, _, text = server.ask(path)
    assert status == 404
    assert SECRET not in text
    assert "root:" not in text
    assert "Traceback" not in text


def test_only_the_printed_address_lets_in_and_it_listens_on_the_loopback_alone(server: Server) -> None:
    assert server.ask("/enter/wrong", Cookie=None)[0] == 403
    status, headers, _ = server.ask(f"/enter/{server.token}", Cookie=None)
    assert (status, headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in headers["set-cookie"].split(";")}
    assert server.address.startswith("http://127.0.0.1:")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)


def test_each_answer_keeps_foreign_things_out(server: Server) -> None:
    for path in ("/", "/run?name=first", "/static/ui.js", "/nothing", "/report?name=first"):
        _, headers, _ = server.ask(path)
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("sandbox allow-scripts;")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"name": "group/tiny", "text": " "}, "nothing is asked"),
        ({"name": "group/tiny", "text": ["x"]}, "nothing is asked"),
        ([], "nothing is asked"),
        ({"name": "group/tiny", "text": "x" * 100_001}, "a question has at most 100,000 characters"),
        ({"name": "group/tiny", "text": "x", "max_new_tokens": 0}, "an answer has 1 to 1024 tokens"),
        ({"name": "group/tiny", "text": "x", "max_new_tokens": 1025}, "an answer has 1 to 1024 tokens"),
        ({"name": "../outside", "text": "x"}, "there is no such run"),
    ],
)
def test_questions_that_cannot_be_asked_are_told_in_one_line(server: Server, asked: object, said: str) -> None:
    assert server.json("/ask", asked) == (400, {"error": said})


def test_a_body_that_is_no_json_is_told_in_one_line(server: Server) -> None:
    status, _, text = server.ask("/ask", "POST", b"{", Accept="application/json")
    assert (status, json.loads(text)) == (400, {"error": "the request is no JSON"})


def test_a_run_without_a_model_says_so_where_it_is_asked(server: Server) -> None:
    status, said = server.json("/ask", {"name": "first", "text": "x", "stream": False})
    assert status == 200
    assert "error" in said[-1]  # type: ignore[index]


def test_both_models_answer_as_they_do_elsewhere_word_by_word_or_at_once(server: Server, place: Path) -> None:
    question = {"name": "group/tiny", "text": "Text: amber birch", "max_new_tokens": 9}
    loaded = load_model(str(place / "data" / "tiny"), answering=True)
    expected = generate(loaded, [loaded.format.prompt_ids(question["text"])], max_new_tokens=9)[0]
    answers = [{"who": who, "text": expected.text, "finished": expected.finished} for who in ("base", "tuned")]
    assert server.json("/ask", {**question, "stream": False}) == (200, answers)
    _, headers, text = server.ask("/ask", "POST", json.dumps(question).encode())
    assert headers["content-type"].startswith("application/x-ndjson")
    pieces = [json.loads(line) for line in text.splitlines()]
    assert [piece for piece in pieces if piece["finished"] is not None] == answers
    for who in ("base", "tuned"):
        told = [piece["text"] for piece in pieces if piece["who"] == who]
        assert len(told) >= 2
        assert all(len(after) >= len(before) for before, after in pairwise(told))


def test_ctrl_c_ends_it_cleanly_while_a_page_listens(place: Path, tmp_path: Path) -> None:
    with serving(place / "runs", tmp_path / "cache") as server:
        listening = socket.create_connection(("127.0.0.1", server.port))
        cookie = f"flantune-{server.port}={server.token}"
        listening.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {cookie}\r\n\r\n".encode())
        assert b"200 OK" in listening.recv(1 << 16)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
        listening.close()


def test_a_port_that_is_taken_and_a_folder_that_is_missing_are_told(server: Server, tmp_path: Path) -> None:
    from flantune.ui.serve import serve

    with pytest.raises(FlantuneError, match=f"port {server.port} cannot be used .*; choose another with --port"):
        serve(tmp_path, server.port, print)
    with pytest.raises(FlantuneError, match="no such folder; flantune quickstart makes a first run in runs/"):
        serve(tmp_path / "nowhere", 0, print)


def test_runs_are_found_by_looking(place: Path) -> None:
    found = {run.name: run.state() for run in Runs(place / "runs").all()}
    assert found == {"first": "compared", "group/tiny": "trained", "halfway": "compared"}
    assert [run.name for run in Runs(place / "runs" / "first").all()] == ["first"]


@given(
    losses=st.lists(st.floats(0, 9), max_size=30),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
)
def test_a_log_that_is_read_while_it_is_written_gives_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    lines = [{"step": step, "loss": loss} for step, loss in enumerate(losses)]
    whole = "".join(json.dumps(line) + "\n" for line in lines).encode()
    log = Log(path)
    assert not log.read_on()
    for cut in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
        path.write_bytes(whole[:cut])  # ends anywhere, also in the middle of a line
        log.read_on()
        assert log.lines == lines[: len(log.lines)]
    assert log.lines == lines


def test_a_log_that_was_cut_by_a_resumed_run_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = Log(path)
    path.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(9)))
    assert log.read_on()
    path.write_text('{"step": 0, "loss": 1.0}\nno json\n[1]\n{"step": 1, "loss": 2.0}\n{"note": 1}\n')
    assert log.read_on()
    assert [line["loss"] for line in log.steps()] == [1.0, 2.0]
    assert [line["step"] for line in log.steps(1)] == [0, 1]
