"""Programs that a model wrote: tests decide, nothing gets out, nothing lasts, and no leave is taken for granted."""

from __future__ import annotations

import gzip
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flantune import FlantuneError, Recipe
from flantune.assessment import evaluated, resampling
from flantune.evaluation.compare import scores
from flantune.evaluation.metrics import metric
from flantune.evaluation.metrics.code_runner import ProgramRunner
from flantune.evaluation.metrics.code_worker import ALLOWED
from flantune.evaluation.predict import row_statistics
from flantune.evaluation.prompts import evaluation_set
from flantune.tasks import load_task
from runs import command, write_recipe

ROOT = Path(__file__).parent.parent
DATA = Path("/work/shared/data/human_eval/human_eval.jsonl.gz")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine not in ALLOWED, reason="no filters of system calls known here"
)


@pytest.fixture(scope="module")
def runner():
    runner = ProgramRunner(seconds=1, memory_bytes=256 << 20)
    yield runner
    runner.close()


def children(pid):
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# What no program may do. Each line would be noticed: by a file, a process, a worker that is gone, or by passing.
MISDEEDS = {
    "a fork bomb": "import os\nwhile True:\n    os.fork()",
    "a fork bomb that goes on": "import os\nwhile True:\n  try:\n    os.fork()\n  except BaseException:\n    pass",
    "a program": "import os\nassert os.system('touch {file}') == 0",
    "another": "import os\nos.execv('/bin/touch', ['touch', '{file}'])",
    "a thread": "import _thread\n_thread.start_new_thread(print, ())",
    "a file": "open('{file}', 'w').write('x')",
    "a file removed": "import os\nos.remove('{kept}')",
    "a file cut": "import os\nos.truncate('{kept}', 0)",
    "a file read": "open('{kept}').read()",
    "a folder": "import os\nos.mkdir('{file}')",
    "a folder listed": "import os\nos.listdir('/')",
    "a socket": "import _socket\n_socket.socket()",
    "a module that is not loaded": "import http.client",
    "its parent killed": "import os\nos.kill(os.getppid(), 9)",
    "all killed": "import os\nos.kill(-1, 9)",
    "limits lifted": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    "an endless loop": "while True:\n    pass",
    "one that catches all": "while True:\n  try:\n    while True: pass\n  except BaseException:\n    pass",
    "one in C": "'a' * 3 in [0] * (1 << 62) if False else (1 << (1 << 30)) ** 99",
    "one that hears no signal": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    pass",
    "endless sleep": "import time\ntime.sleep(1e6)",
    "endless output": "while True:\n    print('x' * 10000)",
    "all memory": "x = [0]\nwhile True:\n    x += x",
    "much memory": "x = bytearray(1 << 34)",
    "endless recursion": "def f():\n    return f()\nf()",
    "recursion without a limit": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n):\n    return [f(n + 1)]\nf(0)",
    "an early exit": "raise SystemExit(0)",
    "an exit at once": "import os\nos._exit(0)",
    "a word of its own": "import os\nos.write(3, b'p' * 16)\nos._exit(0)",
    "no Python": "this is no Python",
    "a null": "x = '\0'\nassert False",
}


@pytest.mark.parametrize("name", MISDEEDS)
def test_no_program_does(runner, tmp_path, name):
    (tmp_path / "kept").write_text("kept")
    program = MISDEEDS[name].replace("{file}", str(tmp_path / "new")).replace("{kept}", str(tmp_path / "kept"))
    assert runner.passes(["x = 1"])
    worker = runner._worker.pid
    assert not runner.passes([program])
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "kept"
    assert runner._worker.pid == worker
    assert children(worker) == []
    assert runner.passes(["y = 1", "try:\n    x\n    assert False\nexcept NameError:\n    pass"])


def test_system_calls_made_by_hand_are_refused_too(runner):
    calls = "import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.fork() == -1\nassert libc.socket(2, 1, 0) == -1\n"
    assert runner.passes([calls + "assert libc.open(b'/etc/passwd', 0) == -1\nassert libc.kill(1, 0) == -1"])


@pytest.mark.skipif(not DATA.exists(), reason="no HumanEval here")
def test_all_solutions_of_humaneval_pass_and_none_that_answers_nothing(runner):
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(rows) == 164
    for body, passes in (("canonical_solution", True), (None, False)):
        for row in rows:
            answer = row["prompt"] + (row[body] if body else "    return None\n")
            assert runner.passes([answer, row["test"], f"check({row['entry_point']})"]) is passes, row["task_id"]


