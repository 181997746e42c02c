"""Rules of a row, such as a number of words or a first word, that an answer keeps or breaks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import regex

from flantune.errors import FlantuneError, named, nearest
from flantune.evaluation.metrics.metric import FloatArray, Metric, percent
from flantune.evaluation.metrics.structures import json_in
from flantune.evaluation.metrics.texts import words_of

SECONDS_PER_PATTERN = 2.0

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
    return [part for part in parts if words_of(part)]


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
    try:
        found = json_in(text)
    except ValueError:
        return False
    return isinstance(found, dict) and set(_texts(rule["keys"])) <= found.keys()


RULES: dict[str, tuple[Callable[[Rule, str], bool], tuple[str, ...]]] = {
    "words": (_within(lambda text: len(words_of(text))), ("min", "max")),
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


RULE_METRICS = (Metric("rules_passed", True, "0-100", "all rules of a row", _rules_passed, percent, fields=("rules",)),)
