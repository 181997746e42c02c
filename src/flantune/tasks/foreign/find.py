"""Which file of another project a name leads to, and who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flantune.errors import FlantuneError, nearest
from flantune.tasks.foreign.foreign_task import ForeignTask
from flantune.tasks.foreign.lm_eval import lm_eval_task
from flantune.tasks.foreign.promptsource import promptsource_task
from flantune.tasks.foreign.super_ni import TEST_INSTANCES, super_ni_task
from flantune.tasks.sources.files import filled

FOREIGN = ("lm_eval", "promptsource", "super_ni")


def foreign_task(kind: str, path: str | Path, variables: Mapping[str, str] | None = None) -> ForeignTask:
    """The task of a file of another project, such as `super_ni:tasks/task1572_samsum_summary.json.gz`.

    Args:
        kind: One of `FOREIGN`: what stands before the colon.
        path: The file; `?test=N` after that of super_ni sets how many of its first instances are the test split.
        variables: Values for `${NAME}` in the path.
    Raises:
        FlantuneError: An unknown kind, a variable without a value, or a file that is none of this kind.
    """
    text, _, options = str(path).partition("?")
    if kind == "super_ni":
        return super_ni_task(_path(text, variables), test_instances=_test_instances(options, path))
    if options:
        raise FlantuneError(f"{kind}: takes no options after `?`; leave them out", str(path))
    if kind == "lm_eval":
        return lm_eval_task(_path(text, variables))
    if kind == "promptsource":
        return promptsource_task(_path(text, variables))
    raise FlantuneError(f'unknown collection "{kind}"; {nearest(kind, FOREIGN)}', str(path))


def _path(text: str, variables: Mapping[str, str] | None) -> Path:
    return Path(filled(text, variables or {}))


def _test_instances(options: str, path: str | Path) -> int:
    if not options:
        return TEST_INSTANCES
    key, _, count = options.partition("=")
    if key != "test" or not count.isascii() or not count.isdigit() or len(count) > 9:
        raise FlantuneError(f'super_ni: unknown option "{options}"; `?test=N` with a whole number is wanted', str(path))
    return int(count)
