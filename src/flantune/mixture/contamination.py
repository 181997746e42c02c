"""Contamination: evaluation rows whose text stands in training rows, found by runs of words.

What counts, from the longest to the shortest text of an evaluation row:

- 13 words in a row stand in a text of a training row (the length of GPT-3's filter: Brown et al. 2020,
  arXiv:2005.14165, appendix C);
- a whole text of 8 to 12 words stands in a text of a training row;
- the question, where each of its texts has fewer than 8 words, is the question of a training row.

Words are compared without case and punctuation (in short questions signs such as + and < count too). A run that stands
in more than ten evaluation rows of a task and in more than a fiftieth of them is phrasing (of a set that comes with its
prompts, say) and does not count.

The evaluation side is held in arrays of hashes, the training side streams past it, and each hit is compared word by
word: memory depends on the evaluation rows, and there is no flag by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat, takewhile
from operator import eq
from typing import Literal

import numpy as np

from flantune.mixture.row_text import RowText, TaskTexts
from flantune.mixture.run_index import BATCH_WORDS, Lists, RunIndex, changes, distinct, joined
from flantune.mixture.words import batches, tokens_of, words_of

LONGEST, SHORTEST = 13, 8  # words
COMMON_ROWS, COMMON_SHARE = 10, 0.02

Kind = Literal["words in a row", "whole text", "same question"]


@dataclass(frozen=True)
class Match:
    """What an evaluation row and a training row have in common, by their numbers.

    Attributes:
        text: The words in common, all of them.
    """

    kind: Kind
    evaluation_row: int
    training_row: int
    text: str


@dataclass(frozen=True)
class Overlap:
    """What two tasks have in common.

    Attributes:
        trained: Name of the trained task.
        evaluated: Name of the evaluated task.
        evaluation_rows: Numbers of the evaluation rows with a match, ascending.
        training_rows: Numbers of the training rows with a match, ascending.
        shown: The longest matches, one an evaluation row.
    """

    trained: str
    evaluated: str
    evaluation_rows: tuple[int, ...]
    training_rows: tuple[int, ...]
    shown: tuple[Match, ...]


def overlaps(training: Iterable[TaskTexts], evaluation: Sequence[TaskTexts], *, show: int = 3) -> list[Overlap]:
    """Every pair of a trained and an evaluated task with text in common, in the order of both.

    Args:
        training: Walked once, task by task.
        evaluation: The other side; held in memory, about 140 bytes a word.
        show: Matches to show of each pair.
    """
    side = _EvaluationSide(evaluation)
    return [overlap for texts in training for overlap in _Hits(side, texts).overlaps(show)]


class _EvaluationSide:
    """What of the evaluation rows counts: their runs of words, and their questions where these are short.

    Args:
        tasks: With their rows, which are numbered through all tasks.
    """

    def __init__(self, tasks: Sequence[TaskTexts]) -> None:
        self.tasks = tasks
        self.starts = np.cumsum([0, *(len(task.rows) for task in tasks)], dtype=np.int64)
        self.questions: dict[str, list[int]] = {}
        self.index = RunIndex(self._texts(), shortest=SHORTEST, longest=LONGEST)
        self.rows, self.tasks_of_run = self._telling(*self.index.rows.pairs())

    def _texts(self) -> Iterator[tuple[int, str]]:
        for number, row in enumerate(row for task in self.tasks for row in task.rows):
            if question := short_question(row):
                self.questions.setdefault(question, []).append(number)
            yield from zip(repeat(number), (*row.question, *row.answer))

    def _telling(self, runs: np.ndarray, rows: np.ndarray) -> tuple[Lists, Lists]:
        """Rows and tasks by run, without runs that stand in so many rows of a task that they are phrasing."""
        tasks = self.task_of(rows)
        begins = np.flatnonzero(changes(runs) | changes(tasks))  # of each run in each task
        counts = np.diff(begins, append=len(runs))
        telling = counts <= np.maximum(COMMON_ROWS, COMMON_SHARE * np.diff(self.starts))[tasks[begins]]
        kept, begins = np.repeat(telling, counts), begins[telling]
        return (
            Lists.of(runs[kept], rows[kept], self.index.count),
            Lists.of(runs[begins], tasks[begins], self.index.count),
        )

    def task_of(self, rows: np.ndarray) -> np.ndarray:
        """The tasks that rows belong to, by number."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def tells(self, words: Sequence[str]) -> bool:
        """Whether a sequence of words holds a run that is no phrasing."""
        runs = self.index.find(words)[1]
        return bool((self.rows.begin[runs + 1] > self.rows.begin[runs]).any())


