"""`report.html`: one file that opens anywhere, offline, and shows what a run has and has not gained."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from flantune.errors import FlantuneError
from flantune.files import digest, write_text
from flantune.reporting import charts, formats
from flantune.reporting.formats import GROUPS, SYMBOLS, main_metrics, short_task, visible
from flantune.reporting.ledger import ledger_view

_ROWS = 60  # rows of a task that can be browsed in the page
_PROMPT, _ANSWER = 8000, 4000  # characters shown of a prompt, of an answer

_FILES = {
    "recipe.yaml": "the recipe as resolved",
    "environment.json": "versions and machine",
    "plan.json": "what was planned before training",
    "mixture.json": "what was really trained on",
    "metrics.jsonl": "loss and speed, a line a step",
    "model/": "the tuned model",
    "evaluation/base/": "answers of the base model, a file a task",
    "evaluation/tuned/": "answers of the tuned model, a file a task",
    "comparison.json": "every number of this page's tables",
}


def write_report(run: Path, out: Path | None = None) -> Path:
    """Writes the report of a compared run; the same files give the same bytes.

    Args:
        run: The run's folder.
        out: Where to; `report.html` in the run's folder by default.
    Returns:
        The path written.
    Raises:
        FlantuneError: The run has no `comparison.json`.
    """
    run, out = Path(run), Path(out) if out is not None else Path(run) / "report.html"
    comparison = _json(run / "comparison.json")
    if comparison is None:
        raise FlantuneError(f"nothing to report yet; first: flantune compare {run}", run)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "csp_hash": _csp_hash,
        "task": _task_name,
        "breakable": _breakable,
        **{name: getattr(formats, name) for name in ("score", "change", "interval", "p_value", "share", "count")},
        "short_number": formats.short_number,
        "plural": formats.plural,
        "real": lambda value: repr(value) if formats.finite(value) else "",
    }
    page = environment.get_template("report.html.j2").render(_view(run, comparison))
    write_text(out, page)
    return out


def _shown(value: Any) -> Any:
    """Every text from data passes here: what cannot be seen is made visible; escaping follows."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _task_name(name: str) -> Markup:
    return _breakable(short_task(name))


def _breakable(name: str) -> Markup:
    """A name that may be broken after its underscores, slashes and points."""
    return Markup(re.sub(r"(?<=[_/.])(?=[\w])", "<wbr>", str(escape(visible(name)))))


def _csp_hash(script: Markup) -> str:
    return base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()


def _view(run: Path, comparison: Mapping[str, Any]) -> dict[str, Any]:
    """All that the template shows, as plain values."""
    mains = main_metrics(comparison)
    recipe = run / "recipe.yaml"
    plan = _json(run / "plan.json")
    answers = [shown for entry in mains if (shown := _answers(run, entry, comparison["tasks"])) is not None]
    return {
        "name": run.resolve().name,
        "base": _model_name(comparison["base"]),
        "tuned": _model_name(comparison["tuned"]),
        "verdict": comparison["verdict"],
        "symbols": SYMBOLS | {"equivalent": "="},  # the wide sign of the terminal is in few fonts
        "groups": [
            _group(comparison, group, title) for group, title in GROUPS.items() if main_metrics(comparison, group)
        ],
        "findings": _findings(mains),
        "rows_told": _range([entry["n"] for entry in mains]),
        "averages": _averages(comparison),
        "score_axis": charts.axis(charts.SCORE_AXIS),
        "difference_axis": charts.axis(charts.difference_axis(mains), signed=True),
        "any_lower": any(not entry["higher_is_better"] for entry in mains),
        "any_baseline": any(formats.finite(v) for entry in mains for v in (entry.get("baselines") or {}).values()),
        "entries": comparison["tasks"],
        "training": _training(run / "metrics.jsonl", [entry["task"] for entry in mains]),
        "mixture": _mixture(_json(run / "mixture.json"), plan),
        "plan": plan,
        "ledger": ledger_view(plan, comparison),
        "answers": answers,
        "answers_json": _for_script({"tasks": answers}),
        "recipe": recipe.read_text(encoding="utf-8") if recipe.exists() else None,
        "environment": list(_flat(_json(run / "environment.json") or {})),
        "files": [(name, told) for name, told in _FILES.items() if (run / name).exists()],
    }


