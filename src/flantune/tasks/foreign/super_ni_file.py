"""What a task file of Super-NaturalInstructions holds, its instances as figures; kept from one reading to the next.

The whole collection is 1,613 files with five million instances: to read them takes minutes, what is kept seconds.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from flantune.errors import FlantuneError
from flantune.files import digest, write_text
from flantune.tasks.sources import digests
from flantune.tasks.sources.files import Located, located, open_files
from flantune.tasks.sources.strict_json import BadJson, load_json

FORMAT = 1  # of what is kept
SMALL = 256 * 1024  # bytes; to read such a file again costs no more than to keep what it holds
MOST_CHOICES = 20
MOST_EXAMPLES = 2  # of each kind; the collection's own prompts show no more


class Example(NamedTuple):
    """A solved example of the file; the explanation says why the output is right, or wrong."""

    input: str
    output: str
    explanation: str


@dataclass(frozen=True)
class InstanceFigures:
    """What the templates need to know of all instances.

    Attributes:
        count: How many there are.
        without_output: How many of them have no text as their first output.
        most_outputs: Outputs of the instance with the most.
        longest_output: Bytes of the longest output.
        choices: The answers of a classification in order of appearance; empty where answers are free.
    """

    count: int
    without_output: int
    most_outputs: int
    longest_output: int
    choices: Sequence[str]


class TaskContent:
    """A task file part by part; a part is checked as it is taken.

    Args:
        path: The file, also compressed or `ARCHIVE!MEMBER`.
    Raises:
        FlantuneError: No such file or several, not JSON, no Instances of the form `{input, output: [...]}`.
    """

    def __init__(self, path: Path) -> None:
        found = located(str(path), Path(), {})
        if len(found) != 1:
            raise FlantuneError(f"names {len(found)} files; name one task file", path)
        self.at = found[0]
        self.name = str(path)
        kept = _kept_as(self.at)
        self.parts, self.figures = _recalled(kept) or self._read(kept)

    def texts(self, key: str) -> list[str]:
        """The texts of a part, which older files give as one text; none where the file lacks it."""
        value = self.parts.get(key) or []
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self.refuse(f"{key} is no text and no list of texts")
        return [text.strip() for text in texts if text.strip()]

    def examples(self, key: str) -> list[Example]:
        """The first solved examples; older files give an output as a list of one."""
        listed, found = self.parts.get(key) or [], []
        if not isinstance(listed, list):
            self.refuse(f"{key} is no list of {{input, output, explanation}}")
        for number, given in enumerate(listed[:MOST_EXAMPLES]):
            parts = given if isinstance(given, dict) else {}
            output = parts.get("output")
            output = output[0] if isinstance(output, list) and output else output
            texts = [parts.get("input"), output, parts.get("explanation") or ""]
            if not all(isinstance(text, str) for text in texts):
                self.refuse(f"{key}.{number} is no {{input, output, explanation}} of texts")
            found.append(Example(*(str(text).strip() for text in texts)))
        return found

    def refuse(self, message: str) -> NoReturn:
        """An error about this file."""
        raise FlantuneError(message, self.name)

    def _read(self, kept: Path | None) -> tuple[Mapping[str, Any], InstanceFigures]:
        content = self._content()
        figures = self._figures(content.pop("Instances", None))
        if kept is not None:
            with contextlib.suppress(OSError, FlantuneError):  # a cache that cannot be written is none
                write_text(kept, json.dumps({"parts": content, "figures": asdict(figures)}))
        return content, figures

    def _content(self) -> dict[str, Any]:
        files = open_files(self.at, None, None)
        file = next(files)
        try:
            content = load_json(file.text())
        except BadJson as error:
            raise FlantuneError(str(error), file.place(error.line)) from None
        if next(files, None) is not None:
            pattern = self.at.members
            raise FlantuneError(f"several files of the archive are called {pattern}; name one task file", self.at.path)
        if not isinstance(content, dict):
            self.refuse("is no JSON object; a task file of Super-NaturalInstructions is wanted")
        return content

    def _figures(self, instances: Any) -> InstanceFigures:
        if not isinstance(instances, list) or not instances:
            self.refuse("has no Instances; a task file of Super-NaturalInstructions is wanted")
        outputs = [self._outputs(number, instance) for number, instance in enumerate(instances)]
        return InstanceFigures(
            count=len(outputs),
            without_output=sum(not texts[0].strip() for texts in outputs),
            most_outputs=max(map(len, outputs)),
            longest_output=max(len(text.encode()) for texts in outputs for text in texts),
            choices=_closed_set(outputs),
        )

    def _outputs(self, number: int, instance: Any) -> list[str]:
        outputs = instance.get("output") if isinstance(instance, dict) else None
        outputs = [outputs] if isinstance(outputs, str) else outputs
        texts = isinstance(outputs, list) and outputs and all(isinstance(output, str) for output in outputs)
        if not texts or not isinstance(instance.get("input"), str):
            self.refuse(f"Instances.{number} is no {{input: text, output: [text, ...]}}")
        return outputs


def _closed_set(outputs: Sequence[Sequence[str]]) -> list[str]:
    """The answers of a classification: few, each often, one an instance; else none."""
    answers = dict.fromkeys(texts[0].strip() for texts in outputs)
    closed = all(len(texts) == 1 for texts in outputs) and 2 <= len(answers) <= MOST_CHOICES
    return list(answers) if closed and "" not in answers and len(outputs) >= 4 * len(answers) else []


def _kept_as(at: Located) -> Path | None:
    """Where it is kept what a file holds: under a hash of the file, so that a changed one is read again."""
    with contextlib.suppress(OSError):
        if at.path.stat().st_size > SMALL:
            key = digest("super_ni", FORMAT, digests.content_digest(at.path), at.members)
            return digests.digests_folder() / f"{key}.json"
    return None


def _recalled(kept: Path | None) -> tuple[Mapping[str, Any], InstanceFigures] | None:
    if kept is None:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(kept.read_text(encoding="utf-8"))
        return dict(said["parts"]), InstanceFigures(**said["figures"])
    return None
