"""Metrics: a score is a function of summed row statistics.

Every metric turns a row into a vector of k numbers and the sum of such vectors into a score. So a mean over
rows (ROUGE) and a corpus metric (BLEU, whose score is no mean of anything) are compared, resampled and
sign-flipped by the same code on the same (n, k) arrays: `score(statistics.sum(axis=0))` is the score of a
whole test set.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from flantune.errors import FlantuneError, named, nearest

FloatArray = NDArray[np.float64]
SECONDS_PER_PATTERN = 2.0
RowStatistics = Callable[[str, Sequence[str], Mapping[str, Any] | None, Sequence[str] | None], FloatArray]


@dataclass(frozen=True)
class Metric:
    """How predictions of a task are scored.

    Args:
        name: The name in task files and reports.
        higher_is_better: Which side a tuned model should move to.
        unit: "0-100"; or "target units" (of `mean_absolute_error`) or "ratio" (of `length_ratio`), both raw.
        signature: What a reader needs to get the same number elsewhere: library, version, settings.
        statistics: (prediction, references, row, answer_choices) -> (k,) float64. There is at least one
            reference; `row` holds the source row's fields and `answer_choices` the task's answers in order,
            both None where there are none. k is the same for all rows of a task.
        score: Sums (..., k) -> (...,). Where a denominator is 0 the score is nan, unless the metric defines
            one.
        answer_valid: (prediction, answer_choices) -> whether the prediction is an answer at all, right or
            wrong; None where every text is one.
        fields: The row's fields that `statistics` reads; None where it may read any.
    """

    name: str
    higher_is_better: bool
    unit: str
    signature: str
    statistics: RowStatistics
    score: Callable[[FloatArray], FloatArray]
    answer_valid: Callable[[str, Sequence[str] | None], bool] | None = None
    fields: tuple[str, ...] | None = ()


def metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        FlantuneError: No metric has this name; the message offers the nearest.
    """
    return named(name, METRICS, "metric", show=len(METRICS))


# --- scores from sums ---------------------------------------------------------------------------------------


def _divide(numerator: FloatArray, denominator: FloatArray, empty: float = math.nan) -> FloatArray:
    """The quotient, `empty` where the denominator is 0; no warning, since a resample may well be empty."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    quotient = np.full(numerator.shape, empty)
    return np.divide(numerator, denominator, out=quotient, where=denominator != 0)


def _mean(sums: FloatArray) -> FloatArray:
    """Sums of (value, 1) -> the mean value."""
    return _divide(sums[..., 0], sums[..., 1])


def _percent(sums: FloatArray) -> FloatArray:
    return 100.0 * _mean(sums)


def _best(row_score: Callable[[str, str], float]) -> RowStatistics:
    """(score against the best reference, 1) of a row; `_mean` or `_percent` of their sum is the metric."""

    def statistics(
        prediction: str,
        references: Sequence[str],
        row: Mapping[str, Any] | None = None,
        answer_choices: Sequence[str] | None = None,
    ) -> FloatArray:
        return np.array([max(row_score(prediction, reference) for reference in references), 1.0])

    return statistics


# --- answers ------------------------------------------------------------------------------------------------


def _answer(text: str) -> str:
    """What two equal answers have in common: "Positive." is "positive"."""
    return text.strip().removesuffix(".").rstrip().casefold()


def _exact_match(prediction: str, reference: str) -> float:
    return float(prediction.split() == reference.split())


def _accuracy(prediction: str, reference: str) -> float:
    return float(_answer(prediction) == _answer(reference))


def _is_choice(prediction: str, answer_choices: Sequence[str] | None) -> bool:
    return answer_choices is None or _answer(prediction) in map(_answer, answer_choices)


def _class_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(tp, fp, fn) of each class in the order of the choices, flattened: k = 3 * len(answer_choices).

    Several references: a prediction that equals one of them is right; a wrong one counts against the first. A
    prediction outside the choices is a miss of the reference's class and a false alarm of none.
    """
    if not answer_choices:
        raise FlantuneError('metric "macro_f1" needs answer_choices: add them or choose "accuracy"')
    class_ids = {_answer(choice): i for i, choice in enumerate(answer_choices)}
    if len(class_ids) < len(answer_choices):
        raise FlantuneError(
            'metric "macro_f1": case and a final period do not count, so two answer_choices are equal: '
            + ", ".join(f'"{choice}"' for choice in answer_choices)
        )
    right = [_answer(reference) for reference in references]
    for reference, answer in zip(references, right, strict=True):
        if answer not in class_ids:
            raise FlantuneError(
                f'metric "macro_f1": the target "{reference}" is not among the answer_choices; '
                + nearest(reference, answer_choices)
            )
    counts = np.zeros((len(answer_choices), 3))
    predicted = _answer(prediction)
    if predicted in right:
        counts[class_ids[predicted], 0] = 1
    else:
        counts[class_ids[right[0]], 2] = 1
        if predicted in class_ids:
            counts[class_ids[predicted], 1] = 1
    return counts.reshape(-1)


