"""The order: all packed rows of a run, in training order, on disk, under a key of everything it depends on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flantune.cache import added, hold
from flantune.errors import FlantuneError
from flantune.files import digest, disk_errors, file_digest, whole_folder, write_text
from flantune.mixture.window import (
    Encoder,
    Member,
    MixtureRule,
    PackedRow,
    Segment,
    WindowBuilder,
    exemplar_counts,
    option_ways,
    phases_of,
)

FORMAT = 3  # raise it when the bytes of an order change for the same inputs
SUMMARY = "order.json"


def order_key(members: Sequence[Member], rule: MixtureRule, draws: int, encoder: Encoder) -> str:
    """Hash of all that an order depends on: a changed row, template, tokenizer or number gives another key."""
    described = [
        {
            "name": member.task.name,
            "max_epochs": member.max_epochs,
            "loss_weight": member.loss_weight,
            "rows": member.rows.digest,
            "templates": [template.described() for template in member.task.training_templates],
            "options": [[style and style.name, str(weight)] for style, weight in option_ways(member)],
            "few_shot": [[count, str(weight)] for count, weight in exemplar_counts(member)],
            "asked": [
                list(member.task.spec.fields.items()),  # a field may use those before it
                member.task.spec.answer_choices,
                member.task.spec.options.shuffle,
                member.task.spec.exemplar_formats,
                member.task.spec.shorten,
                member.task.spec.empty,
            ],
        }
        for member in members
    ]
    rates = [[phase.start, phase.mixture.described()] for phase in phases_of(members, rule)]
    numbers = [draws, rule.window, rule.capacity, rule.per, rule.seed]
    return digest(FORMAT, described, rates, numbers, encoder.fingerprint())


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
    hold(target)
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
        added(target)
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
        for inputs, targets, *asked in zip(*(record[name] for name in COLUMNS), strict=True):
            middle, end = at + inputs, at + inputs + targets
            stored = dict(zip(COLUMNS[2:], asked, strict=True))
            segments.append(Segment(**stored, input_ids=ids[at:middle], target_ids=ids[middle:end]))
            at = end
        return segments

    def _table(self, window: int) -> Any:
        if window not in self._tables:
            import pyarrow as pa

            with pa.memory_map(str(_shard(self.folder, window))) as source:
                self._tables[window] = pa.ipc.open_file(source).read_all()
        return self._tables[window]


COLUMNS = ("input_length", "target_length", "loss_weight", "draw", "task", "row", "template", "options", "exemplars")


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
        "options": pa.array([[s.options for s in row] for row in rows], small),
        "exemplars": pa.array([[s.exemplars for s in row] for row in rows], small),
        "input_length": pa.array([[len(s.input_ids) for s in row] for row in rows], small),
        "target_length": pa.array([[len(s.target_ids) for s in row] for row in rows], small),
        "loss_weight": pa.array([[s.loss_weight for s in row] for row in rows], pa.list_(pa.float64())),
    }
    table = pa.table(columns)
    with disk_errors(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
