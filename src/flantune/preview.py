"""Preview: rows of a task as the prompts that a model would read, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flantune.errors import FlantuneError
from flantune.mixture.few_shot import Question, chosen_format, exemplar_split, with_exemplars
from flantune.mixture.permutation import key_of
from flantune.tasks.task import Asked, Task
from flantune.tasks.template import SEPARATOR, Template


def preview(
    task: Task,
    *,
    split: str | None = None,
    rows: Sequence[int] = (0,),
    template: int | str | None = None,
    exemplars: int = 0,
    model: str | None = None,
) -> list[dict[str, Any]]:
    """Rows in the task's templates: input, target, and how long they are.

    Args:
        task: The task.
        split: Which split; the first one by default.
        rows: Row numbers; those past the last row are left out, except the first. None at all: the templates as they
            are written, whether or not the task's rows can be had.
        template: One template by name or number; all by default.
        exemplars: Solved rows before each question, from the training split; from its own where there is no other.
        model: Count tokens as this model does; None counts characters.
    Returns:
        One record a prompt; `error` instead of `input` and `target` where a row cannot be rendered.
    Raises:
        FlantuneError: No such split, row, template or model.
    """
    templates = task.templates if template is None else [task.template(template)]
    if not rows:
        return [_written(each) for each in templates]
    names = task.split_names()
    chosen = split or names[0]
    given = task.split(chosen)
    if rows[0] >= len(given):
        raise FlantuneError(f"no row {rows[0]}; the split has rows 0 to {len(given) - 1}", task.name)
    pool = exemplar_split(task, chosen) or chosen
    questions = [
        Question(
            Asked(each, given[number], given.place(number), task.evaluation_style),
            number if chosen == pool else None,
            exemplars if each.takes_exemplars else 0,
            key_of(0, "preview", task.name, number),
        )
        for number in rows
        if number < len(given)
        for each in templates
    ]
    rendered = task.render_all([question.asked for question in questions])
    solved = with_exemplars(task, task.split(pool), questions, rendered) if exemplars else [[] for _ in questions]
    count = _counter(model)
    return [
        _record(task, question, example, shown, count)
        for question, example, shown in zip(questions, rendered, solved, strict=True)
    ]


def _marks(template: Template) -> dict[str, Any]:
    return {"template": template.name, "inverted": template.inverted, "held_out": template.held_out}


def _written(template: Template) -> dict[str, Any]:
    given, _, target = template.text.partition(SEPARATOR)
    return {**_marks(template), "input": given.strip(), "target": target.strip()}


Count = Callable[[str, str], dict[str, int]]


def _record(task: Task, question: Question, example: Any, shown: Any, count: Count) -> dict[str, Any]:
    template = question.asked.template
    record = {"row": question.asked.place, **_marks(template)}
    if isinstance(example, FlantuneError):
        return {**record, "error": example.message}
    prompt = chosen_format(task, question.key).prompt(shown, example[0]) if shown else example[0]
    return {**record, "exemplars": len(shown), "input": prompt, "target": example[1], **count(prompt, example[1])}


def _counter(model: str | None) -> Count:
    if model is None:
        return lambda prompt, target: {"input_characters": len(prompt), "target_characters": len(target)}
    from flantune.models.load import load_format

    encoder = load_format(model)
    return lambda prompt, target: {
        "input_tokens": len(encoder.prompt_ids(prompt)),
        "target_tokens": len(encoder.target_ids(target)),
    }
