"""Keys and values of prompts and answers, kept between decoding steps: no left padding, finished rows dropped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KeyValueStore:
    """What the attention layers keep while answers grow.

    First the prompts run as one flat stream (`decoding` False) and `fill` stores each of them in a row of its own;
    then one token a row runs (`decoding` True) and `attend` adds it and attends to all of its row.

    Args:
        places: Of each prompt, where its tokens stand in the stream; prompts may have places in common.
        room: Tokens that may be added to each row.
    """

    def __init__(self, places: Sequence[Tensor], room: int) -> None:
        self.prompts = places
        self.lengths = torch.tensor([len(prompt) for prompt in places])
        self.capacity = int(self.lengths.max()) + room
        self.decoding = False
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self._steps: tuple[Tensor, Tensor, int] | None = None

    def fill(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores a stream's keys and values. key, value: (K, T, D)."""
        heads, _, size = key.shape
        for store, flat in ((self.keys, key), (self.values, value)):
            rows = flat.new_zeros(len(self.prompts), heads, self.capacity, size)
            for row, places in zip(rows, self.prompts, strict=True):
                row[:, : len(places)] = flat[:, places.to(flat.device)]
            store[layer] = rows

    @property
    def nbytes(self) -> int:
        """Of all keys and values, with the room for more."""
        return sum(kept.nbytes for kept in (*self.keys.values(), *self.values.values()))

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
        keys, values, mask = keys[:, :, :widest], values[:, :, :widest], hidden
        if window:
            mask = hidden | (torch.arange(widest, device=places.device)[None] <= (places - window)[:, None])
        if not softcap:  # query heads that share a key head are its queries
            visible = ~mask[:, None, None].expand(-1, -1, q.shape[2], -1)
            made = torch.nn.functional.scaled_dot_product_attention(q, keys, values, visible, scale=scale)
            return made.reshape(batch, heads, size)
        scores = torch.tanh(torch.matmul(q, keys.transpose(2, 3)).float() * scale / softcap) * softcap
        weights = scores.masked_fill(mask[:, None, None], float("-inf")).softmax(-1).to(query.dtype)
        return torch.matmul(weights, values).reshape(batch, heads, size)

    def select(self, rows: Tensor) -> None:
        """Keeps these rows, in this order; a row may come several times."""
        self.keys = {layer: kept[rows.to(kept.device)] for layer, kept in self.keys.items()}
        self.values = {layer: kept[rows.to(kept.device)] for layer, kept in self.values.items()}
        self.lengths = self.lengths[rows]


class JoinedStores:
    """Several stores whose rows take a decoding step together: each attends to its own, the rest of a layer is shared.

    Args:
        stores: In the order of the rows.
    """

    decoding = True

    def __init__(self, stores: Sequence[KeyValueStore]) -> None:
        self.stores = stores

    @property
    def lengths(self) -> Tensor:
        """(B,), tokens of each row."""
        return torch.cat([store.lengths for store in self.stores])

    def begin_step(self) -> None:
        """See `KeyValueStore`."""
        for store in self.stores:
            store.begin_step()

    def end_step(self) -> None:
        """See `KeyValueStore`."""
        for store in self.stores:
            store.end_step()

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int, softcap: float
    ) -> Tensor:
        """One token a row. query: (H, B, D), key and value: (K, B, D) -> (B, H, D)."""
        sizes = [len(store.lengths) for store in self.stores]
        parts = zip(query.split(sizes, 1), key.split(sizes, 1), value.split(sizes, 1), self.stores, strict=True)
        return torch.cat([store.attend(layer, q, k, v, scale, window, softcap) for q, k, v, store in parts])
