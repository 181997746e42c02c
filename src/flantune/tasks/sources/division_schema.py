"""How the rows of one source become splits, and which of them are left out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from flantune.recipe.yaml_file import Strict, WrongAt

Count = Annotated[int, Field(ge=1)]


class SplitBy(Strict):
    """Splits that a field of the rows names."""

    field: str = Field(min_length=1)
    splits: dict[str, tuple[str, ...]] = Field(
        min_length=1,
        description="Split to the value, or the values, of the field, as text; rows of other values are left out.",
    )

    @field_validator("splits", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {split: found if isinstance(found, list | tuple) else (found,) for split, found in value.items()}
        return value

    @model_validator(mode="after")
    def _once(self) -> SplitBy:
        owners: dict[str, str] = {}
        for split, values in self.splits.items():
            for value in values:
                if owners.setdefault(value, split) != split:
                    raise WrongAt(["splits", split], f'"{value}" is of the split {owners[value]} already')
        return self


class Sample(Strict):
    """Fewer rows, chosen by a hash of their content: the same ones in whatever order they come."""

    by: str | None = Field(None, description="Field whose values are balanced, with `rows_each`.")
    rows_each: dict[str, Count] | None = Field(
        None, description="Rows of each value of `by`, by split; a value with fewer gives all it has."
    )
    rows: Count | dict[str, Count] | None = Field(None, description="Rows in all: of each split, or by split.")
    seed: int = Field(0, description="With `rows`: another seed chooses other rows.")

    @model_validator(mode="after")
    def _one_way(self) -> Sample:
        if (self.by is None) != (self.rows_each is None):
            missing, given = ("by", "rows_each") if self.by is None else ("rows_each", "by")
            raise WrongAt([given], f"needs `{missing}` beside it")
        if (self.rows is None) == (self.by is None):
            raise WrongAt([], "give either `by` and `rows_each`, or `rows`")
        if self.by is not None and "seed" in self.model_fields_set:
            raise WrongAt(["seed"], "belongs to `rows`; the rows of each value are fixed")
        return self

    def named_splits(self) -> tuple[str, ...]:
        """Splits that it names; none where it holds for all."""
        by_split = self.rows if self.rows_each is None else self.rows_each
        return tuple(by_split) if isinstance(by_split, dict) else ()

    def holds_for(self, split: str) -> bool:
        """Whether it leaves out rows of a split."""
        return isinstance(self.rows, int) or split in self.named_splits()