def _macro_f1(sums: FloatArray) -> FloatArray:
    """Mean F1 over the classes that occur in references or predictions, as scikit-learn's f1_score does."""
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    occurrences = 2 * tp + fp + fn
    f1 = _divide(2 * tp, occurrences, empty=0.0)
    return 100.0 * _divide(f1.sum(axis=-1), (occurrences > 0).sum(axis=-1).astype(np.float64))


# A hyphen after a word character joins ("COVID-19", "3-4"); elsewhere it is a minus.
_NUMBER = re.compile(r"(?:(?<![\w.])[-−])?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)")


def _first_number(text: str) -> float | None:
    """The first number written in digits: "4 stars" is 4, "1,250.5" is 1250.5; "four" is none."""
    found = _NUMBER.search(text)
    if found is None:
        return None
    number = float(found.group().replace(",", "").replace("−", "-"))
    return number if math.isfinite(number) else None  # 400 digits overflow to infinity


def _range(answer_choices: Sequence[str] | None) -> tuple[float, float] | None:
    """The smallest and the largest choice, if all choices hold a number."""
    numbers = [number for number in map(_first_number, answer_choices or ()) if number is not None]
    if not numbers or len(numbers) < len(answer_choices or ()):
        return None
    return min(numbers), max(numbers)


def _is_number(prediction: str, answer_choices: Sequence[str] | None) -> bool:
    number, limits = _first_number(prediction), _range(answer_choices)
    return number is not None and (limits is None or limits[0] <= number <= limits[1])


