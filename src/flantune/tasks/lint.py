"""Lint: what is wrong with a task, or looks wrong, found by asking its rows in all its templates."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

from flantune.errors import FlantuneError, nearest
from flantune.tasks.jinja import fields_used
from flantune.tasks.sources import Row, Rows, SourceChoice, expression
from flantune.tasks.task import Asked, Example, Task
from flantune.tasks.template import EmptyText, Template

Severity = Literal["error", "warning", "note"]
ROWS_AT_ONCE = 64
ROWS_FOR_LEAKS = 40  # a template shows its answer in nearly all rows or in none
LONGEST = 16_000  # characters of input and target; some 4,000 tokens of English


@dataclass(frozen=True)
class Finding:
    """Something that is wrong (error), looks wrong (warning), or is good to know (note)."""

    severity: Severity
    code: str
    message: str
    place: str | None

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return where + (self.message if self.severity == "error" else f"{self.severity}: {self.message}")


@dataclass(frozen=True)
class LintReport:
    """All findings about a task.

    Attributes:
        task: Its name.
        rows: Rows looked at.
        renderings: Prompts rendered.
        findings: Errors first, then warnings, then notes.
    """

    task: str
    rows: int
    renderings: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """What must be mended before the task can be used."""
        return [finding for finding in self.findings if finding.severity == "error"]


class _Seen(NamedTuple):
    """One row in one template, and what became of it."""

    split: str
    number: int
    asked: Asked
    result: Example | FlantuneError


def check_task(task: Task) -> tuple[int, int]:
    """Asks all rows of all splits in all templates.

    Returns:
        Number of rows and of renderings.
    Raises:
        FlantuneError: The first error that `lint` finds.
    """
    report = lint(task)
    for finding in report.errors:
        raise FlantuneError(finding.message, finding.place)
    return report.rows, report.renderings


def lint(task: Task, *, rows: int | None = None, longest: int = LONGEST) -> LintReport:
    """Asks the rows of all splits in all templates, and looks at what that gives.

    Args:
        task: The task.
        rows: Look at no more than this many rows of each split, evenly spread; None looks at all, 0 at none: then
            only the task's file is judged.
        longest: Characters of input and target above which an example counts as long.
    Raises:
        FlantuneError: The task's rows cannot be read.
    """
    findings, looked, renderings = _Findings(task), 0, 0
    examples = _Examples(task, longest)
    fields: dict[str, None] = {}
    for split in task.split_names() if rows != 0 else ():
        given = task.split(split)
        if not len(given):
            findings.add("error", "no-rows", f'split "{split}" has no rows left after its filters', "source")
        known: dict[str, None] = {}
        for seen in _asked(task, split, given, rows):
            renderings += 1
            if seen.asked.template is task.templates[0]:
                looked += 1
                known |= dict.fromkeys(seen.asked.row)
            examples.see(seen)
        _shorten(task, split, known, findings)
        fields |= known
    examples.tell(findings)
    if rows != 0:
        _leaks(task, findings)
        _unused(task, fields, findings)
    _origin(task, findings)
    return LintReport(task.name, looked, renderings, findings.sorted())


def unreadable(name: str, error: FlantuneError) -> LintReport:
    """The report about a task that cannot be read: what kept it from being read."""
    return LintReport(name, 0, 0, (Finding("error", "unreadable", error.message, error.place),))


class _Findings:
    def __init__(self, task: Task) -> None:
        self.found: list[Finding] = []
        self._task = task

    def add(self, severity: Severity, code: str, message: str, at: str | Template) -> None:
        """A finding at a key of the task's file, or at a template."""
        place = self._task.place("templates", at) if isinstance(at, Template) else self._task.place(at)
        self.found.append(Finding(severity, code, message, str(place)))

    def sorted(self) -> tuple[Finding, ...]:
        return tuple(sorted(self.found, key=lambda finding: ("error", "warning", "note").index(finding.severity)))


