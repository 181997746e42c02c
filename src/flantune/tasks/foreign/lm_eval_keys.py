"""The keys of a task file of the lm-evaluation-harness: which are known, which are refused, and what `include` adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from flantune.errors import FlantuneError, Place, nearest
from flantune.tasks.foreign.tagged_yaml import Location, Tagged, TaggedYaml, read_tagged_yaml

MOST_INCLUDES = 8
NO_CODE = "flantune runs no code of a task file; write it as Jinja here, or as a transform in a task file of your own"
FEW_SHOT = "solved examples are asked for in the recipe"
OVERLAP = "flantune looks for overlap with the training rows itself"
TRANSLATED = (
    "task", "dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split", "test_split",
    "doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "output_type", "metric_list",
    "generation_kwargs", "filter_list", "repeats",
)  # fmt: skip
LABELS = ("tag", "group", "task_alias", "group_alias", "metadata", "include")  # bookkeeping that changes no prompt
TOLD = {
    "num_fewshot": FEW_SHOT,
    "fewshot_split": FEW_SHOT,
    "fewshot_delimiter": FEW_SHOT,
    "fewshot_config": FEW_SHOT,
    "should_decontaminate": OVERLAP,
    "doc_to_decontamination_query": OVERLAP,
}
REFUSED = {
    "process_docs": NO_CODE,
    "process_results": NO_CODE,
    "custom_dataset": NO_CODE,
    "class": NO_CODE,
    "unsafe_code": "code that a model wrote runs in tasks of your own alone (metric code_passes); leave it out",
    "use_prompt": "use `templates_from: {promptsource: FILE}` in a task file of your own",
    "gen_prefix": "write it at the end of doc_to_text",
    "doc_to_image": "flantune reads text only; leave it out",
    "doc_to_audio": "flantune reads text only; leave it out",
}
LINES = {  # key here to the key of a task file whose mistakes it explains
    "task": "name",
    "dataset_path": "source",
    "doc_to_choice": "answer_choices",
    "output_type": "evaluate_by",
    "generation_kwargs": "max_new_tokens",
    "metric_list": "metrics",
    "doc_to_target": "references",
    "doc_to_text": "templates",
}


@dataclass(frozen=True)
class Config:
    """The keys of a file and of those it includes, each with the file in which it stands."""

    path: Path
    values: Mapping[str, Any]
    files: Mapping[str, TaggedYaml]

    def get(self, key: str) -> Any:
        """The value of a key; a key without a value is as good as absent.

        Raises:
            FlantuneError: The value is `!function`.
        """
        value = self.values.get(key)
        if isinstance(value, Tagged):
            self.refuse(f"is `{value}`, Python code; {NO_CODE}", key)
        return value

    def text(self, key: str) -> str:
        """The text of a key, empty where it is absent."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            self.refuse("is no text; a text is wanted", key)
        return value or ""

    def refuse(self, message: str, *location: str | int) -> NoReturn:
        """An error at a key, or at a place below it."""
        place = self.files[str(location[0])].place(*location) if location[0] in self.files else Place(self.path)
        raise FlantuneError(f"{'.'.join(map(str, location))}: {message}", place)

    def lines(self) -> dict[Location, int]:
        """Lines in the file itself of what a task file says."""
        own = [key for key in LINES if key in self.files and self.files[key].path == self.path]
        return {(LINES[key],): self.files[key].lines[key,] for key in own}


def read_config(path: Path, depth: int = 0) -> Config:
    """The keys of a file over those of the files that it includes, which stand beside it.

    Raises:
        FlantuneError: No such file, no YAML, too many files that include each other.
    """
    file = read_tagged_yaml(path, kept=("!function",))
    if depth > MOST_INCLUDES:
        raise FlantuneError(f"include: more than {MOST_INCLUDES} files include each other", file.place("include"))
    included = file.data.get("include") or []
    names = [included] if isinstance(included, str) else included
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FlantuneError("include: a file or a list of files is wanted", file.place("include"))
    values: dict[str, Any] = {}
    files: dict[str, TaggedYaml] = {}
    for name in reversed(names):  # of several, the first one wins, as in the harness
        base = read_config(path.parent / name, depth + 1)
        values |= base.values
        files |= base.files
    return Config(path, values | file.data, files | dict.fromkeys(file.data, file))


def known_keys(config: Config) -> list[str]:
    """Refuses keys without an equal; returns what is told about the rest.

    Raises:
        FlantuneError: A key that the harness has not, or that has no equal here.
    """
    known = (*TRANSLATED, *LABELS, *TOLD, *REFUSED)
    notes: dict[str, list[str]] = {}
    for key, value in config.values.items():
        if key not in known:
            config.refuse(f"unknown key; {nearest(key, known, show=len(known))}", key)
        if value is None or value is False:
            continue
        if key in REFUSED:
            config.refuse(f"has no equal in flantune; {REFUSED[key]}", key)
        if key in TOLD and not (key == "fewshot_split" and value == config.values.get("training_split")):
            notes.setdefault(TOLD[key], []).append(f"`{key}`")
    if config.get("repeats") not in (None, 1):
        config.refuse("is the recipe's to say (`evaluation.sampling.repeats`); leave it out", "repeats")
    return [f"not applied: {', '.join(keys)}; {why}" for why, keys in notes.items()]
