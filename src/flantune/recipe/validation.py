"""The part of a recipe that says how a run is looked at while it trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flantune.recipe.yaml_file import Strict


class Validation(Strict):
    """Losses and scores while training, on rows that are neither trained on nor compared on, and what they decide."""

    every: int = Field(0, ge=0, description="Steps between validations; one more comes at the end. 0: none.")
    split: str = Field(
        "validation",
        description="Where the rows come from: neither the training split nor that of the final comparison. A trained "
        "task without this split is not validated.",
    )
    rows: int = Field(32, ge=1, description="Rows a task, chosen by seed from the split; the same each time.")
    metrics: bool = Field(
        True, description="Whether answers are generated and scored by each task's metrics; off, there are losses only."
    )
    best: Literal["average", "worst", "loss"] = Field(
        "average",
        description="What makes one validation better than another. average: the mean over tasks of their main "
        "metrics, put on one scale; worst: the lowest of these; loss: the mean over tasks of their losses. With "
        "`metrics: false` average and worst are those of the losses.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="So many validations in a row without a new best stop the training; by default none do.",
    )
    model: Literal["best", "last"] = Field(
        "best", description="Which weights become the model: those of the best validation, or the last ones."
    )
