"""The fields of a recipe, what each means, and its default."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator

from flantune.errors import Place
from flantune.recipe.evaluation import Evaluation
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
from flantune.recipe.validation import Validation
from flantune.recipe.yaml_file import Strict, Written, WrongAt, YamlFile

UNSEEN_WITHOUT = (
    *("share", "cap", "floor", "max_epochs", "train_rows"),
    *("templates", "inverted", "options", "few_shot"),
)
PROMPT_METHODS = ("prompt_tuning", "prefix_tuning")
REFUSED_METHODS = {
    "p_tuning": "it is not offered; choose prompt_tuning, whose learned tokens need no network to make them",
}
TRAINED_SPLIT = "train"
SHARDED_OPTIMIZERS = ("adamw", "schedule_free")  # those that treat each number of a weight by itself
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
    """Full fine-tuning, or an adapter: few new weights beside the model's, which stay as they are."""

    method: Literal["none", "lora", "rslora", "dora", "qlora", "ia3", "prompt_tuning", "prefix_tuning"] = Field(
        "none",
        description="none trains every weight; lora: low-rank matrices; rslora: these with a scale that suits high "
        "ranks; dora: these and a magnitude for each output; qlora: lora beside a base in 4 bits, on a GPU; ia3: one "
        "factor for each output of few layers; prompt_tuning: learned tokens before each example; prefix_tuning: "
        "learned keys and values in each layer. The last two are computed in padded rows, not packed.",
    )
    rank: int = Field(16, ge=1, description="Rank of the update matrices.")
    alpha: float = Field(
        32.0, gt=0, description="Scale of the update: alpha / rank, of rslora alpha / square root of rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    target_modules: tuple[str, ...] | Literal["all-linear"] | None = Field(
        None,
        description="Names of the layers that get an adapter. By default all linear layers but the head; with ia3 "
        "keys, values and the last layer of each feed-forward block.",
    )

    virtual_tokens: int = Field(20, ge=1, description="How many tokens prompt_tuning or prefix_tuning learns.")

    @field_validator("method", mode="before")
    @classmethod
    def _known_elsewhere(cls, method: Any) -> Any:
        if isinstance(method, str) and method in REFUSED_METHODS:
            raise ValueError(REFUSED_METHODS[method])
        return method


