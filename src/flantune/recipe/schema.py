"""The fields of a recipe, what each means, and its default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flantune.recipe.yaml_file import Strict, WrongAt

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def _run_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("a name is 1 to 64 of a-z, 0-9, _, . and -, and starts with a letter or digit")
    return name


def _named(key: str, kind: Any) -> BeforeValidator:
    """A bare string stands for an object with only its first field."""
    return BeforeValidator(
        lambda value: {key: value} if isinstance(value, str) else value,
        json_schema_input_type=kind | Annotated[str, Field(min_length=1)],
    )


class ModelChoice(Strict):
    """Which model is tuned, and how it is spoken to."""

    name: str = Field(
        "smollm2-135m-instruct",
        min_length=1,
        description="The embedded model's name, a local folder, or a name on the Hugging Face hub.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    system: str = Field(
        "", description="System text put before each prompt where the chat template has a place for it."
    )


class TaskChoice(Strict):
    """One task of the recipe: where its file is, and how much of it is used."""

    task: str = Field(
        min_length=1,
        description="A starter task's name, or the path of a task's YAML file (relative to the recipe).",
    )
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Fixed share of all draws; the tasks without one divide the rest by `mixture.rates`.",
    )
    weight: float = Field(1.0, gt=0, description="Weight for `mixture.rates: explicit`.")
    loss_weight: float = Field(1.0, gt=0, description="Factor on the loss of each example of this task.")
    train_rows: int | None = Field(None, ge=1, description="Use only this many training rows, chosen by seed.")


class Mixture(Strict):
    """How often each task is drawn, and how draws are packed."""

    rates: Literal["proportional", "temperature", "equal", "explicit"] = Field(
        "proportional",
        description="Rule for a task's rate: by its rows (up to cap), tempered, equal, or by task weight.",
    )
    cap: int | None = Field(
        None, ge=1, description="A task counts as at most this many rows (proportional, temperature)."
    )
    temperature: float = Field(2.0, ge=1, description="rate ~ min(rows, cap) ** (1 / temperature).")
    window: int = Field(512, ge=1, description="Draws that are rendered and packed together.")
    capacity: int = Field(1024, ge=16, description="Tokens a packed row holds.")


class Adapter(Strict):
    """Full fine-tuning, or a low-rank adapter."""

    method: Literal["none", "lora"] = Field("none", description="none trains every weight; lora trains an adapter.")
    rank: int = Field(16, ge=1, description="Rank of the update matrices.")
    alpha: float = Field(32.0, gt=0, description="Scale of the update: alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="Names of the layers that get an adapter."
    )


class Loss(Strict):
    """How the tokens of examples of different lengths count in the loss."""

    per: Literal["token", "example", "square_root"] = Field(
        "token",
        description="token: every target token counts the same; example: every example counts the same; "
        "square_root: an example counts by the square root of its target tokens, between the two.",
    )


class Training(Strict):
    """The optimization."""

    epochs: float = Field(
        1.0,
        gt=0,
        description="How often the rows of tasks without a fixed share are seen on average, unless `draws` is given.",
    )
    draws: int | None = Field(None, ge=1, description="Number of examples to train on, repeats counted.")
    rows_per_step: int = Field(2, ge=1, description="Packed rows in the global batch of one optimizer step.")
    rows_at_once: int = Field(1, ge=1, description="Packed rows in one micro-batch.")
    learning_rate: float = Field(2e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises from 0.")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    max_gradient_norm: float = Field(1.0, gt=0)
    loss: Loss = Loss()
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="bf16 computes in bfloat16 with fp32 master weights."
    )
    compile: bool = Field(
        True, description="Compile the layers (torch.compile); off saves half a minute on short runs."
    )
    checkpoint_every: int = Field(200, ge=0, description="Steps between checkpoints; 0: only when interrupted.")
    keep_checkpoints: int = Field(1, ge=1, description="How many of the newest checkpoints stay.")


class Evaluation(Strict):
    """What base and tuned model are compared on."""

    rows: int = Field(60, ge=2, description="Rows a task, chosen by seed from the split.")
    split: str = "test"
    templates: Literal["all", "seen", "held_out"] = Field(
        "all", description="Phrasings used: those trained on and held-out ones in turn, or only one kind."
    )
    batch_tokens: int = Field(8192, ge=64, description="Prompt tokens computed at once.")
    resamples: int = Field(9999, ge=99, description="Bootstrap resamples and random flips.")
    margin: float | None = Field(
        None, gt=0, description="Differences of 0-100 scores inside +-margin may be called equivalent."
    )


class Recipe(Strict):
    """A whole run: model, tasks, mixture, training, evaluation, output."""

    name: Annotated[str, AfterValidator(_run_name)] = "run"
    seed: int = Field(0, ge=0)
    model: Annotated[ModelChoice, _named("name", ModelChoice)] = ModelChoice()
    tasks: tuple[Annotated[TaskChoice, _named("task", TaskChoice)], ...] = Field(
        min_length=1, description="Tasks to train on."
    )
    unseen: tuple[Annotated[TaskChoice, _named("task", TaskChoice)], ...] = Field(
        (), description="Tasks that are only evaluated: not trained on, and abilities to keep."
    )
    variables: dict[str, str] = Field({}, description="Values for ${NAME} in the paths of task files.")
    mixture: Mixture = Mixture()
    adapter: Adapter = Adapter()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    output: str | None = Field(None, description="The run's folder; default runs/NAME.")

    @classmethod
    def load(cls, path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
        """Reads a recipe file, with overrides such as `training.learning_rate=1e-4` put over it.

        Raises:
            FlantuneError: The file or an override is wrong; says where, what, and what to do.
        """
        from flantune.recipe.load import load_recipe

        return load_recipe(path, overrides)

    @model_validator(mode="before")
    @classmethod
    def _names_of_peers(cls, data: Any) -> Any:
        """Names that other trainers use get a pointed answer instead of a guess, at the top or in a section."""
        sections = {(): Recipe, **{(key,): _section(field.annotation) for key, field in Recipe.model_fields.items()}}
        for at, kind in sections.items():
            given = data.get(at[0]) if at and isinstance(data, dict) else data
            if kind is not None and isinstance(given, dict):
                for theirs in sorted(given.keys() & PEER_NAMES.keys() - kind.model_fields.keys()):
                    raise WrongAt((*at, theirs), f'unknown key "{theirs}"; it is called {PEER_NAMES[theirs]} here')
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        total = sum(choice.share or 0.0 for choice in self.tasks)
        free = [choice.task for choice in self.tasks if choice.share is None]
        if free and total >= 1:
            raise WrongAt(
                ["tasks"], f"the fixed shares sum to {total:g} and leave nothing for {free[0]}; make them smaller"
            )
        if not free and abs(total - 1) > 1e-9:
            raise WrongAt(["tasks"], f"each has a fixed share and they sum to {total:g}, not 1; leave out one of them")
        for number, choice in enumerate(self.unseen):
            for key in ("share", "train_rows"):
                if getattr(choice, key) is not None:
                    raise WrongAt(["unseen", number, key], f"{choice.task} is not trained on; remove `{key}`")
        if self.training.rows_at_once > self.training.rows_per_step:
            raise WrongAt(
                ["training", "rows_at_once"],
                f"must be at most training.rows_per_step, which is {self.training.rows_per_step}",
            )
        return self


def _section(annotation: Any) -> type[Strict] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Strict) else None


PEER_NAMES = {
    "model_name_or_path": "model",
    "base_model": "model",
    "dataset": "tasks",
    "datasets": "tasks",
    "learning_rate": "training.learning_rate",
    "lr": "training.learning_rate",
    "lr_scheduler_type": "training.schedule",
    "lr_scheduler": "training.schedule",
    "warmup_ratio": "training.warmup",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "max_grad_norm": "training.max_gradient_norm",
    "per_device_train_batch_size": "training.rows_at_once",
    "micro_batch_size": "training.rows_at_once",
    "save_steps": "training.checkpoint_every",
    "save_total_limit": "training.keep_checkpoints",
    "max_seq_length": "mixture.capacity",
    "sequence_len": "mixture.capacity",
    "cutoff_len": "mixture.capacity",
    "lora_r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_target_modules": "adapter.target_modules",
    "output_dir": "output",
}
