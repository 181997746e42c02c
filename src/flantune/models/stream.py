"""Flat streams of segments through a model: several examples, no padding, logits only where they are asked for.

A decoder reads one stream, input and target of an example in one segment. An encoder-decoder reads two with the same
segments: inputs, and targets behind the decoder's start token.

Where prompts of a decoder begin alike, the common prefix may be a segment of its own that is computed once: the others
go on from it (`flantune.models.shared_prefixes`). What comes after a token changes nothing in it, so this is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flantune.errors import FlantuneError
from flantune.models.shared_prefixes import Piece, shared_pieces
from flantune.models.unpacked import layout_of, unpacked_logits

THROUGH = "flantune_root"


@dataclass(frozen=True)
class DecoderStream:
    """What the decoder of an encoder-decoder reads: N tokens, each of which predicts a target token.

    Attributes:
        input_ids: (N,), in each segment the start token and all of the target but its last token.
        position_ids: (N,), from 0 in each segment.
        lengths: (segments,), on the CPU.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> DecoderStream:
        """The stream on a device, the lengths still on the CPU."""
        return DecoderStream(self.input_ids.to(device), self.position_ids.to(device), self.lengths)


@dataclass(frozen=True)
class Stream:
    """One micro-batch of T tokens in several segments.

    Attributes:
        input_ids: (T,); of an encoder-decoder the inputs alone.
        position_ids: (T,), from 0 in each segment, or from the end of the one that it goes on from.
        lengths: (segments,), on the CPU.
        predicting: (N,), the places whose logits predict target tokens, in this stream or in the decoder's.
        targets: (N,), the target tokens.
        weights: (N,) float32, factor of each target token's loss.
        owners: (N,), number of the example of each target token.
        decoder: The second stream of an encoder-decoder; None for a decoder.
        parents: (segments,), on the CPU: the segment that each goes on from, -1 for none; None of an encoder-decoder.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: Tensor
    predicting: Tensor
    targets: Tensor
    weights: Tensor
    owners: Tensor
    decoder: DecoderStream | None = None
    parents: Tensor | None = None

    def to(self, device: torch.device) -> Stream:
        """The stream on a device; the lengths stay on the CPU, where the attention loop reads them."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("input_ids", "position_ids", "predicting", "targets", "weights", "owners")
        }
        decoder = None if self.decoder is None else self.decoder.to(device)
        return Stream(lengths=self.lengths, decoder=decoder, parents=self.parents, **moved)


@dataclass(frozen=True)
class PromptStream:
    """Prompts of a decoder without targets, T tokens in several segments; all on the CPU.

    Attributes:
        input_ids: (T,).
        position_ids: (T,), in each prompt from 0.
        lengths: (segments,).
        parents: (segments,), the segment that each goes on from, -1 for none.
        places: Of each prompt, where its tokens stand in the stream, in order.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: Tensor
    parents: Tensor
    places: tuple[Tensor, ...]


Example = tuple[Sequence[int], Sequence[int], float]


def start_token(model: Any) -> int | None:
    """The token that an encoder-decoder's target begins behind; None for a decoder.

    Raises:
        FlantuneError: An encoder-decoder whose configuration names none.
    """
    if not model.config.is_encoder_decoder:
        return None
    start = named_start(model.config, model.generation_config)
    if start is None:
        raise FlantuneError("the model names no token that an answer begins with; set decoder_start_token_id")
    return start


def named_start(config: Any, generation: Any) -> int | None:
    """What the settings of an encoder-decoder name as the token that its target begins behind."""
    named = [getattr(place, "decoder_start_token_id", None) for place in (config, generation)]
    named.append(getattr(getattr(config, "decoder", None), "bos_token_id", None))  # as T5Gemma's own code has it
    return next((int(token) for token in named if token is not None), None)


def stream_of(examples: Sequence[Example], start: int | None = None, *, share_prefixes: bool = False) -> Stream:
    """Joins examples (input ids, target ids, weight of a target token).

    Args:
        examples: In the order of the stream's target tokens.
        start: The model's `start_token`.
        share_prefixes: Whether a prefix that prompts of a decoder have in common is computed once.
    """
    if start is not None:
        return _two_streams(examples, start)
    alone = [Piece(-1, number, 0, None) for number in range(len(examples))]
    return _one_stream(examples, shared_pieces([given for given, _, _ in examples]) if share_prefixes else alone)


def _two_streams(examples: Sequence[Example], start: int) -> Stream:
    inputs, targets = [given for given, _, _ in examples], [target for _, target, _ in examples]
    shifted = [[start, *target[:-1]] for target in targets]
    weights = [weight for _, target, weight in examples for _ in target]
    owners = [number for number, target in enumerate(targets) for _ in target]
    return Stream(
        *_joined(inputs),
        predicting=torch.arange(len(owners)),
        targets=_joined(targets)[0],
        weights=torch.tensor(weights, dtype=torch.float32),
        owners=torch.tensor(owners, dtype=torch.long),
        decoder=DecoderStream(*_joined(shifted)),
    )


def _joined(segments: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, places within each segment, and lengths."""
    return (
        torch.tensor([token for segment in segments for token in segment], dtype=torch.long),
        torch.tensor([place for segment in segments for place in range(len(segment))], dtype=torch.long),
        torch.tensor([len(segment) for segment in segments], dtype=torch.long),
    )


