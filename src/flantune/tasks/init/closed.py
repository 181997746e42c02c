"""Tasks whose answer is one of a few: classification, rating, pairs of texts, yes or no, multiple choice, records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from flantune.tasks.init.columns import Column, as_text, is_blank
from flantune.tasks.init.names import family
from flantune.tasks.init.relations import decides, is_ordinal, similarity_foretells
from flantune.tasks.init.view import Evidence, Proposal, View, quoted

YES_NO = frozenset(
    [
        "yes",
        "no",
        "true",
        "false",
        "maybe",
        "y",
        "n",
        "ja",
        "nein",
        "si",
        "sí",
        "oui",
        "non",
        "unknown",
        "unanswerable",
        "vielleicht",
    ]
)
ENTAILMENT = re.compile(r"(not[_ ]|non[_ ])?entail\w*|contradict\w*|neutral\w*|e|n|c")
SAME = re.compile(r"dup\w*|paraphras\w*|equivalent\w*|same|quality|similar\w*|match\w*", re.IGNORECASE)
LETTERS = "ABCDEFGHIJ"


def labels(view: View) -> Iterator[Proposal]:
    """One text, one of a few labels: classification; numbers on a scale: rating; several labels at once."""
    for label in view.of("category", "scale", "labels"):
        text = main_text(view, label)
        if text is None:
            continue
        evidence = label_evidence(view, label, [text])
        rated = label.nature == "scale" and _is_rating(view, text, label)
        kind = "multi_label" if label.nature == "labels" else "rating" if rated else "classification"
        evidence.add((1.0 if _usual_scale(label) else 0.5) if rated else 0.0, "the numbers are steps of a scale")
        evidence.add(min(text_points(view, text) / 3, 1), f"{quoted(text)} is the text to read")
        given = (*title_of(view, text, label), text)
        yield Proposal(kind, {"input": given}, label, 1.0 + evidence.points, tuple(evidence.why))


def label_evidence(view: View, label: Column, texts: Sequence[Column]) -> Evidence:
    """What speaks for a column's being the answer that is wanted."""
    evidence, kinds = Evidence(), len(label.counts)
    how_many = f"{quoted(label)} has {kinds} different answers that come again and again"
    evidence.add(0.4 if kinds <= 12 else -0.4 if kinds > 60 else 0.1, how_many)
    named = view.suggests(label, "label", "rating")
    evidence.add(1.5 * named, f"the name {quoted(label)} suggests an answer" if named == 1 else "")
    evidence.add(
        -1.2 * max(view.suggests(label, "meta"), view.suggests(label, "person"), view.suggests(label, "id", "time"))
    )
    foretold = max((view.foretells(text, label) for text in texts), default=0.0)
    evidence.add(
        3 * foretold - (0.4 if foretold < 0.05 else 0),
        f"the words of {quoted(*texts)} foretell it" if foretold > 0.2 else "",
    )
    evidence.add(0.4 if label.position == label.of - 1 else 0.2 if label.position == 0 else 0.0)
    evidence.add(-2.0 if all(re.fullmatch(r"[A-Za-z]{1,4}\d+", value) for value in label.counts) else 0.0)
    evidence.add(-1.0 if 0 in label.path else 0.0)
    evidence.add((0.4 if view.named else 1.5) if {"0", "1"} >= label.counts.keys() else 0.0)
    evidence.add(0.1 * min(kinds, 8) / 8)
    evidence.add(-1.5 if label.share < 0.6 else 0.0 if label.share > 0.95 else -0.7)
    evidence.add(-1.5 if label.counts.most_common(1)[0][1] > 0.97 * len(label.texts) else 0.0)
    evidence.add(-1.0 if _is_count(label) else 0.0)
    finer = [
        other
        for other in view.of("category", "scale")
        if other is not label and decides(other, label) and len(other.counts) < 30
    ]
    evidence.add(-0.8 if finer else 0.0)
    return evidence


