"""Computes the numbers of RUN/comparison.json again from its files, without flantune: recompute_comparison.py RUN.

Scores and differences must be the same to nine digits; intervals and p-values are of other random draws here and by
scipy's bootstrap, and agree to what that leaves open. Metrics not known here are means of kept scores.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import bootstrap, norm, t

BLEU = sacrebleu.BLEU()
ROUGES = ["rouge1", "rouge2", "rougeL"]
ROUGE = RougeScorer(ROUGES, use_stemmer=True)
NUMBER = re.compile(r"(?:(?<![\w.])[-−])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)", re.ASCII)


def answer(text: str) -> str:
    """What equal answers share."""
    return text.strip().removesuffix(".").rstrip().casefold()


ROW: dict[str, Any] = {name: lambda said, wanted, n=name: ROUGE.score(wanted, said)[n].fmeasure for name in ROUGES}
ROW |= {"accuracy": lambda a, b: answer(a) == answer(b), "exact_match": lambda a, b: a.split() == b.split()}


def number(text: str) -> float | None:
    """The first number."""
    found = NUMBER.search(text)
    return float(found.group().replace(",", "").replace("−", "-")) if found else None


def error(row: dict[str, Any]) -> float:
    """Absolute error; of an answer outside the scale, the largest that one inside could make."""
    said, wanted = number(row["prediction"]), [number(text) for text in row["references"]]
    scale = [x for x in map(number, row.get("choices") or []) if x is not None]
    if said is not None and (not scale or min(scale) <= said <= max(scale)):
        return min(abs(said - x) for x in wanted if x is not None)
    return min(max(abs(end - x) for end in scale) if scale else abs(x) + 1 for x in wanted if x is not None)


def entities(text: str) -> Counter[Any]:
    """Pairs of type and text."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and answer(line) != "none"]
    pairs = [[" ".join(part.split()) for part in line.partition(":")[::2]] for line in lines]
    return Counter((a.casefold(), b) if a and b else ("", line) for (a, b), line in zip(pairs, lines, strict=True))


def entity_counts(row: dict[str, Any]) -> list[int]:
    """Numerator and denominator of F1, of the best reference."""
    said, all_wanted = entities(row["prediction"]), map(entities, row["references"])
    options = [[2 * (said & wanted).total(), said.total() + wanted.total()] for wanted in all_wanted]
    return max(options, key=lambda it: it[0] / it[1] if it[1] else 1)


def bleu(sums: Any) -> Any:
    """Scores of sums of sacrebleu's counts."""
    return np.apply_along_axis(lambda one: BLEU._compute_score_from_stats([round(x) for x in one]).score, -1, sums)


def statistics(name: str, rows: list[dict[str, Any]]) -> Any:
    """(n, k) numbers, and the function that makes a score of their sums."""
    if name == "perplexity":
        return np.array([r["measured"][name] for r in rows]), lambda sums: np.exp(sums[..., 0] / sums[..., 1])
    if name == "bleu":
        of = [BLEU._extract_corpus_statistics([r["prediction"]], [[x] for x in r["references"]])[0] for r in rows]
        return np.array(of, float), bleu
    if name == "entity_f1":
        values = [entity_counts(r) for r in rows]
    elif name in ROW:
        values = [[max(float(ROW[name](r["prediction"], wanted)) for wanted in r["references"]), 1] for r in rows]
    else:
        scale = 1
        values = [[error(r) if name == "mean_absolute_error" else r["scores"][name], 1] for r in rows]
    scale = 100 if name == "entity_f1" or name in ROW else 1
    return np.array(values, float), lambda sums: scale * sums[..., 0] / sums[..., 1]


def check(entry: dict[str, Any], sides: list[list[Any]], rng: Any) -> tuple[bool, bool]:
    """Whether scores and difference are the same, and whether p and interval are near."""
    (a, score), (b, _) = (statistics(entry["metric"], rows) for rows in sides)
    ids = {row: n for n, row in enumerate(dict.fromkeys(r["row"] for r in sides[0]))}
    both = np.zeros((len(ids), 2, a.shape[1]))  # rows of one id go together
    np.add.at(both, [ids[r["row"]] for r in sides[0]], np.stack([a, b], axis=1))

    def change(pairs: Any) -> Any:
        scores = score(pairs.sum(axis=-3))
        return scores[..., 1] - scores[..., 0]

    n, total, told = len(both), score(both.sum(axis=0)), [entry[key] for key in ("base", "tuned", "difference")]
    same = np.allclose([*total, total[1] - total[0]], told, rtol=1e-9, atol=1e-9)
    swaps = rng.random((2000, n, 1, 1)) < 0.5
    p = np.mean(np.abs(change(np.where(swaps, both[:, ::-1], both))) >= abs(entry["difference"]) - 1e-9)
    near = abs(p - entry["p"]) <= 0.005 + 4 * np.sqrt(entry["p"] * (1 - entry["p"]) / 2000)
    if n > 2 and np.ptp(both[:, 1] - both[:, 0], axis=0).any():
        level = 1 - 2 * norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(0.025, n - 1))
        drawn = {"confidence_level": level, "n_resamples": 2000, "rng": rng}
        ends = bootstrap((np.arange(n),), lambda at, axis: change(both[at]), **drawn).confidence_interval
        near &= np.allclose(ends, entry["ci"], atol=0.15 * np.ptp(entry["ci"]))
    return same, near


if __name__ == "__main__":
    run, wrong, rng = Path(sys.argv[1]), 0, np.random.default_rng(0)
    for entry in json.loads((run / "comparison.json").read_text())["tasks"]:
        files = (run / "evaluation" / side / f"{entry['task']}.jsonl" for side in ("base", "tuned"))
        same, near = check(entry, [[json.loads(it) for it in f.read_text().split("\n") if it] for f in files], rng)
        print("same" if same else "DIFFERS", "near" if near else "FAR", entry["task"], entry["metric"], entry["tuned"])
        wrong += not (same and near)
    sys.exit(f"{wrong} differ" if wrong else 0)
