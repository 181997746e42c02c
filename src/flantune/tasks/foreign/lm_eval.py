"""Task files of the lm-evaluation-harness, read where their keys have an equal meaning here.

https://github.com/EleutherAI/lm-evaluation-harness, docs/task_guide.md. What would make another task and has no equal
(code, other kinds of output, several filters) is an error that names the key; what only steers the harness is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flantune.tasks.foreign.foreign_task import (
    SEPARATOR,
    ForeignTask,
    single_expression,
    task_name,
    without_separator,
)
from flantune.tasks.foreign.lm_eval_keys import NO_CODE, Config, known_keys, read_config
from flantune.tasks.foreign.tagged_yaml import Tagged
from flantune.tasks.jinja import check_syntax, literal

MAX_GEN_TOKS = 256  # the harness's own default
METRICS = {
    "acc": "accuracy",
    "exact_match": "exact_match",
    "bleu": "bleu",
    "chrf": "chrf",
    "rouge1": "rouge1",
    "rouge2": "rouge2",
    "rougeL": "rougeL",
}
DEFAULT_METRIC = {"multiple_choice": "acc", "generate_until": "exact_match"}
FILE_KINDS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


def lm_eval_task(path: Path) -> ForeignTask:
    """The task of a YAML file of the harness; `include` is followed, beside the file that names it.

    Raises:
        FlantuneError: No such file or none of the harness, or a key that has no equal here; with the line.
    """
    config = read_config(path)
    notes = known_keys(config)
    kind = _output_type(config)
    name = config.text("task") or path.stem
    metrics = _metrics(config, kind, notes)
    answer = _answer(config, notes)
    max_new_tokens = _generation(config, notes)
    choices = _choices(config, kind)
    target, references = _target(config, with_choices=choices is not None)
    template = {"name": "doc_to_text", "text": f"{_question(config)} {SEPARATOR} {target}"}
    data = {
        "name": task_name("lm_eval", name),
        "description": f"{name} of the lm-evaluation-harness{_version(config)}",
        "origins": ["/".join(filter(None, (config.text("dataset_path"), config.text("dataset_name"))))],
        "source": _source(config),
        **({"answer_choices": choices} if choices is not None else {}),
        "evaluate_by": "choices" if kind == "multiple_choice" else "generation",
        "max_new_tokens": max_new_tokens,
        "metrics": metrics,
        **({"references": references} if references else {}),
        "templates": [{**template, **({"answer": answer} if answer is not None else {})}],
    }
    return ForeignTask(path, data, config.lines(), tuple(notes))


def _output_type(config: Config) -> str:
    kind = config.text("output_type") or "generate_until"
    kind = "generate_until" if kind == "greedy_until" else kind  # its older name
    if kind not in DEFAULT_METRIC:
        config.refuse(f'"{kind}" has no equal in flantune; known: {", ".join(DEFAULT_METRIC)}', "output_type")
    if isinstance(config.values.get("task"), list):
        config.refuse("a group of tasks; name its tasks one by one", "task")
    return kind


def _version(config: Config) -> str:
    metadata = config.get("metadata")
    entries = metadata if isinstance(metadata, list) else [metadata]
    versions = [entry["version"] for entry in entries if isinstance(entry, dict) and "version" in entry]
    return f", version {versions[0]}" if versions else ""


# --- prompts ------------------------------------------------------------------------------------------------


def _question(config: Config) -> str:
    if "doc_to_text" not in config.values:
        config.refuse("is missing; add it", "doc_to_text")
    if isinstance(config.get("doc_to_text"), int):
        config.refuse("a number: choices as inputs have no equal in flantune; write the input as Jinja", "doc_to_text")
    delimiter = config.text("target_delimiter")  # white space there is at the seam anyway
    text = _jinja(config, "description") + _field_or_jinja(config, "doc_to_text")
    return text + (literal(delimiter) if delimiter.strip() else "")


def _target(config: Config, *, with_choices: bool) -> tuple[str, list[str]]:
    """The target's text, and those of the references where there may be several."""
    given = config.get("doc_to_target")
    if isinstance(given, int) and not isinstance(given, bool):
        return (f"{{{{ answer_choices[{given}] }}}}" if with_choices else str(given)), []
    if not isinstance(given, str):
        config.refuse("a field, Jinja or a number is wanted", "doc_to_target")
    value = _value(config, "doc_to_target")
    if with_choices:
        if FIELD.fullmatch(given) and value is not None:
            return FIELD_AMONG_CHOICES.replace("VALUE", value), []
        return TEXT_AMONG_CHOICES.replace("TEXT", _jinja(config, "doc_to_target")), []
    if value is None:
        return _jinja(config, "doc_to_target"), []
    first = FIRST_OF_LIST.replace("VALUE", value)
    others = (OTHER_OF_LIST.replace("NUMBER", str(number)) for number in range(1, MOST_REFERENCES))
    return first, [first, *(other.replace("VALUE", value) for other in others)]


