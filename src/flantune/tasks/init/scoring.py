"""How a task's answers are scored: the closed set of them, metrics, and the room that they need."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from flantune.tasks.init.columns import NUMBER, Column, as_text
from flantune.tasks.init.language import length, scripts
from flantune.tasks.init.phrasings import phrasings
from flantune.tasks.init.sketch import Sketch
from flantune.tasks.init.view import Proposal, View

MOST_CLOSED = 200  # answers of a closed set
MOST_COMPARED = 20  # answers whose likelihoods are compared; of more, one is generated
MOST_SHOWN = 40  # options in a prompt
LABELS = (
    "classification",
    "rating",
    "entailment",
    "same_meaning",
    "pair_classification",
    "yes_no",
    "record_classification",
    "multi_label",
)
PERHAPS_CLOSED = ("instruction", "question_answering", "reading", "reasoning")  # where all answers are a few
LONGEST_ANSWER = 512  # tokens
UNSPACED = ("Han", "Kana", "Thai")


def closed_set(proposal: Proposal, view: View, answers: Mapping[str, int]) -> list[str]:
    """The answers of which each row has one, numbers by size; empty where they are not so few.

    Args:
        proposal: The task.
        view: Its rows.
        answers: How often each answer comes in all rows.
    """
    target = proposal.target
    if any(isinstance(value, bool) for value in target.filled):
        return ["yes", "no"]
    found = {text.removesuffix(".0") if _is_whole(target) else text: times for text, times in answers.items() if text}
    strict = proposal.kind in PERHAPS_CLOSED
    rows_each, most = (8, MOST_COMPARED) if strict else (3, MOST_CLOSED)
    few = 2 <= len(found) <= most and sum(found.values()) >= rows_each * len(found)
    long = strict and max(map(length, found), default=0) > 8
    contexts = proposal.given.get("context", ())
    copied = max((view.relation(column, target).copied for column in contexts), default=0.0)
    if not few or long or copied > 0.5 or view.prompted or any("|||" in text for text in found):
        return []
    try:
        return sorted(found, key=lambda text: float(text.replace(",", ".")))
    except ValueError:
        return sorted(found)


def _is_whole(target: Column) -> bool:
    """Numbers that JSON writes with a point but are whole, and are printed without."""
    floats = [value for value in target.filled if isinstance(value, float)]
    return bool(floats) and all(float(value).is_integer() for value in target.filled if isinstance(value, int | float))


def are_compared(sketch: Sketch) -> bool:
    """Whether the answer is the likeliest of a few, and not a text that is generated."""
    if sketch.kind in ("multi_label", "reasoning"):
        return False
    alike = Counter(choice.casefold().removesuffix(".") for choice in sketch.choices)
    return sketch.answer.choices is not None or (2 <= len(alike) == len(sketch.choices) <= MOST_COMPARED)


def shows_options(sketch: Sketch) -> bool:
    """Whether prompts list the answers: where they are few, and the text does not list them already."""
    if sketch.answer.choices is not None:
        return not _are_marks(sketch.proposal)
    if sketch.kind == "rating" or not 2 <= len(sketch.choices) <= MOST_SHOWN:
        return False
    copied = [sketch.view.relation(column, sketch.target).copied for column in sketch.given if column.nature == "text"]
    return max(copied, default=0.0) < 0.9 or sketch.kind not in (*PERHAPS_CLOSED, "yes_no")


def _are_marks(proposal: Proposal) -> bool:
    """Choices that are only letters or numbers, whose texts the question lists."""
    return all(len(item.strip("(). ")) <= 1 for item in _items(proposal)[:500])


def _items(proposal: Proposal) -> list[str]:
    values = [value for column in proposal.choices for value in column.filled]
    return [as_text(item) for value in values for item in (value if isinstance(value, list) else [value])]


def metrics(sketch: Sketch) -> list[str]:
    """Names of metrics, the main one first."""
    kind, usual = sketch.kind, list(phrasings()[sketch.kind].metrics)
    if kind in PERHAPS_CLOSED:
        return _of_free_answers(sketch, usual)
    if kind in LABELS and kind != "multi_label" and not sketch.choices:
        return ["accuracy"]
    if "macro_f1" in usual and not are_compared(sketch) and _differ_in_case_only(sketch.choices):
        return ["accuracy"]
    return _for_script(usual, sketch.printed)


def _differ_in_case_only(choices: Sequence[str]) -> bool:
    return len({choice.casefold().removesuffix(".") for choice in choices}) < len(choices)


def _of_free_answers(sketch: Sketch, usual: list[str]) -> list[str]:
    """Of answers that may be anything: by what they are like."""
    words = sorted(length(text) for text in sketch.printed) or [0.0]
    middle = words[len(words) // 2]
    numeric = sum(bool(NUMBER.fullmatch(text)) for text in sketch.printed) > 0.9 * len(sketch.printed)
    if sketch.choices:
        return ["accuracy", "macro_f1"] if are_compared(sketch) else ["accuracy"]
    if (
        numeric
        or sketch.kind == "reasoning"
        or (middle <= 2 and sketch.target.unique < 0.2 and sketch.kind != "reading")
    ):
        return ["accuracy"]
    if sketch.target.programming is not None:
        return ["bleu", "chrf", "exact_match"]
    short = ["token_f1", "exact_match"]
    chosen = short if middle <= 6 or (sketch.kind != "instruction" and middle <= 15) else ["rouge1", "rougeL"]
    return _for_script(chosen if sketch.kind != "reasoning" else usual, sketch.printed)


def _for_script(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """ROUGE and token F1 know words of Latin letters only; other scripts are compared by characters."""
    found = scripts(texts)
    script = found.most_common(1)[0][0] if found else "Latin"
    if script == "Latin":
        return list(names)
    unknown = ("rouge1", "rouge2", "rougeL", "token_f1", *(("bleu",) if script in UNSPACED else ()))
    kept = [name for name in names if name not in unknown]
    return list(dict.fromkeys(["chrf", *kept])) if len(kept) < len(names) else kept


def tokens(sketch: Sketch) -> int:
    """Room for an answer: what the longest but the last few need, and some more."""
    texts = sketch.choices or (_items(sketch.proposal) if sketch.answer.choices is not None else sketch.printed)
    if sketch.kind == "multi_label" or not texts or sketch.worked:
        texts = sketch.worked or sketch.printed
    lengths = sorted(map(_as_tokens, texts)) or [8.0]
    closed = bool(sketch.choices) and texts is sketch.choices
    needed = lengths[-1] if closed else lengths[int(0.98 * (len(lengths) - 1))]
    room = 1.25 * needed + 3
    return int(min(math.ceil(room) if room < 12 else 8 * math.ceil(room / 8), LONGEST_ANSWER))


def _as_tokens(text: str) -> float:
    """About how many tokens a text has: of three letters where they are Latin, one a letter elsewhere, one a symbol."""
    letters = sum(1 for character in text if character.isalpha() and character < "\u0250")
    return letters / 3.5 + (len(text) - letters) / 1.6