def _absolute_error(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(error against the nearest reference, 1).

    An answer without a number, or outside the range of numeric choices, gets the largest error that an answer
    in the range could have made. Without a range it gets |reference| + 1: more than an answer of 0, so that
    saying nothing never pays.
    """
    limits, errors = _range(answer_choices), []
    number = _first_number(prediction) if _is_number(prediction, answer_choices) else None
    for reference in references:
        target = _first_number(reference)
        if target is None:
            raise FlantuneError(f'metric "mean_absolute_error": the target "{reference}" holds no number')
        if number is not None:
            errors.append(abs(number - target))
        elif limits is not None:
            errors.append(max(abs(limit - target) for limit in limits))
        else:
            errors.append(abs(target) + 1.0)
    return np.array([min(errors), 1.0])


# --- texts --------------------------------------------------------------------------------------------------


@functools.cache
def _rouge_scorer(rouge_type: str) -> Any:
    from rouge_score_rs.rouge_scorer import RougeScorer

    return RougeScorer([rouge_type], use_stemmer=True)


def _rouge(rouge_type: str, prediction: str, reference: str) -> float:
    return _rouge_scorer(rouge_type).score(reference, prediction)[rouge_type].fmeasure


@functools.cache
def _sacrebleu(metric_class: str) -> Any:
    from sacrebleu import metrics

    return getattr(metrics, metric_class)()


def _bleu_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(predicted tokens, those of the closest reference, 4 matched and 4 predicted n-gram counts)."""
    counts = _sacrebleu("BLEU").corpus_score([prediction], [[reference] for reference in references])
    return np.array([counts.sys_len, counts.ref_len, *counts.counts, *counts.totals], dtype=np.float64)


def _bleu(sums: FloatArray) -> FloatArray:
    """BLEU with exponential smoothing, `effective_order=False`: sacrebleu's `BLEU.compute_bleu` on arrays."""
    predicted_tokens, reference_tokens = sums[..., 0], sums[..., 1]
    matched, total = sums[..., 2:6], sums[..., 6:10]
    # The first order without a match counts half a match, the second a quarter, and so on.
    unmatched = (matched == 0) & (total > 0)
    smoothed = np.where(unmatched, 0.5 ** np.cumsum(unmatched, axis=-1), matched)
    precision = _divide(smoothed, total, empty=0.0)
    scored = (matched > 0).any(axis=-1) & (total > 0).all(axis=-1)
    log_precision = np.log(np.where(precision > 0, precision, 1.0)).mean(axis=-1)
    log_brevity = np.minimum(0.0, 1.0 - _divide(reference_tokens, predicted_tokens, empty=1.0))
    return np.where(scored, 100.0 * np.exp(log_precision + log_brevity), 0.0)


def _chrf_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(predicted, reference's, matched) counts of character 1- to 6-grams, of the best reference: k = 18."""
    # The public CHRFScore hides its counts; sacrebleu's own significance tests take this way too.
    counts = _sacrebleu("CHRF")._extract_corpus_statistics([prediction], [[text] for text in references])
    return np.array(counts[0], dtype=np.float64)


def _chrf(sums: FloatArray) -> FloatArray:
    """sacrebleu's chrF2: F of the means of precision and recall over the orders that both sides reach."""
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    predicted, reference, matched = counts[..., 0], counts[..., 1], counts[..., 2]
    orders = ((predicted > 0) & (reference > 0)).sum(axis=-1).astype(np.float64)

    def mean_share(of: FloatArray) -> FloatArray:
        return _divide(_divide(matched, of, empty=0.0).sum(axis=-1), orders, empty=0.0)

    precision, recall = mean_share(predicted), mean_share(reference)
    return 100.0 * _divide(5.0 * precision * recall, 4.0 * precision + recall, empty=0.0)


_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _squad_tokens(text: str) -> list[str]:
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split()


def _token_f1(prediction: str, reference: str) -> float:
    """Bag-of-words F1 of SQuAD 2.0's evaluation (Rajpurkar et al. 2018): empty equals only empty."""
    predicted, wanted = _squad_tokens(prediction), _squad_tokens(reference)
    if not predicted or not wanted:
        return float(predicted == wanted)
    return 2.0 * (Counter(predicted) & Counter(wanted)).total() / (len(predicted) + len(wanted))


def _entities(text: str, *, strict: bool) -> Counter[tuple[str, str]]:
    """The (type, text) pairs of lines `type: text`; `none` stands for no pair.

    A predicted line of another form is a pair of no type, which no reference has, so it counts as a false
    alarm.
    """
    entities: Counter[tuple[str, str]] = Counter()
    for line in filter(None, map(str.strip, text.splitlines())):
        if _answer(line) == "none":
            continue
        kind, _, entity = line.partition(":")
        pair = (" ".join(kind.casefold().split()), " ".join(entity.split()))
        if not all(pair):
            if strict:
                raise FlantuneError(f'metric "entity_f1": the target line "{line}" is neither "type: text" nor "none"')
            pair = ("", line)
        entities[pair] += 1
    return entities


def _entity_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(tp, fp, fn) against the reference with the best F1 (the first of equals): k = 3."""
    predicted = _entities(prediction, strict=False)
    candidates = []
    for reference in references:
        wanted = _entities(reference, strict=True)
        tp = (predicted & wanted).total()
        candidates.append(np.array([tp, predicted.total() - tp, wanted.total() - tp], dtype=np.float64))
    return max(candidates, key=lambda counts: float(_entity_f1(counts)))


def _entity_f1(sums: FloatArray) -> FloatArray:
    tp, fp, fn = sums[..., 0], sums[..., 1], sums[..., 2]
    return 100.0 * _divide(2.0 * tp, 2.0 * tp + fp + fn, empty=1.0)


def _words(text: str) -> list[str]:
    """What stands between whitespace and holds a letter or digit; a bullet or a dash is no word."""
    return [word for word in text.split() if any(map(str.isalnum, word))]


def _word_counts(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(predicted words, words of the reference closest in length, the shorter of two as close): k = 2."""
    predicted = len(_words(prediction))
    lengths = [len(_words(reference)) for reference in references]
    closest = min(lengths, key=lambda length: (abs(length - predicted), length))
    return np.array([predicted, closest], dtype=np.float64)


def _length_ratio(sums: FloatArray) -> FloatArray:
    return _divide(sums[..., 0], sums[..., 1], empty=0.0)


# --- rules --------------------------------------------------------------------------------------------------

Rule = Mapping[str, Any]


def passes(rule: Rule, text: str) -> bool:
    """Whether a text does what a rule asks.

    Args:
        rule: `{"rule": NAME, ...}`; a key whose value is None counts as left out.

            - words, lines, sentences, items: `min` and/or `max`, both inclusive. Lines are non-empty ones.
              Items are lines or, in a text of one line, its parts between commas, semicolons and "and".
            - contains: `any` and/or `all` of these as whole words; avoids: none of `any`. Case does not
              count.
            - starts_with, ends_with: `any` of these, case and outer whitespace aside; ends_with overlooks a
              final . ! ? unless the given text ends so itself.
            - matches: `pattern`, a regular expression found anywhere; case does not count, a dot matches a
              newline.
            - case: `is` "upper" or "lower", of all letters that have a case; there must be one.
            - json: an object with at least these `keys`; a markdown fence around it is allowed.
        text: A prediction.
    Raises:
        FlantuneError: The rule is unknown, asks for nothing, has an unknown key or a value of the wrong type.
    """
    if not isinstance(rule, Mapping):
        raise FlantuneError(f'a rule must be an object such as {{"rule": "words", "max": 5}}, not "{rule}"')
    # A table of rows gives every rule every key, with None where it was left out.
    given = {key: value for key, value in rule.items() if value is not None}
    name = str(given.pop("rule", None))
    check, keys = named(name, RULES, "rule", show=len(RULES))
    for key in given:
        if key not in keys:
            raise FlantuneError(f'rule "{name}": unknown key "{key}"; {nearest(key, keys)}')
    if all(value == [] and key != "keys" for key, value in given.items()):
        raise FlantuneError(f'rule "{name}" asks for nothing: give {" or ".join(keys)}')
    return check(given, text)


def _within(count: Callable[[str], int]) -> Callable[[Rule, str], bool]:
    def check(rule: Rule, text: str) -> bool:
        for key, bound in rule.items():
            if key in ("min", "max") and not isinstance(bound, int | float):
                raise FlantuneError(f'a rule\'s "{key}" must be a number, not "{bound}"')
        return rule.get("min", 0) <= count(text) <= rule.get("max", math.inf)

    return check


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _items(text: str) -> list[str]:
    lines = _lines(text)
    if len(lines) != 1:
        return lines
    parts = re.split(r"[,;]|(?<!\w)and(?!\w)", lines[0], flags=re.IGNORECASE)
    return [part for part in parts if _words(part)]


_ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "cf.", "e.g.", "i.e."})