def _asked(task: Task, split: str, given: Rows, most: int | None) -> Iterator[_Seen]:
    count = len(given) if most is None else min(most, len(given))
    numbers = iter([i * len(given) // count for i in range(count)])
    while batch := list(islice(numbers, ROWS_AT_ONCE)):
        asked = [
            (number, Asked(template, row, place, task.evaluation_style))
            for number in batch
            for row, place in [(given[number], given.place(number))]
            for template in task.templates
        ]
        for (number, each), result in zip(asked, task.render_all([each for _, each in asked]), strict=True):
            yield _Seen(split, number, each, result)


class _Examples:
    """Looks at one rendered example after the other; keeps hashes and counts only."""

    def __init__(self, task: Task, longest: int) -> None:
        self.task, self.longest = task, longest
        self.wrong: dict[tuple[str, str | None], list[str]] = {}
        self.counted: Counter[tuple[str, str]] = Counter()  # (template, "rows" | "long" | "empty")
        self.where: dict[tuple[str, str], str] = {}
        self.equal: Counter[tuple[str, str]] = Counter()
        self._of_row: dict[int, str] = {}
        self._row: tuple[str, int] | None = None
        self.main = next((t for t in task.templates if not t.inverted), None)
        self.first: dict[int, tuple[str, int, str]] = {}  # question -> split, answer, place
        self.repeated: defaultdict[tuple[str, str], list[str]] = defaultdict(list)  # "same" | "other" answer, splits

    def see(self, seen: _Seen) -> None:
        template = seen.asked.template
        if isinstance(seen.result, FlantuneError):
            self._failed(seen, seen.result)
            return
        self._count(template, "rows", seen)
        if sum(map(len, seen.result)) > self.longest:
            self._count(template, "long", seen)
        self._equal_prompts(seen, seen.result)
        if template is self.main:
            self._repeats(seen, seen.result)
        if not template.inverted:
            try:
                _check_answer(self.task, seen, seen.result[1])
            except FlantuneError as error:
                self._wrong(error, seen)

    def _count(self, template: Template, what: str, seen: _Seen) -> None:
        self.counted[template.name, what] += 1
        self.where.setdefault((template.name, what), seen.asked.place)

    def _failed(self, seen: _Seen, error: FlantuneError) -> None:
        if isinstance(error, EmptyText) and self.task.spec.empty == "skip":
            self._count(seen.asked.template, "empty", seen)
        else:
            self._wrong(error, seen)

    def _wrong(self, error: FlantuneError, seen: _Seen) -> None:
        message = error.message.removesuffix(f" (row at {seen.asked.place})")
        self.wrong.setdefault((message, error.place), []).append(seen.asked.place)

    def _equal_prompts(self, seen: _Seen, example: Example) -> None:
        if self._row != (seen.split, seen.number):
            self._row, self._of_row = (seen.split, seen.number), {}
        first = self._of_row.setdefault(_hash(example[0]), seen.asked.template.name)
        if first != seen.asked.template.name:
            self.equal[first, seen.asked.template.name] += 1

    def _repeats(self, seen: _Seen, example: Example) -> None:
        question, answer = map(_hash, example)
        split, earlier, place = self.first.setdefault(question, (seen.split, answer, seen.asked.place))
        if place != seen.asked.place:
            same = "same" if earlier == answer else "other"
            between = seen.split if split == seen.split else f"{split} and {seen.split}"
            self.repeated[same, between].append(f"{place} and {seen.asked.place}")

    def tell(self, findings: _Findings) -> None:
        for (message, place), rows in self.wrong.items():
            more = f"; {len(rows):,} rows in all" if len(rows) > 1 else ""
            findings.found.append(Finding("error", "rendering", f"{message} (row at {rows[0]}{more})", place))
        by_name = {template.name: template for template in self.task.templates}
        for (name, what), count in self.counted.items():
            template, row = by_name[name], self.where[name, what]
            if what == "long":
                told = f"{template.what}: {count:,} examples have more than {self.longest:,} characters (row at {row})"
                findings.add("warning", "long", told, template)
            elif what == "empty":
                told = f"{template.what} renders an empty input or target for {count:,} rows, which are left out"
                findings.add("note", "empty", f"{told} (row at {row})", template)
        for (first, second), count in self.equal.items():
            if count == self.counted[second, "rows"] and count:
                told = f'templates "{first}" and "{second}" ask in the same words; change one, or remove it'
                findings.add("warning", "equal-prompts", told, by_name[second])
        for (same, between), pairs in self.repeated.items():
            self._tell_repeats(findings, same, between, pairs)

    def _tell_repeats(self, findings: _Findings, same: str, between: str, pairs: Sequence[str]) -> None:
        count = f"{between}: {len(pairs):,} row{'s' if len(pairs) > 1 else ''}"
        if same == "other":
            told = f"{count} with the question of an earlier one and another answer"
            # Of a closed set one answer is right; an open question may well have several.
            closed = self.main is not None and (self.task.spec.answer_choices or self.main.answer_choices)
            findings.add("warning" if closed else "note", "conflict", f"{told} ({pairs[0]})", "source")
        elif " and " in between:
            findings.add("warning", "overlap", f"{count} in both splits ({pairs[0]})", "source")
        else:
            findings.add("note", "duplicate", f"{count} that repeat an earlier one ({pairs[0]})", "source")


def _check_answer(task: Task, seen: _Seen, target: str) -> None:
    """Whether the references render and the right answer is among the choices.

    Raises:
        FlantuneError: It is not.
    """
    template, row = seen.asked.template, seen.asked.row
    right = template.answer_in(task.references(row, target)[0])
    if template.answer is not None and right == target and len(target) > 80:
        raise FlantuneError(
            f"{template.what}: `answer` finds nothing in the target, so all of it would be scored",
            task.place("templates", template),
        )
    choices = task.values(row, template).get("answer_choices")
    if choices is not None and task.spec.evaluate_by == "choices" and right not in choices:
        raise FlantuneError(
            f"the target {right!r} is not among the answer_choices ({', '.join(choices[:8])})",
            task.place("answer_choices"),
        )


def _shorten(task: Task, split: str, known: dict[str, None], findings: _Findings) -> None:
    field = task.spec.shorten
    if field is not None and known and field not in known:
        told = f'shorten names field "{field}", which no row of split "{split}" has; {nearest(field, known)}'
        findings.add("error", "shorten", told, "shorten")


def _leaks(task: Task, findings: _Findings) -> None:
    """Templates whose input shows their answer.

    A field that, given another row's value, changes both input and target, while the target's words stand in the
    input, is shown and asked for at once. An answer that is found in the input (extraction) or one of the choices is
    no leak.
    """
    rows = task.split(task.split_names()[0])
    numbers = [i * len(rows) // ROWS_FOR_LEAKS for i in range(min(ROWS_FOR_LEAKS, len(rows)))]
    tried = [(rows[i], rows[(i + 1 + len(rows) // 2) % len(rows)], rows.place(i)) for i in numbers]
    for template in task.templates:
        if template.conversation is not None:
            continue
        for field in sorted(template.fields()):
            shown = [_shows_answer(task, template, field, *each) for each in tried]
            told = [each for each in shown if each is not None]
            if len(told) >= 2 and sum(told) >= 0.9 * len(told):
                message = f'{template.what} shows the answer: its input and its target both come from field "{field}"'
                findings.add("warning", "leak", message, template)


def _shows_answer(task: Task, template: Template, field: str, row: Row, other: Row, place: str) -> bool | None:
    """Whether the input shows the answer through a field; None where the two rows cannot tell."""
    if field not in row or field not in other or row[field] == other[field]:
        return None
    first, second = task.render_all(
        [Asked(template, given, place, task.evaluation_style) for given in (row, {**row, field: other[field]})]
    )
    if isinstance(first, FlantuneError) or isinstance(second, FlantuneError):
        return None
    choices = task.values(row, template).get("answer_choices") or ()
    changed = first[0] != second[0] and first[1] != second[1]
    return changed and first[1] not in choices and f" {first[1]} " in f" {first[0]} ".replace("\n", " ")


def _unused(task: Task, fields: dict[str, None], findings: _Findings) -> None:
    """Fields of the rows that nothing in the task's file uses."""
    spec, source = task.spec, task.spec.source
    texts = [*spec.fields.values(), expression(source.where or "true")]
    for given in (spec.references, spec.answer_choices, *(template.answer_choices for template in task.templates)):
        texts += [given] if isinstance(given, str) else given or ()
    used = {name for template in task.templates for name in template.fields()} | {"id", spec.shorten}
    used |= {name for text in texts for name in fields_used(text)} | _used_by(source)
    left = [name for name in fields if name not in used]
    if left:
        listed = ", ".join(f'"{name}"' for name in left[:8]) + (", ..." if len(left) > 8 else "")
        findings.add("note", "unused-field", f"no template uses {listed}", "source")


def _used_by(source: SourceChoice) -> set[str]:
    """Fields that say which rows there are, and those that transforms make others of or add by themselves."""
    used = {*(source.fractions_by or ()), source.sample.by if source.sample is not None else None}
    used |= {source.split_by.field} if source.split_by is not None else set()
    used |= set(source.group.by) if source.group is not None else set()
    for name, chosen in (transform.chosen for each in (source, *source.also) for transform in each.transforms):
        if name == "filter":
            used |= fields_used(expression(chosen))
        elif name in ("join", "split", "regex") and chosen.into is not None:
            used |= set(chosen.fields) if name == "join" else {chosen.field}
        elif name == "triple":
            used |= {"origin", "split", "prompt", "origin_row"}
        elif name == "conversation":
            used |= {chosen.system, chosen.tools}
    return {field for field in used if field is not None}


def _origin(task: Task, findings: _Findings) -> None:
    if task.spec.license is None:
        findings.add("warning", "no-license", "no `license`; say under what terms the rows may be used", "name")
    elif task.spec.license.casefold() in ("not stated", "unknown"):
        told = f"the licence is {task.spec.license}; find out under what terms the rows may be used"
        findings.add("note", "unknown-license", told, "license")
    if not task.spec.origins:
        findings.add("warning", "no-origin", "no `origins`; name the data sets, so that leaks can be found", "name")


def _hash(text: str) -> int:
    normal = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "little")


def as_json(report: LintReport) -> dict[str, Any]:
    """A report for machines."""
    findings = [vars(finding) for finding in report.findings]
    return {"task": report.task, "rows": report.rows, "renderings": report.renderings, "findings": findings}


def summary(report: LintReport) -> str:
    """A report without errors in one line."""
    told = []
    for severity in ("warning", "note"):
        found = sum(finding.severity == severity for finding in report.findings)
        told.append(f"{found} {severity}{'' if found == 1 else 's'}")
    return f"{report.task}: {report.rows:,} rows, {report.renderings:,} prompts, no error, {', '.join(told)}"
