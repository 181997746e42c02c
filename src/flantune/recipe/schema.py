"""The fields of a recipe, what each means, and its default."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from flantune.errors import Place
from flantune.recipe.mixing import (
    Entry,
    Mixture,
    NamedTask,
    Placed,
    check_shares,
    inner_mixtures,
    named,
    placed_tasks,
    with_replay,
)
from flantune.recipe.yaml_file import Strict, Written, WrongAt, YamlFile

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def _run_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("a name is 1 to 64 of a-z, 0-9, _, . and -, and starts with a letter or digit")
    return name


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
    exemplars: int = Field(
        0,
        ge=0,
        le=64,
        description="Solved rows that stand before each question: of the training split, else of "
        "another than the one evaluated; a task without such a split is asked without.",
    )
    batch_tokens: int = Field(8192, ge=64, description="Prompt tokens computed at once.")
    resamples: int = Field(9999, ge=99, description="Bootstrap resamples and random flips.")
    margin: float | None = Field(
        None, gt=0, description="Differences of 0-100 scores inside +-margin may be called equivalent."
    )


class Licences(Strict):
    """Which licences of tasks may be trained on."""

    allow: tuple[str, ...] | None = Field(
        None,
        description="Licences as task files state them, in any case; a trained task with another one, or with none, is "
        "refused. All by default.",
    )


class Ledger(Strict):
    """What must not leak from training into evaluation, what is left out of training, and what may be trained on."""

    allow: tuple[tuple[str, str], ...] = Field(
        (),
        description="Pairs of names of tasks, one trained and one unseen, that may share an origin; plan and report "
        "name them.",
    )
    decontaminate: Literal["report", "drop", "skip"] = Field(
        "report",
        description="Evaluation rows whose text stands in training rows. report: told, and scores with and without "
        "them; drop: these training rows are left out; skip: not looked for.",
    )
    duplicates: Literal["keep", "drop", "skip"] = Field(
        "keep",
        description="Training rows that repeat an earlier one. keep: counted; drop: left out; skip: not looked for.",
    )
    licences: Licences = Licences()


class Recipe(Strict):
    """A whole run: model, tasks, mixture, ledger, training, evaluation, output."""

    name: Annotated[str, AfterValidator(_run_name)] = "run"
    seed: int = Field(0, ge=0)
    model: Annotated[ModelChoice, named("name", ModelChoice)] = ModelChoice()
    tasks: tuple[Entry, ...] = Field(min_length=1, description="Tasks to train on, and mixtures of tasks.")
    unseen: tuple[NamedTask, ...] = Field(
        (), description="Tasks that are only evaluated: not trained on, and abilities to keep."
    )
    variables: dict[str, str] = Field({}, description="Values for ${NAME} in the paths of task files.")
    allow_code: bool = Field(
        False, description="Whether Python functions that task files name (the transform `python`) may run."
    )
    mixture: Mixture = Mixture()
    ledger: Ledger = Ledger()
    adapter: Adapter = Adapter()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    output: str | None = Field(None, description="The run's folder; default runs/NAME.")
    _written: Written = PrivateAttr(default_factory=Written)

    @classmethod
    def load(cls, path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
        """Reads a recipe file, with overrides such as `training.learning_rate=1e-4` put over it.

        Raises:
            FlantuneError: The file or an override is wrong; says where, what, and what to do.
        """
        from flantune.recipe.load import load_recipe

        return load_recipe(path, overrides)

    def written_in(self, file: YamlFile | None, overridden: Mapping[str, str] | None = None) -> Recipe:
        """The same recipe, which knows where it was written."""
        made = self.model_copy()
        made._written = Written(file, dict(overridden or {}))
        return made

    def place(self, *location: str | int) -> Place | str | None:
        """Where the recipe says something, for error messages; None for one that was made in Python."""
        return self._written.place(location)

    def trained(self) -> tuple[Placed, ...]:
        """All tasks that are trained on, those of mixtures inside and of `mixture.replay` too."""
        return placed_tasks(self.tasks, self.mixture)

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
        check_shares(self.tasks, taken=self.mixture.replay.share if self.mixture.replay else 0.0)
        names = [inner.mixture for _, inner in inner_mixtures(with_replay(self.tasks, self.mixture))]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise WrongAt(["tasks"], f'two mixtures are called "{twice[0]}"; rename one')
        for number, choice in enumerate(self.unseen):
            for key in ("share", "cap", "floor", "max_epochs", "train_rows"):
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
