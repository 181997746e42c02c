"""Prompts that an encoder has read, and the answers that its decoder writes to them, one token a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flantune.models.stream import start_token


class EncodedPrompts:
    """What an encoder-decoder keeps while answers grow, for B prompts.

    The prompts run as one stream without padding. All answers have the same length at any time, so the library's own
    cache holds them; the inputs that they look back at are padded, once, to the longest of the batch.

    Args:
        model: Encoder-decoder with attention by segment.
        prompts: Token ids of each prompt.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self.model = model
        self.device = next(model.parameters()).device
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        encoded = model.get_encoder()(
            input_ids=torch.tensor([[token for prompt in prompts for token in prompt]], device=self.device),
            position_ids=torch.cat([torch.arange(len(prompt)) for prompt in prompts])[None].to(self.device),
            segment_lengths=lengths,
        )[0][0]
        self.states = torch.nn.utils.rnn.pad_sequence(encoded.split(lengths.tolist()), batch_first=True)
        self.padding = (torch.arange(int(lengths.max()))[None] >= lengths[:, None]).to(self.device)
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.places = 0

    def first(self) -> Tensor:
        """(B, vocabulary) logits of each answer's first token."""
        start = start_token(self.model)
        assert start is not None  # an encoder-decoder has one, or has been refused
        return self.step(torch.full((len(self.states),), start))

    def step(self, tokens: Tensor) -> Tensor:
        """(B, vocabulary) logits after one more token (B,) of each answer."""
        from transformers.modeling_outputs import BaseModelOutput

        logits = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.states),
            decoder_input_ids=tokens[:, None].to(self.device),
            decoder_position_ids=torch.full((len(tokens), 1), self.places, device=self.device),
            past_key_values=self.cache,
            use_cache=True,
            memory_padding=self.padding,
        ).logits[:, 0]
        self.places += 1
        return logits

    def select(self, rows: Tensor) -> None:
        """Keeps these answers, in this order; one may come several times."""
        rows = rows.to(self.device)
        self.states, self.padding = self.states[rows], self.padding[rows]
        self.cache.batch_select_indices(rows)
