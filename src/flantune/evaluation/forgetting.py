"""What tuning may have cost: the form of answers that nobody asked to change, and how likely plain text is.

Knowledge and behaviour can be lost apart. By likelihood nothing may seem to be gone while answers have shrunk to one
word, so both are looked at: the form of kept answers (`drift`), and text that no task asks about (`plain_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flantune.evaluation.metrics.metric import divide, mean
from flantune.evaluation.predict import Prediction, answer_text
from flantune.evaluation.records import Side, TaskAnswers, paired
from flantune.evaluation.statistics import Difference, holm, paired_difference, single_interval, verdict
from flantune.mixture.permutation import key_of
from flantune.mixture.words import written_words

if TYPE_CHECKING:
    from flantune.evaluation.compare import Resampling

# How a refusal begins, in English. Refusals in other words and languages are missed; so is one behind other text.
REFUSALS = (
    *("i can't", "i cannot", "i can not", "i'm unable", "i am unable", "i'm not able", "i am not able"),
    *("i won't", "i will not", "i must decline", "i have to decline", "i refuse", "i don't feel comfortable"),
    *("sorry, but i", "sorry, i can", "i'm sorry, but i", "i'm sorry, i can", "i am sorry, but i", "i am sorry, i can"),
    *("i apologize, but i", "i apologise, but i", "my apologies, but i", "unfortunately, i can", "i'm afraid i can"),
    *("as an ai", "as a language model", "as a large language model", "i'm just an ai", "i am just an ai"),
)


def refuses(text: str) -> bool:
    """Whether an answer begins as a refusal does: one of `REFUSALS`, whatever its case, quotes and apostrophes.

    >>> refuses("I’m sorry, but I can’t help with that."), refuses("She said she can't come.")
    (True, False)
    """
    return text.lstrip(" \t\n\"'*“‘").casefold().replace("’", "'").startswith(REFUSALS)


def _words(row: Prediction) -> int:
    return len(written_words(answer_text(row)))


# Name to unit and value of a row; shares are in percent of the answers.
FORMS: dict[str, tuple[str, Callable[[Prediction], float]]] = {
    "words": ("words", _words),
    "one_word": ("0-100", lambda row: 100.0 * (_words(row) == 1)),
    "empty": ("0-100", lambda row: 100.0 * (_words(row) == 0)),
    "unfinished": ("0-100", lambda row: 100.0 * (not row["finished"])),
    "refusals": ("0-100", lambda row: 100.0 * refuses(answer_text(row))),
}
_CHANGE = {"better": "rose", "worse": "fell"}  # what `verdict` says of what is called better when it is higher
_TOLD = {
    "one_word": "answers of one word",
    "empty": "empty answers",
    "unfinished": "answers that did not end",
    "refusals": "refusals",
}


@dataclass(frozen=True)
class _Tested:
    """An entry of comparison.json with what its verdict is made of."""

    entry: dict[str, Any]
    difference: Difference


def forgetting(base: Side, others: Sequence[Side], by: Resampling) -> list[dict[str, Any] | None]:
    """What each of the others may have forgotten, against the base, from kept files alone.

    Args:
        base: Answers of the model to compare with.
        others: Answers of other models to the same questions.
        by: How differences are judged.
    Returns:
        For each of the others: `summary` (sentences), `drift` (an entry a free-text task and form of its answers:
        `change` is rose, fell or no difference shown), `plain_text` (an entry, or None where it was not measured on
        the same text and tokens), `judged`. None where there is nothing of it. Holm's correction runs over plain text
        and all forms of answers of tasks that were not trained, of all models; in trained tasks a change of form is
        what training asked for, and they have a correction of their own.
    Raises:
        FlantuneError: As of `paired`.
    """
    found: list[tuple[list[_Tested], _Tested | None]] = []
    for other in others:
        side = paired(base, other)
        pairs = [pair for pair in zip(base.tasks, side.tasks, strict=True) if _is_free_text(pair[0])]
        found.append(([tested for pair in pairs for tested in _drift(*pair, by)], _plain_text(base, side, by)))
    asked_to_change = [it for drift, _ in found for it in drift if it.entry["group"] == "trained"]
    held = [it for drift, _ in found for it in drift if it.entry["group"] != "trained"]
    held += [text for _, text in found if text is not None]
    for family in (asked_to_change, held):
        for it, p in zip(family, holm([it.difference.p for it in family]), strict=True):
            it.entry["p_adjusted"] = p
            drifted = "change" in it.entry
            said = verdict(it.difference, higher_is_better=drifted, adjusted_p=p)
            it.entry["change" if drifted else "verdict"] = _CHANGE.get(said, said) if drifted else said
    made: list[dict[str, Any] | None] = []
    for other, (drift, text) in zip(others, found, strict=True):
        entries, told = [it.entry for it in drift], text.entry if text is not None else None
        judged = {"tests": len(held), "refusals": list(REFUSALS)}
        unlike = told is None and base.plain_text is not None and other.plain_text is not None
        section = {
            "summary": summary(entries, told, unlike=unlike),
            "drift": entries,
            "plain_text": told,
            "judged": judged,
        }
        made.append(section if entries or told or unlike else None)
    return made


def _is_free_text(task: TaskAnswers) -> bool:
    """Whether it is answered in writing, in words of the model's own."""
    return task.decoding["evaluate_by"] == "generation" and not any(row.get("choices") for row in task.rows)