class Loss(Strict):
    """How the tokens of examples of different lengths count in the loss."""

    per: Literal["token", "example", "square_root", "task"] = Field(
        "task",
        description="task: in each window a task counts by its number of examples, and its target tokens count the "
        "same; token: every target token counts the same; example: every example counts the same; square_root: an "
        "example counts by the square root of its target tokens, between the two.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each target that is spread evenly over all tokens."
    )
    z_loss: float = Field(
        0.0,
        ge=0,
        description="Factor on the square of the logarithm of the softmax's normalizer; T5 was trained with 1e-4.",
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
    schedule: Literal["linear", "cosine", "constant", "inverse_square_root", "warmup_stable_decay"] = Field(
        "linear", description="How the learning rate goes on after the warm-up."
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the run in which the learning rate rises from 0.")
    cooldown: float = Field(
        0.2, ge=0, lt=1, description="Share of the run, its last, in which warmup_stable_decay falls to 0."
    )
    optimizer: Literal["adamw", "adafactor", "muon", "schedule_free", "adamw_8bit"] = Field(
        "adamw",
        description="adafactor: steps in proportion to each weight's size, little memory; muon: for the matrices "
        "inside the model, AdamW for the rest; schedule_free: AdamW with an average in place of a schedule; "
        "adamw_8bit: AdamW with moments in 8 bits.",
    )
    weight_decay: float = Field(0.0, ge=0, description="On matrices only: not on norms, biases and embeddings.")
    betas: tuple[float, float] = (0.9, 0.95)
    pull: float = Field(
        0.0,
        ge=0,
        description="Decay of all weights towards the base model's instead of towards 0; keeps what it knew. With "
        "AdamW no weight gets farther from its base than about 1 / pull.",
    )
    average: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="The model is a running average of the weights, which keeps this share of itself in a step.",
    )
    max_gradient_norm: float = Field(1.0, gt=0)
    loss: Loss = Loss()
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="bf16 computes in bfloat16 with fp32 master weights."
    )
    master_weights: bool = Field(
        True,
        description="Off, weights are bfloat16 alone, which saves 4 bytes a weight; they are rounded up or down by "
        "chance, right on average.",
    )
    sharding: Literal["none", "full", "hybrid"] = Field(
        "none",
        description="Of several ranks. none: each holds all weights, gradients and moments; full: each holds a share "
        "of them (FSDP2); hybrid: the ranks of one machine share them, and each machine has all.",
    )
    activation_checkpointing: bool = Field(
        False, description="Compute each layer again in the backward pass: less memory, about a third slower."
    )
    share_prefixes: bool = Field(
        True,
        description="Compute a beginning that prompts of a micro-batch have in common once; exact, in decoders without "
        "dropout.",
    )
    compile: bool = Field(
        True, description="Compile the layers (torch.compile); off saves half a minute on short runs."
    )
    checkpoint_every: int = Field(200, ge=0, description="Steps between checkpoints; 0: only when interrupted.")
    stop_when_exploding: bool = Field(
        True,
        description="Whether a loss that is far above what its tasks' losses were, for eight steps in a row, ends the "
        "run; its newest checkpoint is from before them.",
    )
    keep_checkpoints: int = Field(
        2, ge=1, description="How many of the newest checkpoints stay; should one be damaged, the one before is used."
    )

    @field_validator("precision", mode="before")
    @classmethod
    def _wide_enough(cls, precision: Any) -> Any:
        if precision in ("fp16", "float16", "half"):
            raise ValueError(
                "float16 has no room for the activations of T5 (above 65,504), and small gradients vanish in it; "
                "choose bf16, which takes as much memory, or fp32"
            )
        return precision

    @model_validator(mode="after")
    def _combinable(self) -> Training:
        if self.schedule == "inverse_square_root" and not self.warmup:
            raise WrongAt(["warmup"], "inverse_square_root falls from the end of the warm-up; give a share above 0")
        if self.schedule == "warmup_stable_decay" and self.warmup + self.cooldown > 1:
            raise WrongAt(["cooldown"], f"must be at most 1 - warmup, which is {1 - self.warmup:g}")
        if self.optimizer == "schedule_free" and self.schedule != "constant":
            raise WrongAt(["schedule"], "schedule_free takes the place of a schedule; set `schedule: constant`")
        if self.optimizer == "schedule_free" and self.average is not None:
            raise WrongAt(["average"], "schedule_free averages the weights itself; remove `average`")
        if not self.master_weights and self.precision == "fp32":
            raise WrongAt(["master_weights"], "weights in fp32 need no copy; remove it, or set `precision: bf16`")
        if self.sharding != "none" and self.optimizer not in SHARDED_OPTIMIZERS:
            remedy = f"choose {' or '.join(SHARDED_OPTIMIZERS)}, or set `sharding: none`"
            raise WrongAt(
                ["optimizer"], f"what {self.optimizer} remembers of a weight cannot be cut in parts; {remedy}"
            )
        if self.sharding != "none" and not self.master_weights:
            raise WrongAt(["master_weights"], "sharded weights are masters; remove it, or set `sharding: none`")
        if not self.master_weights and self.optimizer == "schedule_free":
            raise WrongAt(["master_weights"], "schedule_free needs them; remove it, or choose another optimizer")
        return self


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
    """A whole run: model, tasks, mixture, ledger, training, validation, evaluation, loggers, output."""

    name: Annotated[str, AfterValidator(_run_name)] = "run"
    seed: int = Field(0, ge=0)
    model: Annotated[ModelChoice, named("name", ModelChoice)] = ModelChoice()
    tasks: tuple[Entry, ...] = Field(min_length=1, description="Tasks to train on, and mixtures of tasks.")
    unseen: tuple[NamedTask, ...] = Field(
        (), description="Tasks that are only evaluated: not trained on, and abilities to keep."
    )
    variables: dict[str, str] = Field({}, description="Values for ${NAME} in the paths of task files.")
    allow_code: bool = Field(
        False,
        description="Whether Python functions that task files name (the transform `python`, metrics of your own) may "
        "run, and, shut in, what a model writes (the metric `code_passes`).",
    )
    code_folder: str | None = Field(
        None,
        description="Where modules of metrics of your own (`module:function`) lie, beside the folders of the task "
        "files; by default beside the recipe.",
    )
    mixture: Mixture = Mixture()
    ledger: Ledger = Ledger()
    adapter: Adapter = Adapter()
    training: Training = Training()
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = Field(
        (), description="Trackers that are told of the run, each with its own package; beside the run's own files."
    )
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

    def trained_in(self, phase: int, names: Sequence[str]) -> tuple[Placed, ...]:
        """The same, asked as a phase says, which calls the tasks by these names."""
        return placed_tasks(self.tasks, self.mixture, self.mixture.phases[phase], names)

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
            for key in UNSEEN_WITHOUT:
                if getattr(choice, key) is not None:
                    raise WrongAt(["unseen", number, key], f"{choice.task} is not trained on; remove `{key}`")
        if self.validation.every and self.validation.split in (TRAINED_SPLIT, self.evaluation.split):
            use = "trained on" if self.validation.split == TRAINED_SPLIT else "what base and tuned are compared on"
            raise WrongAt(
                ["validation", "split"], f'the split "{self.validation.split}" is {use}; choose one that is not'
            )
        if self.validation.every and self.training.sharding != "none":
            raise WrongAt(
                ["training", "sharding"],
                "a model in parts answers no questions while it trains; set `sharding: none`, or validation.every to 0",
            )
        if self.training.pull and self.adapter.method != "none":
            raise WrongAt(
                ["training", "pull"],
                "an adapter leaves the base as it is, and is pulled to nothing by `weight_decay`; remove `pull`",
            )
        if self.training.sharding != "none" and self.adapter.method == "qlora":
            raise WrongAt(
                ["training", "sharding"], "a base in 4 bits is not cut in parts; choose lora, or set `sharding: none`"
            )
        if self.training.activation_checkpointing and self.adapter.method == "prefix_tuning":
            raise WrongAt(
                ["training", "activation_checkpointing"],
                "layers that are computed again see no learned prefix; remove it, or choose prompt_tuning",
            )
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
    "optim": "training.optimizer",
    "gradient_checkpointing": "training.activation_checkpointing",
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
    "report_to": "loggers",
    "eval_steps": "validation.every",
    "early_stopping_patience": "validation.patience",
    "metric_for_best_model": "validation.best",
    "load_best_model_at_end": "validation.model",
}