class _Hits:
    """What of one trained task stands in evaluation rows.

    Args:
        side: The evaluation rows.
        training: The trained task; its rows are walked once.
    """

    def __init__(self, side: _EvaluationSide, training: TaskTexts) -> None:
        self._side, self._training = side, training
        self._first = np.zeros(0, np.int64)  # for each run the first training row that holds it, -1 for none
        self._asked: dict[int, int] = {}  # evaluation row to the first training row that asks the same
        self._pairs: list[np.ndarray] = []  # training rows with the tasks they meet, as row * tasks + task
        for words, owners in batches(self._texts(), BATCH_WORDS):
            places, runs = side.index.find(words)
            if len(runs):
                self._add(runs, owners[places])

    def _texts(self) -> Iterator[tuple[int, str]]:
        for number, row in enumerate(self._training.rows):
            asked = self._side.questions.get(short_question(row), []) if self._side.questions else []
            for evaluated in asked:
                self._asked.setdefault(evaluated, number)
            if asked:
                self._meet(np.full(len(asked), number), self._side.task_of(np.array(asked)))
            yield from zip(repeat(number), (*row.question, *row.answer))

    def _add(self, runs: np.ndarray, rows: np.ndarray) -> None:
        if not len(self._first):
            self._first = np.full(self._side.index.count, -1)
        distinct, at = np.unique(runs, return_index=True)
        fresh = self._first[distinct] < 0
        self._first[distinct[fresh]] = rows[at[fresh]]
        tasks, of = self._side.tasks_of_run.of_keys(runs)
        self._meet(rows[of], tasks)

    def _meet(self, rows: np.ndarray, tasks: np.ndarray) -> None:
        if len(rows):
            self._pairs.append(distinct(rows * len(self._side.tasks) + tasks))

    def overlaps(self, show: int) -> list[Overlap]:
        """With each evaluated task that has text in common, in their order."""
        runs = np.flatnonzero(self._first >= 0)
        rows, of = self._side.rows.of_keys(runs)
        by_row = np.argsort(rows, kind="stable")
        rows, holders = rows[by_row], self._first[runs[of[by_row]]]
        flagged = np.union1d(rows, np.array(sorted(self._asked), np.int64))
        tasks = self._side.task_of(flagged)
        pairs = distinct(joined(self._pairs))
        trained_rows, met = np.divmod(pairs, max(1, len(self._side.tasks)))
        return [
            Overlap(
                self._training.task,
                self._side.tasks[task].task,
                tuple((flagged[tasks == task] - self._side.starts[task]).tolist()),
                tuple(trained_rows[met == task].tolist()),
                self._shown(flagged[tasks == task], rows, holders, show),
            )
            for task in np.unique(tasks).tolist()
        ]

    def _shown(self, flagged: np.ndarray, rows: np.ndarray, holders: np.ndarray, show: int) -> tuple[Match, ...]:
        """The rows with the most runs in common, each beside the training row that holds most of them.

        Args:
            flagged: Rows to choose from.
            rows: Of each hit the evaluation row, ascending.
            holders: Of each hit the training row.
        """
        begins, ends = np.searchsorted(rows, flagged), np.searchsorted(rows, flagged, side="right")
        longest = np.argsort(begins - ends, kind="stable")[:show]
        matches = []
        for row, begin, end in zip(flagged[longest].tolist(), begins[longest], ends[longest], strict=True):
            held, times = np.unique(holders[begin:end], return_counts=True)
            trained = int(held[times.argmax()]) if len(held) else self._asked[row]
            matches.append(self._match(row, trained, by_question=not len(held)))
        return tuple(matches)

    def _match(self, row: int, trained: int, *, by_question: bool) -> Match:
        task = int(self._side.task_of(np.array([row]))[0])
        number = row - int(self._side.starts[task])
        text = self._side.tasks[task].rows[number]
        if by_question:
            return Match("same question", number, trained, short_question(text))
        common = common_runs(text, self._training.rows[trained])
        words = max(common, key=lambda run: (self._side.tells(run), len(run)))
        return Match("words in a row" if len(words) >= LONGEST else "whole text", number, trained, " ".join(words))


def short_question(row: RowText) -> str:
    """The tokens of a question whose texts are all too short for runs, a line a text; nothing for any other."""
    # The beginning of a text tells nearly always that it is too long; a cut word still counts as one.
    if any(len(words_of(text[: 16 * SHORTEST])) >= SHORTEST for text in row.question):
        return ""
    if any(len(words_of(text)) >= SHORTEST for text in row.question):
        return ""
    return "\n".join(filter(None, (" ".join(tokens_of(text)) for text in row.question)))


def common_runs(evaluated: RowText, trained: RowText) -> list[list[str]]:
    """The runs of words of an evaluation row, as long as they go, that stand in a training row and count there."""
    theirs = [words_of(text) for text in (*trained.question, *trained.answer)]
    runs = []
    for text in (*evaluated.question, *evaluated.answer):
        words = words_of(text)
        n = min(LONGEST, len(words))
        if n < SHORTEST:
            continue
        begins = {tuple(their[i : i + n]): (their, i) for their in theirs for i in range(len(their) - n + 1)}
        at = 0
        while at + n <= len(words):
            their, there = begins.get(tuple(words[at : at + n]), ([], 0))
            same = map(eq, islice(words, at, None), islice(their, there, None))
            length = sum(1 for _ in takewhile(bool, same))
            if length:
                runs.append(words[at : at + length])
            at += max(1, length - n + 1)
    return runs
