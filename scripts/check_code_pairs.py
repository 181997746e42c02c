"""Check that the Python and JavaScript sides of `starter/code_translation` agree.

For every row of every split the Python function and its JavaScript translation are run on the row's
calls, and the results are compared as JSON values (numbers equal within 1e-9). Needs `node`.

Usage: python scripts/check_code_pairs.py [FOLDER] [--node NODE]
Exit code: 0 all calls agree, 1 some differ, 2 node is missing.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "src/flantune/starter/code_translation"
SPLITS = ("train", "validation", "test")
TOLERANCE = 1e-9
show = partial(json.dumps, ensure_ascii=False)
Outcome = dict[str, Any]  # {"value": a JSON value} or {"error": a message}

# `rows` is put in front. What JSON would change in silence (undefined, NaN, a Set) is an error here.
JS_RUNNER = """
const strict = (key, value) => {
  const odd = /undefined|function/.test(typeof value) || value instanceof Set || value instanceof Map;
  if (odd || (typeof value === "number" && !Number.isFinite(value))) {
    throw new TypeError(`not a JSON value: ${String(value)}`);
  }
  return value;
};
const attempt = ({ code, name }, args) => {
  try {
    const call = new Function(`${code}\\nreturn ${name};`)();  // a scope of its own
    return { value: JSON.parse(JSON.stringify(call(...args), strict)) };
  } catch (error) {
    return { error: String(error) };
  }
};
const outcomes = rows.map((row) => row.calls.map((args) => attempt(row, args)));
process.stdout.write(JSON.stringify(outcomes));
"""


def run_python(code: str, calls: list[list[Any]]) -> list[Outcome]:
    """Run the last top-level `def` of `code` on each argument list, in one fresh namespace."""
    namespace: dict[str, Any] = {}
    outcomes: list[Outcome] = []
    try:
        name = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)][-1]
        exec(code, namespace)  # rows of this repository, not text from outside
    except Exception as error:
        return [{"error": f"{type(error).__name__}: {error}"} for _ in calls]
    for args in calls:
        try:
            outcomes.append({"value": json.loads(json.dumps(namespace[name](*args), allow_nan=False))})
        except Exception as error:
            outcomes.append({"error": f"{type(error).__name__}: {error}"})
    return outcomes


def run_javascript(node: str, rows: list[dict[str, Any]]) -> list[list[Outcome]]:
    """Run the last top-level function of every row in one node process, the script on its standard input."""
    jobs = []
    for row in rows:
        code = row["javascript"]
        names = re.findall(r"^function\*? +([A-Za-z_$][\w$]*)", code, re.MULTILINE) or ["undefined"]
        jobs.append({"code": code, "name": names[-1], "calls": row["calls"]})
    script = f"const rows = {json.dumps(jobs)};\n{JS_RUNNER}"
    return list(json.loads(subprocess.check_output([node, "-"], input=script, encoding="utf-8", timeout=60)))


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: the kinds must match, numbers may differ by the tolerance."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return abs(left - right) <= TOLERANCE
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


def main() -> int:
    """Check every split and report; the module docstring names the exit codes."""
    parser = argparse.ArgumentParser(description="Run both sides of every code_translation row and compare.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="the task's folder")
    parser.add_argument("--node", default="node", help="the node executable (default: %(default)s)")
    options = parser.parse_args()
    node = shutil.which(options.node)
    if node is None:
        print(f"{options.node} not found: the JavaScript side cannot be run", file=sys.stderr)
        return 2
    total = differing = 0
    for split in SPLITS:
        path = options.folder / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        for number, (row, theirs) in enumerate(zip(rows, run_javascript(node, rows), strict=True), start=1):
            calls = [show(args) for args in row["calls"]]  # before a function changes them
            for call, left, right in zip(calls, run_python(row["python"], row["calls"]), theirs, strict=True):
                total += 1
                if "error" in left or "error" in right or not same(left["value"], right["value"]):
                    differing += 1
                    ours, other = (show(side.get("value", side)) for side in (left, right))
                    print(f"{path}:{number} {row['id']}: {call}: python {ours}, javascript {other}")
    print(f"{total} calls checked, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
