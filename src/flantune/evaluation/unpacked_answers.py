"""Prompts, and the answers that grow from them, of models that streams do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flantune.models.stream import start_token
from flantune.models.unpacked import keeps_logits, learns_a_prompt


class UnpackedAnswers:
    """B prompts of one length, and answers that have one length at any time: nothing is padded, whatever the model is.

    Keys and values are kept where the library keeps them by row. What recurrent layers keep cannot be told apart by
    row, nor what a learned prompt does to an encoder: then all is computed again for each token.

    Args:
        model: With the library's own attention.
        prompts: Token ids of each prompt.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.start = start_token(model)
        self.device = next(model.parameters()).device
        self.prompts = torch.tensor(prompts, device=self.device)
        self.written = self.prompts.new_empty(len(prompts), 0)
        self.encoded: Any = None
        self.cache: Any = None
        # ProphetNet's own code reads what it kept otherwise than the whole.
        self.keeps = self.start is None or not (learns_a_prompt(model) or model.config.model_type == "prophetnet")

    def first(self) -> Tensor:
        """(B, vocabulary) logits of each answer's first token."""
        if self.start is None:
            return self._logits(self.prompts)
        if not learns_a_prompt(self.model):
            mask = torch.ones_like(self.prompts)
            self.encoded = self.model.get_encoder()(input_ids=self.prompts, attention_mask=mask)
        return self.step(torch.full((len(self.prompts),), self.start))

    def step(self, tokens: Tensor) -> Tensor:
        """(B, vocabulary) logits after one more token (B,) of each answer."""
        new = tokens[:, None].to(self.device)
        self.written = torch.cat([self.written, new], 1)
        if self.cache is not None:
            return self._logits(new)
        whole = self.written if self.start is not None else torch.cat([self.prompts, self.written], 1)
        return self._logits(whole)

    def _logits(self, ids: Tensor) -> Tensor:
        """(B, vocabulary) logits after these ids, which follow what is kept, of each answer."""
        # A learned prompt stands before the prompt; with that, it is among what is kept.
        later = self.cache is not None and learns_a_prompt(self.model)
        model = self.model.get_base_model() if later else self.model
        given: dict[str, Any] = {"past_key_values": self.cache} if self.cache is not None else {}
        if self.start is None:
            given |= {"input_ids": ids} | ({"logits_to_keep": 1} if keeps_logits(self.model) else {})
        elif self.encoded is not None:
            given |= {"encoder_outputs": self.encoded, "decoder_input_ids": ids}
            given |= {"attention_mask": torch.ones_like(self.prompts)}
        else:
            given |= {"input_ids": self.prompts, "attention_mask": torch.ones_like(self.prompts)}
            given |= {"decoder_input_ids": ids}
        made = model(**given, use_cache=self.keeps)
        kept = getattr(made, "past_key_values", None)
        self.cache = kept if _by_row(kept) else None
        return made.logits[:, -1]

    def select(self, rows: Tensor) -> None:
        """Keeps these answers, in this order; one may come several times."""
        rows = rows.to(self.device)
        self.prompts, self.written = self.prompts[rows], self.written[rows]
        if self.encoded is not None:
            self.encoded.last_hidden_state = self.encoded.last_hidden_state[rows]
        if self.cache is not None:
            self.cache.batch_select_indices(rows)


def _by_row(cache: Any) -> bool:
    """Whether a cache of the library is keys and values of each row, and nothing else."""
    from transformers import DynamicCache, EncoderDecoderCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if isinstance(cache, EncoderDecoderCache):
        return _by_row(cache.self_attention_cache) and _by_row(cache.cross_attention_cache)
    return isinstance(cache, DynamicCache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )
