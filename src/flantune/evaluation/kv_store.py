"""Keys and values of prompts and answers, kept between decoding steps: no left padding, finished rows dropped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 64  # tokens by which the room for keys and values grows


class KeyValueStore:
    """What the attention layers keep while answers grow.

    First the prompts run as one flat stream (`decoding` False) and `fill` stores each of them in a row of its own;
    then one token a row runs (`decoding` True) and `attend` adds it and attends to all of its row. Of each layer there
    are keys (B, K, D, capacity) and values (B, K, capacity, D). Matrix products read these as they lie; a part of them
    they would copy first, so the capacity grows with the answers.

    Args:
        places: Of each prompt, where its tokens stand in the stream; prompts may have places in common.
        room: Tokens that may be added to each row.
    """

    def __init__(self, places: Sequence[Tensor], room: int) -> None:
        self.prompts = places
        self.lengths = torch.tensor([len(prompt) for prompt in places])
        self.most = int(self.lengths.max()) + room
        self.capacity = min(self.most, int(self.lengths.max()) + BLOCK)
        self.decoding = False
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self._masks: dict[int, Tensor] = {}

    def fill(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Stores a stream's keys and values. key, value: (K, T, D)."""
        rows, heads = len(self.prompts), len(key)
        keys = key.new_zeros(rows, heads, key.shape[2], self.capacity)
        values = value.new_zeros(rows, heads, self.capacity, value.shape[2])
        for row, places in enumerate(self.prompts):
            at = places.to(key.device)
            keys[row, :, :, : len(at)] = key[:, at].transpose(1, 2)
            values[row, :, : len(at)] = value[:, at]
        self.keys[layer], self.values[layer] = keys, values

    @property
    def nbytes(self) -> int:
        """Of all keys and values, when all the room is taken."""
        now = sum(kept.nbytes for kept in (*self.keys.values(), *self.values.values()))
        return now // self.capacity * self.most

    def begin_step(self) -> None:
        """Prepares one decoding step: every row sees its own tokens and the new one."""
        self.decoding = True
        device = next(iter(self.keys.values())).device
        if int(self.lengths.max()) == self.capacity:
            more = min(BLOCK, self.most - self.capacity)
            for layer in self.keys:  # one after the other, so that little is there twice
                self.keys[layer] = pad(self.keys[layer], (0, more))
                self.values[layer] = pad(self.values[layer], (0, 0, 0, more))
            self.capacity += more
        self._places = self.lengths.to(device)
        self._rows = torch.arange(len(self.lengths), device=device)
        self._masks = {}

    def end_step(self) -> None:
        """The new token of each row is stored now."""
        self.lengths = self.lengths + 1

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int, softcap: float
    ) -> Tensor:
        """One token a row. query: (H, B, D), key and value: (K, B, D) -> (B, H, D).

        Scores are rounded to the type of the keys, as in training.
        """
        keys, values = self.keys[layer], self.values[layer]
        keys[self._rows, :, :, self._places] = key.transpose(0, 1)
        values[self._rows, :, self._places] = value.transpose(0, 1)
        batch, heads, size, capacity = keys.shape
        q = query.transpose(0, 1).reshape(batch * heads, -1, size)  # query heads that share a key head are its queries
        scores = torch.bmm(q, keys.flatten(0, 1)).view(batch, -1, capacity).float() * scale
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        weights = (scores + self._mask(window)).softmax(-1).to(values.dtype)
        made = torch.bmm(weights.view(batch * heads, -1, capacity), values.flatten(0, 1))
        return made.view(batch, -1, values.shape[3])

    def _mask(self, window: int) -> Tensor:
        """(B, 1, capacity): what is added to scores in a step. Made for its first layer with such a window."""
        if window not in self._masks:
            at = torch.arange(self.capacity, device=self._places.device)
            hidden = at > self._places[:, None]
            if window:
                hidden |= at <= (self._places - window)[:, None]
            mask = torch.zeros(hidden.shape, device=at.device)
            self._masks[window] = mask.masked_fill_(hidden, -torch.inf)[:, None]
        return self._masks[window]

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
