"""Validation while training: losses and scores on a fixed sample, the best weights so far, and when to stop.

What is decided is a function of the lines of `validation.jsonl`, and these of the weights at their steps. So a run that
is killed and goes on, from whichever checkpoint, decides the same. Training is not touched: not its random state, nor
its compiled kernels, nor the modes and buffers of its modules.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flantune.errors import FlantuneError
from flantune.evaluation.predict import predictions
from flantune.evaluation.scale import best_constant, on_one_scale, score_of
from flantune.evaluation.validation_lines import Line, best_line, exhausted
from flantune.files import disk_errors, read_json_lines, write_json_lines
from flantune.learner import Learner
from flantune.models.exact_head import exact_head
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.recipe import Recipe
from flantune.recipe.validation import Validation
from flantune.run_folder import best_folder, save_model
from flantune.training.distributed import Ranks
from flantune.training.loop import LossLog
from flantune.training.position import Position
from flantune.validation_rows import ValidatedTask


@dataclass(frozen=True)
class Measured:
    """What one validation finds.

    Attributes:
        losses: Task to mean loss of a target token, in nats.
        scores: Task to its metrics' scores, the main one first; empty without metrics.
        scaled: Task to its main score, 0 to 100 and higher is better.
    """

    losses: Mapping[str, float]
    scores: Mapping[str, Mapping[str, float]]
    scaled: Mapping[str, float]


def measured(
    learner: Learner,
    tasks: Sequence[ValidatedTask],
    *,
    rows_at_once: int,
    batch_tokens: int,
    ranks: Ranks,
    stopped: Callable[[], bool] = lambda: False,
) -> Measured | None:
    """Losses and scores of the model as it is, whose work the ranks share; None where it was asked to stop meanwhile.

    Args:
        learner: Its model is used without dropout, and is afterwards what it was.
        tasks: What is asked.
        rows_at_once: Packed rows of a micro-batch.
        batch_tokens: Prompt tokens computed at once when answers are written.
        ranks: Who shares the work; all get the same result.
        stopped: Asked between tasks, on every rank.
    """
    losses: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    scaled: dict[str, float] = {}
    with undisturbed(learner.model):
        means = _losses(learner, tasks, rows_at_once, ranks)
        losses = {task.name: means[number] for number, task in enumerate(tasks)}
        for task in tasks:
            if max(ranks.gathered(stopped())):
                return None
            if task.questions is None:
                continue
            texts = _answers(learner, task, batch_tokens, ranks)
            by = [each for each in task.questions.metrics if each.measured != "target"]  # that is the loss
            scores[task.name] = {each.name: score_of(task.questions, texts, each) for each in by}
            if by:
                constant = best_constant(task.questions, by[0])
                scaled[task.name] = on_one_scale(scores[task.name][by[0].name], by[0], constant)
    return Measured(losses, scores, scaled)


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Inside, a model answers: no dropout, no gradients, the head in float32. After it, all is what it was.

    Random state, the modes and buffers of modules are put back. What was compiled runs uncompiled meanwhile, so that no
    kernel is chosen, or dropped, because of other shapes than those of training.
    """
    modules = list(model.modules())
    modes, buffers = [module.training for module in modules], [dict(module._buffers) for module in modules]
    device = next(model.parameters()).device
    head = model.get_output_embeddings()
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.compiler.set_stance("force_eager"),
        torch.no_grad(),
    ):
        model.eval()
        exact_head(model)
        try:
            yield
        finally:
            head.__dict__.pop("forward", None)
            for module, mode, kept in zip(modules, modes, buffers, strict=True):
                module.training = mode
                module._buffers.clear()
                module._buffers.update(kept)


def _losses(learner: Learner, tasks: Sequence[ValidatedTask], rows_at_once: int, ranks: Ranks) -> dict[int, float]:
    """Number of a task to its mean loss of a target token, by the loss that is trained with."""
    model = learner.model
    device, start = next(model.parameters()).device, start_token(model)
    parts = [
        (number, task.packed[first : first + rows_at_once])
        for number, task in enumerate(tasks)
        for first in range(0, len(task.packed), rows_at_once)
    ]
    log = LossLog()
    for number, rows in ranks.share(parts):
        segments = [segment for row in rows for segment in row]
        stream = stream_of([(s.input_ids, s.target_ids, 1.0) for s in segments], start).to(device)
        _, losses = learner.summed_loss(target_logits(model, stream), stream.targets, stream.weights)
        log.add(0.0, [number] * len(segments), stream, losses)
    return LossLog.joined(ranks.gathered(log)).means()


def _answers(learner: Learner, task: ValidatedTask, batch_tokens: int, ranks: Ranks) -> list[str]:
    """What the model says to each question of a task."""
    questions = task.questions
    assert questions is not None
    mine = ranks.share(range(len(questions.items)))
    made = predictions(
        replace(learner.loaded, model=learner.model),
        replace(questions, items=tuple(questions.items[i] for i in mine)),
        batch_tokens=batch_tokens,
        cache=None,
        model_digest="",
    )
    texts: dict[int, str] = {}
    for part in ranks.gathered(dict(zip(mine, (it["prediction"] for it in made), strict=True))):
        texts.update(part)
    return [texts[i] for i in range(len(questions.items))]


