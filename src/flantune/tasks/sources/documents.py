"""Documents: one row a file, or a group of files that belong together by their name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flantune.errors import FlantuneError
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.files import OpenFile, stem
from flantune.tasks.sources.rows import Row


def documents(columns: Mapping[str, OpenFile], source: SourceChoice) -> Iterator[tuple[Row, int]]:
    """The row of one group of files: `id` is their name without suffix, each field the text of its file.

    Lines end with newlines, whatever system wrote them.

    Raises:
        FlantuneError: Files of different names, or not text.
    """
    names = {field: stem(file.name) for field, file in columns.items()}
    first = next(iter(names.values()))
    for field, name in names.items():
        if name != first:
            raise FlantuneError(
                f'the "{field}" of another document ({name}, not {first}); files that belong together have one name '
                "and differ in their suffix",
                columns[field].name,
            )
    yield {"id": first, **{field: file.text().replace("\r\n", "\n") for field, file in columns.items()}}, 1
