"""Super-NaturalInstructions' task files, read in place: https://github.com/allenai/natural-instructions.

A file holds a definition in words, solved examples with explanations, and instances `{input, output: [...]}`. The
definition and the examples become templates; instances are the rows, and several outputs are several references.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flantune.tasks.foreign.foreign_task import ForeignTask, task_name
from flantune.tasks.foreign.languages import language_code
from flantune.tasks.foreign.super_ni_file import Example, TaskContent
from flantune.tasks.jinja import LONGEST_TEMPLATE, literal
from flantune.tasks.sources.files import stem

TEST_INSTANCES = 100  # the collection puts the instances of its evaluation first (Tk-Instruct, ni_dataset.py)
MOST_NEW_TOKENS = 128  # of a target in Tk-Instruct's training

INPUT = "{{ input | trim }}"
TARGET = "{{ output if output is string else output | first }}"
OTHER_OUTPUT = "{{ '' if output is string else output[NUMBER] | default('') }}"
# An input that ends without punctuation gets a full stop, as in Tk-Instruct.
INPUT_SENTENCE = INPUT + "{{ '' if (input | trim)[-1:] in " + json.dumps(string.punctuation) + " else '.' }}"


def super_ni_task(path: Path, *, test_instances: int = TEST_INSTANCES) -> ForeignTask:
    """The task of a file such as `task1572_samsum_summary.json`, also compressed or `ARCHIVE!MEMBER`.

    Args:
        path: The file.
        test_instances: How many instances from the first on are the split `test`; the rest is `train`. The
            collection evaluates on its first 100.
    Raises:
        FlantuneError: No such file, not JSON, no task of this collection; names the part.
    """
    file = TaskContent(path)
    figures = file.figures
    name = stem(file.at.members or file.at.path.name)
    definition = " ".join(file.texts("Definition"))
    if not definition:
        file.refuse("has no Definition; a task file of Super-NaturalInstructions is wanted")
    licences = [_licence(text) for text in file.texts("Instance License") if text.lower() != "unknown"]
    domains = file.texts("Domains")
    data = {
        "name": task_name("super_ni", name),
        "description": definition + (f" (Domains: {'; '.join(domains)})" if domains else ""),
        "cluster": _cluster(file),
        "origins": _origins(file, name),
        **({"license": "; ".join(licences)} if licences else {}),
        **_language(file),
        "source": _source(file, test_instances),
        **({"answer_choices": list(figures.choices)} if figures.choices else {}),
        "max_new_tokens": min(MOST_NEW_TOKENS, max(8, figures.longest_output)),
        "metrics": ["accuracy", "rougeL"] if figures.choices else ["rougeL", "exact_match"],
        "references": _references(figures.most_outputs),
        "shorten": "input",
        "templates": [each for each in _templates(definition, file) if len(each["text"]) <= LONGEST_TEMPLATE],
    }
    told = f"left out for want of an output: {figures.without_output} of {figures.count} instances"
    return ForeignTask(file.at.path, data, notes=(told,) if figures.without_output else (), trusted=True)


def _cluster(file: TaskContent) -> str:
    categories = file.texts("Categories")
    first = categories[0].partition("->")[0] if categories else "other"
    return re.sub("[^a-z0-9]+", "_", first.lower()).strip("_") or "other"


def _origins(file: TaskContent, task: str) -> list[str]:
    """The data sets by name, without the address that some files add in brackets.

    Texts written for one task alone (`synthetic`) are no origin that another task could share.
    """
    names = [re.sub(r"\s*\(https?://.*\)$", "", text) for text in file.texts("Source")]
    return [f"super_ni/{task}" if name.lower() == "synthetic" else name for name in names]


def _licence(text: str) -> str:
    """Well-known licences by their SPDX name: `CC BY-SA 4.0` is `CC-BY-SA-4.0`."""
    return text.replace(" ", "-") if re.fullmatch(r"(CC0|CC BY[-A-Z]*|Apache|[AL]?GPL|MIT)( [0-9.]+)?", text) else text


def _language(file: TaskContent) -> dict[str, str]:
    spoken = [*file.texts("Input_language"), *file.texts("Output_language")]
    codes = dict.fromkeys(language_code(name) for name in spoken)
    return {"language": ", ".join(codes)} if codes else {}


def _source(file: TaskContent, test_instances: int) -> dict[str, Any]:
    name = file.at.path.name + (f"!{file.at.members}" if file.at.members is not None else "")
    splits = {}
    if test_instances < file.figures.count:
        splits["train"] = f"{name}#Instances.{test_instances}:"
    if test_instances > 0:
        splits["test"] = f"{name}#Instances.:{test_instances}"
    some_empty = file.figures.without_output > 0
    where = {"where": "(output if output is string else output | first) | trim != ''"} if some_empty else {}
    return {"kind": "json", "splits": splits, **where}


def _references(most: int) -> list[str]:
    """Texts for as many references as the instance with the most has; those that render to nothing are left out."""
    return [TARGET, *(OTHER_OUTPUT.replace("NUMBER", str(number)) for number in range(1, most))]


# --- templates ----------------------------------------------------------------------------------------------


def _templates(definition: str, file: TaskContent) -> Iterator[dict[str, Any]]:
    """The encodings of Wang et al. 2022 (arXiv:2204.07705, as Tk-Instruct writes them), then other phrasings."""
    positive, negative = file.examples("Positive Examples"), file.examples("Negative Examples")
    stated = literal(f"Definition: {_sentence(definition)}\n\n")
    question = f"Now complete the following example -\nInput: {INPUT_SENTENCE}\nOutput: "
    shown = _shown(positive, "Positive")
    yield _template("definition", stated + question)
    if positive:
        yield _template("definition_examples", stated + literal(shown) + question, few_shot=False)
        if any(example.explanation for example in positive):
            explained = _shown(positive, "Positive", explained=True)
            yield _template("definition_explanations", stated + literal(explained) + question, few_shot=False)
    if positive and negative:
        both = shown + _shown(negative, "Negative")
        yield _template("definition_counterexamples", stated + literal(both) + question, few_shot=False)
    told = literal(definition)
    yield _template("instruction_first", f"{told}\n\n{INPUT}")
    yield _template("instruction_last", f"{INPUT}\n\n{told}")
    yield _template("input_output", f"{told}\n\nInput: {INPUT}\nOutput:")
    yield _template("question_answer", f"Instructions: {told}\n\nQ: {INPUT}\nA:")
    if positive:
        first = positive[0]
        solved = literal(f"Input: {first.input}\nOutput: {first.output}\n\n")
        yield _template("one_example", f"{told}\n\n{solved}Input: {INPUT}\nOutput:", few_shot=False)


def _template(name: str, given: str, *, few_shot: bool = True) -> dict[str, Any]:
    """A template as a task file states it; one that shows examples already gets no others."""
    return {"name": name, "text": f"{given} ||| {TARGET}", **({} if few_shot else {"few_shot": False})}


def _shown(examples: Sequence[Example], kind: str, *, explained: bool = False) -> str:
    """Solved examples, numbered, as Tk-Instruct writes them."""
    pieces = []
    for number, example in enumerate(examples, start=1):
        pieces.append(f" {kind} Example {number} -\n{_sentence(f'Input: {example.input}')}\n")
        pieces.append(f" {_sentence(f'Output: {example.output}')}\n")
        if explained and example.explanation:
            pieces.append(f" {_sentence(f'Explanation: {example.explanation}')}\n")
        pieces.append("\n")
    return "".join(pieces)


def _sentence(text: str) -> str:
    """The text with a full stop where it ends without punctuation."""
    text = text.strip()
    return text if text[-1:] in string.punctuation else f"{text}."
