"""One pass over all rows of a task: what is blank, and which answers there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from flantune.tasks.init.columns import as_text, is_blank
from flantune.tasks.init.expressions import Path
from flantune.tasks.sources import Row, SourceChoice, read_split

MOST_ANSWERS = 5000  # different ones that are counted


@dataclass
class Survey:
    """What a pass over all rows found.

    Attributes:
        needed: Values that must not be blank.
        blank: In how many rows each of them is.
        lacking: In how many its field is missing altogether.
        answers: How often each answer comes; of lists, each item.
    """

    needed: Sequence[Path]
    blank: Counter[Path] = field(default_factory=Counter)
    lacking: Counter[Path] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def lacks(self, row: Row) -> bool:
        """Whether a row lacks something that is needed."""
        return any(is_blank(at(row, path)) for path in self.needed)


def survey(source: Mapping[str, Any], needed: Sequence[Path], found: Path | None) -> Survey:
    """Looks at all rows of all splits.

    Args:
        source: As the task file states it, without `where` and `fractions`.
        needed: Values that must not be blank.
        found: Where the answer stands that may be one of a few.
    Raises:
        FlantuneError: Rows that cannot be read.
    """
    seen = Survey(needed)
    choice = SourceChoice.model_validate(dict(source))
    for split in choice.splits:
        for row in read_split(choice, split, FilePath(), {}):
            blank = [path for path in needed if is_blank(at(row, path))]
            seen.blank.update(blank)
            seen.lacking.update(path for path in blank if path[0] not in row)
            if not blank and found is not None and len(seen.answers) < MOST_ANSWERS:
                value = at(row, found)
                seen.answers.update(as_text(item).strip() for item in (value if isinstance(value, list) else [value]))
    return seen


def at(row: Row, path: Path) -> Any:
    """The value at a path; None where there is none."""
    value: Any = row
    for part in path:
        if isinstance(value, dict):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
