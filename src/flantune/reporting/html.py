"""`report.html`: one file that opens anywhere, offline, and shows what a run has and has not gained."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from flantune.errors import FlantuneError
from flantune.files import write_text
from flantune.reporting import formats
from flantune.reporting.answers import answers_view
from flantune.reporting.curves import training_view
from flantune.reporting.forgetting import forgetting_view
from flantune.reporting.formats import SYMBOLS, short_task, visible
from flantune.reporting.ledger import ledger_view
from flantune.reporting.mixture_view import mixture_view
from flantune.reporting.second_opinion import opinion_view
from flantune.reporting.verdict_view import verdict_view

PAGE = Path(__file__).parent / "page"  # templates, style sheets and scripts

_FILES = {
    "recipe.yaml": "the recipe as resolved",
    "environment.json": "versions and machine",
    "plan.json": "what was planned before training",
    "mixture.json": "what was really trained on",
    "metrics.jsonl": "loss and speed, a line a step",
    "model/": "the tuned model",
    "validation.jsonl": "losses and scores on validation rows, a line a validation",
    "evaluation/base/": "answers of the base model, a file a task",
    "evaluation/tuned/": "answers of the tuned model, a file a task",
    "second_opinion.json": "what a judge says of the answers",
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
    comparison = read_json(run / "comparison.json")
    if comparison is None:
        raise FlantuneError(f"nothing to report yet; first: flantune compare {run}", run)
    write_text(out, page_environment(PAGE).get_template("report.html.j2").render(_view(run, comparison)))
    return out


def page_environment(*folders: Path) -> Environment:
    """Templates of pages: every text from data is escaped, and what cannot be seen in it is made visible."""
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "csp_hash": _csp_hash,
        "task": _task_name,
        "breakable": breakable,
        **{name: getattr(formats, name) for name in ("score", "change", "interval", "p_value", "share", "count")},
        "short_number": formats.short_number,
        "plural": formats.plural,
        "real": lambda value: repr(value) if formats.finite(value) else "",
        "for_script": for_script,
    }
    return environment


def sources(*folders: Path) -> dict[str, Markup]:
    """The texts of all style sheets and scripts, by their files' names, for templates that put them into the page."""
    files = (path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".css", ".js"))
    return {path.name: Markup(path.read_text(encoding="utf-8")) for path in files}


def read_json(path: Path) -> Any:
    """The content of a JSON file of a run; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; none where there is no file.

    Lines end at line feeds only: str.splitlines would also end one at U+2028 and U+0085, which JSON text may hold.
    """
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def breakable(name: str) -> Markup:
    """A name that may be broken after its underscores, slashes and points."""
    return Markup(re.sub(r"(?<=[_/.])(?=[\w])", "<wbr>", str(escape(visible(name)))))


def for_script(value: Any) -> Markup:
    """JSON that a script block can hold: nothing in it ends the block or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _shown(value: Any) -> Any:
    """Every text from data passes here: what cannot be seen is made visible; escaping follows."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _task_name(name: str) -> Markup:
    return breakable(short_task(name))


def _csp_hash(text: Markup) -> str:
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def _view(run: Path, comparison: Mapping[str, Any]) -> dict[str, Any]:
    """All that the template shows, as plain values."""
    mains = formats.main_metrics(comparison)
    recipe = run / "recipe.yaml"
    plan = read_json(run / "plan.json")
    flagged = ((plan or {}).get("ledger") or {}).get("flagged") or {}

    def predictions(task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        base, tuned = (read_json_lines(run / "evaluation" / side / f"{task}.jsonl") for side in ("base", "tuned"))
        return base, tuned

    return {
        "sources": sources(PAGE),
        "name": run.resolve().name,
        "base": model_name(comparison["base"]),
        "tuned": model_name(comparison["tuned"]),
        "symbols": SYMBOLS | {"equivalent": "="},  # the wide sign of the terminal is in few fonts
        **verdict_view(comparison),
        "forgetting": forgetting_view(comparison),
        "training": training_view(
            read_json_lines(run / "metrics.jsonl"),
            [entry["task"] for entry in mains],
            read_json_lines(run / "validation.jsonl"),
        ),
        "mixture": mixture_view(read_json(run / "mixture.json"), plan),
        "plan": plan,
        "ledger": ledger_view(plan, comparison),
        "answers": answers_view(comparison, predictions, flagged),
        "opinion": opinion_view(lambda name: read_json(run / name)),
        "recipe": recipe.read_text(encoding="utf-8") if recipe.exists() else None,
        "environment": list(_flat(read_json(run / "environment.json") or {})),
        "files": [(name, told) for name, told in _FILES.items() if (run / name).exists()],
    }


def model_name(model: Mapping[str, Any]) -> str:
    """A model's name; of a path only its end, since a report is passed on and folders are private."""
    name = str(model.get("model", "?"))
    path = Path(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} / ")
        elif value is not None:
            yield name, str(value)
