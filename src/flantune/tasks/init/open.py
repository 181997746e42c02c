"""Tasks whose answer is a text of its own: summaries, translations, answers, code, entities, conversations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from flantune.tasks.init import language
from flantune.tasks.init.closed import context_and_reason
from flantune.tasks.init.columns import Column, Nature, as_text, exchanged
from flantune.tasks.init.names import parts
from flantune.tasks.init.view import Evidence, Proposal, View, quoted

FINAL_NUMBER = re.compile(r"(.*?)\$?(-?\d[\d,]*(?:\.\d+)?)\W*", re.DOTALL)


def conversations(view: View) -> Iterator[Proposal]:
    """Turns of people or models, each in a role."""
    for turns in view.of("turns"):
        several = sum(len(value) > 1 for value in turns.items) / max(len(turns.items), 1)
        if several > 0.5 and turns.share > 0.5:
            yield Proposal(
                "conversation",
                {"turns": (turns,)},
                turns,
                5.5 + several,
                (f"{quoted(turns)} holds turns, each in a role",),
            )


def exchanges(view: View) -> Iterator[Proposal]:
    """Turns that each hold what the one side says and what the other answers."""
    for turns in view.of("items"):
        several = sum(len(value) > 1 for value in turns.items) / max(len(turns.items), 1)
        if several > 0.5 and exchanged([item for value in turns.items for item in value]) is not None:
            why = (f"{quoted(turns)} holds turns with what each side says",)
            yield Proposal("conversation", {"turns": (turns,)}, turns, 5.5 + several, why)


def extractions(view: View) -> Iterator[Proposal]:
    """A text and the spans in it that are of some type."""
    for target in view.of("spans", "tags"):
        words = (
            max(view.of("tokens", "text"), key=lambda c: _fits_tags(c, target), default=None)
            if target.nature == "tags"
            else _read(view, target)
        )
        if words is None or (target.nature == "tags" and _fits_tags(words, target) < 0.95):
            continue
        what = "marks a type for each word of" if target.nature == "tags" else "lists spans with a type in"
        points = 4.5 + view.suggests(target, "entities") + (0.5 if target.nature == "spans" else 0.0)
        yield Proposal("extraction", {"input": (words,)}, target, points, (f"{quoted(target)} {what} {quoted(words)}",))


def _read(view: View, target: Column) -> Column | None:
    beside = [column for column in view.prose if len(target.path) > 1 and column.path[:-1] == target.path[:-1]]
    return next(
        (column for column in [*beside, *view.prose] if column.path[0] != target.path[0] or column in beside), None
    )


def _fits_tags(words: Column, tags: Column) -> float:
    """The share of rows with as many words as tags."""
    both = [(_parts(a), _parts(b)) for a, b in zip(words.values, tags.values, strict=True) if a and b]
    return sum(len(a) == len(b) for a, b in both) / max(len(both), 1)


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else str(value).split()


def keyphrases(view: View) -> Iterator[Proposal]:
    """A text and the phrases that say what it is about."""
    for target in [*view.of("texts", "labels"), *(column for column in view.prose if _phrase_mark(column))]:
        text = _read(view, target)
        if text is None or text.words < 15:
            continue
        items = [
            item
            for value in target.filled
            for item in (value if isinstance(value, list) else re.split(r"[;,|\n]", as_text(value)))
        ]
        short = sum(language.length(as_text(item)) for item in items) / max(len(items), 1)
        relation = view.relation(text, target)
        if not short or short > 4 or len(items) < 1.5 * len(target.filled) or relation.about_it < 0.1:
            continue
        evidence = Evidence(2.0 + 2 * min(relation.about_it, 0.5))
        evidence.add(0.5, f"{quoted(target)} lists short phrases that mostly stand in {quoted(text)}")
        evidence.add(1.5 * view.suggests(target, "keywords") - (0.5 if target.nature == "labels" else 0))
        yield Proposal("keyphrases", {"input": (text,)}, target, 1 + evidence.points, tuple(evidence.why))


def _phrase_mark(column: Column) -> bool:
    return sum(bool(re.search(r"[;|]|,.*,", text)) for text in column.few) > 0.6 * len(column.few)


def translations(view: View) -> Iterator[Proposal]:
    """The same said in two languages."""
    texts = sorted(view.prose, key=lambda column: column.position)
    for number, first in enumerate(texts):
        for second in texts[number + 1 :]:
            relation = view.relation(first, second)
            if not _in_two_languages(first, second) or relation.alike > 0.5 or relation.lengths_agree < 0.3:
                continue
            source, target = (
                (second, first) if _toward(view, second, first) > _toward(view, first, second) else (first, second)
            )
            evidence = Evidence(3.0 + relation.lengths_agree)
            evidence.add(0.5, f"{quoted(source, target)} are in two languages, and long texts go with long ones")
            evidence.add(view.suggests(target, "translation", "target"))
            yield Proposal("translation", {"input": (source,)}, target, 1 + evidence.points, tuple(evidence.why))


def _in_two_languages(first: Column, second: Column) -> bool:
    """By what each shows; where one shows none, by how few of the commonest words they share."""
    if first.language is not None and second.language is not None:
        return first.language != second.language
    common = [
        {word for word, _ in Counter(w for text in column.few for w in language.words(text)).most_common(40)}
        for column in (first, second)
    ]
    return len(common[0] & common[1]) < 0.15 * min(map(len, common))


def _toward(view: View, source: Column, target: Column) -> float:
    return view.suggests(source, "source", "input") + view.suggests(target, "target", "output", "translation")


def programs(view: View) -> Iterator[Proposal]:
    """Code to code, words to code, words to SQL."""
    for target in [*view.of("code"), *(column for column in view.prose if column.programming == "SQL")]:
        if view.suggests(target, "id", "meta") or len(target.path) > 2:
            continue
        for source in view.columns:
            if (
                source.path[0] == target.path[0]
                or source.nature not in ("text", "code")
                or source.words < 2
                or len(source.path) > 2
            ):
                continue
            both_code, sql = source.nature == "code", target.programming == "SQL"
            if both_code and source.programming == "SQL":
                continue
            relation = view.relation(source, target)
            evidence = Evidence(2.0)
            evidence.add(
                min(2 * abs(relation.about_it), 0.8), f"{quoted(source)} and {quoted(target)} speak of the same"
            )
            evidence.add(0.5, f"{quoted(target)} is {target.programming or 'code'}")
            evidence.add(
                view.suggests(target, "sql" if sql else "code", "output", "answer", "target")
                + view.suggests(source, "question", "instruction", "input", "text")
            )
            evidence.add(-1.5 if re.search("test|toks|token", target.name) and view.named else 0.0)
            evidence.add(0.3 if source.position < target.position else -0.1)
            evidence.add(0.3 * source.unique + 0.3 * target.unique - (0.6 if target.share < 0.9 else 0))
            evidence.add(-2 * (1 - source.share) - (1.0 if _has_input(view, source) else 0.0))
            differ = both_code and source.programming != target.programming and target.programming is not None
            evidence.add(0.8 if sql and not both_code else 1.0 if differ else -0.4 if both_code else 0.0)
            kind = "sql" if sql else "code_translation" if differ and source.programming else "code"
            given = (source, *_databases(view)) if sql else (source,)
            yield Proposal(kind, {"input": given}, target, 1 + evidence.points, tuple(evidence.why))


def _databases(view: View) -> list[Column]:
    """Which database a question is asked of, where rows have several."""
    named = [c for c in view.of("category") if view.named and re.search("database|^db|schema", c.name.lower())]
    return named[:1]


def _has_input(view: View, source: Column) -> bool:
    """An instruction that comes with an input is more than its own words."""
    return view.suggests(source, "instruction") == 1 and any(
        view.suggests(c, "input") == 1 and len(parts(c.name)) == 1 and c is not source for c in view.columns
    )


def data_to_text(view: View) -> Iterator[Proposal]:
    """Facts in a notation, and a text that tells them; or the way back."""
    for data in view.of("structure"):
        for text in view.prose:
            if text.path[0] == data.path[0] or text.words < 3:
                continue
            relation = view.relation(data, text)
            if relation.about_it < 0.08 and not view.suggests(data, "data"):
                continue
            back = _toward(view, text, data) > max(_toward(view, data, text), 0.5)
            evidence = Evidence(2.0 + min(3 * max(relation.about_it, 0), 1.0))
            evidence.add(0.5, f"{quoted(data)} holds facts in a notation, and {quoted(text)} tells them")
            evidence.add(view.suggests(data, "data") + view.suggests(text, "target", "output", "text"))
            evidence.add(
                0.3 * text.unique + 0.2 * text.share - (0.7 if re.search("templat|lexicali|delex", text.name) else 0)
            )
            given, target = (text, data) if back else (data, text)
            yield Proposal(
                "text_to_data" if back else "data_to_text",
                {"input": (given,)},
                target,
                1 + evidence.points,
                tuple(evidence.why),
            )


# --- one text made of another -------------------------------------------------------------------------------


def summaries(view: View) -> Iterator[Proposal]:
    """A text and a much shorter one about the same: a summary, or a title."""
    for source in view.prose:
        for target in view.prose:
            if source.path[0] == target.path[0] or source.words < 12 or target.questions > 0.5:
                continue
            relation = view.relation(source, target)
            if relation.ratio > 0.6 or relation.about_it < 0.05 or target.unique < 0.3:
                continue
            titled = target.words <= 9 and (view.suggests(target, "title") > 0 or target.words <= 7)
            evidence = Evidence(1.2 + min(3 * relation.about_it, 1.5))
            much = round(1 / max(relation.ratio, 0.01))
            evidence.add(0.5, f"{quoted(target)} says in {much} times fewer words what {quoted(source)} is about")
            named = max(
                view.suggests(target, "summary"),
                0.6 * view.suggests(target, "title"),
                0.5 * view.suggests(target, "output", "target"),
            )
            evidence.add(2 * named, f"the name {quoted(target)} suggests it")
            evidence.add(view.suggests(source, "text", "dialogue", "input", "source") * 0.7)
            evidence.add(0.3 if source.position < target.position else -0.3)
            evidence.add(-1.5 * view.suggests(target, "context", "question", "person", "rationale") * (named < 1))
            evidence.add(-1.5 * _asking(source))
            evidence.add(0.4 * target.unique + min(source.words, 120) / 200 - (0.4 if titled and not named else 0))
            kind = "title" if titled else "summarization"
            yield Proposal(kind, {"input": (source,)}, target, 1 + evidence.points, tuple(evidence.why))


def rewritings(view: View) -> Iterator[Proposal]:
    """A text and the same in other words: corrected, simpler, split, paraphrased."""
    texts = sorted(view.prose, key=lambda column: column.position)
    for number, first in enumerate(texts):
        for second in texts[number + 1 :]:
            relation = view.relation(first, second)
            if (
                relation.alike < 0.25
                or not 0.35 < relation.ratio < 2.8
                or relation.about_it < 0.15
                or first.path[0] == second.path[0]
            ):
                continue
            source, target = (
                (second, first) if _toward(view, second, first) > _toward(view, first, second) else (first, second)
            )
            kind = _kind_of_rewriting(view, source, target)
            evidence = Evidence(1.0 + min(3 * relation.about_it, 1.8))
            evidence.add(
                0.5,
                f"{quoted(target)} says with {round(100 * relation.alike)} % of the words what {quoted(source)} says",
            )
            evidence.add(0.8 * _toward(view, source, target))
            evidence.add(
                -1.5
                * max(view.suggests(target, "context"), view.suggests(source, "question") * (source.questions > 0.5))
            )
            evidence.add(-0.8 if relation.same > 0.6 else 0.3 * source.unique)
            yield Proposal(kind, {"input": (source,)}, target, 1 + evidence.points, tuple(evidence.why))


def _kind_of_rewriting(view: View, source: Column, target: Column) -> str:
    relation = view.relation(source, target)
    more_sentences = sum(_sentences(b) > _sentences(a) for a, b in relation.texts) / max(len(relation.texts), 1)
    name = f"{source.name} {target.name}".lower()
    if more_sentences > 0.8:
        return "sentence_splitting"
    if re.search("simpl|leicht|easy|plain", name):
        return "simplification"
    if re.search("corr|gramm|error|fluen|korrekt|fix", name) or (
        0.85 < relation.ratio < 1.15 and (relation.alike > 0.75 or relation.edited > 0.85)
    ):
        return "correction"
    return "paraphrasing" if re.search("paraphras|umschreib", name) else "rewriting"


def _sentences(text: str) -> int:
    return len(re.findall(r"[.!?。]\W*(?:\s|$)", text))


# --- questions and instructions -----------------------------------------------------------------------------


def answers(view: View) -> Iterator[Proposal]:
    """A question and its answer, perhaps with a text that holds it."""
    for question in view.prose:
        asks = max(_asking(question), view.suggests(question, "question"))
        if asks < 0.4 or len(question.path) > 2:
            continue
        for answer in view.columns:
            if not _may_answer(view, question, answer):
                continue
            context, reason = context_and_reason(view, question, answer)
            copied = max((view.relation(text, answer).copied for text in context), default=0.0)
            evidence = Evidence(1.5 + asks)
            evidence.add(0.3, f"{quoted(question)} asks, and {quoted(answer)} answers")
            evidence.add(1.5 * view.suggests(answer, "answer"), f"the name {quoted(answer)} suggests it")
            listed = view.relation(question, answer).copied > 0.8
            evidence.add(
                1.0 if listed else 0.0, f"{quoted(question)} lists the answers to choose from" if listed else ""
            )
            evidence.add(min(copied, 0.8), f"the answer stands in {quoted(*context)}" if copied > 0.3 else "")
            evidence.add(0.4 if answer.words <= 8 else -0.2)
            evidence.add(0.2 if answer.position > question.position else -0.4)
            evidence.add(
                -0.6
                if answer.path[1:] and answer.nature == "number"
                else -0.2
                if re.search("alias", answer.name)
                else 0.0
            )
            worded = sum(any(map(str.isdigit, text)) for text in question.few) > 0.7 * max(len(question.few), 1)
            kind = "reading" if context else "question_answering"
            numeric = _is_numeric(answer)
            if numeric and (worded or context):
                kind = "math"
                evidence.add(0.8, "questions and answers are full of numbers")
            if final_mark(answer) is not None:
                kind, context = "reasoning", ()
                evidence.add(0.8, f"each answer works its way to a number behind {final_mark(answer)!r}")
            elif reason is not None and kind != "reading":
                kind = "reasoning"
                evidence.add(0.5, f"{quoted(reason)} explains the answer")
            given = {"question": (question,), **({"context": context} if context else {})}
            yield Proposal(
                kind,
                given,
                answer,
                1 + evidence.points,
                tuple(evidence.why),
                also=_alternatives(view, answer),
                reason=reason,
            )


def _asking(column: Column) -> float:
    """The share of texts that ask; a question with a passage or options around it counts a little less."""
    return max(column.questions, 0.8 * sum("?" in text for text in column.few) / max(len(column.few), 1))


def _may_answer(view: View, question: Column, answer: Column) -> bool:
    if (
        answer.path[0] == question.path[0]
        or len(answer.path) > 3
        or answer.nature not in ("text", "number", "scale", "category", "structure")
    ):
        return False
    if answer.questions > 0.5 or answer.share < 0.3 or view.suggests(answer, "id", "meta", "context", "person"):
        return False
    named = view.suggests(answer, "answer", "label", "output", "target") > 0
    listed = answer.words <= 8 and view.relation(question, answer).copied > 0.8
    return (
        named
        or listed
        or (answer.unique > 0.05 and answer.words <= 0.8 * max(question.words, 8) and not answer.path[1:])
    )


def _is_numeric(answer: Column) -> bool:
    """Whether answers are numbers, a unit or a remark behind them allowed."""
    found = sum(bool(re.match(r"\s*[-+$€£]?\s*\d", text)) and language.length(text) <= 4 for text in answer.few)
    return found > 0.9 * max(len(answer.few), 1)


def final_mark(answer: Column) -> str | None:
    """What stands before the number that ends each worked answer, such as `#### `; None where they do not end so."""
    ends = [found[1][-40:] for text in answer.few if (found := re.fullmatch(FINAL_NUMBER, text.strip()[-300:]))]
    if len(ends) < 0.95 * len(answer.few) or not ends or answer.words < 8:
        return None
    shared = ends[0]
    for end in ends[1:]:
        while shared and not end.endswith(shared):
            shared = shared[1:]
    return shared.split("\n")[-1] if len(shared.strip()) >= 2 else None


def _alternatives(view: View, answer: Column) -> tuple[Column, ...]:
    """Columns that list more right answers: the list that the answer is the first of, or one of aliases."""
    whole = [
        column
        for column in view.of("texts", "labels", "items")
        if column.path[0] == answer.path[0] and column is not answer
    ]
    aliases = [
        column for column in view.of("texts") if re.search("alias|variants|synonym|acceptable", column.name.lower())
    ]
    return tuple((whole if answer.path[1:] else aliases)[:1])


def instructions(view: View) -> Iterator[Proposal]:
    """What is asked in words of its own in each row, and what was answered."""
    for source in [
        *view.prose,
        *(c for c in view.of("text") if not c.is_prose and view.suggests(c, "input", "instruction") == 1),
    ]:
        natures: tuple[Nature, ...] = ("code", "category", "structure", "scale", "number")
        for target in [
            *view.of("text"),
            *(view.of(*natures, "labels", "identifier", "time") if view.prompted else view.of(*natures)),
        ]:
            if source.path[0] == target.path[0] and source.path[:-1] != target.path[:-1]:
                continue
            if source is target or (target.nature in ("scale", "number") and not view.suggests(target, "output")):
                continue
            asked = max(view.suggests(source, "instruction"), 0.6 * view.suggests(source, "input"))
            said = view.suggests(target, "output")
            evidence = Evidence(0.3)
            evidence.add(1.7 * asked, f"the name {quoted(source)} suggests a request")
            evidence.add(1.7 * said, f"the name {quoted(target)} suggests what was answered")
            evidence.add(0.6 if view.suggests(source, "instruction") == said == 1 else 0.0)
            evidence.add(0.6 * view.suggests(source, "instruction") + 0.3 * (source.position < target.position))
            evidence.add(0.4 * source.unique + 0.3 * source.share + 0.3 * target.share)
            evidence.add(-2 * (1 - target.share) - (0.5 if target.nature == "category" and not said else 0.0))
            prompted = view.prompted and source.path == ("input",) and target.path == ("outputs", 0)
            evidence.add(4.0 if prompted else 0.0, "the rows are prompts already" if prompted else "")
            evidence.add(2.5 if view.told else 0.0, "the file says in words what is asked" if view.told else "")
            evidence.add(
                -2 * max(view.suggests(source, "rationale", "id"), view.suggests(target, "id", "person", "instruction"))
            )
            given = _instruction_and_input(view, source, target)
            yield Proposal("instruction", given, target, 1 + evidence.points, tuple(evidence.why))


def _instruction_and_input(view: View, source: Column, target: Column) -> dict[str, tuple[Column, ...]]:
    """An instruction often comes with an input, which is empty in many rows."""
    if not view.suggests(source, "instruction"):
        return {"instruction": (source,)}
    beside = [
        column
        for column in view.columns
        if column is not source and column is not target and column.nature in ("text", "code", "structure")
        and column.path[:-1] in ((), target.path[:-1]) and view.suggests(column, "input", "context") == 1
    ]  # fmt: skip
    return {"instruction": (source,), **({"input": (beside[0],)} if beside else {})}