@pytest.mark.skipif(not DATA.exists(), reason="no HumanEval here")
def test_the_right_answers_of_the_humaneval_example_pass_their_computed_tests(tmp_path):
    text = (ROOT / "examples" / "tasks" / "code_generation" / "human_eval.yaml").read_text(encoding="utf-8")
    (tmp_path / "human_eval.yaml").write_text(text.replace("[chrf, bleu]", "[code_passes]"), encoding="utf-8")
    task = load_task(tmp_path / "human_eval.yaml", {"DATA": str(DATA.parent.parent)}, allow_code=True)
    asked = evaluation_set(task, split="test", rows=40, templates="all", seed=0)
    right = row_statistics(asked.metrics[0], asked, [item.references[0] for item in asked.items])
    assert right.tolist() == [[1, 1]] * 40
    others = [item.references[0] for item in asked.items[1:]]
    assert row_statistics(asked.metrics[0], asked, [*others, "x = 1"])[:, 0].sum() < 5


def test_whoever_is_killed_leaves_no_program_behind(tmp_path):
    code = (
        "from flantune.evaluation.metrics.code_runner import ProgramRunner\n"
        "runner = ProgramRunner(seconds=100)\nrunner.passes(['1'])\nprint(runner._worker.pid, flush=True)\n"
        "runner.passes(['import time\\ntime.sleep(1000)'])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    while not (found := children(worker)):
        pass
    ends = [os.pidfd_open(pid) for pid in found]
    os.kill(worker, signal.SIGKILL)
    assert select.select(ends, [], [], 30)[0] == ends
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for end in ends:
        os.close(end)


# --- the metric -------------------------------------------------------------------------------------------------

ROW = {"setup": "import math", "tests": ["assert area(1) == math.pi", "assert area(0) == 0"]}
GOOD = "def area(r):\n    return math.pi * r * r"


@pytest.mark.parametrize(
    ("answer", "row", "passes"),
    [
        (GOOD, ROW, 1),
        (f"```python\n{GOOD}\n```", ROW, 1),
        (GOOD, {**ROW, "tests": ROW["tests"][0]}, 1),
        (GOOD, {"tests": ROW["tests"]}, 0),
        ("def area(r):\n    return 0", ROW, 0),
        ("", {"tests": "assert True"}, 0),
        ("if __name__ == '__main__':\n    input()", {"tests": "assert True"}, 1),
    ],
)
def test_an_answer_passes_where_setup_answer_and_tests_run_to_their_end(answer, row, passes):
    assert metric("code_passes").statistics(answer, ["?"], row, None).tolist() == [passes, 1]


@pytest.mark.parametrize("row", [None, {}, {"tests": []}, {"tests": " "}])
def test_a_row_without_tests_is_refused(row):
    with pytest.raises(FlantuneError) as refusal:
        metric("code_passes").statistics("x = 1", ["?"], row, None)
    assert str(refusal.value) == 'metric "code_passes" needs code in the field "tests" of each row'


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path)
    words = tmp_path / "words.yaml"
    words.write_text(words.read_text().replace("[rouge1, exact_match]", "[code_passes]"))
    for split in ("train", "test"):
        rows = tmp_path / f"words-{split}.jsonl"
        lines = [{**json.loads(line), "tests": "assert True"} for line in rows.read_text().splitlines()]
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_nothing_that_a_model_wrote_runs_without_leave(recipe, capsys, monkeypatch):
    code, _, err = command(capsys, monkeypatch, "plan", recipe)
    assert code == 2
    assert err.endswith(
        'words.yaml:10: metrics: metric "code_passes" runs what a model writes; say `allow_code: true` in the recipe\n'
    )
    assert command(capsys, monkeypatch, "plan", recipe, "allow_code=true")[0] == 0


def test_what_the_tests_said_is_kept_so_that_nothing_runs_again(recipe, tmp_path, capsys, monkeypatch):
    chosen = Recipe.load(recipe, ["allow_code=true", "training.precision=fp32"])
    side = evaluated(chosen, str(tmp_path / "tiny"), tmp_path / "out")
    rows = side.tasks[0].rows
    assert {tuple(row["measured"]["code_passes"]) for row in rows} <= {(0.0, 1.0), (1.0, 1.0)}
    assert rows[0]["fields"] == {"tests": "assert True"}
    path = tmp_path / "out" / "words.jsonl"
    path.write_text("".join(json.dumps({**row, "measured": {"code_passes": [1.0, 1.0]}}) + "\n" for row in rows))
    monkeypatch.setattr(ProgramRunner, "passes", None)
    code, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out)["tasks"][0]["score"] == 100
    assert scores(side, resampling(side.settings))[0]["metric"] == "code_passes"
