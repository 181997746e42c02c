"""Options: how the list of possible answers is written in a prompt, and how an answer refers to it.

FLAN's collection writes options in many ways, by full text or by mark (Longpre et al. 2023, arXiv:2301.13688); a
template says where they stand with `{{ options }}`.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from flantune.errors import FlantuneError, named

# Stands for `{{ options }}` while a prompt is rendered without them: it goes, and the white space before it.
GAP = "\ue0a7\ue1b3options\ue2c9"
_GAP = re.compile(r"\s*" + re.escape(GAP))


@dataclass(frozen=True)
class OptionStyle:
    """One way to write a list of options.

    Attributes:
        name: As task files name it.
        heading: Stands before the first option.
        item: One option; `{mark}` is its letter or number, `{text}` its words.
        between: Stands between options.
        before_last: Stands before the last one instead of `between`.
        ending: Stands after the last one.
        marks: The marks in order; empty where options have none.
        answer: `{text}` answers in words, `{mark}` by the mark alone.
    """

    name: str
    heading: str
    item: str = "{text}"
    between: str = "\n"
    before_last: str | None = None
    ending: str = ""
    marks: Sequence[str] = ()
    answer: str = "{text}"

    def written(self, choices: Sequence[str]) -> str:
        """The list of options as it stands in a prompt.

        Raises:
            FlantuneError: More choices than marks.
        """
        items = [
            self.item.replace("{mark}", mark).replace("{text}", text)
            for mark, text in zip(self._marks(choices), choices, strict=True)
        ]
        last = self.between if self.before_last is None else self.before_last
        body = last.join([self.between.join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)
        return self.heading + body + self.ending

    def answered(self, target: str, choices: Sequence[str]) -> str:
        """A target in the words of this style; one that is no option stays as it is."""
        if self.answer == "{text}" or target not in choices:
            return target
        return self._marks(choices)[choices.index(target)]

    def _marks(self, choices: Sequence[str]) -> Sequence[str]:
        if not self.marks:
            return [""] * len(choices)
        if len(choices) > len(self.marks):
            raise FlantuneError(
                f'options style "{self.name}" has {len(self.marks)} marks for {len(choices)} answer_choices; '
                "choose a style without marks"
            )
        return self.marks[: len(choices)]


LETTERS, NUMBERS = tuple(string.ascii_uppercase), tuple(map(str, range(1, 100)))
STYLES: dict[str, OptionStyle] = {
    style.name: style
    for style in (
        OptionStyle("dashes", "OPTIONS:\n", "- {text}"),
        OptionStyle("stars", "Choose from:\n", "* {text}"),
        OptionStyle("lines", "Possible answers:\n"),
        OptionStyle("commas", "Options: ", between=", "),
        OptionStyle("or", "Answer with ", between=", ", before_last=" or ", ending="."),
        OptionStyle("slashes", "[", between=" / ", ending="]"),
        OptionStyle("quotes", "Pick one of these: ", '"{text}"', between=", ", ending="."),
        OptionStyle("semicolons", "The answer is one of the following: ", between="; ", ending="."),
        OptionStyle("letters", "Options:\n", "({mark}) {text}", marks=LETTERS),
        OptionStyle("numbers", "Options:\n", "{mark}) {text}", marks=NUMBERS),
        OptionStyle("letter_answers", "Options:\n", "({mark}) {text}", marks=LETTERS, answer="{mark}",
                    ending="\nAnswer with the letter."),
        OptionStyle("letter_points", "Which one? ", "{mark}. {text}", between="  ", marks=LETTERS, answer="{mark}",
                    ending="  Give the letter only."),
        OptionStyle("number_answers", "Options:\n", "{mark}) {text}", marks=NUMBERS, answer="{mark}",
                    ending="\nAnswer with the number."),
    )
}  # fmt: skip
# An answer by mark is another task than an answer in words: only where a task file asks for it. Numbers before
# choices that may be numbers themselves read badly.
BY_DEFAULT = ("dashes", "stars", "lines", "commas", "or", "slashes", "quotes", "semicolons", "letters")


def option_style(name: str) -> OptionStyle:
    """The style of a name.

    Raises:
        FlantuneError: Unknown, with the nearest name.
    """
    return named(name, STYLES, "options style")


def shuffled(choices: Sequence[str], key: int) -> list[str]:
    """The choices in an order that only the key decides, the same on every machine."""
    keyed = [hashlib.blake2b(f"{key}:{number}".encode(), digest_size=8).digest() for number in range(len(choices))]
    return [choices[number] for number in sorted(range(len(choices)), key=keyed.__getitem__)]


def without_gap(text: str) -> str:
    """A prompt rendered without options, closed where they would stand."""
    return _GAP.sub("", text) if GAP in text else text