def _is_count(label: Column) -> bool:
    """Small whole numbers, the more the rarer: votes, likes, replies."""
    numbers = sorted(map(float, label.counts)) if label.nature == "scale" and label.numbers else []
    often = (
        [label.counts[key] for key in sorted(label.counts, key=float)]
        if numbers and all(_is_plain_number(key) for key in label.counts)
        else []
    )
    return len(often) > 3 and numbers[0] == 0 and often[0] > 0.5 * sum(often) and often == sorted(often, reverse=True)


def _is_plain_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _is_rating(view: View, text: Column, label: Column) -> bool:
    """Whether numbers are steps of a scale and not codes of classes."""
    numbers = sorted({float(key.replace(",", ".")) for key in label.counts})
    if len(numbers) < 3:
        return len(numbers) == 2 and view.suggests(label, "rating") > 0
    whole = all(number.is_integer() for number in numbers)
    if view.suggests(label, "rating") == 1 or not whole:
        return True
    if view.suggests(label, "label") == 1 and not (numbers[0] == 1 and numbers[-1] in (5, 7, 10)):
        return False
    if _usual_scale(label):
        return True
    both = [
        (str(a), float(b))
        for a, b in zip(text.values, label.values, strict=True)
        if not is_blank(a) and not is_blank(b)
    ]
    return is_ordinal([a for a, _ in both], [b for _, b in both])


def _usual_scale(label: Column) -> bool:
    """1 to 5, 1 to 7, 1 to 10, or 0 to 10, each of them used."""
    numbers = sorted({float(key.replace(",", ".")) for key in label.counts})
    return any(numbers == [float(n) for n in steps] for steps in (range(1, 6), range(1, 8), range(1, 11), range(11)))


def main_text(view: View, *without: Column) -> Column | None:
    """The text that there is most to read in."""
    fields = {column.path[0] for column in without}
    found = [column for column in [*view.prose, *view.of("code", "structure")] if column.path[0] not in fields]
    return max(found, key=lambda column: text_points(view, column), default=None)


def text_points(view: View, column: Column) -> float:
    """How much a column is like the text that a task is about."""
    length = min(column.words, 60) ** 0.5 / 4
    named = view.suggests(column, "text", "dialogue", "question", "input")
    against = max(
        view.suggests(column, "rationale"),
        view.suggests(column, "person"),
        view.suggests(column, "id", "meta") * (column.words < 4),
    )
    late = 0.5 if column.path[1:] else 0.0
    return length + named + min(column.unique, 1.0) * column.share - 2 * against - late


def title_of(view: View, text: Column, label: Column) -> tuple[Column, ...]:
    """A shorter text about the same that stands beside a text, such as the subject of a mail."""
    found = [
        column
        for column in view.prose
        if column not in (text, label)
        and column.path[0] != text.path[0]
        and 1.5 <= column.words < 0.6 * text.words
        and (view.suggests(column, "title") or (not view.named and column.position == text.position - 1))
        and view.relation(text, column).about_it > 0.1
        and column.unique > 0.5
    ]
    return tuple(found[:1])


# --- two texts ----------------------------------------------------------------------------------------------


def pairs(view: View) -> Iterator[Proposal]:
    """Two texts and what holds between them: entailment, same meaning, likeness in numbers."""
    for first, second in _pairs_of_texts(view):
        for label in view.of("category", "scale", "number"):
            if label.path[0] in (first.path[0], second.path[0]) or min(first.words, second.words) < 2.5:
                continue
            evidence = label_evidence(view, label, [first, second]) if label.nature != "number" else Evidence(-0.5)
            kind = _kind_of_pair(view, first, second, label)
            evidence.add(_pair_points(view, first, second), f"{quoted(first, second)} are two texts to compare")
            both = [
                (as_text(a), as_text(b), as_text(c))
                for a, b, c in zip(first.values, second.values, label.values, strict=True)
            ]
            by_likeness = similarity_foretells([(a, b) for a, b, _ in both], [_coarse(label, c) for *_, c in both])
            evidence.add(2 * by_likeness, "how alike they are foretells it" if by_likeness > 0.2 else "")
            if label.nature == "number" and by_likeness < 0.2:
                continue
            evidence.add(
                1.5 if kind == "entailment" else 0.0,
                "the answers are those of entailment" if kind == "entailment" else "",
            )
            yield Proposal(
                kind, {"first": (first,), "second": (second,)}, label, 1.0 + evidence.points, tuple(evidence.why)
            )