FIELD = re.compile(r"[^\W\d][\w-]*")
MOST_REFERENCES = 64
# A target may be the number of a choice or a choice; what is neither asks for a choice that no list has: an error. A
# field that holds a number as text, as fields of a table do, is taken for one unless it is itself a choice.
FIELD_AMONG_CHOICES = (
    "{{ (VALUE) if (VALUE) is string and (VALUE) in answer_choices else answer_choices[(VALUE) | int(1000000000)] }}"
)
TEXT_AMONG_CHOICES = "{% set said %}TEXT{% endset %}{{ answer_choices[said | int] if said.isdigit() else said }}"
FIRST_OF_LIST = "{{ (VALUE) if (VALUE) is string or (VALUE) is number else (VALUE)[0] }}"
OTHER_OF_LIST = "{{ '' if (VALUE) is string or (VALUE) is number else (VALUE)[NUMBER] | default('') }}"


def _choices(config: Config, kind: str) -> list[str] | str | None:
    given = config.get("doc_to_choice")
    if given is None and kind == "multiple_choice":
        config.refuse("is missing; output_type: multiple_choice needs it", "doc_to_choice")
    if isinstance(given, dict):
        given = list(given.values())
    if given is None or isinstance(given, list):
        for number, choice in enumerate(given or ()):
            if not isinstance(choice, str | int | float):
                config.refuse("a text is wanted", "doc_to_choice", number)
        return None if given is None else [str(choice) for choice in given]
    value = _value(config, "doc_to_choice")
    if value is None:
        config.refuse("is no single `{{ expression }}`, so it has no equal in flantune; give a list", "doc_to_choice")
    # A text in place of a list would be joined letter by letter: a name that no row has makes it an error.
    listed = "{{ (VALUE) | join(' ||| ') if (VALUE) is not string else doc_to_choice_is_no_list }}"
    return listed.replace("VALUE", value)


def _field_or_jinja(config: Config, key: str) -> str:
    """One word is a field of the row, as in the harness; anything else is Jinja."""
    given = config.text(key)
    return f"{{{{ {_value(config, key)} }}}}" if FIELD.fullmatch(given) else _jinja(config, key)


def _value(config: Config, key: str) -> str | None:
    """The Jinja expression of a key that is a field or a single `{{ expression }}`; None where it is more."""
    given = config.text(key)
    if FIELD.fullmatch(given):
        return f'"{given}" | field'
    return single_expression(_jinja(config, key))


def _jinja(config: Config, key: str) -> str:
    text = config.text(key)
    wrong = check_syntax(text)
    if wrong is not None:
        config.refuse(wrong, key)
    return without_separator(text)


# --- rows ---------------------------------------------------------------------------------------------------


def _source(config: Config) -> dict[str, Any]:
    """The rows; `test` is what the harness evaluates on: its validation split where there is no test split."""
    data_set = config.text("dataset_path")
    if not data_set:
        config.refuse("is missing; add it", "dataset_path")
    roles = {"train": "training_split", "validation": "validation_split", "test": "test_split"}
    splits = {split: config.text(key) for split, key in roles.items() if config.text(key)}
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    if not splits:
        config.refuse("is missing, and so are validation_split and training_split; add one", "test_split")
    options = _mapping(config, "dataset_kwargs")
    files, field = options.pop("data_files", None), options.pop("field", None)
    if options.pop("trust_remote_code", False):
        config.refuse(NO_CODE, "dataset_kwargs", "trust_remote_code")
    for name in options:
        config.refuse("has no equal in flantune; name files by `data_files`", "dataset_kwargs", name)
    if files is None:
        name = config.text("dataset_name")
        return {"kind": "huggingface", "path": data_set, **({"config": name} if name else {}), "splits": splits}
    return _files(config, splits, files, field)


def _files(config: Config, splits: Mapping[str, str], files: Any, field: Any) -> dict[str, Any]:
    """Files by split, as `datasets` names them: files without a split are its split `train`."""
    by_split = files if isinstance(files, dict) else {"train": files}
    found: dict[str, list[str]] = {}
    for split, name in splits.items():
        given = by_split.get(name)
        paths = [given] if isinstance(given, str) else given
        if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
            config.refuse(f'has no files for split "{name}"', "dataset_kwargs", "data_files")
        if any("://" in path for path in paths):
            config.refuse("names an address; fetch the file and name its path", "dataset_kwargs", "data_files")
        found[split] = paths
    kinds = {_kind(path) for paths in found.values() for path in paths}
    if len(kinds) != 1 or None in kinds:
        config.refuse(f"files of one kind are wanted ({', '.join(FILE_KINDS)})", "dataset_kwargs", "data_files")
    return {"kind": kinds.pop(), "splits": found, **({"records": f"{field}.*"} if field else {})}