def _group(comparison: Mapping[str, Any], group: str, title: str) -> dict[str, Any]:
    entries = main_metrics(comparison, group)
    shared = charts.difference_axis(main_metrics(comparison))
    rows = []
    for entry in entries:
        scale, difference = charts.SCORE_AXIS, shared
        if entry["unit"] != "0-100":
            values = (entry["base"], entry["tuned"], *(entry.get("baselines") or {}).values())
            scale = charts.own_axis(values, higher_is_better=entry["higher_is_better"])
            difference = charts.own_difference_axis(entry, shared)
        elif not entry["higher_is_better"]:
            scale = charts.Axis(0.0, 100.0, charts.SCORE_AXIS.ticks, reversed=True)
        rows.append(
            {
                "entry": entry,
                "dumbbell": charts.dumbbell(entry, scale),
                "forest": charts.forest(entry, difference),
            }
        )
    counts = {word: sum(entry["verdict"] == word for entry in entries) for word in SYMBOLS}
    return {"key": group, "title": title, "counts": counts, "rows": rows}


def _findings(mains: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Main metrics by verdict, in words for people."""
    titles = {
        "better": "Got better",
        "worse": "Got worse",
        "equivalent": "Stayed the same, within the margin",
        "no difference shown": "No difference shown",
    }
    return [
        {"verdict": word, "title": title, "entries": found}
        for word, title in titles.items()
        if (found := [entry for entry in mains if entry["verdict"] == word])
    ]


def _averages(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    titles = {"seen": "trained on", "unseen": "not trained on"}
    averages = comparison.get("average") or {}
    return [
        {"title": title, **averages[kind]}
        for kind, title in titles.items()
        if averages.get(kind) and averages[kind].get("tasks")
    ]


def _training(path: Path, known: Sequence[str]) -> dict[str, Any] | None:
    lines = _json_lines(path)
    if not lines:
        return None
    steps = [line["step"] for line in lines]
    span = (steps[0], steps[-1])

    def whole_run(key: str, **look: Any) -> charts.Curve | None:
        if not any(formats.finite(line.get(key)) for line in lines):
            return None
        return charts.curve(steps, [line.get(key) for line in lines], span, **look)

    losses = [{"title": "All tasks", "curve": whole_run("loss")}]
    trained = {task for line in lines for task in line.get("loss_by_task") or {}}
    for task in [*(task for task in known if task in trained), *sorted(trained.difference(known))]:
        present = [line for line in lines if task in (line.get("loss_by_task") or {})]
        its_steps, its_losses = zip(*((line["step"], line["loss_by_task"][task]) for line in present), strict=True)
        drawn = charts.curve(its_steps, its_losses, span)
        losses.append({"title": short_task(task), "curve": drawn})
    others = (
        ("Learning rate", "learning_rate", False),
        ("Tokens per second", "tokens_per_second", True),
        ("Gradient norm", "gradient_norm", True),
        ("Memory, GB", "memory_gb", False),
    )
    small = [
        {"title": title, "curve": drawn}
        for title, key, smooth in others
        if (drawn := whole_run(key, smooth=smooth, width=250, height=110)) is not None
    ]
    return {
        "steps": len(lines),
        "losses": [item for item in losses if item["curve"] is not None],
        "small": small,
        "rising": [item["title"] for item in losses if item["curve"] is not None and item["curve"].rises],
    }


def _mixture(mixture: Mapping[str, Any] | None, plan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Planned and realised by task; from either file alone where the other is missing."""
    if mixture is None and plan is None:
        return None
    planned = {task["task"]: task for task in (plan or {"tasks": []})["tasks"]}
    realised = {task["task"]: task for task in (mixture or {"tasks": []})["tasks"]}
    tasks = []
    for name in dict.fromkeys([*planned, *realised]):
        before, after = planned.get(name, {}), realised.get(name, {})
        told = {
            "task": name,
            "cluster": before.get("cluster"),
            "origins": before.get("origins", []),
            "rows": before.get("rows"),
            "planned_share": after.get("planned_share", before.get("rate")),
            "share": after.get("share"),
            "input_tokens": after.get("input_tokens"),
            "target_tokens": after.get("target_tokens"),
            "dropped": after.get("dropped", before.get("reasons", {})),
            "templates": sorted(after.get("templates", {}).items(), key=lambda item: (-item[1]["draws"], item[0])),
        }
        for key in ("draws", "epochs", "target_token_share", "loss_share", "shortened"):
            told[key] = after.get(key, before.get(key))
        tasks.append(told)
    known = [task[key] for task in tasks for key in ("planned_share", "share") if formats.finite(task[key])]
    most = charts.nice(max(known, default=1.0), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10))
    for task in tasks:
        task["bars"] = charts.bars(task["planned_share"], task["share"], most)
    return {"realised": mixture is not None, "tasks": tasks, "asked": _asked(mixture)}


