"""Tables on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def print_comparison(comparison: dict[str, Any]) -> None:
    """Verdict and table, at most 100 columns."""
    from rich.console import Console

    from flantune.reporting import comparison_table, safe

    out = Console(width=None if sys.stdout.isatty() else 100)
    out.print(comparison_table(comparison))
    out.print(safe(comparison["verdict"]), markup=False, highlight=False)
    if "forgetting" in comparison:
        out.print(safe(comparison["forgetting"]["summary"]), markup=False, highlight=False)


def print_forgetting(comparisons: list[dict[str, Any]]) -> None:
    """Several models side by side in what they may have forgotten."""
    from rich.console import Console

    from flantune.reporting.terminal import forgetting_table

    if (table := forgetting_table(comparisons)) is not None:
        Console(width=None if sys.stdout.isatty() else 100).print(table)


def print_opinion(made: dict[str, Any]) -> None:
    """A judge's opinion by task, with how steady the judge was."""
    from flantune.reporting import safe

    told: dict[str, Any]
    for told in [*made["tasks"], {"task": "all", **made["all"]}]:
        length, ends = told["length"], told["ci"]
        share = f"{told['share']:.0%} of decided [{ends[0]:.0%}, {ends[1]:.0%}]" if ends else "none decided"
        verdict = f", {told['verdict']}" if "verdict" in told else ""
        along = "" if length["correlation"] is None else f", correlation with winning {length['correlation']:+.2f}"
        counts = f"tuned won {told['wins']}, lost {told['losses']}, tied {told['ties']} of {told['n']}"
        print(f"{safe(told['task'])}: {counts}")
        print(f"  {share}, p = {told.get('p_adjusted', told['p']):.3g}{verdict}")
        print(
            f"  rows: {told['flips']} flips with the order, {told['halves']} a tie in one order, "
            f"{told['unparsable']} unparsable, {told['identical']} identical"
        )
        print(f"  characters: base {length['base']:.0f}, tuned {length['tuned']:.0f}{along}")


def print_study(made: dict[str, Any]) -> None:
    """A study's answer, what its runs cost, its differences, and what is missing."""
    from rich.console import Console

    from flantune.reporting import safe
    from flantune.reporting.terminal import study_tables

    out = Console(width=None if sys.stdout.isatty() else 100)
    for table in study_tables(made):
        out.print(table)
    if made.get("answer"):
        out.print(safe(made["answer"]), markup=False, highlight=False)
    if made["missing"]:
        out.print(f"missing, the time was over: {', '.join(made['missing'])}; the same command goes on")


def print_plan(plan: dict[str, Any]) -> None:
    """The plan as a table, its totals and warnings."""
    from rich.console import Console

    from flantune.reporting import plan_table, safe
    from flantune.reporting.ledger import ledger_lines
    from flantune.reporting.terminal import plan_lines

    out = Console(width=None if sys.stdout.isatty() else 100)
    out.print(plan_table(plan))
    for line in plan_lines(plan):
        out.print(line, markup=False, highlight=False)
    for warning in plan["warnings"]:
        out.print(f"warning: {safe(warning)}", markup=False, highlight=False)
    for line in ledger_lines(plan):
        out.print(safe(line), markup=False, highlight=False)


def print_prompts(prompts: list[dict[str, Any]]) -> None:
    """Prompts, one after the other, as they are: no line is folded."""
    from rich.console import Console

    from flantune.reporting.terminal import prompt_text

    for record in prompts:
        Console().print(prompt_text(record), soft_wrap=True)


def print_scores(scores: list[dict[str, Any]], text: dict[str, Any] | None = None) -> None:
    """A line for each task and metric of one model, and one for the plain text."""
    width = max(len(entry["task"]) for entry in scores)
    for entry in scores:
        low, high = entry["ci"]
        print(
            f"{entry['task']:<{width}}  {entry['metric']:<20} {entry['score']:8.2f}  "
            f"[{low:.2f}, {high:.2f}]  n={entry['n']}"
        )
        if "scorers" in entry:
            both = entry["scorers"]["model"]
            print(
                f"{'':<{width}}  generation {both['generation']:.2f}, choices {both['choices']:.2f}, "
                f"gap {both['gap']:+.2f}  [{both['gap_ci'][0]:.2f}, {both['gap_ci'][1]:.2f}]"
            )
    if text is not None:
        low, high = text["ci"]
        print(
            f"plain text: {text['nats']:.3f} nats a token  [{low:.3f}, {high:.3f}], "
            f"perplexity {text['perplexity']:.1f}, {text['n']} paragraphs"
        )


def print_json(value: Any) -> None:
    """For machines."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def next_steps(run: Path) -> str:
    """What to do with a finished run."""
    return (
        f"report:  {run / 'report.html'}   (open it in a browser)\n"
        f"chat:    flantune chat {run} --base\n"
        "yours:   flantune init mails.csv   (makes a task of your own data)"
    )
