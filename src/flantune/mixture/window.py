"""A window: consecutive draws, rendered, tokenized and packed by themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from flantune.errors import FlantuneError
from flantune.mixture.draw import DrawFunction, Draws, MixedTask
from flantune.mixture.few_shot import Question, chosen_format, fitting, with_exemplars
from flantune.mixture.packing import pack, pack_pairs
from flantune.mixture.permutation import key_of, permuted
from flantune.mixture.rates import Rule, Unit, as_written
from flantune.mixture.schedule import Phase
from flantune.mixture.shape import Change, MixturePart, TaskPart, changed, filled, rated
from flantune.tasks.conversation import Conversation
from flantune.tasks.options import OptionStyle
from flantune.tasks.sources import Rows
from flantune.tasks.task import Asked, Example, Task
from flantune.tasks.template import EmptyText

Way = TypeVar("Way")
LossPer = Literal["token", "example", "square_root", "task"]
TARGET_TOO_LONG = "target longer than a packed row"
PROMPT_TOO_LONG = "prompt and target longer than a packed row"
LENGTH_POWER: dict[str, float] = {"token": 0.0, "square_root": 0.5, "example": 1.0, "task": 0.0}


class Encoder(Protocol):
    """Turns texts into token ids; the one renderer of training, evaluation and chat."""

    @property
    def paired(self) -> bool:
        """Whether the model reads input and target apart, as an encoder-decoder does."""

    def prompt_ids(self, text: str) -> list[int]:
        """Ids of everything before the answer."""

    def ids_of_all(self, prompts: Sequence[str], targets: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """For many examples: ids of everything before the answer, and of the answer with its end token."""

    def fingerprint(self) -> str:
        """Changes whenever the ids for some text may change."""


@dataclass(frozen=True)
class Member:
    """A task with its training rows and its part in the mixture.

    Attributes:
        share: Fixed share of the mixture that it is part of.
        weight: Factor on what the rule of that mixture gives.
        cap: As how many rows it counts at most, instead of what the mixture says.
        floor: As how many rows it counts at least, instead of what the mixture says.
        max_epochs: How often a row comes at most; from there on the others get its draws.
        inside: Name of the mixture that it is part of; empty for the whole.
        lengths: Mean length of an example, where shares of tokens are asked for.
        inverted: Share of draws in inverted templates, or their ratio to the straight ones (`0.3:1`); None: by weight.
        options: Share of draws that show the list of options, where a template has a place for it.
        few_shot: Share of draws that ask for exemplars.
        exemplars: Number of exemplars to its weight, among those draws.
        later: Draws from which on it is asked otherwise, in order, each with the member as it is then.
    """

    task: Task
    rows: Rows
    share: float | None = None
    weight: float = 1.0
    loss_weight: float = 1.0
    cap: int | None = None
    floor: int | None = None
    max_epochs: float | None = None
    inside: str = ""
    lengths: Mapping[Unit, Fraction] = field(default_factory=dict)
    inverted: float | str | None = None
    options: float = 1.0
    few_shot: float = 0.0
    exemplars: Mapping[int, float] = field(default_factory=dict)
    later: tuple[tuple[int, Member], ...] = ()


@dataclass(frozen=True)
class MixtureRule:
    """How members are mixed and packed.

    Attributes:
        capacity: Tokens of a packed row; of its inputs alone in an encoder-decoder row.
        target_capacity: Tokens of an encoder-decoder row's targets; None where input and target stand in one sequence.
        mixtures: Mixtures inside, without their members, by the name of the mixture that each is part of.
        phases: Draws from which on some values are others, by name of task or mixture; the whole has an empty name.
    """

    rates: Rule
    cap: int | None
    temperature: float
    window: int
    capacity: int
    per: LossPer
    seed: int
    floor: int | None = None
    share_of: Unit = "examples"
    target_capacity: int | None = None
    mixtures: tuple[tuple[str, MixturePart], ...] = ()
    phases: tuple[tuple[int, Mapping[str, Change]], ...] = ()


@dataclass(frozen=True)
class Segment:
    """One example of a packed row.

    Attributes:
        draw: Draw number.
        task: Index of the task in the mixture.
        row: Row of the task's training rows.
        template: Index among the task's training templates.
        options: Index among the member's `option_ways`.
        exemplars: Number of exemplars that the prompt shows.
        cut: Tokens that the prompt gave way by, to fit; 0 where it is whole.
        input_ids: Prompt tokens.
        target_ids: Target tokens, the end token last.
        loss_weight: Factor of each target token's loss.
    """

    draw: int
    task: int
    row: int
    template: int
    options: int
    exemplars: int
    cut: int
    input_ids: list[int]
    target_ids: list[int]
    loss_weight: float

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.input_ids) + len(self.target_ids)


PackedRow = list[Segment]


def shape_of(members: Sequence[Member], rule: MixtureRule) -> MixturePart:
    """The mixture as a whole: its members in the mixtures that they are part of."""
    tasks = [
        (it.inside, TaskPart(it.task.name, len(it.rows), it.share, it.weight, it.cap, it.floor, it.lengths))
        for it in members
    ]
    return shape_from(tasks, rule)


def shape_from(tasks: Sequence[tuple[str, TaskPart]], rule: MixtureRule) -> MixturePart:
    """The mixture as a whole, from what its rates depend on: each task with the name of the mixture around it."""
    whole = MixturePart(
        "", (), rates=rule.rates, cap=rule.cap, floor=rule.floor, temperature=rule.temperature, share_of=rule.share_of
    )
    return filled(whole, [*tasks, *rule.mixtures])


def phases_of(members: Sequence[Member], rule: MixtureRule) -> list[Phase]:
    """The exact rates of each phase of a run.

    Raises:
        FlantuneError: A phase changes what is not there, or leaves nothing to draw from.
    """
    whole = shape_of(members, rule)
    phases = [Phase(0, rated(whole))]
    for number, (start, changes) in enumerate(rule.phases):
        try:
            phases.append(Phase(start, rated(changed(whole, changes))))
        except FlantuneError as error:
            raise FlantuneError(error.message, f"mixture.phases.{number}") from None
    return phases


def exact_rates(members: Sequence[Member], rule: MixtureRule) -> list[Fraction]:
    """The exact share of draws of each member as the run begins."""
    shares = rated(shape_of(members, rule)).tasks()
    return [shares[member.task.name] for member in members]


def planned_shares(members: Sequence[Member], rule: MixtureRule, draws: int) -> list[Fraction]:
    """The share of the first `draws` draws that each member gets: its exact rate, where that stays the same."""
    function = draw_function(members, rule)
    if function.schedule.upto(draws)[0].end >= draws:
        return exact_rates(members, rule)
    return [Fraction(count, draws) for count in function.schedule.counts(draws).tolist()]


def template_shares(member: Member) -> list[Fraction]:
    """The share of a member's draws that each of its training templates gets."""
    weights = [as_written(template.weight) for template in member.task.training_templates]
    inverted = [template.inverted for template in member.task.training_templates]
    if member.inverted is not None and len(set(inverted)) == 2:
        turned = as_written(member.inverted)
        totals = {kind: sum(w for w, it in zip(weights, inverted, strict=True) if it is kind) for kind in (True, False)}
        parts = {True: turned / totals[True], False: (1 - turned) / totals[False]}
        return [weight * parts[kind] for weight, kind in zip(weights, inverted, strict=True)]
    return [weight / sum(weights) for weight in weights]