def _kind(path: str) -> str | None:
    suffixes = [suffix for suffix in Path(path).suffixes if suffix in FILE_KINDS]
    return FILE_KINDS[suffixes[-1]] if suffixes else None


# --- scores and answers -------------------------------------------------------------------------------------


def _metrics(config: Config, kind: str, notes: list[str]) -> list[str]:
    given = config.get("metric_list")
    if not isinstance(given, list | None):
        config.refuse("a list of `metric: NAME` is wanted", "metric_list")
    found: dict[str, None] = {}
    for number, entry in enumerate(given or [{"metric": DEFAULT_METRIC[kind]}]):
        name = entry.get("metric") if isinstance(entry, dict) else None
        if not isinstance(name, str) or any(isinstance(value, Tagged) for value in entry.values()):
            config.refuse(f"a metric by name is wanted; {NO_CODE}", "metric_list", number)
        ours = METRICS.get(name)
        if ours is None:
            notes.append(f'its metric "{name}" has no equal here and is left out')
            continue
        found[_normalised(entry, ours, notes)] = None
    if not found:
        names = ", ".join(str(entry["metric"]) for entry in given or ())
        config.refuse(f"none of these has an equal in flantune: {names}; known: {', '.join(METRICS)}", "metric_list")
    return list(found)


def _normalised(entry: Mapping[str, Any], ours: str, notes: list[str]) -> str:
    """`exact_match` that ignores case is our accuracy; what else it ignores is told."""
    if ours != "exact_match":
        return ours
    ignored = [key for key in ("ignore_punctuation", "ignore_numbers", "regexes_to_ignore") if entry.get(key)]
    if ignored:
        notes.append(f"not applied: `exact_match` with {', '.join(ignored)}; answers are compared as they stand")
    return "accuracy" if entry.get("ignore_case") else ours


def _answer(config: Config, notes: list[str]) -> str | None:
    """The regular expression that finds the answer in what a model says; None where all of it is the answer."""
    pipelines = config.get("filter_list") or []
    if not isinstance(pipelines, list) or len(pipelines) > 1:
        config.refuse("several ways to find one answer have no equal in flantune; keep one of them", "filter_list")
    steps = pipelines[0].get("filter") if pipelines and isinstance(pipelines[0], dict) else []
    pattern = None
    for number, step in enumerate(steps or []):
        name = step.get("function") if isinstance(step, dict) else None
        if name in ("take_first", "remove_whitespace"):  # each row is asked once; scores do not see outer white space
            continue
        if name != "regex" or pattern is not None:
            config.refuse(f'the filter "{name}" has no equal in flantune', "filter_list", 0, "filter", number)
        pattern = _pattern(config, step, number)
        if step.get("group_select", 0) != -1:
            notes.append("of several answers that its filter finds, the last one counts")
    return pattern


def _pattern(config: Config, step: Mapping[str, Any], number: int) -> str:
    pattern = step.get("regex_pattern", r"#### (\-?[0-9\.\,]+)")  # the harness's own default
    try:
        groups = re.compile(pattern).groups
    except (re.error, TypeError, RecursionError, OverflowError):
        groups = -1
    if groups != 1:
        at = ("filter_list", 0, "filter", number, "regex_pattern")
        config.refuse("a regular expression with one group is wanted", *at)
    return pattern


def _generation(config: Config, notes: list[str]) -> int:
    """The most tokens of an answer; sampling is refused."""
    given = _mapping(config, "generation_kwargs")
    for key, value in given.items():
        greedy = key in ("do_sample", "temperature") and not value
        if key not in ("until", "max_gen_toks") and not greedy:
            sampled = key in ("do_sample", "temperature", "top_p")
            why = "is the recipe's to say (`evaluation.sampling`)" if sampled else "has no equal in flantune"
            config.refuse(f"{why}; leave it out", "generation_kwargs", key)
    if given.get("until"):
        notes.append("not applied: `generation_kwargs.until`; an answer ends at the model's end token")
    most = given.get("max_gen_toks", MAX_GEN_TOKS)
    if not isinstance(most, int) or most < 1:
        config.refuse("a whole number of at least 1 is wanted", "generation_kwargs", "max_gen_toks")
    return most


def _mapping(config: Config, key: str) -> dict[str, Any]:
    given = config.get(key) or {}
    if not isinstance(given, dict):
        config.refuse("a mapping of keys to values is wanted", key)
    return dict(given)
