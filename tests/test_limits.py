"""Worker processes render what this process would, byte for byte, and nothing that happens to them happens to it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bombs
import escapes
import expressions
from flantune.errors import FlantuneError
from flantune.tasks import limits, limits_worker
from flantune.tasks.limits import BoundedRenderer
from flantune.tasks.rendering import InProcess, Text
from test_jinja import EXPRESSIONS, ROW, STATEMENTS

# Some tenths of a second of processor time, on any machine, until it is refused.
SLOW = bombs.BOMBS["a tower of calls"][0]


def said(answers):
    return [f"! {answer}" if isinstance(answer, FlantuneError) else answer for answer in answers]


def a(value, text="<{{ a }}>", what="it"):
    return Text(text, {"a": value}, what)


def pids(renderer):
    return [worker.process.pid for worker in renderer._workers]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def renderer():
    with BoundedRenderer(seconds=5, memory_bytes=600 << 20) as made:
        yield made


# --- the same as here -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([Text(text, escapes.ROW, "it") for text in escapes.attempts()], id="escapes"),
        pytest.param([Text(text, {}, name) for name, (text, _) in bombs.FIFTEEN.items()], id="bombs"),
        pytest.param([Text(f"{{{{ {text} }}}}", ROW, "it") for text in EXPRESSIONS], id="expressions"),
        pytest.param([Text(text, ROW, "it") for text in STATEMENTS], id="statements"),
        pytest.param([Text(text, expressions.ROW, "it") for text in expressions.templates(9, 700)], id="nonsense"),
    ],
)
def test_a_worker_renders_and_refuses_what_this_process_does(texts, renderer):
    """Nothing is left to the worker's own limits: it took 5 seconds and 600 MB for none, and it lives."""
    renderer.render_all([a(1)])
    before = pids(renderer)
    assert said(renderer.render_all(texts)) == said(InProcess().render_all(texts))
    assert pids(renderer) == before


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["a", "b", "c", "first name", "é"])
rows = st.dictionaries(names | st.text(st.characters()), values, max_size=5)
FILTERS = (
    "default('x', true)|default('x')|string|upper|length|list|first|join(', ')|tojson|tojson(1)|int|float|sort|unique"
    "|choice|title|replace('a', 'é')|truncate(9)|dictsort|items|reverse|map('string')|select('string')|batch(2)"
    "|wordwrap(5)|sum|round|trim|indent|most_frequent|format"
)
filters = st.sampled_from(FILTERS.split("|"))
expressions = st.builds(
    lambda name, chain: " | ".join([name if name.isidentifier() else f"'{name}' | field", *chain]),
    names,
    st.lists(filters, max_size=3),
)
# Jinja around expressions.
AROUND = [
    "{{ ONE }}",
    "{% if ONE %}x{% else %}-{% endif %}",
    "{% for x in ONE %}{{ loop.index }}{{ x }};{% endfor %}",
    "{{ (ONE) ~ (TWO) }}",
    "{{ (ONE) == (TWO) }}",
    "{{ (ONE) + (TWO) }}",
    "{{ (ONE)[TWO] }}",
]
pieces = st.one_of(
    st.builds(
        lambda around, one, two: around.replace("ONE", one).replace("TWO", two),
        st.sampled_from(AROUND),
        expressions,
        expressions,
    ),
    st.text(st.characters(), max_size=10),
    st.sampled_from(["|||", "{{", "%}", "{# x #}", "\n", "\ud800"]),
)
texts = st.builds(Text, st.lists(pieces, max_size=4).map("".join), rows, st.sampled_from(["it", 'template "é"']))


@settings(max_examples=60)
@given(asked=st.lists(texts, min_size=1, max_size=30))
def test_a_worker_renders_any_text_with_any_row_byte_for_byte_as_this_process(asked, renderer):
    assert said(renderer.render_all(asked)) == said(InProcess().render_all(asked))


def test_many_texts_come_back_in_order_from_several_workers():
    asked = [a(f"{number} " + "x" * (number % 50) * 100) for number in range(3000)]
    with BoundedRenderer(workers=2) as renderer:
        assert renderer.render_all(asked) == InProcess().render_all(asked)
        assert len(pids(renderer)) == 2
        assert renderer.render_all([]) == []
        assert renderer.render_all(asked[:1]) == InProcess().render_all(asked[:1])


# --- one text harms no other ----------------------------------------------------------------------------------------


def test_a_text_that_takes_too_long_is_stopped_and_the_others_are_rendered():
    with BoundedRenderer(seconds=0.1) as renderer:
        answers = renderer.render_all([a(1), a(2, SLOW, 'template "slow"'), a(3)])
        before = pids(renderer)
        assert said(answers) == ["<1>", '! template "slow" took more than 0.1 s and was stopped; shorten it', "<3>"]
        assert renderer.render_all([a(4)]) == ["<4>"]
        assert pids(renderer) == before


