"""What a careful colleague would point at before the training starts: pure functions that say it, or say nothing.

Places are told without their folders: warnings stand in the report, and a report is passed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flantune.mixture.window import PROMPT_TOO_LONG, TARGET_TOO_LONG

MOST_EPOCHS = 4  # up to four, repeated rows are worth nearly as much as new ones (Muennighoff et al. 2023)
MOST_OF_THE_LOSS = 0.6
LITTLE_OF_THE_LOSS = 0.02
MOST_SHORTENED = 0.01
MOST_OF_A_KIND = 5  # warnings of one kind that are told one by one

Task = Mapping[str, Any]


def warnings(tasks: Sequence[Task]) -> list[str]:
    """All that is to be said about the tasks of a plan, in the order of the kinds of warnings."""
    told = []
    for kind in (too_long, target_too_long, shortened, many_epochs, most_of_the_loss, little_of_the_loss):
        lines = [line for task in tasks if (line := kind(task, len(tasks))) is not None]
        told += lines[:MOST_OF_A_KIND]
        if len(lines) > MOST_OF_A_KIND:
            told.append(f"and so with {len(lines) - MOST_OF_A_KIND:,} more tasks (flantune plan --json lists all)")
    return told


def too_long(task: Task, tasks: int) -> str | None:
    """Draws that are lost because their prompt has no room."""
    lost = task["reasons"].get(PROMPT_TOO_LONG, 0)
    if not lost:
        return None
    return (
        f"{task['task']}: {lost:,} of {_drawn(task):,} draws are too long for a packed row and dropped"
        f"{_such_as(task, 'dropped', PROMPT_TOO_LONG)}; raise mixture.capacity or name a field in the task's `shorten`"
    )


def target_too_long(task: Task, tasks: int) -> str | None:
    """Draws that are lost because their target alone has no room."""
    lost = task["reasons"].get(TARGET_TOO_LONG, 0)
    if not lost:
        return None
    return (
        f"{task['task']}: {lost:,} of {_drawn(task):,} draws have a target that is longer than a packed row and are "
        f"dropped{_such_as(task, 'dropped', TARGET_TOO_LONG)}; raise mixture.capacity (of an encoder-decoder "
        "mixture.target_capacity) or leave such rows out with `where`"
    )


def shortened(task: Task, tasks: int) -> str | None:
    """Prompts that do not say all that their row says."""
    if task["shortened"] <= MOST_SHORTENED * task["draws"]:
        return None
    return (
        f"{task['task']}: {task['shortened']:,} of {task['draws']:,} prompts are shortened to fit into a packed row"
        f"{_such_as(task, 'shortened')}; raise mixture.capacity, or see that what gives way is not asked for"
    )


def many_epochs(task: Task, tasks: int) -> str | None:
    """Rows that come too often."""
    if task["epochs"] <= MOST_EPOCHS:
        return None
    return f"{task['task']}: each row is seen {task['epochs']:.1f} times; past four, more epochs mostly memorize"


def most_of_the_loss(task: Task, tasks: int) -> str | None:
    """A task beside which the others hardly count."""
    if tasks < 2 or task["loss_share"] < MOST_OF_THE_LOSS:
        return None
    return (
        f"{task['task']}: {100 * task['loss_share']:.1f} % of the loss; the others may hardly learn "
        "(lower its `weight` or `loss_weight`, or count long targets less: training.loss.per)"
    )


def little_of_the_loss(task: Task, tasks: int) -> str | None:
    """A task that hardly counts; of many tasks, one with less than a tenth of an even share."""
    if tasks < 2 or not task["draws"] or task["loss_share"] >= min(LITTLE_OF_THE_LOSS, 0.1 / tasks):
        return None
    return (
        f"{task['task']}: only {100 * task['loss_share']:.1f} % of the loss; it may hardly learn "
        "(raise its `weight` or `loss_weight`, or count short targets more: training.loss.per)"
    )


def _drawn(task: Task) -> int:
    return task["draws"] + task["dropped"]


def _such_as(task: Task, kind: str, reason: str | None = None) -> str:
    for sample in task["samples"][kind]:
        if reason in (None, sample.get("reason")):
            return f" (such as {sample['place'].rpartition('/')[2]} in template {sample['template']})"
    return ""


# A tenth to ten times what is usual, and more; where exactly a warning begins is a choice of ours. Usual are, for full
# fine-tuning of decoders, 2e-5 (Alpaca) and more for small models; for LoRA 1e-4 to 2e-4 (Hu et al. 2022,
# arXiv:2106.09685; Dettmers et al. 2023, arXiv:2305.14314); for IA3 3e-3 (Liu et al. 2022, arXiv:2205.05638); for
# Adafactor, whose step is in proportion to a weight's size, 5e-4 to 1e-3 (Raffel et al. 2020, arXiv:1910.10683;
# Chung et al. 2022, arXiv:2210.11416).
LEARNING_RATES = {
    "full fine-tuning": (1e-6, 2e-3),
    "LoRA": (1e-5, 5e-3),
    "IA3": (1e-4, 5e-2),
    "Adafactor": (1e-5, 1e-2),
}


def learning_rate(rate: float, method: str, optimizer: str) -> str | None:
    """A learning rate far out of the usual range.

    Args:
        rate: The highest of the run.
        method: `adapter.method` of the recipe.
        optimizer: `training.optimizer` of the recipe.
    """
    kind = {"none": "full fine-tuning", "ia3": "IA3"}.get(method, "LoRA")
    kind = "Adafactor" if optimizer == "adafactor" else kind
    low, high = LEARNING_RATES[kind]
    if low <= rate <= high:
        return None
    side, likely = ("above", "it will not learn stably") if rate > high else ("below", "it will hardly learn")
    return f"training.learning_rate {rate:g} is far {side} what is usual for {kind} ({low:g} to {high:g}); {likely}"


def warm_up(share: float, optimizer: str) -> str | None:
    """No warm-up, where the optimizer's first steps depend on few gradients; or more warm-up than training.

    Adafactor is used at a constant rate without warm-up (Raffel et al. 2020).
    """
    if share > 0.5:
        return f"training.warmup is {share:g}: the learning rate rises for most of the run; 0.03 to 0.1 is usual"
    if share == 0 and optimizer != "adafactor":
        return "training.warmup is 0: the first steps, at the full learning rate, follow few rows; 0.03 to 0.1 is usual"
    return None


def lost_in_tokens(task: str, pairs: Sequence[tuple[str, str]], model: str) -> str | None:
    """Targets that the model's tokenizer cannot write: T5's knows neither line feeds nor braces.

    Args:
        task: Its name.
        pairs: Targets, each with what comes back from its tokens.
        model: Whose tokenizer it is.
    """
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    if not changed:
        return None
    before, after = _difference(*changed[0])
    return (
        f"{task}: the tokenizer of {model} cannot write {len(changed)} of {len(pairs)} targets: "
        f"{before} comes back as {after}; choose another model, or other targets"
    )


def _difference(target: str, back: str) -> tuple[str, str]:
    """Where two texts differ first, of both."""
    same = next((i for i, (a, b) in enumerate(zip(target, back, strict=False)) if a != b), min(len(target), len(back)))
    start = max(0, same - 10)
    return repr(target[start : start + 20]), repr(back[start : start + 20])
