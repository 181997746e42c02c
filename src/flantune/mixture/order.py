"""The order: all packed rows of a run, in training order, on disk, under a key of everything it depends on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from flantune.errors import FlantuneError
from flantune.files import digest, disk_errors, file_digest, whole_folder, write_text
from flantune.mixture.draw import DrawFunction, MixedTask
from flantune.mixture.packing import pack
from flantune.mixture.permutation import key_of, permuted
from flantune.mixture.rates import Rule, as_written, task_rates
from flantune.tasks.source import Row, Rows
from flantune.tasks.task import Task
from flantune.tasks.template import Template

FORMAT = 2  # raise it when the bytes of an order change for the same inputs
SUMMARY = "order.json"
LossPer = Literal["token", "example", "square_root"]
LENGTH_POWER: dict[str, float] = {"token": 0.0, "square_root": 0.5, "example": 1.0}


class Encoder(Protocol):
    """Turns texts into token ids; the one renderer of training, evaluation and chat."""

    def prompt_ids(self, text: str) -> list[int]:
        """Ids of everything before the answer."""

    def target_ids(self, text: str) -> list[int]:
        """Ids of the answer and its end token."""

    def fingerprint(self) -> str:
        """Changes whenever the ids for some text may change."""


@dataclass(frozen=True)
class Member:
    """A task with its training rows and its part in the mixture."""

    task: Task
    rows: Rows
    share: float | None = None
    weight: float = 1.0
    loss_weight: float = 1.0


@dataclass(frozen=True)
class MixtureRule:
    """How members are mixed and packed."""

    rates: Rule
    cap: int | None
    temperature: float
    window: int
    capacity: int
    per: LossPer
    seed: int


@dataclass(frozen=True)
class Segment:
    """One example of a packed row.

    Attributes:
        draw: Draw number.
        task: Index of the task in the mixture.
        row: Row of the task's training rows.
        template: Index among the task's training templates.
        input_ids: Prompt tokens.
        target_ids: Target tokens, the end token last.
        loss_weight: Factor of each target token's loss.
    """

    draw: int
    task: int
    row: int
    template: int
    input_ids: list[int]
    target_ids: list[int]
    loss_weight: float

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.input_ids) + len(self.target_ids)


PackedRow = list[Segment]


def exact_rates(members: Sequence[Member], rule: MixtureRule) -> list[Fraction]:
    """The exact share of draws of each member."""
    return task_rates(
        [len(member.rows) for member in members],
        rule.rates,
        cap=rule.cap,
        temperature=rule.temperature,
        weights=[member.weight for member in members],
        shares=[member.share for member in members],
    )


def draw_function(members: Sequence[Member], rule: MixtureRule) -> DrawFunction:
    """The draw function of a mixture."""
    return DrawFunction(
        [
            MixedTask(
                member.task.name,
                len(member.rows),
                rate,
                tuple(as_written(template.weight) for template in member.task.training_templates),
            )
            for member, rate in zip(members, exact_rates(members, rule), strict=True)
        ],
        rule.seed,
    )


def order_key(members: Sequence[Member], rule: MixtureRule, draws: int, encoder: Encoder) -> str:
    """Hash of all that an order depends on: a changed row, template, tokenizer or number gives another key."""
    described = [
        {
            "name": member.task.name,
            "rate": str(rate),
            "loss_weight": member.loss_weight,
            "rows": _rows_digest(member.rows.rows),
            "templates": [[t.text, t.inverted, t.weight] for t in member.task.training_templates],
            "fields": list(member.task.spec.fields.items()),  # a field may use those before it
            "choices": member.task.spec.answer_choices,
            "shorten": member.task.spec.shorten,
        }
        for member, rate in zip(members, exact_rates(members, rule), strict=True)
    ]
    numbers = [draws, rule.window, rule.capacity, rule.per, rule.seed]
    return digest(FORMAT, described, numbers, encoder.fingerprint())


def _rows_digest(rows: Sequence[Row]) -> str:
    """Of the rows as they stand: a template may show a nested object, whose keys have an order."""
    hashed = hashlib.blake2b(digest_size=16)
    for row in rows:
        hashed.update(json.dumps(row, default=str).encode() + b"\n")
    return hashed.hexdigest()


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

    def window(self, number: int, draws: int) -> tuple[list[PackedRow], list[dict[str, Any]]]:
        """Packed rows of window `number`, in training order, and what was dropped and why.

        Args:
            number: Window number from 0.
            draws: Draws of the whole run; the last window may hold fewer than the others.
        """
        start = number * self.rule.window
        drawn = self.function.draws(np.arange(start, min(start + self.rule.window, draws)))
        segments, dropped = [], []
        for i in range(len(drawn.numbers)):
            at = int(drawn.tasks[i]), int(drawn.rows[i]), int(drawn.templates[i])
            segment = self._segment(int(drawn.numbers[i]), *at)
            if isinstance(segment, Segment):
                segments.append(segment)
            else:
                dropped.append({"draw": int(drawn.numbers[i]), "task": at[0], "row": at[1], "reason": segment})
        rows = [[segments[i] for i in row] for row in pack([s.length for s in segments], self.rule.capacity)]
        if not rows:
            return [], dropped
        order = permuted(np.arange(len(rows)), len(rows), key_of(self.rule.seed, "window", number))
        return [rows[int(i)] for i in order], dropped

    def _segment(self, draw: int, task: int, row: int, template: int) -> Segment | str:
        """The example, or the reason why it is dropped."""
        member = self.members[task]
        chosen = member.task.training_templates[template]
        prompt, target = member.task.render(chosen, member.rows.rows[row], member.rows.places[row])
        target_ids = self.encoder.target_ids(target)
        room = self.rule.capacity - len(target_ids)
        if room < 1:
            return "target longer than a packed row"
        input_ids = self.encoder.prompt_ids(prompt)
        if len(input_ids) > room and member.task.spec.shorten is not None and not chosen.inverted:
            input_ids = self._shortened(member, chosen, row, room) or input_ids
        if len(input_ids) > room:
            return "prompt and target longer than a packed row"
        power = LENGTH_POWER[self.rule.per]
        return Segment(draw, task, row, template, input_ids, target_ids, member.loss_weight * len(target_ids) ** -power)

    def _shortened(self, member: Member, template: Template, row: int, room: int) -> list[int] | None:
        """The prompt with as much of the field that gives way as fits, by bisection over its characters."""
        values, field = member.rows.rows[row], str(member.task.spec.shorten)
        if not isinstance(values.get(field), str):
            return None
        low, high, best = 0, len(values[field]), None
        while low < high:
            middle = (low + high + 1) // 2
            cut = {**values, field: values[field][:middle]}
            try:
                ids = self.encoder.prompt_ids(member.task.render(template, cut, member.rows.places[row])[0])
            except FlantuneError:  # the whole row renders, so too little is left: only white space, say
                low = middle
                continue
            low, high, best = (middle, high, ids) if len(ids) <= room else (low, middle - 1, best)
        return best


def build_order(
    members: Sequence[Member],
    rule: MixtureRule,
    draws: int,
    encoder: Encoder,
    folder: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Order:
    """The order of a run: made window by window under `folder/KEY`, or opened where it lies there undamaged.

    Args:
        members: The mixture's tasks with their rows.
        rule: Rates, window, capacity, loss.
        draws: Number of draws.
        encoder: Tokenizer with the model's prompt format.
        folder: Where orders are cached.
        report: Called with windows done and windows in all.
    Raises:
        FlantuneError: A row cannot be rendered, or nothing is left to train on.
    """
    key = order_key(members, rule, draws, encoder)
    target = folder / key
    total = -(-draws // rule.window)
    builder = WindowBuilder(members, rule, encoder)
    if not is_whole(target):
        with whole_folder(target) as aside:
            windows: list[dict[str, Any]] = []
            dropped: list[dict[str, Any]] = []
            for number in range(total):
                rows, lost = builder.window(number, draws)
                shard = _shard(aside, number)
                _write_shard(shard, rows)
                windows.append({"rows": len(rows), "blake2b": file_digest(shard)})
                dropped += lost
                report(number + 1, total)
            summary = {"format": FORMAT, "key": key, "windows": windows, "dropped": dropped}
            write_text(aside / SUMMARY, json.dumps({**summary, "digest": digest(summary)}))
    order = Order(target)
    if len(order) == 0:
        reasons = Counter(item["reason"] for item in order.dropped)
        raise FlantuneError(
            f"nothing is left to train on: {', '.join(f'{n} x {why}' for why, n in reasons.items())}; "
            f"raise mixture.capacity (now {rule.capacity})"
        )
    return order


def is_whole(folder: Path) -> bool:
    """Whether an order lies here, each byte as it was written: a damaged one is made again, not trained on."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        written = summary.pop("digest")
        return written == digest(summary) and all(
            file_digest(_shard(folder, number)) == window["blake2b"] for number, window in enumerate(summary["windows"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


class Order:
    """A finished order on disk, memory-mapped: packed row r at random.

    Args:
        folder: What `build_order` made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        self.key: str = summary["key"]
        self.dropped: list[dict[str, Any]] = summary["dropped"]
        self._starts = np.cumsum([0, *(window["rows"] for window in summary["windows"])], dtype=np.int64)
        self._tables: dict[int, Any] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def window_of(self, number: int) -> int:
        """The window that packed row `number` belongs to."""
        if not 0 <= number < len(self):
            raise IndexError(f"no packed row {number}; the order has {len(self)}")
        return int(np.searchsorted(self._starts, number, side="right")) - 1

    def row(self, number: int) -> PackedRow:
        """Packed row `number`: its segments."""
        window = self.window_of(number)
        record = self._table(window).slice(number - int(self._starts[window]), 1).to_pylist()[0]
        ids = record["ids"]
        segments, at = [], 0
        for draw, task, row, template, inputs, targets, weight in zip(*(record[n] for n in COLUMNS), strict=True):
            middle, end = at + inputs, at + inputs + targets
            segments.append(Segment(draw, task, row, template, ids[at:middle], ids[middle:end], weight))
            at = end
        return segments

    def _table(self, window: int) -> Any:
        if window not in self._tables:
            import pyarrow as pa

            with pa.memory_map(str(_shard(self.folder, window))) as source:
                self._tables[window] = pa.ipc.open_file(source).read_all()
        return self._tables[window]


COLUMNS = ("draw", "task", "row", "template", "input_length", "target_length", "loss_weight")


def _shard(folder: Path, window: int) -> Path:
    return folder / f"window-{window:06d}.arrow"


def _write_shard(path: Path, rows: Sequence[PackedRow]) -> None:
    import pyarrow as pa

    whole, small = pa.list_(pa.int64()), pa.list_(pa.int32())
    columns = {
        "ids": pa.array([[i for s in row for i in (*s.input_ids, *s.target_ids)] for row in rows], small),
        "draw": pa.array([[s.draw for s in row] for row in rows], whole),
        "task": pa.array([[s.task for s in row] for row in rows], small),
        "row": pa.array([[s.row for s in row] for row in rows], whole),
        "template": pa.array([[s.template for s in row] for row in rows], small),
        "input_length": pa.array([[len(s.input_ids) for s in row] for row in rows], small),
        "target_length": pa.array([[len(s.target_ids) for s in row] for row in rows], small),
        "loss_weight": pa.array([[s.loss_weight for s in row] for row in rows], pa.list_(pa.float64())),
    }
    table = pa.table(columns)
    with disk_errors(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