def _coarse(label: Column, value: str) -> str:
    if label.nature != "number" or label.numbers is None:
        return value
    middle = sorted(label.numbers)[len(label.numbers) // 2]
    return str(_is_plain_number(value) and float(value) > middle)


def _pairs_of_texts(view: View) -> Iterator[tuple[Column, Column]]:
    texts = sorted(view.prose, key=lambda column: column.position)
    for number, first in enumerate(texts):
        for second in texts[number + 1 :]:
            swapped = view.suggests(first, "hypothesis") > view.suggests(second, "hypothesis")
            yield (second, first) if swapped else (first, second)


def _pair_points(view: View, first: Column, second: Column) -> float:
    relation = view.relation(first, second)
    one, two = family(first.name), family(second.name)
    kin = view.named and one is not None and two is not None and one[0] == two[0]
    named = min(view.suggests(first, "premise"), view.suggests(second, "hypothesis"))
    comparable = 0.12 < second.words / max(first.words, 0.1) < 8
    titled = max(
        view.suggests(first, "title"), view.suggests(second, "title"), view.suggests(second, "rationale", "output")
    )
    points = (
        (1.5 if kin else 0.0) + 1.5 * named - 1.5 * titled + (min(relation.about_it, 0.4) * 3 if comparable else -2)
    )
    return points - (1.0 if len(view.prose) > 2 and not kin and not named else 0.0)


def _kind_of_pair(view: View, first: Column, second: Column, label: Column) -> str:
    values = [value.lower() for value in label.counts]
    if label.nature == "number" or (label.nature == "scale" and len(values) > 3 and view.suggests(label, "rating")):
        return "similarity"
    if sum(bool(ENTAILMENT.fullmatch(value)) for value in values) >= 2 or (
        len(values) in (2, 3) and min(view.suggests(first, "premise"), view.suggests(second, "hypothesis")) == 1
    ):
        return "entailment"
    told = any(SAME.search(text) for text in (label.name, *values))
    return (
        "same_meaning"
        if told or (len(values) == 2 and view.relation(first, second).alike > 0.4)
        else "pair_classification"
    )


# --- yes or no ----------------------------------------------------------------------------------------------


def yes_or_no(view: View) -> Iterator[Proposal]:
    """A question, perhaps with a text that answers it, and yes or no."""
    for label in view.of("category"):
        if not {value.lower() for value in label.counts} <= YES_NO:
            continue
        asked = [column for column in view.prose if _asks(view, column) and column.path[0] != label.path[0]]
        for question in asked[:2]:
            evidence = Evidence(3.0)
            evidence.add(0.5, f"{quoted(question)} asks, and {quoted(label)} says {' or '.join(sorted(label.counts))}")
            evidence.add(view.suggests(label, "answer", "label", "output") + view.suggests(question, "question"))
            context, reason = context_and_reason(view, question, label)
            evidence.add(0.5 if context else 0.0, f"{quoted(*context)} is what the answer rests on" if context else "")
            given = {"question": (question,), **({"context": context} if context else {})}
            kind = "reasoning" if reason is not None else "yes_no"
            yield Proposal(kind, given, label, 1.0 + evidence.points, tuple(evidence.why), reason=reason)


def _asks(view: View, column: Column) -> bool:
    return (
        column.questions > 0.6
        or (column.questions > 0.2 and view.suggests(column, "question") > 0)
        or _asks_within(column)
    )


def _asks_within(column: Column) -> bool:
    """A question stands inside, with options or a passage around it."""
    return sum("?" in text for text in column.few) > 0.8 * len(column.few)


def context_and_reason(view: View, question: Column, answer: Column) -> tuple[tuple[Column, ...], Column | None]:
    """Of the other texts, the one to answer from, and the one that explains the answer (it stands behind it)."""
    fields = (question.path[0], answer.path[0])
    others = [c for c in view.prose if c.path[0] not in fields and c.words > 4 and not view.suggests(c, "id")]
    related = [
        c for c in others if view.relation(question, c).about_it > 0.03 or view.suggests(c, "context", "rationale")
    ]
    reasons = [
        c
        for c in related
        if view.suggests(c, "rationale") or (not view.suggests(c, "context", "text") and c.position > answer.position)
    ]
    contexts = [c for c in related if c not in reasons and not view.suggests(c, "title", "person")]
    best = max(contexts, key=lambda c: c.words + 100 * view.suggests(c, "context"), default=None)
    return (
        (best,) if best is not None else (),
        max(reasons, key=lambda c: view.suggests(c, "rationale"), default=None),
    )


# --- multiple choice ----------------------------------------------------------------------------------------


def multiple_choice(view: View) -> Iterator[Proposal]:
    """A question, several choices, and which of them is right."""
    for choices in [*_listed_choices(view), *_choices_in_columns(view)]:
        fields = {column.path[0] for column in choices}
        for target in view.columns:
            if target.path[0] in fields or len(target.path) > 2 or target.nature in ("empty", "constant", "identifier"):
                continue
            key = _how_it_tells(choices, target)
            if key is None:
                continue
            evidence = Evidence(4.5 if len(choices) == 1 else 3.5)
            evidence.add(
                1.0, f"{quoted(*choices)} hold the choices, and {quoted(target)} tells the right one by its {key}"
            )
            evidence.add(view.suggests(target, "label", "answer"))
            evidence.add(0.5 * max(view.suggests(column, "choices") for column in choices))
            asked = [
                c
                for c in view.prose
                if c.path[0] not in fields and c.path[0] != target.path[0] and not view.suggests(c, "rationale")
            ]
            asked = [
                c
                for c in asked
                if c.share > 0.9 and (len(c.path) == 1 or not any(len(other.path) == 1 for other in asked))
            ]
            aside = [
                c
                for c in view.of("category")
                if c is not target and len(c.counts) <= 4 and view.suggests(c, "question")
            ]
            if len(choices) == 2 and not asked and key == "index" and not view.suggests(choices[0], "choices"):
                continue  # two texts and 0 or 1: a pair to compare
            if not asked and key == "text":
                continue
            question = (*sorted(asked[:3], key=lambda c: c.position), *aside[:1])
            yield Proposal(
                "multiple_choice",
                {"question": question} if question else {},
                target,
                1.0 + evidence.points,
                tuple(evidence.why),
                choices,
                key,
            )


def _listed_choices(view: View) -> Iterator[tuple[Column, ...]]:
    for column in view.columns:
        sizes = [len(value) for value in column.items]
        texts = column.nature in ("texts", "labels", "tokens", "category") or column.nature == "constant"
        if texts and sizes and min(sizes) >= 2 and max(sizes) <= 12 and len(column.items) == len(column.filled):
            yield (column,)


def _choices_in_columns(view: View) -> Iterator[tuple[Column, ...]]:
    families: dict[str, list[Column]] = {}
    for column in view.columns:
        kin = (
            family(column.name)
            if len(column.path) == 1 and column.nature in ("text", "category", "number", "code", "scale")
            else None
        )
        if kin is not None:
            families.setdefault(kin[0], []).append(column)
    yield from (tuple(members) for members in families.values() if 2 <= len(members) <= 10)


def _how_it_tells(choices: Sequence[Column], target: Column) -> str | None:
    """How a target names the right one of a row's choices, if it does so in nearly all rows."""
    checked = {"index": 0, "number": 0, "letter": 0, "text": 0}
    rows = 0
    zero = one_past = False
    for number, value in enumerate(target.values):
        texts = _row_choices(choices, number)
        if is_blank(value) or not texts:
            continue
        rows, said = rows + 1, as_text(value).strip()
        count = len(texts)
        if re.fullmatch(r"\d{1,2}", said):
            checked["index"] += int(said) < count
            checked["number"] += 1 <= int(said) <= count
            zero, one_past = zero or int(said) == 0, one_past or int(said) == count
        checked["letter"] += said.strip("().").upper() in LETTERS[:count] and len(said.strip("().")) == 1
        checked["text"] += said in texts
    if rows < 3:
        return None
    if checked["text"] == rows and len(target.counts) > 2 and not {t.upper() for t in target.counts} <= set(LETTERS):
        return "text"
    if zero or one_past:
        checked["index"] -= rows * one_past
        checked["number"] -= rows * zero
    return next((key for key in ("index", "number", "letter", "text") if checked[key] >= 0.99 * rows), None)


def _row_choices(choices: Sequence[Column], number: int) -> list[str]:
    if len(choices) == 1:
        value = choices[0].values[number]
        return [as_text(item) for item in value] if isinstance(value, list) else []
    return [as_text(column.values[number]) for column in choices if not is_blank(column.values[number])]


# --- tables without a text ----------------------------------------------------------------------------------


def records(view: View) -> Iterator[Proposal]:
    """Rows of numbers and short words, one of which is to be told from the others."""
    if view.prose or view.of("turns", "spans", "items", "code", "structure", "tags", "tokens", "texts"):
        return
    facts = [column for column in view.of("category", "scale", "number", "text") if len(column.path) == 1]
    for target in facts:
        given = tuple(column for column in facts if column is not target)
        if len(given) < 2 or target.nature == "text":
            continue
        evidence = Evidence(0.5)
        evidence.add(0.8 if target.position == target.of - 1 else 0.0, f"{quoted(target)} is the last column")
        evidence.add(
            1.5 * view.suggests(target, "label", "rating", "output"), f"the name {quoted(target)} suggests an answer"
        )
        evidence.add(0.7 if target.nature == "category" else 0.0)
        evidence.add(-1.2 * view.suggests(target, "meta", "person", "id", "time"))
        closed = target.nature != "number"
        yield Proposal(
            "record_classification" if closed else "record_number",
            {"record": given},
            target,
            1 + evidence.points,
            tuple(evidence.why),
        )


def numbers(view: View) -> Iterator[Proposal]:
    """A text and a number that it foretells, such as a price or a score with decimals."""
    for target in view.of("number"):
        text = main_text(view, target)
        if text is None or target.numbers is None or target.share < 0.6:
            continue
        evidence = Evidence(-0.3)
        both = [
            (str(a), str(_coarse(target, as_text(b))))
            for a, b in zip(text.values, target.values, strict=True)
            if not is_blank(a) and not is_blank(b)
        ]
        from flantune.tasks.init.relations import foretells

        foretold = foretells([a for a, _ in both], [b for _, b in both])
        evidence.add(
            2.5 * foretold,
            f"the words of {quoted(text)} foretell whether {quoted(target)} is high or low" if foretold > 0.2 else "",
        )
        evidence.add(1.8 * view.suggests(target, "rating"), f"the name {quoted(target)} suggests a score")
        evidence.add(0.8 * view.suggests(target, "label") - 1.2 * view.suggests(target, "meta", "id", "time"))
        evidence.add(0.3 if target.position == target.of - 1 else 0.0)
        evidence.add(min(text_points(view, text) / 3, 1), f"{quoted(text)} is the text to read")
        yield Proposal(
            "number", {"input": (*title_of(view, text, target), text)}, target, 1 + evidence.points, tuple(evidence.why)
        )
