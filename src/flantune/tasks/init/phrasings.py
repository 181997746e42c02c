"""The phrasings of each kind of task, read from `phrasings.yaml`, and how a row's fields are put in."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PLACE = re.compile(r"\[(\w+|a noun)\]")


@dataclass(frozen=True)
class Phrasings:
    """How a kind of task is asked.

    Attributes:
        about: One sentence: the task's description.
        cluster: Tasks of one kind, held out together.
        metrics: Main one first.
        straight: Name to text, trained on.
        worked: The same with the way to the answer.
        held_out: Evaluated only.
        inverted: Ask for what is usually given.
    """

    about: str
    cluster: str
    metrics: tuple[str, ...]
    straight: Mapping[str, str]
    held_out: Mapping[str, str]
    worked: Mapping[str, str]
    inverted: Mapping[str, str]


@functools.cache
def phrasings() -> dict[str, Phrasings]:
    """Kind to how it is asked."""
    from flantune.recipe.yaml_file import read_yaml

    stated = read_yaml(Path(__file__).with_name("phrasings.yaml")).data
    return {
        kind: Phrasings(
            each["about"], each["cluster"], tuple(each["metrics"]), each["straight"], each["held_out"],
            each.get("worked", {}), each.get("inverted", {}),
        )
        for kind, each in stated.items()
    }  # fmt: skip


OWN_WORDS = "own_words"  # the phrasings of a task whose request is given in words


def filled(text: str, places: Mapping[str, str]) -> str:
    """A phrasing with what stands for its places; `[Noun]` begins with a capital, `[a noun]` has its article.

    An option list that there is not leaves no gap.
    """
    if not places.get("options"):
        text = re.sub(r"\s*\[options\]", "", text)

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name == "a noun":
            noun = places["noun"]
            return f"{'an' if re.match('[aeiou]', noun, re.IGNORECASE) else 'a'} {noun}"
        if name.lower() in places and name != name.lower():
            word = places[name.lower()]
            return word[:1].upper() + word[1:]
        return places.get(name, found[0])

    return PLACE.sub(put, text).lstrip()