def _asked(mixture: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """How the examples of all tasks were asked: each kind of variant of which there is more than one."""
    titles = {"options": "options", "exemplars": "solved examples", "inverted": "direction"}
    return [
        {"title": titles[variant], "name": name, **told}
        for variant, entries in (mixture or {}).get("variants", {}).items()
        for name, told in entries.items()
        if len(entries) > 1
    ]


def _answers(run: Path, entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A task's rows for the browser of answers, with every number written out already."""
    task = entry["task"]
    base, tuned = (_json_lines(run / "evaluation" / side / f"{task}.jsonl") for side in ("base", "tuned"))
    if not base or len(base) != len(tuned):
        return None
    units = {other["metric"]: other["unit"] for other in entries if other["task"] == task}
    sign = 1 if entry["higher_is_better"] else -1
    # Not the first rows, and not every n-th, which could be of one phrasing: those with the smallest hashes.
    drawn = sorted(range(len(base)), key=lambda place: digest(task, str(base[place]["row"])))[:_ROWS]
    rows = []
    for place in sorted(drawn):
        before, after = base[place], tuned[place]
        scores = (before.get("scores") or {}, after.get("scores") or {})
        was, now = (side.get(entry["metric"]) for side in scores)
        gain = sign * (now - was) if formats.finite(was) and formats.finite(now) else 0.0
        rows.append(
            {
                "row": visible(str(before["row"])),
                "template": visible(str(before["template"])),
                "held_out": before["template_kind"] == "held_out",
                "prompt": _cut(before["prompt"], _PROMPT),
                "references": [_cut(text, _ANSWER) for text in before["references"]],
                "base": _cut(before["prediction"], _ANSWER),
                "tuned": _cut(after["prediction"], _ANSWER),
                "unfinished": [not before["finished"], not after["finished"]],
                "scores": [
                    [visible(name), *(formats.score(side.get(name), unit) for side in scores)]
                    for name, unit in units.items()
                ],
                "gain": (gain > 0) - (gain < 0),
            }
        )
    return {
        "task": visible(short_task(task)),
        "group": GROUPS[entry["group"]],
        "metric": visible(entry["metric"]) + ("" if entry["higher_is_better"] else " (lower is better)"),
        "total": len(base),
        "rows": rows,
    }


def _cut(text: str, most: int) -> str:
    text = visible(str(text))
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"


def _for_script(value: Any) -> Markup:
    """JSON that a script block can hold: nothing in it ends the block or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _model_name(model: Mapping[str, Any]) -> str:
    """A model's name; of a path only its end, since a report is passed on and folders are private."""
    name = str(model.get("model", "?"))
    path = Path(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return "0"
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} / ")
        elif value is not None:
            yield name, str(value)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _json_lines(path: Path) -> list[dict[str, Any]]:
    # By line feeds only: str.splitlines would also end a line at U+2028 and U+0085, which JSON text may hold.
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