def test_a_text_that_was_stopped_three_times_is_not_tried_again():
    with BoundedRenderer(seconds=0.1) as renderer:
        stopped = "! it took more than 0.1 s and was stopped; shorten it"
        refused = "! it was stopped 3 times and is not tried again; correct it, or leave it out"
        asked = [a(number, SLOW) if number % 2 else a(number) for number in range(200)]
        answers = said(renderer.render_all(asked))
        assert answers[::2] == [f"<{number}>" for number in range(0, 200, 2)]
        assert answers[1::2] == [stopped] * 3 + [refused] * 97
        assert said(renderer.render_all([a(1, SLOW), a(2), a(3, SLOW)])) == [refused, "<2>", refused]


def test_a_text_that_needs_more_memory_than_a_worker_has_is_refused():
    text = "{% set ns = namespace(l=[]) %}{% for i in range(100) %}{% set _ = ns.l.append(a * 199999) %}{% endfor %}x"
    with BoundedRenderer(memory_bytes=96 << 20) as renderer:
        answers = renderer.render_all([a(1), a("\U0001f600", text), a(2)])
        assert said(answers) == ["<1>", "! it needs more memory than there is; shorten it", "<2>"]
    assert InProcess().render_all([a("\U0001f600", text)]) == ["x"]


def test_a_worker_that_the_system_ended_is_replaced_without_a_word():
    with BoundedRenderer() as renderer:
        assert renderer.render_all([a(1)]) == ["<1>"]
        (before,) = pids(renderer)
        os.kill(before, signal.SIGKILL)
        assert renderer.render_all([a(2), a(3)]) == ["<2>", "<3>"]
        assert before not in pids(renderer)


def test_a_worker_that_is_silent_is_killed_with_the_text_that_it_was_at(monkeypatch):
    monkeypatch.setattr(limits, "GRACE", 0.2)
    with BoundedRenderer(seconds=0.2) as renderer:
        assert renderer.render_all([a(1)]) == ["<1>"]
        (before,) = pids(renderer)
        os.kill(before, signal.SIGSTOP)
        answers = renderer.render_all([a(2), a(3)])
        assert said(answers) == ["! it took more than 0.2 s and was stopped; shorten it", "<3>"]
        assert not is_alive(before)


# --- what goes to a worker ------------------------------------------------------------------------------------------


def test_only_plain_data_of_some_size_goes_to_a_worker(renderer):
    asked = [a(1), a(Path("x")), Text("{{ b }}", {"a": 1, "b": {"c": object()}}, "it"), a("x" * (17 << 20)), a(2)]
    assert said(renderer.render_all(asked)) == [
        "<1>",
        '! it: field "a" is no plain data; cast it to text',
        '! it: field "b" is no plain data; cast it to text',
        "! it: a row of more than 16 MB; filter such rows",
        "<2>",
    ]


def test_a_worker_has_no_variable_of_the_users_and_no_file(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "secret")
    with BoundedRenderer() as renderer:
        renderer.render_all([a(1)])
        process = Path("/proc", str(*pids(renderer)))
        if not process.exists():
            pytest.skip("there is no /proc here")
        assert b"secret" not in (process / "environ").read_bytes()
        bounds = (process / "limits").read_text(encoding="utf-8")
        assert [line.split()[3:5] for line in bounds.splitlines() if line.startswith("Max open files")] == [["0", "0"]]
        assert [line.split()[3:5] for line in bounds.splitlines() if line.startswith("Max file size")] == [["0", "0"]]
        assert len(list((process / "fd").iterdir())) == 4  # three pipes, and the number that tells where it is


@pytest.mark.parametrize(
    "act",
    [
        "open('/etc/passwd')",
        "open('/tmp/x', 'w')",
        "os.open('/etc/passwd', os.O_RDONLY)",
        "os.listdir('/')",
        "os.system('true')",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "os.remove('/tmp/x')",
        "os.putenv('A', 'b')",
        "__import__('ctypes')",
        "__import__('socket').socket()",
        "__import__('subprocess').run(['true'])",
        "__import__('mmap').mmap(-1, 10)",
        "sys.addaudithook(print)",
        "sys._current_frames()",
    ],
)
def test_what_a_worker_gave_up_ends_it(act):
    code = f"""
    import os, sys
    sys.path.insert(0, {str(Path(limits_worker.__file__).parent)!r})
    import limits_worker, socket, subprocess, mmap
    limits_worker._give_up(1 << 30)
    try:
        {act}
    except BaseException as error:
        os.write(1, repr(error).encode())
    os.write(1, b"lives")
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (limits_worker.FORBIDDEN, b"")


# --- what comes back ------------------------------------------------------------------------------------------------

# Stands for a worker that a template has taken over.
HONEST = """
import mmap, os, struct, sys, time
def say(kind, text):
    os.write(1, kind + struct.pack("<I", len(text)) + text)
