"""Hugging Face data sets, from the hub or a local folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError, nearest
from flantune.tasks.sources.choice import SourceChoice
from flantune.tasks.sources.digests import content_digest
from flantune.tasks.sources.files import filled
from flantune.tasks.sources.rows import Origin, Row

COMMIT = re.compile("[0-9a-f]{40}")


def hugging_face(source: SourceChoice, split: str, folder: Path, variables: Mapping[str, str]) -> Origin:
    """The rows of a split of a data set.

    A commit of the hub never changes and a folder is known by its files, so neither is loaded where its rows are in the
    cache; a branch is looked up on the hub.

    Raises:
        FlantuneError: The package `datasets` is missing, no such data set or split, the hub cannot be reached.
    """
    name = filled(str(source.path), variables)
    here = folder / name
    asked = str(source.splits[split])
    if here.is_dir():
        name = str(here)
        identity: object = [[path, content_digest(here / path)] for path in _files(here)]
    elif source.revision is not None and COMMIT.fullmatch(source.revision):
        identity = source.revision
    else:
        identity = _loaded(source, name, asked)._fingerprint

    def records() -> Iterator[tuple[Row, int]]:
        loaded = _loaded(source, name, asked)
        if source.fields is not None:  # images and the like need not be decoded where nobody wants them
            _check_fields(source.fields, loaded.column_names, name)
            loaded = loaded.select_columns(list(source.fields))
        return ((dict(row), number) for number, row in enumerate(loaded))

    return Origin(["huggingface", name, source.config, asked, identity], f"huggingface:{name}[{asked}]", records)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _check_fields(fields: tuple[str, ...], known: list[str], name: str) -> None:
    for field in fields:
        if field not in known:
            raise FlantuneError(f'source.fields: no column "{field}"; {nearest(field, known)}', f"huggingface:{name}")


def _loaded(source: SourceChoice, name: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise FlantuneError(
            'Hugging Face data sets need the package "datasets"; pip install "flantune[train]"'
        ) from None
    datasets.disable_progress_bars()
    here = Path(name)
    try:
        if (here / "dataset_dict.json").exists() or (here / "state.json").exists():
            saved: Any = datasets.load_from_disk(name)
            splits = saved if isinstance(saved, dict) else {"all": saved}
            if split not in splits:
                raise FlantuneError(f'no split "{split}"; {nearest(split, splits)}', f"huggingface:{name}")
            return splits[split]
        return datasets.load_dataset(name, source.config, split=split, revision=source.revision)
    except FlantuneError:
        raise
    except Exception as error:  # the library raises many kinds: offline, unknown name, unknown split, refused script
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FlantuneError(
            f'cannot load split "{split}": {first_line[:200]}; check the name, and that the hub can be reached',
            f"huggingface:{name}",
        ) from None