def goodness(found: Measured, best: str) -> float | None:
    """What a validation is compared by, higher is better; None where a loss is not finite."""
    by_task = found.scaled if found.scaled and best != "loss" else {name: -loss for name, loss in found.losses.items()}
    value = min(by_task.values()) if best == "worst" else math.fsum(by_task.values()) / len(by_task)
    return value if math.isfinite(value) else None


class Validations:
    """The validations of one run, on all its ranks; rank 0 keeps lines and weights.

    Args:
        run: The run's folder. `validation.jsonl` gets a line a validation, `best/step-N/` the best model so far.
        recipe: Says what is best, and when to stop.
        tasks: What is asked.
        learner: Whose weights are looked at, as they would be saved.
        ranks: Who takes part.
        start: Where the run goes on; later lines are left out, since they come again.
        report: Told of each validation.
    Attributes:
        lines: Of the validations so far.
    """

    def __init__(
        self,
        run: Path,
        recipe: Recipe,
        tasks: Sequence[ValidatedTask],
        learner: Learner,
        ranks: Ranks,
        start: Position,
        report: Callable[[str], None],
    ) -> None:
        self.settings = recipe.validation
        self._run, self._recipe, self._tasks, self._learner, self._ranks = run, recipe, tasks, learner, ranks
        self._report, self._file = report, run / "validation.jsonl"
        there = ranks.first and bool(start.step) and self._file.exists()
        before = read_json_lines(self._file) if there else []
        self.lines: list[Line] = ranks.of_first([line for line in before if line["step"] <= start.step])

    @property
    def stopped(self) -> bool:
        """Whether training has gone on long enough without getting better."""
        return exhausted(self.lines, self.settings.patience)

    def due(self, step: int) -> bool:
        """Whether a validation belongs after this step and has not been done."""
        done = self.lines[-1]["step"] if self.lines else 0
        return bool(self._tasks) and step > done and step % self.settings.every == 0

    def validate(self, done: Position, stopped: Callable[[], bool] = lambda: False) -> Line | None:
        """Validates, keeps the weights if they are the best so far, then the line; nothing where it was done before.

        Args:
            done: Where the run is.
            stopped: Whether this process was asked to stop; a validation that does not end leaves nothing.
        Returns:
            The line; None where there is none.
        Raises:
            FlantuneError: The disk is full or cannot be written.
        """
        if not self._tasks or (self.lines and self.lines[-1]["step"] == done.step):
            return None
        began = time.perf_counter()
        with self._learner.optimizer.final_weights():
            found = measured(
                self._learner,
                self._tasks,
                rows_at_once=self._recipe.training.rows_at_once,
                batch_tokens=self._recipe.evaluation.batch_tokens,
                ranks=self._ranks,
                stopped=stopped,
            )
            if found is None:
                return None
            line = self._line(done, found)
            better = best_line([*self.lines, line]) is line
            if better and self._ranks.first and self.settings.model == "best":
                save_model(self._learner.model, self._learner.loaded, best_folder(self._run, done.step))
        self.lines.append({**line, "seconds": time.perf_counter() - began})
        if self._ranks.first:
            write_json_lines(self._file, self.lines)
        self._report(_told(line, self.settings, better=better))
        return self.lines[-1]

    def _line(self, done: Position, found: Measured) -> Line:
        return {
            "step": done.step,
            "row": done.row,
            "draws": done.draws,
            "loss": math.fsum(found.losses.values()) / len(found.losses),
            "loss_by_task": dict(found.losses),
            "scores": {task: dict(scores) for task, scores in found.scores.items()},
            "scaled": dict(found.scaled),
            "average": math.fsum(found.scaled.values()) / len(found.scaled) if found.scaled else None,
            "worst": min(found.scaled.values(), default=None),
            "value": goodness(found, self.settings.best),
        }

    def forget(self) -> None:
        """Removes weights that were the best neither as of now nor as of a checkpoint: those none can decide for again.

        To be called when no checkpoint is being written.
        """
        if not self._ranks.first:
            return
        steps = [_step(path) for path in (self._run / "checkpoints").glob("step-*")]
        states = [self.lines, *([line for line in self.lines if line["step"] <= step] for step in steps)]
        needed = {best["step"] for best in map(best_line, states) if best is not None}
        with disk_errors(self._run):
            for folder in (self._run / "best").glob("step-*"):
                if _step(folder) not in needed:
                    shutil.rmtree(folder)

    def chosen(self) -> tuple[Path, Line] | None:
        """The folder of the best model with its line, where that is what the recipe wants.

        Raises:
            FlantuneError: It is gone.
        """
        best = best_line(self.lines)
        if self.settings.model != "best" or best is None:
            return None
        folder = best_folder(self._run, best["step"])
        if not (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
            raise FlantuneError(
                "the best model was kept here and is gone; go on with the last weights: "
                f"flantune train --resume {self._run} validation.model=last",
                folder,
            )
        return folder, best


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _told(line: Line, settings: Validation, *, better: bool) -> str:
    parts = [f"loss {line['loss']:.3f}"]
    if line["average"] is not None:
        lowest = min(line["scaled"], key=line["scaled"].__getitem__)
        parts.append(f"average {line['average']:.1f}, worst {line['worst']:.1f} ({lowest})")
    return f"validation after step {line['step']}: {', '.join(parts)}{'; the best so far' if better else ''}"