def _one_stream(examples: Sequence[Example], pieces: Sequence[Piece]) -> Stream:
    """A segment for each piece. The token before a target token predicts it, so the last of a prompt the first target.

    Nothing predicts across the border of two examples.
    """
    ids, positions, lengths, begins = [], [], [], [0] * len(examples)
    for piece in pieces:
        given, target, _ = examples[piece.example]
        own = [*given, *target][piece.start :] if piece.stop is None else given[piece.start : piece.stop]
        if piece.stop is None:
            begins[piece.example] = len(ids) - piece.start
        ids += own
        positions += range(piece.start, piece.start + len(own))
        lengths.append(len(own))
    firsts = [begin + len(given) - 1 for begin, (given, _, _) in zip(begins, examples, strict=True)]
    predicting = [
        first + place for first, (_, target, _) in zip(firsts, examples, strict=True) for place in range(len(target))
    ]
    return Stream(
        input_ids=torch.tensor(ids, dtype=torch.long),
        position_ids=torch.tensor(positions, dtype=torch.long),
        lengths=torch.tensor(lengths, dtype=torch.long),
        predicting=torch.tensor(predicting, dtype=torch.long),
        targets=torch.tensor([token for _, target, _ in examples for token in target], dtype=torch.long),
        weights=torch.tensor([weight for _, target, weight in examples for _ in target], dtype=torch.float32),
        owners=torch.tensor([n for n, (_, target, _) in enumerate(examples) for _ in target], dtype=torch.long),
        parents=torch.tensor([piece.parent for piece in pieces], dtype=torch.long),
    )


def prompt_stream(prompts: Sequence[Sequence[int]], pieces: Sequence[Piece]) -> PromptStream:
    """A segment for each piece of the prompts."""
    ids, positions, lengths, chains = [], [], [], []
    places: list[Tensor | None] = [None] * len(prompts)
    for piece in pieces:
        own = prompts[piece.example][piece.start : piece.stop]
        before = [] if piece.parent < 0 else chains[piece.parent]
        chains.append([*before, torch.arange(len(ids), len(ids) + len(own))])
        if piece.stop is None:
            places[piece.example] = torch.cat(chains[-1])
        ids += own
        positions += range(piece.start, piece.start + len(own))
        lengths.append(len(own))
    return PromptStream(
        input_ids=torch.tensor(ids, dtype=torch.long),
        position_ids=torch.tensor(positions, dtype=torch.long),
        lengths=torch.tensor(lengths, dtype=torch.long),
        parents=torch.tensor([piece.parent for piece in pieces], dtype=torch.long),
        places=tuple(found for found in places if found is not None),
    )


def target_logits(model: Any, stream: Stream) -> Tensor:
    """(N, vocabulary) logits at the predicting places only."""
    logits = model.__dict__.get(THROUGH, partial(stream_logits, model))(stream)
    return logits.squeeze(0)  # an index would have its gradient copied into as many zeros


def compute_through(model: Any, root: Callable[[Stream], Tensor]) -> None:
    """Has `target_logits` of a model computed by another module around it."""
    model.__dict__[THROUGH] = root  # not as a part of the model, which is a part of it


def stream_logits(model: Any, stream: Stream) -> Tensor:
    """(1, N, vocabulary): `target_logits` by the model itself, as a batch of one stream."""
    if layout_of(model) != "packed":
        return unpacked_logits(model, stream)[None]
    if stream.decoder is not None:
        return _decoder_logits(model, stream, stream.decoder)
    return model(
        input_ids=stream.input_ids[None],
        position_ids=stream.position_ids[None],
        use_cache=False,
        logits_to_keep=stream.predicting,
        segment_lengths=_several(stream.lengths),
        segment_parents=None if stream.parents is None else _several(stream.parents, -1),
    ).logits


def _decoder_logits(model: Any, stream: Stream, decoder: DecoderStream) -> Tensor:
    """(1, N, vocabulary): each place of the decoder's stream predicts a target token, so none is computed in vain.

    Encoder and decoder are called apart, since each has segments of its own.
    """
    encoded = model.get_encoder()(
        input_ids=stream.input_ids[None],
        position_ids=stream.position_ids[None],
        segment_lengths=_several(stream.lengths),
    )
    return model(
        encoder_outputs=encoded,
        decoder_input_ids=decoder.input_ids[None],
        decoder_position_ids=decoder.position_ids[None],
        use_cache=False,
        segment_lengths=_several(decoder.lengths),
        memory_lengths=_several(stream.lengths),
    ).logits


def _several(numbers: Tensor, of_nothing: int = 0) -> Tensor:
    """With an empty segment's after those of a single one: layers are compiled for any number of segments but 1."""
    return torch.nn.functional.pad(numbers, (0, 1), value=of_nothing) if numbers.numel() == 1 else numbers
