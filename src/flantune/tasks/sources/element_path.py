"""Paths to XML elements, followed while the elements open: no tree is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flantune.errors import FlantuneError


@dataclass(frozen=True)
class Step:
    """One step of a path: a child, or any element below."""

    name: str  # "*" is any
    anywhere_below: bool
    attributes: tuple[tuple[str, str | None], ...]  # that it must have, and their values where one is asked for

    def leads_to(self, name: str, attributes: Mapping[str, str]) -> bool:
        """Whether an element is one that the step leads to."""
        return self.name in ("*", name) and all(
            attribute in attributes and (value is None or attributes[attribute] == value)
            for attribute, value in self.attributes
        )


class ElementPath:
    """A path from the root element, in the part of XPath that ElementTree reads and that needs no look ahead.

    `entries/entry`, `.//item`, `doc//item`, `*`, `item[@lang='en']`, `item[@id]`; `.` is the root itself. Names are
    without their namespaces.

    Args:
        path: The text of it.
        name: How a message calls the file.
    Raises:
        FlantuneError: Not such a path.
    """

    def __init__(self, path: str, name: str) -> None:
        self.steps: list[Step] = []
        is_whole = path.startswith(("/", "./")) or path == "."
        rest = path.removeprefix(".") if is_whole else f"/{path}"
        while rest:
            found = STEP.match(rest)
            if found is None or ABSOLUTE.match(path):
                raise FlantuneError(
                    f"the path {path!r} cannot be read from {rest!r} on; it goes down from the root element, such as "
                    "entries/entry, .//item or .//item[@lang='en']",
                    name,
                )
            self.steps.append(Step(found["name"], found["slashes"] == "//", _attributes(found["attributes"])))
            rest = rest[found.end() :]

    def start(self) -> frozenset[int]:
        """The steps that are done at the root element."""
        return frozenset((0,))

    def below(self, done: frozenset[int], name: str, attributes: Mapping[str, str]) -> frozenset[int]:
        """The steps that are done at a child of an element, in each way of reading the path."""
        found = set()
        for number in done:
            if number < len(self.steps):
                step = self.steps[number]
                if step.anywhere_below:
                    found.add(number)
                if step.leads_to(name, attributes):
                    found.add(number + 1)
        return frozenset(found)

    def is_end(self, done: frozenset[int]) -> bool:
        """Whether an element stands at the end of the path."""
        return len(self.steps) in done


ABSOLUTE = re.compile("/[^/]")
NAME = r"[^\W\d][\w.\-]*"
STEP = re.compile(
    rf"""(?P<slashes>//?)(?P<name>\*|{NAME})(?P<attributes>(?:\[@{NAME}(?:\s*=\s*(?:'[^']*'|"[^"]*"))?\])*)"""
)
ATTRIBUTE = re.compile(rf"""\[@({NAME})(?:\s*=\s*(?:'([^']*)'|"([^"]*)"))?\]""")


def _attributes(text: str) -> tuple[tuple[str, str | None], ...]:
    found = (match.groups() for match in ATTRIBUTE.finditer(text))
    return tuple((name, single if single is not None else double) for name, single, double in found)
