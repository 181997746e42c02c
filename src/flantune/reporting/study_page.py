"""`report.html` of a study: its answer, its tables, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flantune.files import write_text
from flantune.reporting.html import PAGE, page_environment, sources


def write_study_report(out: Path, results: Mapping[str, Any]) -> Path:
    """Writes the report of a study into its folder; the same results give the same bytes.

    Args:
        out: The study's folder.
        results: The content of `results.json`.
    Returns:
        The path written.
    """
    page = page_environment(PAGE).get_template("study.html.j2")
    path = out / "report.html"
    write_text(path, page.render(sources=sources(PAGE), name=out.resolve().name, **view(results)))
    return path


def view(results: Mapping[str, Any]) -> dict[str, Any]:
    """All that the template shows."""
    known = {"answer", "against_base", "against_first", "first", "helps", "together", "curves", "seeds"}
    names = {run["name"]: _run_name(run) for run in results["runs"]}
    matrix = matrix_view(results.get("helps") or ())
    return {**dict.fromkeys(sorted(known)), **results, "names": names, "matrix": matrix}


def matrix_view(helps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Who helps or hurts whom as a grid: a row for each source, a column for each task asked.

    Returns:
        `asked`: an entry of each column, for its task, metric and direction. `rows`: each source with its entries.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for entry in helps:
        rows.setdefault(entry["source"], []).append(entry)
    return {"asked": next(iter(rows.values()), []), "rows": list(rows.items())}


def _run_name(run: Mapping[str, Any]) -> str:
    kind = str(run["name"]).partition("-")[0]
    if kind in ("alone", "without"):
        return f"{'alone' if kind == 'alone' else 'without one'}: {', '.join(run['tasks'])}"
    return str(run["name"])
