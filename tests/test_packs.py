"""Task packs: an installed package offers tasks by an entry point, and is not imported for it."""

from __future__ import annotations

import json
import subprocess
import sys

PACK = {
    "name": "medical/notes",
    "license": "CC0-1.0",
    "origins": ["made up"],
    "source": {"kind": "jsonl", "splits": {"train": "notes.jsonl"}},
    "metrics": ["rouge1"],
    "templates": [{"name": "short", "text": "Sum up: {{ note }} ||| {{ summary }}"}],
}
ASK = """
from flantune.tasks import find_task
task = find_task("medical/notes")
print(task.trusted, task.example(0))
"""


def installed(folder):
    """What pip leaves of a package that offers tasks: the package and its metadata."""
    package, about = folder / "flantune_medical", folder / "flantune_medical-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: flantune-medical\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[flantune.tasks]\nmedical = flantune_medical\n")
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "notes.yaml").write_text(json.dumps(PACK, indent=1))
    (package / "notes.jsonl").write_text('{"note": "It hurts.", "summary": "pain"}\n')


def run(folder, code):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": str(folder), "FLANTUNE_CACHE": str(folder / "cache")},
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip(), done.stderr


def test_a_task_of_a_pack_is_found_by_name_and_renders_in_bounded_workers(tmp_path):
    installed(tmp_path)
    out, errors = run(tmp_path, ASK)
    assert (out, errors) == ("False ('Sum up: It hurts.', 'pain')", "")


def test_the_tasks_of_packs_are_listed(tmp_path):
    installed(tmp_path)
    out, errors = run(tmp_path, "from flantune.tasks.find import task_names; print(task_names()[-1])")
    assert (out, errors) == ("medical/notes", "")


def test_an_unknown_task_of_a_pack_is_told_with_those_it_has(tmp_path):
    installed(tmp_path)
    code = (
        "from flantune.errors import FlantuneError\nfrom flantune.tasks import find_task\n"
        "try: find_task('medical/note')\nexcept FlantuneError as error: print(error)"
    )
    out, _ = run(tmp_path, code)
    assert out == (
        "unknown task 'medical/note'; did you mean \"medical/notes\"? (medical/notes); "
        "your own task is named by the path of its .yaml file"
    )