def _drift(base: TaskAnswers, tuned: TaskAnswers, by: Resampling) -> list[_Tested]:
    groups, found = [row["row"] for row in base.rows], []
    for name, (unit, value) in FORMS.items():
        before, after = (np.array([[value(row), 1.0] for row in side.rows]) for side in (base, tuned))
        seed = key_of(by.seed, "drift", base.task, name)
        difference = paired_difference(before, after, mean, groups=groups, resamples=by.resamples, seed=seed)
        entry: dict[str, Any] = {"task": base.task, "group": base.group, "metric": name, "unit": unit}
        entry |= {"rows": len(base.rows), **_numbers(difference), "change": ""}
        if name == "words":
            entry["references"] = float(np.mean([len(written_words(row["references"][0])) for row in base.rows]))
        found.append(_Tested(entry, difference))
    return found


def nats_a_token(sums: Any) -> Any:
    """Mean negative log-likelihood of a token, of sums of (nats, tokens)."""
    return divide(sums[..., 0], sums[..., 1])


def _plain_text(base: Side, tuned: Side, by: Resampling) -> _Tested | None:
    if base.plain_text is None or tuned.plain_text is None:
        return None
    same = [[(row["text"], row["tokens"]) for row in side.plain_text or ()] for side in (base, tuned)]
    if same[0] != same[1]:  # of other tokens it is another measure
        return None
    before, after = (_nats(side.plain_text or ()) for side in (base, tuned))
    if not before[:, 1].any():
        return None
    seed = key_of(by.seed, "plain text")
    difference = paired_difference(before, after, nats_a_token, resamples=by.resamples, seed=seed)
    entry: dict[str, Any] = {"metric": "plain_text", **base.settings["plain_text"], "unit": "nats a token"}
    entry |= {"tokens": int(before[:, 1].sum()), **_numbers(difference)}
    entry["perplexity"] = {"base": float(np.exp(difference.base)), "tuned": float(np.exp(difference.tuned))}
    return _Tested(entry | {"verdict": ""}, difference)


def _nats(rows: Sequence[Prediction]) -> Any:
    return np.array([[row["nats"], row["tokens"]] for row in rows], dtype=np.float64)


def _numbers(difference: Difference) -> dict[str, Any]:
    return {
        "n": difference.n,
        "base": difference.base,
        "tuned": difference.tuned,
        "difference": difference.difference,
        "ci": [difference.low, difference.high],
        "p": difference.p,
        "p_adjusted": difference.p,
    }


def plain_text_score(side: Side, by: Resampling) -> dict[str, Any] | None:
    """How likely one model finds the plain text, with an interval; None where that was not measured."""
    stats = _nats(side.plain_text or ())
    if not len(stats) or not stats[:, 1].any():
        return None
    drawn: dict[str, Any] = {"resamples": by.resamples, "seed": key_of(by.seed, "plain text")}
    nats = float(nats_a_token(stats.sum(axis=0)))
    told = {"n": len(stats), "tokens": int(stats[:, 1].sum()), "nats": nats, "perplexity": float(np.exp(nats))}
    return told | {"ci": list(single_interval(stats, nats_a_token, **drawn))}


def summary(drift: Sequence[Mapping[str, Any]], text: Mapping[str, Any] | None, *, unlike: bool = False) -> str:
    """What was shown of tasks that were not trained, and of plain text, in sentences; `unlike`: of two plain texts."""
    held = [entry for entry in drift if entry["group"] != "trained"]
    tasks = dict.fromkeys(entry["task"] for entry in held)
    sentences = []
    for task in tasks:
        told = [_changed(it) for it in held if it["task"] == task and it["change"] in _CHANGE.values()]
        if told:
            sentences.append(f"Answers to {task.removeprefix('starter/')}: {', '.join(told)}.")
    if tasks and not sentences:
        names = ", ".join(task.removeprefix("starter/") for task in tasks)
        sentences.append(f"No change in the form of answers is shown on tasks that were not trained ({names}).")
    if text is not None:
        word = {"better": "more likely", "worse": "less likely"}.get(text["verdict"], text["verdict"])
        nats, perplexity = f"{text['base']:.3f} → {text['tuned']:.3f}", text["perplexity"]
        told = f"{nats} nats a token (perplexity {perplexity['base']:.1f} → {perplexity['tuned']:.1f})"
        sentences.append(f"Plain text: {word}, {told}.")
    if unlike:
        sentences.append("Plain text: not compared, since the two were measured on other texts or tokens.")
    return " ".join(sentences)


def _changed(entry: Mapping[str, Any]) -> str:
    rose = entry["change"] == "rose"
    if entry["metric"] == "words":
        told = f"{entry['base']:.1f} → {entry['tuned']:.1f} words, in references {entry['references']:.1f}"
        return f"{'longer' if rose else 'shorter'} ({told})"
    return f"{'more' if rose else 'fewer'} {_TOLD[entry['metric']]} ({entry['base']:.0f} → {entry['tuned']:.0f} %)"