def option_ways(member: Member) -> list[tuple[OptionStyle | None, Fraction]]:
    """The ways in which a member's options are written, each with its share; None leaves them out.

    A way that comes in a later phase only is among them, with a share of 0.
    """
    return _with_later(member, _option_shares)


def _option_shares(member: Member) -> list[tuple[OptionStyle | None, Fraction]]:
    if not any(template.uses_options for template in member.task.training_templates):
        return [(None, Fraction(1))]
    shown, styles = as_written(member.options), member.task.styles
    ways: list[tuple[OptionStyle | None, Fraction]] = [(None, 1 - shown)]
    return ways + [(style, shown / len(styles)) for style in styles]


def exemplar_counts(member: Member) -> list[tuple[int, Fraction]]:
    """Numbers of exemplars that a member's prompts ask for, each with its share, as `option_ways`."""
    return _with_later(member, _exemplar_shares)


def _exemplar_shares(member: Member) -> list[tuple[int, Fraction]]:
    share = as_written(member.few_shot)
    weights = {count: as_written(weight) for count, weight in member.exemplars.items()}
    return [(0, 1 - share)] + [(count, share * w / sum(weights.values())) for count, w in weights.items()]


def _with_later(member: Member, shares: Callable[[Member], list[tuple[Way, Fraction]]]) -> list[tuple[Way, Fraction]]:
    """Ways with their shares, without those that never come."""
    begin = _summed(shares(member))
    later = [_summed(shares(then)) for _, then in member.later]
    ways = dict.fromkeys(way for each in (begin, *later) for way, share in each.items() if share)
    return [(way, begin.get(way, Fraction(0))) for way in ways]


def _summed(ways: Sequence[tuple[Way, Fraction]]) -> dict[Way, Fraction]:
    total = defaultdict[Way, Fraction](Fraction)
    for way, share in ways:
        total[way] += share
    return total


