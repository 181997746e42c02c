"""`trainer_state.json`: the course of a run in the format of the Hugging Face Trainer, for tools that plot it.

It says nothing that `metrics.jsonl` and `validation.jsonl` do not: it is made of their lines alone, so after a kill it
is made again from them, and no line is missing or there twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flantune.evaluation.validation_lines import Line, best_line
from flantune.files import write_text
from flantune.recipe import Recipe
from flantune.run_folder import best_folder

MOST = 2000  # entries of training steps; of a longer run each is the mean of several


class TrainerState:
    """The state of a run, from its lines in the order of their steps.

    Args:
        run: The run's folder.
        recipe: The run's.
        steps: Of the whole run, as planned.
    """

    def __init__(self, run: Path, recipe: Recipe, steps: int) -> None:
        self._run, self._recipe, self._steps = run, recipe, steps
        self.logging_steps = -(-steps // MOST)
        self.history: list[dict[str, Any]] = []
        self._interval: list[Mapping[str, Any]] = []
        self._step, self._epoch, self._tokens, self._flops = 0, 0.0, 0, 0.0
        self._validations: list[Line] = []

    def add_step(self, line: Mapping[str, Any]) -> None:
        """A line of `metrics.jsonl`."""
        self._step, self._epoch = line["step"] + 1, line["epoch"]
        self._tokens += line["tokens"]
        self._flops += line["tflop"] * 1e12
        self._interval.append(line)
        if self._step % self.logging_steps == 0:
            self.history.append(_entry(self._interval))
            self._interval = []

    def add_validation(self, line: Line) -> None:
        """A line of `validation.jsonl`, after the step that it belongs to."""
        self._validations.append(line)
        self.history.append({**validation_values(line), "epoch": self._epoch, "step": line["step"]})

    def write(self, *, done: bool = False) -> None:
        """Writes the file, whole.

        Args:
            done: Whether the model is about to be where it is to stay.
        """
        best, folder = best_line(self._validations), None
        if best is not None and self._recipe.validation.model == "best":
            folder = self._run / "model" if done else best_folder(self._run, best["step"])
        training = self._recipe.training
        state = {
            "best_global_step": best["step"] if best is not None else None,
            "best_metric": best["value"] if best is not None else None,
            "best_model_checkpoint": str(folder) if folder is not None else None,
            "epoch": self._epoch,
            "eval_steps": self._recipe.validation.every,
            "global_step": self._step,
            "is_hyper_param_search": False,
            "is_local_process_zero": True,
            "is_world_process_zero": True,
            "log_history": self.history,
            "logging_steps": self.logging_steps,
            "max_steps": self._steps,
            "num_input_tokens_seen": self._tokens,
            "num_train_epochs": training.epochs,
            "save_steps": training.checkpoint_every,
            "stateful_callbacks": {},
            "total_flos": self._flops,
            "train_batch_size": training.rows_at_once,
            "trial_name": None,
            "trial_params": None,
        }
        write_text(self._run / "trainer_state.json", json.dumps(state, indent=2) + "\n")


def training_values(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of `metrics.jsonl` by the names that Trainer has for them, and losses by task."""
    return {
        "loss": line["loss"],
        "grad_norm": line["gradient_norm"],
        "learning_rate": line["learning_rate"],
        **{f"loss/{task}": loss for task, loss in line["loss_by_task"].items()},
    }


def validation_values(line: Line) -> dict[str, float]:
    """The numbers of a line of `validation.jsonl` by names as Trainer has them."""
    values = {"eval_loss": line["loss"], "eval_average": line["average"], "eval_worst": line["worst"]}
    values |= {f"eval_{task}_loss": loss for task, loss in line["loss_by_task"].items()}
    for task, scores in line["scores"].items():
        values |= {f"eval_{task}_{name}": score for name, score in scores.items()}
    return {name: value for name, value in values.items() if value is not None} | {"eval_runtime": line["seconds"]}


def _entry(interval: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One entry of the history: the means over the steps of an interval, the rest as it is after the last."""
    values: dict[str, list[float]] = {}
    for line in interval:
        for name, value in training_values(line).items():
            values.setdefault(name, []).append(value)
    means = {name: sum(given) / len(given) for name, given in values.items()}
    last = interval[-1]
    return {**means, "learning_rate": last["learning_rate"], "epoch": last["epoch"], "step": last["step"] + 1}