progress = mmap.mmap(int(sys.argv[3]), 4)
say(b"r", b"")
size = struct.unpack("<I", sys.stdin.buffer.read(4))[0]
sys.stdin.buffer.read(size)
"""
STRANGE = limits.STRANGE
TAKEN_OVER = {
    "says another word": ("say(b'x', b'')", STRANGE),
    "says an endless word": ("os.write(1, b't' + bytes([255] * 4))", "gives more than 810,000 bytes and was stopped"),
    "says what is no text": ("say(b't', bytes([255]))", STRANGE),
    "says more than was asked": ("for _ in range(9): say(b't', b'x')", STRANGE),
    "says that it is ready again": ("say(b'r', b'')", STRANGE),
    "says a wrong place": (
        "progress[:] = bytes([255] * 4); os._exit(3)",
        "ended its worker process (exit code 3); it is not rendered",
    ),
    "breaks": ("os.abort()", "ended its worker process (signal SIGABRT); it is not rendered"),
    "is forbidden": ("os._exit(77)", "did what no rendering does, and was stopped"),
    "hangs": ("time.sleep(99)", "took more than 0.2 s and was stopped; shorten it"),
}


@pytest.mark.parametrize("act", TAKEN_OVER)
def test_a_worker_that_was_taken_over_gives_wrong_texts_at_most(act, monkeypatch, tmp_path):
    code, message = TAKEN_OVER[act]
    script = tmp_path / "limits_worker.py"
    script.write_text(HONEST + code, encoding="utf-8")
    monkeypatch.setattr(limits, "GRACE", 0.2)
    monkeypatch.setattr(limits_worker, "__file__", str(script))
    with BoundedRenderer(seconds=0.2) as renderer:
        answers = said(renderer.render_all([a(1)]))
    assert answers in ([f"! it {message}"], ["x"])
    assert answers == [f"! it {message}"] or "for _" in code


def test_a_worker_that_does_not_start_is_no_fault_of_the_text(monkeypatch, tmp_path):
    script = tmp_path / "limits_worker.py"
    script.write_text("raise SystemExit('no Jinja here')", encoding="utf-8")
    monkeypatch.setattr(limits_worker, "__file__", str(script))
    with BoundedRenderer() as renderer, pytest.raises(RuntimeError, match="could be started: b'no Jinja here"):
        renderer.render_all([a(1)])


# --- the life of workers --------------------------------------------------------------------------------------------


def test_workers_are_gone_when_a_renderer_is_closed_and_come_when_it_is_used_again():
    with BoundedRenderer(workers=2) as renderer:
        renderer.render_all([a(1), a(2)])
        before = pids(renderer)
        assert len(before) == 2
    assert not any(is_alive(pid) for pid in before)
    assert renderer.render_all([a(3)]) == ["<3>"]
    renderer.close()


def test_a_renderer_that_is_let_go_lets_its_workers_go():
    renderer = BoundedRenderer()
    renderer.render_all([a(1)])
    (before,) = pids(renderer)
    del renderer
    assert not is_alive(before)


def test_a_renderer_travels_to_another_process_without_its_workers(renderer):
    renderer.render_all([a(1)])
    travelled = pickle.loads(pickle.dumps(renderer))
    assert pids(travelled) == []
    assert travelled.render_all([a(2)]) == ["<2>"]
    travelled.close()


def render_and_tell(renderer, pipe):
    pipe.send((renderer.render_all([a("child")]), os.getpid()))


def test_a_fork_has_workers_of_its_own(renderer):
    assert renderer.render_all([a(1)]) == ["<1>"]
    before = pids(renderer)
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=render_and_tell, args=(renderer, there))
    child.start()
    assert here.recv()[0] == ["<child>"]
    child.join()
    assert renderer.render_all([a(2)]) == ["<2>"]
    assert pids(renderer) == before


SCRIPT = """
import sys
from flantune.tasks.limits import BoundedRenderer
from flantune.tasks.rendering import Text

if __name__ == "__main__":
    renderer = BoundedRenderer(seconds=60)
    renderer.render_all([Text("x", {}, "it")])
    print(renderer._workers[0].process.pid, flush=True)
    {then}
"""


def started(then):
    code = SCRIPT.replace("{then}", then)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert process.stdout
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("then", ["pass", "raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"])
def test_workers_end_with_the_process_that_started_them(then):
    process, worker = started(then)
    process.communicate()
    # One whose parent was killed sees the end of its pipe, and is then reaped by whoever adopts it.
    status = Path("/proc", str(worker), "stat")
    while is_alive(worker) and not (status.exists() and status.read_text(encoding="utf-8").split()[2] == "Z"):
        os.sched_yield()


def test_ctrl_c_ends_parent_and_worker_in_the_middle_of_a_text():
    process, worker = started(f"renderer.render_all([Text({SLOW!r}, {{}}, 'it')] * 1000)")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1
    assert not is_alive(worker)
