"""The part of a recipe that says what models are compared on, and how they answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flantune.recipe.yaml_file import Strict


class Sampling(Strict):
    """How written answers are drawn, where the likeliest token each time is not what is wanted."""

    temperature: float = Field(1.0, gt=0, le=100, description="What the logits are divided by.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Tokens are drawn among the likeliest that together reach this probability."
    )
    repeats: int = Field(1, ge=1, le=1000, description="Answers to each question; those of one row count as one pair.")
    seed: int | None = Field(None, ge=0, description="Of the draws; the recipe's by default.")


class Evaluation(Strict):
    """What base and tuned model are compared on."""

    rows: int = Field(60, ge=2, description="Rows a task, chosen by seed from the split.")
    split: str = "test"
    templates: Literal["all", "seen", "held_out", "each"] = Field(
        "all",
        description="Phrasings used: those trained on and held-out ones in turn, only one kind, or each: every row in "
        "all of them, which takes as many times longer and tells how much scores depend on the phrasing.",
    )
    exemplars: int = Field(
        0,
        ge=0,
        le=64,
        description="Solved rows that stand before each question: of the training split, else of "
        "another than the one evaluated; a task without such a split is asked without.",
    )
    sampling: Sampling | None = Field(
        None, description="Written answers are sampled; by default they are greedy, the likeliest token each time."
    )
    few_shot_baseline: int = Field(
        0,
        ge=0,
        le=64,
        description="Solved rows, as of `exemplars`, behind which the base is asked the same questions once more, as a "
        "baseline; as many as fit the model. 0: none, since it takes time.",
    )
    both_scorers: bool = Field(
        False,
        description="Whether tasks with answer_choices are answered both in writing and by the likeliest choice, and "
        "the gap is shown; the verdict is by the task's own `evaluate_by`.",
    )
    plain_text: bool | str = Field(
        True,
        description="Text whose likelihood is compared, to see what was forgotten: true for the package's 60 short "
        "paragraphs of English, the path of a text file of your own, or false for none.",
    )
    batch_tokens: int = Field(8192, ge=64, description="Prompt tokens computed at once.")
    resamples: int = Field(9999, ge=99, description="Bootstrap resamples and random flips.")
    margin: float | None = Field(
        None, gt=0, description="Differences of 0-100 scores inside +-margin may be called equivalent."
    )
