"""A run's folder as the pipeline would leave it, made up: eight tasks, and texts that try to break out."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BREAKOUT = "</script><script>alert(1)</script>"
HOSTILE = (
    BREAKOUT + "<img src=x onerror=alert(2)>'\"&amp; {{ 7*7 }} "
    "\u2028\u2029\u0085 \u202eoverride\u202c \u200f\x1b[31mred\x1b[0m\x07"
)
LONG = "support_mail_urgency_in_five_languages_with_product_names"

# task, group, cluster, metrics, base, tuned, verdict
TASKS: list[tuple[str, str, str, list[str], float, float, str]] = [
    (
        "starter/dialogue_summary",
        "trained",
        "summarization",
        ["rougeL", "rouge1", "rouge2"],
        18.23,
        31.47,
        "better",
    ),
    (
        "starter/entity_recognition",
        "trained",
        "extraction",
        ["entity_f1", "exact_match"],
        2.14,
        58.61,
        "better",
    ),
    (
        "starter/review_rating",
        "trained",
        "classification",
        ["mean_absolute_error", "accuracy"],
        1.42,
        0.71,
        "better",
    ),
    (
        "starter/code_translation",
        "trained",
        "code",
        ["chrf", "bleu", "length_ratio"],
        41.35,
        43.18,
        "no difference shown",
    ),
    (LONG, "trained", f'mail {BREAKOUT} "quoted"', ["macro_f1", "accuracy"], 47.92, 35.56, "worse"),
    ("starter/intent", "unseen", "classification", ["accuracy"], 33.33, 61.67, "better"),
    ("starter/dialogue_title", "unseen", "titles", ["rouge1", "rougeL"], 14.87, 17.04, "no difference shown"),
    ("starter/knowledge", "kept", "kept_abilities", ["accuracy"], 46.67, 45.00, "equivalent"),
]
LOWER = {"mean_absolute_error": "target units", "length_ratio": "ratio"}
ANSWERS = {
    "starter/intent": [
        "track delivery",
        "cancel order",
        "report problem",
        "change address",
        "ask opening hours",
    ],
    "starter/knowledge": ["A", "B", "C", "D"],
    "starter/review_rating": ["1", "2", "3", "4", "5"],
    LONG: ["low", "medium", "high"],
}
TALKS = [
    ("Ludmila: I left a violin on the 16:40 to Bristol. Black case, green ribbon on the handle.\n"
     "Agent Rafe: She's found it! It's with her now. You can collect it till 22:00 tonight with ID.\n"
     "Ludmila: I would rather travel there myself. Thank you, thank you, thank you. What do I owe?\n"
     "Agent Rafe: Nothing. Reference is 7714. And the ribbon helped a lot, tell your teacher.",
     "Ludmila left her teacher's violin on the train to Bristol. Agent Rafe has found it."),
    ("Marisol: are you awake\nErik: no\nMarisol: there's a bat in my room\nErik: baseball or animal\n"
     "Marisol: ANIMAL\nErik: lights off, window wide open, go out. it'll leave in half an hour",
     "Marisol has a bat in her bedroom. Erik tells her to leave the window open and wait outside."),
    ("Guest: Good evening. I'd like a table for two on the 11th, somewhere quiet.\n"
     "Bellavista: Shall I give you the alcove by the window?\nGuest: Yes please, at half past seven.",
     "A guest books a quiet table for two on the 11th at half past seven."),
]  # fmt: skip


def fake_comparison() -> dict[str, Any]:
    """The content of comparison.json."""
    dice = random.Random(1)
    entries = []
    for task, group, cluster, metrics, base, tuned, verdict in TASKS:
        for place, metric in enumerate(metrics):
            unit = LOWER.get(metric, "0-100")
            if place:
                base, tuned = (base * 0.8, tuned * 0.85) if unit == "0-100" else (1.31, 1.02)
                base, tuned = (38.33, 55.0) if task == "starter/review_rating" else (base, tuned)
            half = dice.uniform(3.5, 7.5) if unit == "0-100" else 0.31
            difference, step = tuned - base, 1.0 if unit == "0-100" else 0.1
            entries.append(
                {
                    "task": task,
                    "cluster": cluster,
                    "group": group,
                    "seen": group == "trained",
                    "metric": metric,
                    "signature": "casefold|final period dropped",
                    "main": place == 0,
                    "unit": unit,
                    "higher_is_better": metric not in LOWER,
                    "n": 60,
                    "base": base,
                    "tuned": tuned,
                    "difference": difference,
                    "ci": [difference - half, difference + 0.9 * half],
                    "base_ci": [max(0.0, base - half), base + half],
                    "tuned_ci": [max(0.0, tuned - half), tuned + half],
                    "p": 0.0002,
                    "p_adjusted": {"better": 0.0016, "worse": 0.0132}.get(verdict, 0.4123),
                    "verdict": verdict,
                    "smallest_detectable": 1.4 * half,
                    "baselines": {
                        "majority": base * 0.9 if task in ANSWERS else None,
                        "copy": None if task in ANSWERS else base * 0.6,
                    },
                    "invalid": {"base": 17, "tuned": 1} if task in ANSWERS else {"base": None, "tuned": None},
                    "unfinished": {"base": 9, "tuned": 0},
                    "flagged": {"n": 7, "without": {"n": 53, "base": 17.77, "tuned": 29.29}}
                    if task == "starter/dialogue_summary"
                    else None,
                    "by_phrasing": {
                        "seen": {"n": 30, "base": base - step, "tuned": tuned + step},
                        "held_out": {"n": 30, "base": base + step, "tuned": tuned - step},
                    },
                    "by_template": {
                        "plain": {"held_out": False, "n": 16, "base": base - 2 * step, "tuned": tuned + 2 * step},
                        f"polite {HOSTILE}": {"held_out": False, "n": 14, "base": base, "tuned": tuned},
                        "held_out_recap": {"held_out": True, "n": 30, "base": base + step, "tuned": tuned - step},
                    },
                    "over_phrasings": {
                        "phrasings": 3,
                        "rows": 60,
                        **{
                            side: {
                                name: {"score": at, "ci": [at - half, at + half]}
                                for name in ("mean", "worst", "spread")
                            }
                            for side, at in (("base", base), ("tuned", tuned), ("difference", tuned - base))
                        },
                    },
                }
            )
    return {
        "base": {"model": "smollm2-135m-instruct"},
        "tuned": {"model": "/home/someone/runs/first/model", "method": "none"},
        "verdict": "Of 5 trained tasks: 3 better (dialogue_summary, entity_recognition, review_rating); "
        f"1 worse ({LONG}); 1 no difference shown (code_translation). Of 2 unseen tasks: 1 better (intent); "
        "1 no difference shown (dialogue_title). Of 1 abilities to keep: 1 equivalent (knowledge).",
        "tasks": entries,
        "average": {
            "seen": {"tasks": 4, "base": 27.41, "tuned": 42.21, "difference": 14.8},
            "unseen": {"tasks": 3, "base": 31.62, "tuned": 41.24, "difference": 9.62},
        },
        "forgetting": fake_forgetting(),
    }


def fake_forgetting() -> dict[str, Any]:
    """The part `forgetting` of comparison.json: answers to one unseen task have shrunk; hostile names."""
    shown = [("starter/dialogue_title", "unseen", 31.4, 5.2, 4.9), ("starter/kept_behaviour", "kept", 29.8, 27.1, 25.3)]
    shown += [
        ("starter/dialogue_summary", "trained", 71.3, 24.6, 23.1),
        (f"odd/{HOSTILE}", "trained", 12.0, 11.7, 12.2),
    ]
    drift = []
    for task, group, base, tuned, references in shown:
        shares = {"one_word": (0.0, 8.3), "empty": (1.7, 0.0), "unfinished": (15.0, 0.0), "refusals": (0.0, 0.0)}
        for metric, (before, after) in {"words": (base, tuned), **shares}.items():
            change = "no difference shown" if abs(after - before) < 4 else "rose" if after > before else "fell"
            difference = after - before
            drift.append(
                {
                    **{"task": task, "group": group, "metric": metric, "n": 60, "rows": 60, "p": 0.01},
                    **{"unit": "words" if metric == "words" else "0-100", "p_adjusted": 0.04, "change": change},
                    **{"base": before, "tuned": after, "difference": difference},
                    "ci": [difference - 2, difference + 2],
                    **({"references": references} if metric == "words" else {}),
                }
            )
    text = {"metric": "plain_text", "text": f"notes {HOSTILE}.txt", "whole": False, "unit": "nats a token", "n": 60}
    text |= {"tokens": 3098, "base": 3.208, "tuned": 3.297, "difference": 0.089, "ci": [0.061, 0.124]}
    text |= {"p": 0.0001, "p_adjusted": 0.0011, "verdict": "worse", "perplexity": {"base": 24.73, "tuned": 27.03}}
    told = f"Answers to dialogue_title: shorter (31.4 → 5.2 words, in references 4.9). {HOSTILE} Plain text: "
    told += "less likely, 3.208 → 3.297 nats a token (perplexity 24.7 → 27.0)."
    return {"summary": told, "drift": drift, "plain_text": text, "judged": {"tests": 11, "refusals": ["i cannot"]}}


def fake_plan() -> dict[str, Any]:
    """The content of plan.json."""
    trained = [(task, cluster) for task, group, cluster, *_ in TASKS if group == "trained"]
    rates = [0.28, 0.24, 0.2, 0.08, 0.2]
    return {
        "model": "smollm2-135m-instruct",
        "draws": 2400,
        "steps": 240,
        "packed_rows": 480,
        "capacity": 1024,
        "fill": 0.9731,
        "exact": True,
        "windows": 5,
        "counted_windows": 5,
        "tokens": 478_315,
        "target_tokens": 81_220,
        "warnings": [
            f"{LONG}: each row is seen 5.3 times; past four, more epochs mostly memorize",
            f"starter/code_translation: only 1.8 % of the loss {HOSTILE}",
        ],
        "tasks": [
            {
                "task": task,
                "cluster": cluster,
                "origins": [f"flantune/{task}"] if "/" in task else [f"ours/{HOSTILE}"],
                "rows": 420,
                "rate": rate,
                "draws": round(2400 * rate),
                "epochs": 2400 * rate / 420,
                "mean_input_tokens": 151.2,
                "p95_input_tokens": 402.0,
                "mean_target_tokens": 36.4,
                "p95_target_tokens": 88.0,
                "target_token_share": rate,
                "loss_share": rate,
                "shortened": 11 if task == LONG else 0,
                "dropped": 7 if task == LONG else 0,
                "reasons": {"target longer than a packed row": 7} if task == LONG else {},
            }
            for (task, cluster), rate in zip(trained, rates, strict=True)
        ],
        "ledger": fake_ledger(),
    }


def fake_ledger() -> dict[str, Any]:
    """The part `ledger` of plan.json."""
    licences = {"starter/dialogue_summary": "CC0-1.0", LONG: f"ours {HOSTILE}", "starter/intent": None}
    return {
        "licences": [{"task": task, "license": licence} for task, licence in licences.items()],
        "allowed": [{"trained": LONG, "unseen": "starter/intent", "origins": [f"samsum {HOSTILE}"]}],
        "contamination": [
            {
                "trained": LONG,
                "evaluated": "starter/dialogue_summary",
                "evaluation_rows": 7,
                "of": 60,
                "training_rows": 9,
                "shown": [
                    {
                        "row": f"test-031 {HOSTILE}",
                        "place": "/home/someone/secret/test.jsonl:31",
                        "training_place": "/home/someone/secret/mails.csv:12",
                        "kind": "words in a row",
                        "words": 41,
                        "text": f"the ribbon helped a lot {HOSTILE}",
                    }
                ],
            }
        ],
        "flagged": {"starter/dialogue_summary": ["test-031"]},
        "duplicates": [
            {
                "task": LONG,
                "of": LONG,
                "exact": 2,
                "near": 1,
                "shown": [{"place": "/home/someone/secret/mails.csv:9", "repeats": "/home/someone/secret/mails.csv:4"}],
            }
        ],
        "left_out": [{"task": LONG, "rows": 420, "overlapping": 4, "duplicates": 3}],
    }


def fake_mixture(plan: dict[str, Any]) -> dict[str, Any]:
    """The content of mixture.json."""
    return {
        "draws": 2393,
        "variants": {
            "options": {"none": fake_shares(0.6), f"dashes {HOSTILE}": fake_shares(0.4)},
            "exemplars": {"0": fake_shares(1.0)},
            "inverted": {"straight": fake_shares(0.75), "inverted": fake_shares(0.25)},
        },
        "tasks": [
            {
                "task": task["task"],
                "planned_share": task["rate"],
                "share": task["rate"] * (1.01 if place % 2 else 0.99),
                "draws": task["draws"] - task["dropped"],
                "epochs": task["epochs"],
                "input_tokens": 151 * task["draws"],
                "target_tokens": 36 * task["draws"],
                "target_token_share": task["target_token_share"],
                "loss_share": task["loss_share"],
                "shortened": task["shortened"],
                "dropped": task["reasons"],
                "templates": {f"phrasing_{i}": fake_shares(0.1, 60 - i) for i in range(9)}
                | ({HOSTILE: fake_shares(0.1, 3)} if task["dropped"] else {}),
            }
            for place, task in enumerate(plan["tasks"])
        ],
    }


def fake_shares(planned: float, draws: int = 600) -> dict[str, Any]:
    """What the receipt says of a template or another variant."""
    return {
        "planned_share": planned,
        "share": planned,
        "draws": draws,
        "input_tokens": 151 * draws,
        "target_tokens": 36 * draws,
        "loss_weight": 36.0 * draws,
        "input_token_share": planned,
        "target_token_share": planned,
        "loss_share": planned,
    }


def fake_metrics() -> list[dict[str, Any]]:
    """The lines of metrics.jsonl: one task is lost after step 150, one step is not finite."""
    dice = random.Random(2)
    trained = [task for task, group, *_ in TASKS if group == "trained"]
    lines = []
    for step in range(240):
        by_task = {}
        for place, task in enumerate(trained):
            if dice.random() < (0.35 if place == 3 else 0.9):
                loss = 0.35 + 0.12 * place + (1.4 + 0.3 * place) * math.exp(-step / 45) + dice.gauss(0, 0.11)
                by_task[task] = max(0.02, loss + (max(0, step - 150) * 0.02 if task == LONG else 0.0))
        if step == 200:
            by_task[LONG] = math.nan
        lines.append(
            {
                "step": step,
                "loss": sum(v for v in by_task.values() if v == v) / max(1, len(by_task)),
                "loss_by_task": by_task,
                "tokens": 1990,
                "target_tokens": 340,
                "learning_rate": 2e-4 * min(1, step / 12, (240 - step) / 228),
                "gradient_norm": 1.1 + dice.random() + 3 * math.exp(-step / 10),
                "tokens_per_second": 812 + 40 * dice.random() if step else 90.0,
                "seconds": 2.4,
                "memory_gb": 1.9 + min(step, 40) * 0.004,
            }
        )
    return lines


def fake_validations() -> list[dict[str, Any]]:
    """The lines of validation.jsonl: the third is the best, the last has no finite loss on one task."""
    trained = [(task, metrics) for task, group, _, metrics, *_ in TASKS if group == "trained"]
    lines = []
    for step, better in ((60, 0.4), (120, 0.7), (180, 0.9), (240, 0.8)):
        scores = {
            task: {m: 3 - 2 * better if m in LOWER else 60 * better + place for m in metrics}
            for place, (task, metrics) in enumerate(trained)
        }
        losses = {task: 0.5 + 0.1 * place + 1 - better for place, (task, _) in enumerate(trained)}
        scaled = {task: 60 * better + place for place, (task, _) in enumerate(trained)}
        average, loss = sum(scaled.values()) / len(scaled), sum(losses.values()) / len(losses)
        if step == 240:
            losses[LONG] = loss = math.nan
        lines.append(
            {
                **{"step": step, "row": 2 * step, "draws": 10 * step, "loss": loss, "loss_by_task": losses},
                **{"scores": scores, "scaled": scaled, "average": average, "worst": min(scaled.values())},
                **{"value": average, "seconds": 21.0},
            }
        )
    return lines


def fake_predictions(task: str, metrics: list[str], *, tuned: bool) -> list[dict[str, Any]]:
    """The answers of one model to one task; row 0 is hostile in every text."""
    dice, chance = random.Random(task), random.Random(f"{task}{tuned}")
    rows = []
    for number in range(75 if task == "starter/intent" else 60):
        talk, summary = TALKS[dice.randrange(len(TALKS))]
        reference = dice.choice(ANSWERS.get(task, [summary]))
        right = chance.random() < (0.6 if tuned else 0.3)
        answer = reference if right else chance.choice(ANSWERS.get(task, [summary[: chance.randrange(20, 70)]]))
        if not tuned and task == "starter/dialogue_summary":
            answer = "Sure! Here is a summary of the conversation: " + talk[:160]
        hostile = number == 0
        rows.append(
            {
                "row": f"test-{number + 1:03}",
                "template": "held_out_recap" if number % 2 else f"polite {HOSTILE}" if hostile else "polite",
                "template_kind": "held_out" if number % 2 else "seen",
                "prompt": f"Summarize this conversation.\n\n{HOSTILE if hostile else talk}",
                "prediction": HOSTILE if hostile else "" if number == 5 else answer,
                "references": [HOSTILE, reference] if hostile else [reference],
                "scores": {m: chance.uniform(20, 90) if m not in LOWER else chance.uniform(0, 2) for m in metrics},
                "finished": tuned or number % 7 != 3,
                "choice_scores": None,
            }
        )
    return rows


def fake_run(folder: Path) -> Path:
    """Fills a folder and returns it."""
    plan = fake_plan()
    for name, value in (
        ("comparison", fake_comparison()),
        ("plan", plan),
        ("mixture", fake_mixture(plan)),
        (
            "environment",
            {
                "python": "3.11.9",
                "system": "Linux x86_64",
                "processors": 4,
                "packages": {"flantune": "0.1.0", "torch": "2.9.1", "hostile": HOSTILE},
                "git": None,
                "started": "2026-11-24T19:20:00Z",
            },
        ),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in fake_metrics()), encoding="utf-8")
    validations = "".join(json.dumps(line) + "\n" for line in fake_validations())
    (folder / "validation.jsonl").write_text(validations, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    for task, _, _, metrics, *_ in TASKS:
        for side in ("base", "tuned"):
            path = folder / "evaluation" / side / f"{task}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = fake_predictions(task, metrics, tuned=side == "tuned")
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            path.write_text(text, encoding="utf-8")
    return folder


def long_run(folder: Path, rows: int) -> Path:
    """Fills a folder with a run that asked each of its eight tasks so many rows; returns it."""
    fake_run(folder)
    for task, _, _, metrics, *_ in TASKS:
        for side in ("base", "tuned"):
            few = fake_predictions(task, metrics, tuned=side == "tuned")
            lines = [json.dumps({**few[n % len(few)], "row": f"row-{n}"}) + "\n" for n in range(rows)]
            (folder / "evaluation" / side / f"{task}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def hostile_run(folder: Path, texts: Sequence[str]) -> Path:
    """Fills a folder with a run of one task a text, which stands in every field that a text can reach; returns it."""
    rates = [1 / len(texts)] * len(texts)
    entry = fake_comparison()["tasks"][0]
    plan = fake_plan()
    named = [text.replace("/", "⧸").replace("\0", "␀").replace("..", "‥")[:80] for text in texts]  # a file's name
    others = [*texts[1:], texts[0]]
    values = {
        "comparison": {
            "base": {"model": texts[0]},
            "tuned": {"model": texts[1]},
            "verdict": " ".join(texts),
            "average": {},
            "tasks": [
                {
                    **entry,
                    "task": name,
                    "cluster": text,
                    "signature": other,
                    "metric": text,
                    "verdict": other if place % 9 == 0 else "better",
                    "baselines": {text: 1.0},
                    "by_template": {text: entry["by_phrasing"]["seen"], other: entry["by_phrasing"]["seen"]},
                }
                for place, (name, text, other) in enumerate(zip(named, texts, others, strict=True))
            ],
        },
        "plan": {
            **plan,
            "model": texts[0],
            "warnings": list(texts),
            "tasks": [
                {
                    **plan["tasks"][0],
                    "task": name,
                    "cluster": text,
                    "origins": [other],
                    "rate": rate,
                    "reasons": {text: 1},
                }
                for name, text, other, rate in zip(named, texts, others, rates, strict=True)
            ],
            "ledger": {
                "licences": [{"task": t, "license": o} for t, o in zip(texts, others, strict=True)],
                "allowed": [{"trained": t, "unseen": o, "origins": [t]} for t, o in zip(texts, others, strict=True)],
                "contamination": [
                    {
                        **plan["ledger"]["contamination"][0],
                        "trained": text,
                        "evaluated": other,
                        "shown": [
                            dict.fromkeys(("row", "place", "training_place", "kind", "text"), text) | {"words": 13}
                        ],
                    }
                    for text, other in zip(texts, others, strict=True)
                ],
                "flagged": {},
                "duplicates": [
                    {"task": t, "of": t, "exact": 1, "near": 0, "shown": [{"place": t, "repeats": t}]} for t in texts
                ],
                "left_out": [{"task": t, "rows": 2, "overlapping": 1, "duplicates": 0} for t in texts],
            },
        },
        "mixture": {
            "draws": 1,
            "variants": {"options": {text: fake_shares(0.1) for text in texts}},
            "tasks": [
                {
                    **fake_shares(rate),
                    "task": name,
                    "epochs": 1.0,
                    "shortened": 0,
                    "dropped": {text: 1},
                    "templates": {text: fake_shares(1.0)},
                }
                for name, text, rate in zip(named, texts, rates, strict=True)
            ],
        },
        "environment": {text: text for text in texts},
    }
    folder.mkdir(parents=True)
    for name, value in values.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    lines = [{"step": step, "loss": 1.0, "loss_by_task": dict.fromkeys(named, 1.0)} for step in range(2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    by_text = dict.fromkeys(named, 1.0)
    found = {
        **{"step": 2, "loss": 1.0, "loss_by_task": by_text, "average": 1.0, "worst": 1.0, "value": 1.0},
        "scores": {name: {text: 1.0} for name, text in zip(named, texts, strict=True)},
    }
    (folder / "validation.jsonl").write_text(json.dumps(found) + "\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text("\n".join(texts).replace("\0", ""), encoding="utf-8")
    for name, text, other in zip(named, texts, others, strict=True):
        answer = {
            "row": text,
            "template": text,
            "template_kind": "seen",
            "prompt": text,
            "prediction": other,
            "references": [text, other],
            "scores": {text: 1.0},
            "finished": True,
        }
        for side in ("base", "tuned"):
            path = folder / "evaluation" / side / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({**answer, "prediction": text if side == "tuned" else other}), encoding="utf-8")
    return folder


RECIPE = f"""\
name: first
seed: 0
model:
  name: smollm2-135m-instruct
tasks:
- task: starter/dialogue_summary
- task: starter/entity_recognition
- task: starter/review_rating
- task: starter/code_translation
- task: {LONG}.yaml   # </pre>{BREAKOUT} ```
unseen:
- task: starter/intent
- task: starter/dialogue_title
- task: starter/knowledge
training:
  draws: 2400
  learning_rate: 0.0002
"""