def draw_function(members: Sequence[Member], rule: MixtureRule) -> DrawFunction:
    """The draw function of a mixture."""
    starts = sorted({start for member in members for start, _ in member.later})
    asked = [(start, [mixed_task(member, start) for member in members]) for start in starts]
    return DrawFunction([mixed_task(member) for member in members], phases_of(members, rule), rule.seed, asked)


def mixed_task(member: Member, draw: int = 0) -> MixedTask:
    """What the draw function knows of a member, asked as it is at a draw."""
    then = ([member] + [later for start, later in member.later if start <= draw])[-1]
    options, counts = _summed(_option_shares(then)), _summed(_exemplar_shares(then))
    return MixedTask(
        member.task.name,
        len(member.rows),
        tuple(template_shares(then)),
        option_weights=tuple(options.get(way, Fraction(0)) for way, _ in option_ways(member)),
        shot_weights=tuple(counts.get(count, Fraction(0)) for count, _ in exemplar_counts(member)),
        max_epochs=None if member.max_epochs is None else as_written(member.max_epochs),
    )


def by_task(segments: Sequence[Segment]) -> list[Segment]:
    """The segments with weights by which each task counts by its number of segments, its target tokens all alike."""
    examples, tokens = Counter[int](), Counter[int]()
    for segment in segments:
        examples[segment.task] += 1
        tokens[segment.task] += len(segment.target_ids)
    return [replace(s, loss_weight=s.loss_weight * examples[s.task] / tokens[s.task]) for s in segments]


@dataclass(frozen=True)
class _Example:
    """A draw on its way to a segment."""

    number: int
    task: int
    row: int
    template: int
    options: int
    asked: Asked
    question: Question


