"""The README.md of a tuned model: front matter for the hub, results, mixture, how it was made."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flantune.reporting.forgetting import SHARES, forms_by_task
from flantune.reporting.formats import (
    GROUPS,
    SYMBOLS,
    change,
    count,
    finite,
    interval,
    main_metrics,
    p_value,
    plural,
    score,
    share,
    short_task,
    visible,
)
from flantune.reporting.ledger import ledger_view, licence_of
from flantune.reporting.second_opinion import opinion_in_short

_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#+!|~&$@]|(?<=:)/(?=/)|(?<=www)\.)")


def model_card(
    comparison: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
    recipe_text: str,
    base_model: str,
    license: str | None,
    *,
    encoder_decoder: bool = False,
    opinion: Mapping[str, Any] | None = None,
) -> str:
    """Markdown of the card.

    Args:
        comparison: The content of `comparison.json`.
        plan: The content of `plan.json`; None leaves the mixture out.
        recipe_text: The resolved recipe, shown as it is and asked whether an adapter was trained.
        base_model: Name on the hub; a local path is told in the text, but not in the front matter.
        license: Of the base model, as the hub calls it; None leaves it out.
        encoder_decoder: Whether the model is one.
        opinion: A judge's, as `second_opinion.json` has it.
    """
    adapter = _is_adapter(comparison, recipe_text)
    kind = "text2text-generation" if encoder_decoder else "text-generation"
    index = {"name": _title(recipe_text), "results": _index(comparison, kind)}
    parts = [
        f"---\n{_front_matter(base_model, license, adapter, kind, index)}---",
        f"# {escape(_title(recipe_text))}",
        f"{escape(base_model)}, fine-tuned on {plural(_trained(comparison, plan), 'task')} at once with "
        f"flantune{' (a LoRA adapter)' if adapter else ''}, and compared with its base on the same rows.",
        "## Results",
        escape(comparison["verdict"]),
        _results(comparison),
        _reading(comparison),
    ]
    if forgotten := comparison.get("forgetting"):
        parts += ["## Forgetting", escape(forgotten["summary"]), _forgetting(forgotten)]
    if opinion is not None:
        parts += ["## Second opinion", escape(opinion_in_short(opinion))]
    if plan is not None:
        parts += ["## Training mixture", _mixture(plan), _ledger(plan, comparison)]
    parts += [
        "## How it was trained",
        _training(plan),
        _fenced(recipe_text, "yaml"),
        "## Use",
        _usage(adapter, encoder_decoder),
    ]
    parts += ["## Limits", _limits()]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: object) -> str:
    """Text from data as one line of plain text in Markdown: no link, image, HTML, table cell or emphasis."""
    return _MARKDOWN.sub(r"\\\1", " ".join(visible(str(text)).split()))


def _front_matter(base_model: str, license: str | None, adapter: bool, kind: str, index: Mapping[str, Any]) -> str:
    data: dict[str, Any] = {}
    if license:
        data["license"] = license.lower()
    if _ON_THE_HUB.fullmatch(base_model):
        data["base_model"] = base_model
        data["base_model_relation"] = "adapter" if adapter else "finetune"
    data["library_name"] = "peft" if adapter else "transformers"
    data["pipeline_tag"] = kind
    data["tags"] = ["flantune"]
    if index["results"]:
        data["model-index"] = [index]
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(data, stream)
    return stream.getvalue()


def _index(comparison: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """The tuned model's main metrics as the hub's model-index has them, each with its base and interval."""
    return [
        {
            "task": {"type": kind, "name": visible(short_task(entry["task"]))},
            "dataset": {"type": visible(entry["task"]), "name": visible(short_task(entry["task"]))},
            "metrics": [
                {
                    "type": visible(entry["metric"]),
                    "value": round(entry["tuned"], 4),
                    "args": {
                        "rows": entry["n"],
                        "base": round(entry["base"], 4),
                        "difference": round(entry["difference"], 4),
                        "interval_of_difference": [round(end, 4) for end in entry["ci"]],
                        "higher_is_better": entry["higher_is_better"],
                    },
                }
            ],
        }
        for group in GROUPS
        for entry in main_metrics(comparison, group)
        if finite(entry["tuned"]) and finite(entry["base"])
    ]


def _recipe(text: str) -> Mapping[str, Any]:
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return {}
    return data if isinstance(data, Mapping) else {}


def _is_adapter(comparison: Mapping[str, Any], recipe_text: str) -> bool:
    adapter = _recipe(recipe_text).get("adapter")
    method = adapter.get("method") if isinstance(adapter, Mapping) else adapter
    return (comparison["tuned"].get("method") or method or "none") != "none"


def _title(recipe_text: str) -> str:
    return str(_recipe(recipe_text).get("name") or "flantune model")


def _trained(comparison: Mapping[str, Any], plan: Mapping[str, Any] | None) -> int:
    return len(plan["tasks"]) if plan is not None else len(main_metrics(comparison, "trained"))


def _results(comparison: Mapping[str, Any]) -> str:
    rows = []
    for group, title in GROUPS.items():
        for entry in main_metrics(comparison, group):
            unit = entry["unit"]
            rows.append(
                (
                    escape(short_task(entry["task"])),
                    title.split()[0].lower() if group != "kept" else "to keep",
                    escape(entry["metric"]) + ("" if entry["higher_is_better"] else " (lower is better)"),
                    count(entry["n"]),
                    score(entry["base"], unit),
                    score(entry["tuned"], unit),
                    f"{change(entry['difference'], unit)} {interval(entry['ci'], unit)}".replace("[", "\\["),
                    p_value(entry["p_adjusted"]).replace("<", "\\<"),
                    f"{SYMBOLS.get(entry['verdict'], '?')} {escape(entry['verdict'])}",
                )
            )
    head = (
        "task",
        "group",
        "metric",
        "rows",
        "base",
        "tuned",
        "difference, 95 % interval",
        "p (Holm)",
        "verdict",
    )
    return _markdown_table(head, rows, right=(3, 4, 5, 7))


def _reading(comparison: Mapping[str, Any]) -> str:
    told = []
    for kind, title in (("seen", "trained on"), ("unseen", "not trained on")):
        average = comparison.get("average", {}).get(kind) or {}
        if average.get("tasks"):
            told.append(
                f"Average over {plural(average['tasks'], 'task')} {title} (scores from 0 to 100): "
                f"{score(average['base'], '0-100')} → {score(average['tuned'], '0-100')} "
                f"({change(average['difference'], '0-100')})."
            )
    told.append(
        "Both models answered the same rows. Intervals are 95 % paired bootstrap intervals; p is adjusted "
        'by Holm over all tasks. "No difference shown" means that these rows do not decide it, not that '
        "both are equal."
    )
    return " ".join(told)


def _forgetting(made: Mapping[str, Any]) -> str:
    """The form of answers on tasks that were not trained; what the numbers are."""
    held = [entry for entry in made["drift"] if entry["group"] != "trained"]
    told = []
    if held:
        rows = []
        for forms in forms_by_task(held):
            words = forms["words"]
            shares = [f"{forms[key]['base']:.0f} → {forms[key]['tuned']:.0f} %" for key in SHARES]
            lengths = [score(words[key], "words") for key in ("base", "tuned", "references")]
            rows.append((escape(short_task(words["task"])), *lengths, *shares))
        head = ("task", "words, base", "words, tuned", "words, references", *SHARES.values())
        told.append(_markdown_table(head, rows, right=range(1, len(head))))
        told.append("Of answers in free text to tasks that were not trained; a refusal is known by how it begins.")
    if (text := made["plain_text"]) is not None:
        changed = f"{change(text['difference'], text['unit'])} {interval(text['ci'], text['unit'])}"
        told.append(escape(f"Plain text ({text['text']}, {plural(text['n'], 'paragraph')}): {changed} nats a token."))
    return "\n\n".join(told)


def _mixture(plan: Mapping[str, Any]) -> str:
    rows = [
        (
            escape(short_task(task["task"])),
            escape(task["cluster"]),
            escape(", ".join(task["origins"])),
            escape(licence_of(plan, task["task"])),
            count(task["rows"]),
            share(task["rate"]),
            count(task["draws"]),
            f"{task['epochs']:.2f}",
            share(task["loss_share"]),
            count(task["dropped"]),
        )
        for task in plan["tasks"]
    ]
    head = (
        "task",
        "cluster",
        "origins",
        "licence",
        "rows",
        "share of draws",
        "draws",
        "epochs",
        "share of loss",
        "dropped",
    )
    return _markdown_table(head, rows, right=(4, 5, 6, 7, 8, 9))


def _ledger(plan: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """Evaluation rows that stand in training rows, and what the scores are without them."""
    view = ledger_view(plan, comparison)
    if view is None:
        return ""
    lines = [
        f"{short_task(pair['evaluated'])}: {pair['evaluation_rows']} of {plural(pair['of'], 'evaluation row')} have "
        f"text in common with training rows of {short_task(pair['trained'])}."
        for pair in view["pairs"]
    ]
    for entry in view["doubtful"]:
        without, unit = entry["flagged"]["without"], entry["unit"]
        if without is not None:
            lines.append(
                f"{short_task(entry['task'])} without them, {plural(without['n'], 'row')}: "
                f"{entry['metric']} {score(without['base'], unit)} → {score(without['tuned'], unit)}."
            )
    return "\n".join(f"- {escape(line)}" for line in [*lines, *view["lines"]])


def _training(plan: Mapping[str, Any] | None) -> str:
    command = "`flantune train recipe.yaml` with the recipe below repeats the run."
    if plan is None:
        return command
    return (
        f"{plural(plan['steps'], 'step')} over {plural(plan['packed_rows'], 'packed row')} of "
        f"{count(plan['capacity'])} tokens ({share(plan['fill'])} full), {plural(plan['draws'], 'example')}, "
        f"{count(plan['tokens'])} tokens, of which {count(plan['target_tokens'])} are targets and carry the "
        f"loss. {command}"
    )


def _usage(adapter: bool, encoder_decoder: bool) -> str:
    kind = "Seq2SeqLM" if encoder_decoder else "CausalLM"
    if adapter:
        code = (
            f"from peft import AutoPeftModelFor{kind}\n"
            "from transformers import AutoTokenizer\n\n"
            f'model = AutoPeftModelFor{kind}.from_pretrained("PATH_OF_THIS_FOLDER")\n'
        )
    else:
        code = (
            f"from transformers import AutoModelFor{kind}, AutoTokenizer\n\n"
            f'model = AutoModelFor{kind}.from_pretrained("PATH_OF_THIS_FOLDER")\n'
        )
    return _fenced(code + 'tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")\n', "python")


def _limits() -> str:
    return (
        "- What is not in the table was not measured.\n"
        "- Scores hold for these rows, these phrasings and this decoding; others may score differently.\n"
        "- The base model's limits and biases remain; the abilities to keep are samples, not a safety test.\n"
        "- The licenses of base model and training data apply."
    )


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["---:" if place in right else "---" for place in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text).rstrip()}\n{fence}"
