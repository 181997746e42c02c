"""The fields of a recipe that say what is mixed and how: tasks, mixtures inside, rates, phases, replay."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from flantune.recipe.yaml_file import Strict, WrongAt

Rates = Literal["proportional", "temperature", "equal", "explicit"]
Unit = Literal["examples", "target_tokens", "tokens"]
ASKED = ("inverted", "options", "few_shot")  # how a task's rows are asked
REPLAY = "replay"  # the name of the mixture that `replay` stands for


def named(key: str, kind: Any) -> BeforeValidator:
    """A bare string stands for an object with only its first field."""
    return BeforeValidator(
        lambda value: {key: value} if isinstance(value, str) else value,
        json_schema_input_type=kind | Annotated[str, Field(min_length=1)],
    )


class FewShot(Strict):
    """How many draws show solved examples before the question, and how many."""

    share: float = Field(0.0, ge=0, le=1, description="Share of draws that ask for exemplars.")
    exemplars: dict[Annotated[int, Field(ge=0, le=64)], Annotated[float, Field(gt=0)]] = Field(
        {1: 1, 2: 1, 3: 1, 5: 1},
        min_length=1,
        description="Number of exemplars to its weight. What does not fit is left out, the last exemplar first.",
    )


RATIO = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?: ?([0-9]+(?:\.[0-9]+)?)")


def _share_or_ratio(value: Any) -> Any:
    """Whether a value is a share, or two numbers with a colon between them."""
    ratio = RATIO.fullmatch(value) if isinstance(value, str) else None
    if value is None or (ratio and any(map(float, ratio.groups()))):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError("a share from 0 to 1 is wanted, or a ratio such as 0.3:1")


ShareOrRatio = Annotated[float | str, BeforeValidator(_share_or_ratio)]


def _weight_or_share(weight: float, share: float | None) -> None:
    if share is not None and weight != 1:
        raise WrongAt(["weight"], f"does nothing beside the fixed share of {share:g}; leave out one of them")


def _floor_below_cap(floor: int | None, cap: int | None) -> None:
    if floor is not None and cap is not None and floor > cap:
        raise WrongAt(["floor"], f"must be at most `cap`, which is {cap}, not {floor}")


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
        description="Fixed share of all draws (inside a mixture: of its draws); the tasks without one divide the rest "
        "by `rates`.",
    )
    weight: float = Field(1.0, gt=0, description="Factor on what `rates` gives it, after cap, floor and temperature.")
    cap: int | None = Field(
        None, ge=1, description="As `mixture.cap`, for this task; goes before the mixture's `floor`."
    )
    floor: int | None = Field(
        None, ge=1, description="As `mixture.floor`, for this task; goes before the mixture's `cap`."
    )
    max_epochs: float | None = Field(None, gt=0, description="As `mixture.max_epochs`, for this task.")
    loss_weight: float = Field(1.0, gt=0, description="Factor on the loss of each example of this task.")
    train_rows: int | None = Field(None, ge=1, description="Use only this many training rows, chosen by seed.")
    templates: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the training templates that are used, or patterns such as `short*`; the others count as "
        "held out. All by default.",
    )
    inverted: ShareOrRatio | None = Field(None, description="As `mixture.inverted`, for this task.")
    options: float | None = Field(None, ge=0, le=1, description="As `mixture.options`, for this task.")
    few_shot: FewShot | None = Field(None, description="As `mixture.few_shot`, for this task.")

    @model_validator(mode="after")
    def _consistent(self) -> TaskChoice:
        _floor_below_cap(self.floor, self.cap)
        _weight_or_share(self.weight, self.share)
        return self


NamedTask = Annotated[TaskChoice, named("task", TaskChoice)]


class MixtureChoice(Strict):
    """A mixture inside a mixture: to the one around it, it is one task with all rows that its tasks count as."""

    mixture: str = Field(min_length=1, description="Its name, unlike that of any other mixture or task.")
    tasks: tuple[Entry, ...] = Field(min_length=1, description="Tasks, and mixtures again.")
    share: float | None = Field(None, gt=0, lt=1, description="Fixed share of the draws of the mixture around it.")
    weight: float = Field(1.0, gt=0, description="Factor on what the `rates` of the mixture around it give it.")
    rates: Rates = Field("proportional", description="As `mixture.rates`, for what is in it.")
    cap: int | None = Field(None, ge=1, description="As `mixture.cap`, for each task in it.")
    floor: int | None = Field(None, ge=1, description="As `mixture.floor`, for each task in it.")
    temperature: float = Field(2.0, ge=1, description="As `mixture.temperature`, for what is in it.")
    share_of: Unit | None = Field(None, description="As `mixture.share_of`; by default as the mixture around it.")
    inverted: ShareOrRatio | None = Field(None, description="As `mixture.inverted`, for what is in it.")
    options: float | None = Field(None, ge=0, le=1, description="As `mixture.options`, for what is in it.")
    few_shot: FewShot | None = Field(None, description="As `mixture.few_shot`, for what is in it.")

    @model_validator(mode="after")
    def _consistent(self) -> MixtureChoice:
        _floor_below_cap(self.floor, self.cap)
        _weight_or_share(self.weight, self.share)
        check_shares(self.tasks)
        return self


def _kind_of_entry(value: Any) -> str:
    is_mixture = isinstance(value, MixtureChoice) or (isinstance(value, dict) and "mixture" in value)
    return "MixtureChoice" if is_mixture else "TaskChoice"


Entry = Annotated[
    Annotated[NamedTask, Tag("TaskChoice")] | Annotated[MixtureChoice, Tag("MixtureChoice")],
    Discriminator(_kind_of_entry),
]
MixtureChoice.model_rebuild()


def check_shares(tasks: Sequence[TaskChoice | MixtureChoice], taken: float = 0.0) -> None:
    """Whether the fixed shares of one mixture leave room for its other tasks, or fill it where there are none.

    Args:
        tasks: What is in it.
        taken: Share that is fixed for something beside these.
    """
    total = taken + sum(choice.share or 0.0 for choice in tasks)
    free = [entry_name(choice) for choice in tasks if choice.share is None]
    if free and total >= 1:
        raise WrongAt(
            ["tasks"], f"the fixed shares sum to {total:g} and leave nothing for {free[0]}; make them smaller"
        )
    if not free and abs(total - 1) > 1e-9:
        raise WrongAt(["tasks"], f"each has a fixed share and they sum to {total:g}, not 1; leave out one of them")


def entry_name(entry: TaskChoice | MixtureChoice) -> str:
    """What a recipe calls an entry of `tasks`."""
    return entry.mixture if isinstance(entry, MixtureChoice) else entry.task


class Replay(Strict):
    """General tasks mixed back in, so that the model does not forget what it could do."""

    share: float = Field(gt=0, lt=1, description="Their share of all draws.")
    tasks: tuple[NamedTask, ...] = Field(
        (TaskChoice(task="starter/instructions"),),
        min_length=1,
        description="Which tasks; they divide the share in proportion to their rows.",
        json_schema_extra={"default": ["starter/instructions"]},
    )


def _share_alone(value: Any) -> Any:
    return {"share": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class PartChange(Strict):
    """What is other in a phase for one task or mixture."""

    share: float | None = Field(None, ge=0, lt=1, description="Its fixed share; 0 takes it out.")
    weight: float | None = Field(None, gt=0, description="Its weight.")
    cap: int | None = Field(None, ge=1, description="The cap of a task, or for each task of a mixture.")
    floor: int | None = Field(None, ge=1, description="The floor of a task, or for each task of a mixture.")
    rates: Rates | None = Field(None, description="The rule of a mixture.")
    temperature: float | None = Field(None, ge=1, description="The temperature of a mixture.")
    inverted: ShareOrRatio | None = Field(None, description="Its `inverted`.")
    options: float | None = Field(None, ge=0, le=1, description="Its `options`.")
    few_shot: FewShot | None = Field(None, description="Its `few_shot`.")


class Phase(Strict):
    """Other rates or ways to ask from a draw on. What it leaves out is as in `mixture` and `tasks`, not as before."""

    from_draw: int | None = Field(None, ge=1, description="Its first draw; the first one of a run is 0.")
    from_share: float | None = Field(None, gt=0, lt=1, description="Or: how much of the run comes before it.")
    rates: Rates | None = Field(None, description="Instead of `mixture.rates`.")
    cap: int | None = Field(None, ge=1, description="Instead of `mixture.cap`.")
    floor: int | None = Field(None, ge=1, description="Instead of `mixture.floor`.")
    temperature: float | None = Field(None, ge=1, description="Instead of `mixture.temperature`.")
    inverted: ShareOrRatio | None = Field(None, description="Instead of `mixture.inverted`.")
    options: float | None = Field(None, ge=0, le=1, description="Instead of `mixture.options`.")
    few_shot: FewShot | None = Field(None, description="Instead of `mixture.few_shot`.")
    tasks: dict[str, PartChange] = Field({}, description="What is other, by the name of a task or mixture inside.")

    @model_validator(mode="after")
    def _consistent(self) -> Phase:
        if (self.from_draw is None) == (self.from_share is None):
            raise WrongAt([], "a phase begins at `from_draw` or at `from_share`; give one of them")
        return self


class Mixture(Strict):
    """How often each task is drawn, and how draws are packed."""

    rates: Rates = Field(
        "proportional",
        description="Rule for a task's rate: by the rows it counts as (up to cap, from floor), tempered, equal, or by "
        "its weight alone. Its weight is a factor under each of them.",
    )
    cap: int | None = Field(
        None, ge=1, description="A task counts as at most this many rows (proportional, temperature)."
    )
    floor: int | None = Field(
        None,
        ge=1,
        description="A task counts as at least this many rows: one that has fewer repeats them (proportional, "
        "temperature).",
    )
    temperature: float = Field(2.0, ge=1, description="rate ~ (rows counted) ** (1 / temperature).")
    share_of: Unit = Field(
        "examples",
        description="What rates and shares are shares of: draws (examples), target tokens, or all tokens. A share of "
        "tokens is divided by the mean length of the task's examples to make a rate in draws.",
    )
    max_epochs: float | None = Field(
        None,
        gt=0,
        description="A row comes at most this often; from there on the others of its mixture get the task's draws.",
    )
    replay: Annotated[Replay | None, BeforeValidator(_share_alone, json_schema_input_type=Replay | float | None)] = (
        Field(None, description="General tasks mixed back in, and their share; a bare number is the share.")
    )
    phases: tuple[Phase, ...] = Field(
        (), description="Other rates, or other ways to ask, from a draw on, in the order of the run."
    )
    inverted: ShareOrRatio | None = Field(
        None,
        description="Share of draws that ask in inverted templates, in tasks that have both kinds; or the ratio of "
        "inverted to straight ones, such as 0.3:1. By default as the weights of the templates say.",
    )
    options: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of draws that show the list of options, where a template has `{{ options }}`.",
    )
    few_shot: FewShot = FewShot()
    window: int = Field(512, ge=1, description="Draws that are rendered and packed together.")
    capacity: int = Field(
        1024, ge=16, description="Tokens a packed row holds; of an encoder-decoder: input tokens, beside the targets."
    )
    target_capacity: int | None = Field(
        None,
        ge=1,
        description="Target tokens a packed row of an encoder-decoder holds; by default what suits a sample: "
        "a little over the targets' share of the inputs, and no less than the longest.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Mixture:
        _floor_below_cap(self.floor, self.cap)
        return self


@dataclass(frozen=True)
class Placed:
    """A task of a recipe and where it stands.

    Attributes:
        choice: As the recipe gives it.
        location: Keys and list positions that lead to it in the recipe.
        inside: Name of the mixture around it; empty for the whole.
        inverted, options, few_shot: Its own, or that of the nearest mixture around it.
        max_epochs: Its own, or that of the whole.
    """

    choice: TaskChoice
    location: tuple[str | int, ...]
    inside: str
    inverted: float | str | None
    options: float
    few_shot: FewShot
    max_epochs: float | None


def placed_tasks(
    tasks: Sequence[TaskChoice | MixtureChoice], mixture: Mixture, phase: Phase | None = None, names: Sequence[str] = ()
) -> tuple[Placed, ...]:
    """All tasks that are trained on, those of mixtures inside and of `replay` too, as they stand in the recipe.

    Args:
        tasks: Entries of the recipe.
        mixture: What it says of the whole.
        phase: One that changes how they are asked.
        names: The tasks' names, by which the phase calls them, in the order of what is returned.
    """
    changes, left = (phase.tasks, iter(names)) if phase is not None else ({}, repeat(""))

    def placed(
        entries: Sequence[TaskChoice | MixtureChoice],
        at: tuple[str | int, ...],
        inside: str,
        usual: Mapping[str, Any],
    ) -> Iterator[Placed]:
        for number, entry in enumerate(entries):
            change = changes.get(entry.mixture if isinstance(entry, MixtureChoice) else next(left))
            own = _asked(usual, entry, change)
            location = (*at, number)
            if isinstance(entry, MixtureChoice):
                yield from placed(entry.tasks, (*location, "tasks"), entry.mixture, own)
            else:
                yield Placed(entry, location, inside, max_epochs=entry.max_epochs or mixture.max_epochs, **own)

    usual = _asked(dict.fromkeys(ASKED), mixture, phase)
    replayed = mixture.replay.tasks if mixture.replay is not None else ()
    return (
        *placed(tasks, ("tasks",), "", usual),
        *placed(replayed, ("mixture", "replay", "tasks"), REPLAY, _asked(usual, changes.get(REPLAY))),
    )


def _asked(usual: Mapping[str, Any], *said: Any) -> dict[str, Any]:
    """How something is asked: as the last of those says that says anything of it, else as usual."""
    own = dict(usual)
    for each in said:
        own |= {key: value for key in ASKED if (value := getattr(each, key, None)) is not None}
    return own


def inner_mixtures(tasks: Sequence[TaskChoice | MixtureChoice], around: str = "") -> list[tuple[str, MixtureChoice]]:
    """The mixtures inside, each with the name of the mixture around it."""
    found = list[tuple[str, MixtureChoice]]()
    for entry in tasks:
        if isinstance(entry, MixtureChoice):
            found += [(around, entry), *inner_mixtures(entry.tasks, entry.mixture)]
    return found


def with_replay(tasks: Sequence[TaskChoice | MixtureChoice], mixture: Mixture) -> list[TaskChoice | MixtureChoice]:
    """The entries of a recipe, and the mixture that `replay` stands for."""
    if mixture.replay is None:
        return list(tasks)
    return [*tasks, MixtureChoice(mixture=REPLAY, share=mixture.replay.share, tasks=mixture.replay.tasks)]