class WindowBuilder:
    """Renders, tokenizes and packs one window of draws by itself, so windows can be made in any order.

    Args:
        members: The mixture's tasks with their rows.
        rule: Rates, window, capacity, loss.
        encoder: Tokenizer with the model's prompt format.
    """

    def __init__(self, members: Sequence[Member], rule: MixtureRule, encoder: Encoder) -> None:
        self.members, self.rule, self.encoder = list(members), rule, encoder
        self.function = draw_function(members, rule)
        self._ways = [[style for style, _ in option_ways(member)] for member in members]
        self._counts = [[count for count, _ in exemplar_counts(member)] for member in members]

    def window(self, number: int, draws: int) -> tuple[list[PackedRow], list[dict[str, Any]]]:
        """Packed rows of window `number`, in training order, and what was dropped and why.

        Args:
            number: Window number from 0.
            draws: Draws of the whole run; the last window may hold fewer than the others.
        Raises:
            FlantuneError: A row that cannot be rendered; the first one of the window.
        """
        start = number * self.rule.window
        drawn = self.function.draws(np.arange(start, min(start + self.rule.window, draws)))
        segments, dropped = [], []
        for example, made in self._made(drawn):
            if isinstance(made, Segment):
                segments.append(made)
            else:
                dropped.append({"draw": example.number, "task": example.task, "row": example.row, "reason": made})
        if self.rule.per == "task":
            segments = by_task(segments)
        rows = [[segments[i] for i in row] for row in self._packed(segments)]
        if not rows:
            return [], dropped
        order = permuted(np.arange(len(rows)), len(rows), key_of(self.rule.seed, "window", number))
        return [rows[int(i)] for i in order], dropped

    def _made(self, drawn: Draws) -> Iterator[tuple[_Example, Segment | str]]:
        """Each draw with its segment, or with the reason why it is dropped."""
        examples = [self._example(drawn, i) for i in range(len(drawn.numbers))]
        rendered, prompts, shown = self._prompts(examples)
        whole = [i for i, it in enumerate(rendered) if isinstance(it, tuple)]
        ids = self.encoder.ids_of_all([prompts[i] for i in whole], [rendered[i][1] for i in whole])  # type: ignore[index]
        encoded = dict(zip(whole, ids, strict=True))
        for i, example in enumerate(examples):
            if i in encoded:
                yield example, self._segment(example, rendered[i], shown[i], *encoded[i])  # type: ignore[arg-type]
            else:
                yield example, "renders an empty input or target"

    def _example(self, drawn: Draws, i: int) -> _Example:
        task, row, template = int(drawn.tasks[i]), int(drawn.rows[i]), int(drawn.templates[i])
        options, epoch = int(drawn.options[i]), int(drawn.epochs[i])
        member = self.members[task]
        chosen = member.task.training_templates[template]
        shuffle = member.task.spec.options.shuffle
        wanted = self._counts[task][int(drawn.shots[i])] if chosen.takes_exemplars else 0
        key = key_of(self.rule.seed, "asked", member.task.name, row, epoch) if wanted or shuffle else 0
        asked = Asked(
            chosen, member.rows[row], member.rows.place(row), self._ways[task][options], key if shuffle else None
        )
        return _Example(int(drawn.numbers[i]), task, row, template, options, asked, Question(asked, row, wanted, key))

    def _prompts(
        self, examples: Sequence[_Example]
    ) -> tuple[list[Example | FlantuneError], list[str], list[list[Example]]]:
        """What each example renders to, its prompt, and the exemplars that the prompt shows.

        Raises:
            FlantuneError: The first row that cannot be rendered, unless it renders to nothing in a task that allows it.
        """
        rendered: list[Any] = [None] * len(examples)
        prompts, shown = [""] * len(examples), [list[Example]() for _ in examples]
        for task in sorted({example.task for example in examples}):
            here = [i for i, example in enumerate(examples) if example.task == task]
            member = self.members[task]
            found = member.task.render_all([examples[i].asked for i in here])
            solved = with_exemplars(member.task, member.rows, [examples[i].question for i in here], found)
            for i, example, exemplars in zip(here, found, solved, strict=True):
                rendered[i], shown[i] = example, exemplars
        for i, example in enumerate(rendered):
            allowed = self.members[examples[i].task].task.spec.empty == "skip"
            if isinstance(example, FlantuneError) and not (allowed and isinstance(example, EmptyText)):
                raise example
            if isinstance(example, tuple):
                prompts[i] = self._prompt(examples[i], example[0], shown[i])
        return rendered, prompts, shown

    def _prompt(self, example: _Example, question: str, exemplars: Sequence[Example]) -> str:
        task = self.members[example.task].task
        return chosen_format(task, example.question.key).prompt(exemplars, question) if exemplars else question

    def _segment(
        self, example: _Example, rendered: Example, shown: Sequence[Example], inputs: list[int], targets: list[int]
    ) -> Segment | str:
        """The example, or the reason why it is dropped. Exemplars give way first, then the field that may."""
        room, kept, whole = self._room(len(targets)), len(shown), len(inputs)
        if room < 1:
            return TARGET_TOO_LONG
        member = self.members[example.task]
        if len(inputs) > room and kept:
            prompt, kept = fitting(
                chosen_format(member.task, example.question.key), shown[:-1], rendered[0],
                lambda text: len(self.encoder.prompt_ids(text)) <= room,
            )  # fmt: skip
            inputs = self.encoder.prompt_ids(prompt)
        if len(inputs) > room:
            inputs = self._shortened(member.task, example.asked, rendered[0], room) or inputs
        if len(inputs) > room:
            return PROMPT_TOO_LONG
        weight = member.loss_weight * len(targets) ** -LENGTH_POWER[self.rule.per]
        at = example.number, example.task, example.row, example.template, example.options, kept
        return Segment(*at, whole - len(inputs), inputs, targets, weight)

    def _room(self, targets: int) -> int:
        """Tokens that a prompt may have beside so many of its target; none where the target itself is too long."""
        if self.rule.target_capacity is None:
            return self.rule.capacity - targets
        return self.rule.capacity if targets <= self.rule.target_capacity else 0

    def _packed(self, segments: Sequence[Segment]) -> list[list[int]]:
        """Numbers of the segments of each row."""
        if self.rule.target_capacity is None:
            return pack([s.length for s in segments], self.rule.capacity)
        inputs, targets = [len(s.input_ids) for s in segments], [len(s.target_ids) for s in segments]
        return pack_pairs(inputs, targets, self.rule.capacity, self.rule.target_capacity)

    def _shortened(self, task: Task, asked: Asked, prompt: str, room: int) -> list[int] | None:
        """The prompt with as much as fits of what gives way: a conversation's first turns, or the end of a field."""
        if isinstance(prompt, Conversation):
            return self._later_turns(prompt, room)
        values, name = asked.row, task.spec.shorten
        if name is None or asked.template.inverted or not isinstance(values.get(name), str):
            return None
        low, high, best = 0, len(values[name]), None
        while low < high:  # bisection over its characters
            middle = (low + high + 1) // 2
            cut = asked._replace(row={**values, name: values[name][:middle]})
            given = task.render_all([cut])[0]
            if isinstance(given, FlantuneError):  # the whole row renders, so too little is left: only white space, say
                low = middle
                continue
            ids = self.encoder.prompt_ids(given[0])
            low, high, best = (middle, high, ids) if len(ids) <= room else (low, middle - 1, best)
        return best

    def _later_turns(self, conversation: Conversation, room: int) -> list[int] | None:
        """From a user's turn on, the system's text before it: no answer without its question."""
        system = [turn for turn in conversation.turns[:1] if turn[0] == "system"]
        for start in range(len(system) + 1, len(conversation.turns)):
            if conversation.turns[start][0] == "user":
                ids = self.encoder.prompt_ids(Conversation([*system, *conversation.turns[start:]]))
                if len(ids) <= room:
                    return ids
        return None
