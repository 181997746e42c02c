"""Sample logs in the form of lm-evaluation-harness (`--log_samples`), so that its tools can look at our answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flantune.evaluation.records import Side, TaskAnswers
from flantune.files import write_json_lines


def write_sample_logs(folder: Path, side: Side) -> None:
    """Writes `samples_TASK.jsonl` for each task."""
    for it in side.tasks:
        rows = [_sample(number, row, it) for number, row in enumerate(it.rows)]
        write_json_lines(folder / f"samples_{it.task.replace('/', '__')}.jsonl", rows)


def _sample(number: int, row: Mapping[str, Any], asked: TaskAnswers) -> dict[str, Any]:
    """One line, with the keys that lm-eval 0.4 writes; each row's scores stand beside them by metric."""
    doc = {key: row[key] for key in ("row", "template", "references", "choices", "fields") if key in row}
    target, prompt, scored = row["references"][0], row["prompt"], row["choice_scores"]
    if scored is None:
        drawn = {key: asked.decoding[key] for key in ("temperature", "top_p") if key in asked.decoding}
        most = asked.decoding["max_new_tokens"]
        requests = [[prompt, {"until": [], "max_gen_toks": most, "do_sample": bool(drawn), **drawn}]]
        answers: list[Any] = [[row.get("text", row["prediction"])]]
        filtered: list[Any] = [row["prediction"]]
    else:
        requests = [[prompt, choice] for choice in scored]
        best = max(scored.values())
        answers = [[[value, value == best]] for value in scored.values()]
        filtered = [[value, value == best] for value in scored.values()]
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{place}": {f"arg_{i}": value for i, value in enumerate(request)}
            for place, request in enumerate(requests)
        },
        "resps": answers,
        "filtered_resps": filtered,
        "filter": "none",
        "metrics": list(row["scores"]),
        "doc_hash": _sha(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha(prompt),
        "target_hash": _sha(target),
        **row["scores"],
    }


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
