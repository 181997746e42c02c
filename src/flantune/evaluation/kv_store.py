"""Keys and values of prompts and answers, kept between decoding steps: no left padding, finished rows dropped."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValueStore:
    """What the attention layers keep while answers grow.

    First the prompts run as one flat stream (`decoding` False) and `fill` stores each segment in a row of its own;
    then one token a row runs (`decoding` True) and `attend` adds it and attends to all of its row.

    Args:
        lengths: Tokens of each prompt.
        room: Tokens that may be added to each row.
    """

    def __init__(self, lengths: list[int], room: int) -> None:
        self.segments = lengths
        self.capacity = max(lengths) + room
        self.lengths = torch.tensor(lengths)
        self.decoding = False
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self._steps: tuple[Tensor, Tensor, int] | None = None

    def fill(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores a stream's keys and values. key, value: (K, T, D)."""
        heads, _, size = key.shape
        for store, flat in ((self.keys, key), (self.values, value)):
            rows = flat.new_zeros(len(self.segments), heads, self.capacity, size)
            start = 0
            for number, length in enumerate(self.segments):
                rows[number, :, :length] = flat[:, start : start + length]
                start += length
            store[layer] = rows

    def begin_step(self) -> None:
        """Prepares the mask of one decoding step: every row sees its own tokens and the new one."""
        self.decoding = True
        device = next(iter(self.keys.values())).device
        places = self.lengths.to(device)
        widest = int(self.lengths.max()) + 1
        hidden = torch.arange(widest, device=device)[None] > places[:, None]
        self._steps = (places, hidden, widest)

    def end_step(self) -> None:
        """The new token of each row is stored now."""
        self.lengths = self.lengths + 1

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int, softcap: float
    ) -> Tensor:
        """One token a row. query: (H, B, D), key and value: (K, B, D) -> (B, H, D)."""
        assert self._steps is not None
        places, hidden, widest = self._steps
        keys, values = self.keys[layer], self.values[layer]
        rows = torch.arange(len(places), device=places.device)
        keys[rows, :, places] = key.transpose(0, 1)
        values[rows, :, places] = value.transpose(0, 1)
        batch, heads, size = query.shape[1], query.shape[0], query.shape[2]
        q = query.transpose(0, 1).reshape(batch, keys.shape[1], -1, size)
        scores = torch.matmul(q, keys[:, :, :widest].transpose(2, 3)).float() * scale
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        mask = hidden
        if window:
            mask = hidden | (torch.arange(widest, device=places.device)[None] <= (places - window)[:, None])
        weights = scores.masked_fill(mask[:, None, None], float("-inf")).softmax(-1).to(query.dtype)
        return torch.matmul(weights, values[:, :, :widest]).reshape(batch, heads, size)

    def select(self, rows: Tensor) -> None:
        """Keeps these rows, in this order; a row may come several times."""
        self.keys = {layer: kept[rows.to(kept.device)] for layer, kept in self.keys.items()}
        self.values = {layer: kept[rows.to(kept.device)] for layer, kept in self.values.items()}
        self.lengths = self.lengths[rows]
