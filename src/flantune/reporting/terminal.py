"""Tables for the terminal, at most 100 columns, readable without colours; text from data made harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flantune.reporting.forgetting import ARROWS
from flantune.reporting.formats import (
    BIDI,
    GROUPS,
    NOTHING,
    SYMBOLS,
    change,
    count,
    duration,
    interval,
    main_metrics,
    plural,
    score,
    share,
    short_task,
)

# Whole sequences, so that nothing of them is left over: OSC and its kin up to their end, CSI, short ones.
_ESCAPES = re.compile(
    r"(?:\x1b[\]P_^X]|[\x9d\x90\x9f\x9e\x98])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")
_STYLES = {"better": "bold blue", "worse": "bold dark_orange", "equivalent": "", "no difference shown": "dim"}


def safe(text: object) -> str:
    """What can be printed of a text from data: no escape sequences, control characters or bidi marks.

    Line feeds and tabs stay; other line separators become line feeds.

    >>> safe("a\\x1b[31mred\\x1b]0;title\\x07\\u202eb")
    'aredb'
    """
    text = re.sub("\r\n|[\u0085\u2028\u2029]", "\n", str(text))
    return _CONTROLS.sub("", BIDI.sub("", _ESCAPES.sub("", text)))


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """Main metrics by group: base, tuned, difference with its interval, verdict."""
    table = _table("95 % intervals of the difference; verdicts by Holm-adjusted p over the main metrics of all tasks")
    table.add_column("task", overflow="fold", min_width=15, max_width=25)
    table.add_column("metric", overflow="fold", min_width=9, max_width=13)
    for title in ("rows", "base", "tuned"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("difference", no_wrap=True)
    table.add_column("verdict", overflow="fold", min_width=13)
    for group, title in GROUPS.items():
        entries = main_metrics(comparison, group)
        if not entries:
            continue
        table.add_row(Text(title, style="bold"))
        for entry in entries:
            _add_entry(table, entry)
            if "few_shot" in entry.get("baselines", {}):
                few = Text(score(entry["baselines"]["few_shot"], entry["unit"]), style="dim")
                table.add_row(Padding(Text("base, few-shot", style="dim"), (0, 0, 0, 4)), Text(""), Text(""), few)
            if "scorers" in entry:
                _add_scorers(table, entry)
        table.add_section()
    for kind, title in (("seen", "trained"), ("unseen", "other")):
        average = comparison.get("average", {}).get(kind) or {}
        if average.get("tasks"):
            table.add_row(
                Text(f"average, {average['tasks']} {title}", style="italic"),
                Text("0-100"),
                Text(""),
                *(Text(score(average[side], "0-100")) for side in ("base", "tuned")),
                Text(change(average["difference"], "0-100")),
            )
    return table


def _add_entry(table: Table, entry: Mapping[str, Any]) -> None:
    unit, verdict = entry["unit"], entry["verdict"]
    better = "" if entry["higher_is_better"] else " ↓"
    table.add_row(
        Padding(Text(_cell(short_task(entry["task"]))), (0, 0, 0, 2)),
        Text(f"{_cell(entry['metric'])}{better}"),
        Text(count(entry["n"])),
        Text(score(entry["base"], unit)),
        Text(score(entry["tuned"], unit)),
        Text(f"{change(entry['difference'], unit):<6}{interval(entry['ci'], unit)}"),
        Text(f"{SYMBOLS.get(verdict, '?')} {_cell(verdict)}", style=_STYLES.get(verdict, "")),
    )


def _add_scorers(table: Table, entry: Mapping[str, Any]) -> None:
    """The same answers in writing and by the likeliest choice, and the first less the second, of both models."""
    unit, sides = entry["unit"], (entry["scorers"]["base"], entry["scorers"]["tuned"])
    for name, told in (("generation", score), ("choices", score), ("gap", change)):
        label = name if name == "gap" else f"by {name}"
        cells = (Text(told(side[name], unit), style="dim") for side in sides)
        table.add_row(Padding(Text(label, style="dim"), (0, 0, 0, 4)), Text(""), Text(""), *cells)


def forgetting_table(comparisons: Sequence[Mapping[str, Any]]) -> Table | None:
    """Several models against one, a column each: kept abilities, the form of their answers, plain text.

    Where no kept ability is answered in free text, it is the form of answers to unseen tasks. None where nothing of it
    was measured.
    """
    found = [each.get("forgetting") for each in comparisons]
    if not any(found):
        return None
    kept = [entry["task"] for entry in main_metrics(comparisons[0], "kept")]
    held = [it for it in (found[0] or {"drift": []})["drift"] if it["group"] != "trained"]
    held = [it for it in held if it["group"] == "kept"] or held
    forms = [(it["task"], it["metric"]) for it in held if it["metric"] in ("words", "one_word", "refusals")]
    table = _table("what was forgotten, side by side; ▲ ▼: better or worse than the first; ↑ ↓: a change is shown")
    names = {"words": "words", "one_word": "% one word", "refusals": "% refusals"}
    titles = [*map(short_task, kept), *(f"{short_task(task)}, {names[form]}" for task, form in forms)]

    def entries(comparison: Mapping[str, Any]) -> list[Mapping[str, Any] | None]:
        lost = comparison.get("forgetting") or {"drift": [], "plain_text": None}
        mains = {entry["task"]: entry for entry in main_metrics(comparison, "kept")}
        drift = {(entry["task"], entry["metric"]): entry for entry in lost["drift"]}
        return [*map(mains.get, kept), *map(drift.get, forms), lost["plain_text"]]

    def cell(side: str, entry: Mapping[str, Any] | None) -> Text:
        if entry is None:
            return Text(NOTHING)
        said = "" if side == "base" else entry.get("change") or entry.get("verdict", "")
        mark = SYMBOLS[said] if said in ("better", "worse") else ARROWS.get(said, "")
        return Text(f"{score(entry[side], entry['unit'])} {mark}".rstrip())

    table.add_column("", no_wrap=True)
    columns = []
    for side, comparison in (("base", comparisons[0]), *(("tuned", each) for each in comparisons)):
        table.add_column(_cell(comparison[side]["model"]), overflow="fold")
        columns.append([cell(side, entry) for entry in entries(comparison)])
    for title, *cells in zip((*titles, "plain text, nats a token"), *columns, strict=True):
        table.add_row(_cell(title), *cells)
    return table


def plan_table(plan: Mapping[str, Any]) -> Table:
    """What will be trained on, task by task: share of draws, epochs, lengths, share of the loss, cuts and drops."""
    table = _table(
        "share: of all draws; epochs: draws over rows; in, out: tokens, mean and 95th percentile; loss: share of the "
        "summed loss; cut: shortened prompts; lost: dropped examples"
    )
    table.add_column("task", overflow="fold", min_width=12, max_width=28)
    for title in ("rows", "share", "draws", "epochs", "in", "p95", "out", "p95", "loss", "cut", "lost"):
        table.add_column(title, justify="right", no_wrap=True)
    for task in plan["tasks"]:
        lengths = (f"{of}_{kind}_tokens" for kind in ("input", "target") for of in ("mean", "p95"))
        table.add_row(
            Text(_cell(short_task(task["task"]))),
            Text(count(task["rows"])),
            Text(share(task["rate"])),
            Text(count(task["draws"])),
            Text(f"{task['epochs']:.2f}"),
            *(Text(count(task[name])) for name in lengths),
            Text(share(task["loss_share"])),
            *(Text(count(task[name]), style="bold" if task[name] else "dim") for name in ("shortened", "dropped")),
        )
    return table


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """The run as a whole: rows, tokens, steps; how it was counted; time and memory, where they were measured."""
    capacity = count(plan["capacity"])
    fill = f"{share(plan['fill'])} full"
    if "target_capacity" in plan:
        capacity += f" + {count(plan['target_capacity'])}"
        fill = f"{share(plan['input_fill'])} and {share(plan['target_fill'])} full"
    about = "" if plan["exact"] else "about "
    lines = [
        f"{about}{count(plan['tokens'])} tokens ({count(plan['target_tokens'])} with a loss) of "
        f"{plural(plan['draws'], 'draw')} in {plural(plan['packed_rows'], 'packed row')} of {capacity} ({fill}), "
        f"{plural(plan['steps'], 'step')}"
    ]
    if not plan["exact"]:
        lines.append(
            f"estimated from {count(plan['counted_windows'])} of {count(plan['windows'])} windows of draws; how often "
            "each task is drawn is exact"
        )
    return [*lines, _estimate(plan["estimate"])] if "estimate" in plan else lines


def _estimate(told: Mapping[str, Any]) -> str:
    """Time and memory, without the evaluation, which nobody measured."""
    return (
        f"training takes about {duration(told['seconds'])} here ({duration(told['setup_seconds'])} to set up, then "
        f"{count(told['tokens_per_second'])} tokens/s) and {told['memory_gb']:.1f} GB, without evaluation "
        f"({safe(told['device'])}; measured on {plural(told['measured_steps'], 'step')})"
    )


def task_table(tasks: Sequence[Mapping[str, Any]]) -> Table:
    """Tasks with their cluster, rows by split, templates, metrics and licence."""
    table = _table("rows: by split; flantune tasks show TASK shows one as prompts")
    table.add_column("task", overflow="fold", min_width=12)
    table.add_column("cluster", overflow="fold", min_width=8, max_width=22)
    table.add_column("rows", overflow="fold", max_width=34)
    table.add_column("templates", justify="right", no_wrap=True)
    table.add_column("metrics", overflow="fold", max_width=24)
    table.add_column("licence", overflow="fold", max_width=16)
    for task in tasks:
        table.add_row(
            Text(_cell(task["task"])),
            Text(_cell(task["cluster"])),
            Text(", ".join(f"{count(rows)} {_cell(split)}" for split, rows in task["rows"].items())),
            Text(count(task["templates"])),
            Text(_cell(", ".join(task["metrics"]))),
            Text(_cell(task["license"] or "not stated"), style="" if task["license"] else "dim"),
        )
    return table


def prompt_text(record: Mapping[str, Any]) -> Text:
    """A prompt as a model reads it, and its target marked."""
    marks = [word for word, on in (("inverted", record["inverted"]), ("held out", record["held_out"])) if on]
    if record.get("exemplars"):
        marks.append(f"{record['exemplars']} solved examples")
    marks += [
        f"{count(record[f'input_{unit}'])} + {count(record[f'target_{unit}'])} {unit}"
        for unit in ("tokens", "characters")
        if f"input_{unit}" in record
    ]
    text = Text(f"── {_cell(record['template'])}", style="bold")
    text.append(f"  {', '.join(marks)}  {_cell(record.get('row', ''))}\n", style="dim not bold")
    if "error" in record:
        return text.append(safe(record["error"]), style="bold dark_orange")
    text.append(f"{safe(record['input'])}\n", style="not bold")
    return text.append("→ ", style="bold blue").append(f"{safe(record['target'])}\n", style="bold blue")


def _table(caption: str) -> Table:
    return Table(
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="dim",
        caption=Text(caption, style="dim"),
        caption_justify="left",
    )


def _cell(text: object) -> str:
    return " ".join(safe(text).split())


def study_tables(results: Mapping[str, Any]) -> list[Table]:
    """What the runs of a study cost, and each of its comparisons, a difference a line."""
    cost = _table("seconds in steps, peak memory in GiB, weights saved in MB")
    for title in ("run", "tasks", "seconds", "memory", "saved"):
        cost.add_column(title, overflow="fold", justify="left" if title in ("run", "tasks") else "right")
    for run in results["runs"]:
        told = ("–", "–", "–")
        if run["saved_bytes"] is not None:
            memory = "–" if run["memory_gb"] is None else f"{run['memory_gb']:.2f}"
            told = (f"{run['seconds']:.1f}", memory, f"{run['saved_bytes'] / 1e6:.2f}")
        tasks = ", ".join(_cell(short_task(task)) for task in run["tasks"])
        cost.add_row(*map(Text, (run["name"], tasks, *told)))
    together = {"one model": results["together"]} if results.get("together") else None
    first = f"against {results.get('first')}"
    lines = [
        ("against the base", _study_lines(results.get("against_base"))),
        (first, _study_lines(results.get("against_first"))),
        ("one model, against one per task", _study_lines(together)),
        ("what examples of one bring to another", [(each["source"], each) for each in results.get("helps") or ()]),
    ]
    made = [cost, *(_study_table(title, found) for title, found in lines if found)]
    if results.get("curves"):
        made.append(_curve_table(results["curves"]))
    if results.get("seeds"):
        made.append(_seed_table(results["seeds"]))
    return made


def _seed_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("mean over seeds: 95 % intervals for other rows and another run; verdicts by Holm-adjusted p")
    for column in ("task", "metric", "each seed", "mean", "between runs", "verdict"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        unit = entry["unit"]
        told = f"{change(entry['difference'], unit)} {interval(entry['ci'], unit)}"
        each = ", ".join(change(one, unit) for one in entry["runs"])
        cells = (_cell(short_task(entry["task"])), _cell(entry["metric"]), each, told)
        table.add_row(*map(Text, (*cells, f"± {score(entry['runs_sd'], unit)}", entry["verdict"])))
    return table


def _curve_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("score by training rows; what the smaller runs foretold of the largest, with its 95 % interval")
    for column in ("task", "metric", "rows", "score", "foretold"):
        table.add_column(column, overflow="fold")
    for curve in curves:
        unit, check = curve["unit"], curve["check"]
        for point in curve["points"]:
            foretold = ""
            if check is not None and point["rows"] == check["rows"]:
                foretold = f"{score(check['expected'], unit)} {interval(check['interval'], unit, signed=False)}"
            cells = (_cell(short_task(curve["task"])), _cell(curve["metric"]), count(point["rows"]))
            table.add_row(*map(Text, (*cells, score(point["score"], unit), foretold)))
    return table


def _study_lines(tables: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, entry) for name, table in (tables or {}).items() for entry in table["tasks"]]


def _study_table(title: str, lines: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    table = _table(f"{title}: 95 % intervals; verdicts by Holm-adjusted p over this table")
    for column in ("of", "asked", "metric", "difference", "verdict"):
        table.add_column(column, overflow="fold")
    for name, entry in lines:
        told = f"{change(entry['difference'], entry['unit'])} {interval(entry['ci'], entry['unit'])}"
        cells = (_cell(short_task(name)), _cell(short_task(entry["task"])), _cell(entry["metric"]), told)
        table.add_row(*map(Text, (*cells, entry["verdict"])))
    return table