def _sentences(text: str) -> int:
    """How many sentences a text with spaces between its words has; the last need not be closed."""
    sentences, within = 0, False
    for line in text.splitlines():
        words = line.split()
        for i, word in enumerate(words):
            if i == 0 and len(words) > 1 and re.fullmatch(r"\(?[0-9]+[.)]", word):
                continue  # the number of a list's item
            within = within or any(map(str.isalnum, word))
            if within and _closes_sentence(word, words[i + 1] if i + 1 < len(words) else None):
                sentences, within = sentences + 1, False
    return sentences + within


def _closes_sentence(word: str, following: str | None) -> bool:
    bare = word.rstrip("\"'”’»)]*_")
    if not bare.endswith((".", "!", "?", "…")):
        return False
    if following is None:
        return True
    bare = bare.lstrip("\"'“‘«([*_")
    if bare.lower() in _ABBREVIATIONS or (re.fullmatch(r"[^\W\d_]\.", bare) and bare != "I."):
        return False
    # These close a sentence only if no small letter follows: "Stop!" he said; well... maybe; 5 p.m. today.
    open_ended = word.endswith(("..", "…")) or word[-1] not in ".!?" or bare.lower() == "etc."
    open_ended = open_ended or re.fullmatch(r"(?:[^\W\d_]\.)+", bare) is not None
    return not (open_ended and following[0].islower())


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise FlantuneError(f'a rule needs a list of texts, not "{value}"')
    return list(texts)


def _contains_one(phrase: str, text: str) -> bool:
    pattern = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def _contains(rule: Rule, text: str) -> bool:
    wanted, enough = _texts(rule.get("all", [])), _texts(rule.get("any", []))
    return all(_contains_one(phrase, text) for phrase in wanted) and (
        not enough or any(_contains_one(phrase, text) for phrase in enough)
    )


def _avoids(rule: Rule, text: str) -> bool:
    return not any(_contains_one(phrase, text) for phrase in _texts(rule["any"]))


def _starts_with(rule: Rule, text: str) -> bool:
    whole = text.strip().casefold()
    return any(whole.startswith(start.strip().casefold()) for start in _texts(rule["any"]))


def _ends_with(rule: Rule, text: str) -> bool:
    whole = text.strip().casefold()
    unclosed = whole.rstrip(".!?").rstrip()
    ends = [end.strip().casefold() for end in _texts(rule["any"])]
    return any((whole if end.endswith((".", "!", "?")) else unclosed).endswith(end) for end in ends)


