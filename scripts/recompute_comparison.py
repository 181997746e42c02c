"""Computes the numbers of RUN/comparison.json again from its files, without flantune: recompute_comparison.py RUN.

Scores to nine digits; intervals and p, of other random draws, roughly. Metrics unknown here are means of kept scores.
"""

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

CORPUS: dict[str, Any] = {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF()}
ROUGE = RougeScorer(ROUGES := ["rouge1", "rouge2", "rougeL"], use_stemmer=True)
NUMBER = re.compile(r"(?:(?<![\w.])[-−])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)", re.ASCII)
HAN = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff𠀀-\U0003ffff"
WORD = re.compile(rf"[{HAN}]|[^\s{HAN}]+")


def answer(text: str) -> str:
    """What equal answers share."""
    return text.strip().removesuffix(".").rstrip().casefold()


ROW: dict[str, Any] = {name: lambda said, wanted, n=name: ROUGE.score(wanted, said)[n].fmeasure for name in ROUGES}
ROW |= {"accuracy": lambda a, b: answer(a) == answer(b), "exact_match": lambda a, b: a.split() == b.split()}
FORM = {"words": lambda r: len(WORD.findall(r["said"])), "unfinished": lambda r: 100 - 100 * r["finished"]}
FORM |= {name: lambda r, n=n: 100 * (FORM["words"](r) == n) for n, name in enumerate(("empty", "one_word"))}


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


def entity_counts(row: dict[str, Any]) -> list[int]:
    """Numerator and denominator of F1 over pairs of type and text, of the best reference."""
    found = []
    for text in (row["prediction"], *row["references"]):
        lines = [line.strip() for line in text.splitlines() if line.strip() and answer(line) != "none"]
        pairs = [[" ".join(part.split()) for part in line.partition(":")[::2]] for line in lines]
        named = ((a.casefold(), b) if a and b else ("", line) for (a, b), line in zip(pairs, lines, strict=True))
        found.append(Counter(named))
    options = [[200 * (found[0] & wanted).total(), found[0].total() + wanted.total()] for wanted in found[1:]]
    return max(options, key=lambda it: it[0] / it[1] if it[1] else 1)


def statistics(name: str, rows: list[dict[str, Any]]) -> Any:
    """(n, k) numbers, and the function that makes a score of their sums."""
    if name in ("perplexity", "plain_text"):
        of = [r["measured"][name] if "measured" in r else [r["nats"], r["tokens"]] for r in rows]
        return np.array(of), lambda sums: (np.exp if name == "perplexity" else np.asarray)(sums[..., 0] / sums[..., 1])
    if name in CORPUS:
        by = CORPUS[name]
        of = [by._extract_corpus_statistics([r["prediction"]], [[x] for x in r["references"]])[0] for r in rows]
        score = lambda one: by._compute_score_from_stats([round(x) for x in one]).score  # noqa: E731
        return np.array(of, float), lambda sums: np.apply_along_axis(score, -1, sums)
    if name == "macro_f1":  # over classes that are said or wanted: how often right, and said or wanted
        classes, texts = {answer(x) for x in rows[0]["choices"]}, [(r["prediction"], r["references"][0]) for r in rows]
        is_one = np.array([[[answer(x) == c for c in classes] for x in both] for both in texts], float)
        of, k = np.hstack([is_one.prod(axis=1), is_one.sum(axis=1)]), len(classes)
        return of, lambda sums: 100 * np.nanmean(2 * sums[..., :k] / np.where(sums[..., k:], sums[..., k:], np.nan), -1)
    of = FORM.get(name) or (error if name == "mean_absolute_error" else lambda r: r["scores"][name])
    if name in ROW:
        of = lambda r: 100 * max(float(ROW[name](r["prediction"], wanted)) for wanted in r["references"])  # noqa: E731
    values = [entity_counts(r) if name == "entity_f1" else [of(r), 1] for r in rows]
    return np.array(values, float), lambda sums: sums[..., 0] / sums[..., 1]


def check(entry: dict[str, Any], sides: list[list[Any]], rng: Any) -> tuple[bool, bool]:
    """Whether scores and difference are the same, and whether p and interval are near."""
    (a, score), (b, _) = (statistics(entry["metric"], rows) for rows in sides)
    ids = {row: n for n, row in enumerate(dict.fromkeys(r["row"] for r in sides[0]))}
    n, both = len(ids), np.zeros((len(ids), 2, a.shape[1]))  # rows of one id go together
    np.add.at(both, [ids[r["row"]] for r in sides[0]], np.stack([a, b], axis=1))
    change = lambda pairs: np.diff(score(pairs.sum(axis=-3)))[..., 0]  # noqa: E731
    found = dict(zip(("base", "tuned", "difference"), [*score(both.sum(axis=0)), change(both)], strict=True))
    same = all(np.isclose(found[key], entry[key], rtol=1e-9, atol=1e-9) for key in found)
    swaps = rng.random((2000, n, 1, 1)) < 0.5
    p = np.mean(np.abs(change(np.where(swaps, both[:, ::-1], both))) >= abs(entry["difference"]) - 1e-9)
    near = abs(p - entry["p"]) <= 0.005 + 4 * np.sqrt(entry["p"] * (1 - entry["p"]) / 2000)
    if n > 2 and np.ptp(both[:, 1] - both[:, 0], axis=0).any():
        how = {"confidence_level": 1 - 2 * norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(0.025, n - 1)), "rng": rng}
        made = bootstrap((np.arange(n),), lambda at, axis: change(both[at]), n_resamples=2000, **how)
        one = max(abs(found["difference"] - change(np.delete(both, i, axis=0))) for i in range(n))  # row more or less
        near &= np.allclose(made.confidence_interval, entry["ci"], atol=0.15 * np.ptp(entry["ci"]) + 2 * one)
    return same, near


if __name__ == "__main__":
    run, wrong, rng = Path(sys.argv[1]), 0, np.random.default_rng(0)
    told = json.loads((run / "comparison.json").read_text())
    lost = told.get("forgetting") or {"drift": [], "plain_text": None, "judged": {"refusals": ()}}
    begins = tuple(lost["judged"]["refusals"])
    FORM["refusals"] = lambda r: 100 * r["said"].lstrip(" \t\n\"'*“‘").casefold().replace("’", "'").startswith(begins)
    for entry in [*told["tasks"], *lost["drift"], *filter(None, [lost["plain_text"]])]:
        task, sides = entry.get("task", "_plain_text"), []
        for side in ("base", "tuned"):
            kept = (run / "evaluation" / side / f"{task}.jsonl").read_text().strip().split("\n")
            sides.append([r | {"said": r.get("text") or r.get("prediction")} for r in map(json.loads, kept)])
        same, near = check(entry, sides, rng)
        print("same" if same else "DIFFERS", "near" if near else "FAR", task, entry["metric"], entry["tuned"])
        wrong += not (same and near)
    sys.exit(f"{wrong} differ" if wrong else 0)
