"""The transforms that a source may declare, and what each of them takes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from flantune.recipe.yaml_file import Strict, WrongAt

Plain = str | int | float | bool | None


def _pattern(pattern: str) -> str:
    import regex

    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"not a valid pattern: {error}") from None
    return pattern


def expression(condition: str) -> str:
    """A Jinja text that renders to 1 where a condition over the row holds."""
    return "{{ 1 if (" + condition + ") else 0 }}"


def _expression(text: str) -> str:
    from flantune.tasks.jinja import check_syntax

    wrong = check_syntax(expression(text))
    if wrong is not None:
        raise ValueError(wrong)
    return text


def _function(path: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", path):
        raise ValueError("a function is named as package.module:function")
    return path


Text = Annotated[str, Field(min_length=1)]


class MapValues(Strict):
    """Other values for the values of a field."""

    field: Text
    values: dict[str, Plain] = Field(min_length=1, description="What a value, written as text, becomes.")
    otherwise: str | None = Field(
        None,
        alias="else",
        description="What a value that is not listed becomes; `keep` leaves it as it is. Without it, it is an error.",
    )


class StripSuffix(Strict):
    """The end of a text that is taken off where it stands."""

    field: Text
    suffix: Text


class StripPrefix(Strict):
    """The beginning of a text that is taken off where it stands."""

    field: Text
    prefix: Text


class Join(Strict):
    """Fields, or the items of one list field, as one text."""

    fields: tuple[Text, ...] = Field(min_length=1)
    between: str = Field(" ", alias="with", description="What stands between them.")
    into: Text


class Split(Strict):
    """A text as the list of its parts."""

    field: Text
    by: Text = Field(description="What stands between the parts.")
    into: Text | None = Field(None, description="Field for the list; by default the same field.")


class Regex(Strict):
    """What a pattern finds in a text: its first group; or the text with all that it finds replaced."""

    field: Text
    pattern: Annotated[Text, AfterValidator(_pattern)] = Field(description="As the package `regex` reads it.")
    into: Text | None = Field(None, description="Field for the result; by default the same field.")
    replace: str | None = Field(None, description=r"Stands for each match; \1 is its first group.")

    @model_validator(mode="after")
    def _finds_something(self) -> Regex:
        import regex

        compiled = regex.compile(self.pattern)
        if self.replace is None and compiled.groups == 0:
            raise WrongAt(["pattern"], "has no group; put round brackets around what is wanted, or give `replace`")
        try:
            regex.compile(self.pattern + "|").sub(self.replace or "", "")  # which finds something in any text
        except (regex.error, IndexError) as error:
            raise WrongAt(["replace"], f"not usable with this pattern: {error}") from None
        return self


class Cast(Strict):
    """A field as a value of another type."""

    field: Text
    to: Literal["int", "float", "text", "json", "bool"]


class ConversationTurns(Strict):
    """A field of chat turns becomes `history`, a list of [role, text], and `target`, the turn that is learned."""

    field: Text = "messages"
    targets: Literal["last", "all"] = Field(
        "last", description="Whether the last turn of the assistant is learned, or each one, as a row of its own."
    )
    system: Text | None = Field(None, description="Field whose text is said first, in the role system.")
    tools: Text | None = Field(None, description="Field with the tools that may be called, told in the role system.")


class Triple(Strict):
    """Rendered examples `[input, [output, ...], id]`: what the id tells becomes fields."""

    input: Text = "input"
    outputs: Text = "outputs"
    id: Text = "id"


class Group(Strict):
    """Rows that follow each other and agree in some fields as one row, such as several references of one input."""

    by: tuple[Text, ...] = Field(min_length=1, description="Fields in which the rows of a group agree.")
    into: dict[Text, Text] = Field(
        min_length=1, description="New list field to the field whose values it takes; other fields are the first row's."
    )


class Transform(Strict):
    """One change of each row; a mapping with one key."""

    rename: dict[Text, Text] | None = Field(None, min_length=1, description="Old name of a field to its new name.")
    map: MapValues | None = None
    strip_suffix: StripSuffix | None = None
    strip_prefix: StripPrefix | None = None
    join: Join | None = None
    split: Split | None = None
    regex: Regex | None = None
    cast: Cast | None = None
    explode: Text | None = Field(
        None,
        description="A list field: one row for each item; the fields of an item that is an object join the row, any "
        "other item keeps the field's name.",
    )
    unescape: Text | None = Field(None, description=r"A text field in which \n becomes a newline and \t a tab.")
    filter: Annotated[Text, AfterValidator(_expression)] | None = Field(
        None, description="Jinja expression over the row; rows for which it is false are left out."
    )
    conversation: ConversationTurns | None = None
    triple: Triple | None = None
    python: Annotated[Text, AfterValidator(_function)] | None = Field(
        None,
        description="`package.module:function` from a row to a row, a list of rows, or None; only where the recipe "
        "says `allow_code: true`.",
    )

    @model_validator(mode="after")
    def _one_key(self) -> Transform:
        given = sorted(self.model_fields_set)
        if len(given) != 1:
            told = f"these are {len(given)} ({', '.join(given)})" if given else "this is empty"
            raise WrongAt([], f"a transform has one key, such as {{rename: {{old: new}}}}; {told}")
        if getattr(self, given[0]) is None:
            raise WrongAt([given[0]], "is empty; say what it applies to")
        return self

    @property
    def chosen(self) -> tuple[str, Any]:
        """The name of the transform and what it takes."""
        name = next(iter(self.model_fields_set))
        return name, getattr(self, name)