def _matches(rule: Rule, text: str) -> bool:
    try:
        found = regex.search(str(rule["pattern"]), text, regex.IGNORECASE | regex.DOTALL, timeout=SECONDS_PER_PATTERN)
        return found is not None
    except TimeoutError:
        return False  # a pattern that backtracks for ever stops no evaluation
    except regex.error as error:
        message = f'rule "matches": the pattern "{rule["pattern"]}" is no regular expression: {error}'
        raise FlantuneError(message) from error


def _case(rule: Rule, text: str) -> bool:
    letters = [character for character in text if character.lower() != character.upper()]
    if rule["is"] not in ("upper", "lower"):
        raise FlantuneError(f'rule "case": "is" must be upper or lower, not "{rule["is"]}"')
    return bool(letters) and all(map(str.isupper if rule["is"] == "upper" else str.islower, letters))


def _json_object(rule: Rule, text: str) -> bool:
    fenced = re.fullmatch(r"```\w*\s*\n(.*?)```", text.strip(), re.DOTALL)
    try:
        found = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(_texts(rule["keys"])) <= found.keys()


RULES: dict[str, tuple[Callable[[Rule, str], bool], tuple[str, ...]]] = {
    "words": (_within(lambda text: len(_words(text))), ("min", "max")),
    "lines": (_within(lambda text: len(_lines(text))), ("min", "max")),
    "items": (_within(lambda text: len(_items(text))), ("min", "max")),
    "sentences": (_within(_sentences), ("min", "max")),
    "contains": (_contains, ("any", "all")),
    "avoids": (_avoids, ("any",)),
    "starts_with": (_starts_with, ("any",)),
    "ends_with": (_ends_with, ("any",)),
    "matches": (_matches, ("pattern",)),
    "case": (_case, ("is",)),
    "json": (_json_object, ("keys",)),
}


def _rules_passed(
    prediction: str,
    references: Sequence[str],
    row: Mapping[str, Any] | None = None,
    answer_choices: Sequence[str] | None = None,
) -> FloatArray:
    """(1 if all rules of the row's field `rules` are kept, 1)."""
    rules = (row or {}).get("rules")
    if not rules:
        raise FlantuneError('metric "rules_passed" needs a list of rules in the field "rules" of each row')
    return np.array([float(all(passes(rule, prediction) for rule in rules)), 1.0])


# --- the table ----------------------------------------------------------------------------------------------


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _rouge_metric(name: str) -> Metric:
    signature = f"{name}|f1|stemmer:porter|rouge-score-rs:{_version('rouge-score-rs')}"
    return Metric(name, True, "0-100", signature, _best(functools.partial(_rouge, name)), _percent)


# sacrebleu's signatures without `nrefs`, which belongs to the data.
_BLEU_SIGNATURE = f"case:mixed|eff:no|tok:13a|smooth:exp|version:{_version('sacrebleu')}"
_CHRF_SIGNATURE = f"case:mixed|eff:yes|nc:6|nw:0|space:no|version:{_version('sacrebleu')}"

METRICS: dict[str, Metric] = {
    each.name: each
    for each in (
        _rouge_metric("rouge1"),
        _rouge_metric("rouge2"),
        _rouge_metric("rougeL"),
        Metric("exact_match", True, "0-100", "whitespace normalised", _best(_exact_match), _percent),
        Metric("accuracy", True, "0-100", "casefold|final period dropped", _best(_accuracy), _percent, _is_choice),
        Metric("macro_f1", True, "0-100", "casefold|final period dropped", _class_counts, _macro_f1, _is_choice),
        Metric("mean_absolute_error", False, "target units", "first number", _absolute_error, _mean, _is_number),
        Metric("bleu", True, "0-100", _BLEU_SIGNATURE, _bleu_counts, _bleu),
        Metric("chrf", True, "0-100", _CHRF_SIGNATURE, _chrf_counts, _chrf),
        Metric("token_f1", True, "0-100", "SQuAD 2.0 normalisation", _best(_token_f1), _percent),
        Metric("entity_f1", True, "0-100", "micro|exact type and text", _entity_counts, _entity_f1),
        # No side is better in itself; above 1 a model talks too much, as untuned ones do, so lower it is.
        Metric("length_ratio", False, "ratio", "whitespace words", _word_counts, _length_ratio),
        Metric("rules_passed", True, "0-100", "all rules of a row", _rules_passed, _percent, fields=("rules",)),
    )
}
