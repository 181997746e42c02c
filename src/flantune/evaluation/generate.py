"""Answers of a model: generation, greedy or sampled, and log-likelihood of choices.

Prompts of a batch run as one stream without padding, what several begin with once. Batches hold prompts of like length.
Then answers grow by one token a row: those of several batches together, as many as memory is set aside for, since a
matrix product of many rows takes less time a row. Finished rows leave, and where that makes room the next batch is
read (continuous batching: Yu et al. 2022, "Orca"). A row's answer does not depend on what grows beside it, up to the
rounding of matrix products: in float32 the texts are the same for any batch size.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flantune.evaluation.encoded_prompts import EncodedPrompts
from flantune.evaluation.kv_store import JoinedStores, KeyValueStore
from flantune.evaluation.sampling import Sampler
from flantune.evaluation.unpacked_answers import UnpackedAnswers
from flantune.models.exact_head import few_suffice, likeliest_tokens
from flantune.models.load import LoadedModel
from flantune.models.self_check import shares_prefixes
from flantune.models.shared_prefixes import Piece, shared_pieces
from flantune.models.stream import prompt_stream
from flantune.models.unpacked import layout_of

Store = KeyValueStore | EncodedPrompts | UnpackedAnswers
Progress = Callable[[int], None]
SHARES, FEW = "flantune_shares_prefixes", "flantune_few_logits_suffice"
GROWING_ROWS = 256  # answers that grow together; more rows are hardly quicker
GROWING_BYTES = 2**30  # of the keys and values that they keep, unless one batch alone takes more


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: Without the end token.
        finished: The model ended it by itself, rather than by the limit.
    """

    text: str
    finished: bool


def batches_by_length(lengths: Sequence[int], batch_tokens: int, *, equal: bool = False) -> Iterator[list[int]]:
    """Numbers of prompts in groups of like length, the longest first, at most `batch_tokens` (or one prompt) each.

    With `equal`, those of a group have the same length.
    """
    batch: list[int] = []
    tokens = 0
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        full = tokens + lengths[number] > batch_tokens
        if batch and (full or (equal and lengths[number] != lengths[batch[0]])):
            yield batch
            batch, tokens = [], 0
        batch.append(number)
        tokens += lengths[number]
    if batch:
        yield batch


def _run(
    model: Any, ids: Tensor, positions: Tensor, keep: Tensor, store: KeyValueStore | JoinedStores, **segments: Tensor
) -> Tensor:
    """(len(keep), vocabulary) logits. segments: lengths and parents of a stream; nothing for one token a row."""
    device = next(model.parameters()).device
    return model(
        input_ids=ids[None].to(device),
        position_ids=positions[None].to(device),
        use_cache=False,
        logits_to_keep=keep.to(device),
        kv_store=store,
        **segments,
    ).logits[0]


def _prefill(model: Any, prompts: Sequence[Sequence[int]], room: int) -> tuple[Store, Tensor]:
    """Runs prompts as one stream; returns what is kept and the logits (B, vocabulary) of each first answer token."""
    if layout_of(model) != "packed":
        unpacked = UnpackedAnswers(model, prompts)
        return unpacked, unpacked.first()
    if model.config.is_encoder_decoder:
        encoded = EncodedPrompts(model, prompts)
        return encoded, encoded.first()
    pieces = shared_pieces(prompts)
    if len(pieces) > len(prompts) and not _shares(model):
        pieces = [Piece(-1, number, 0, None) for number in range(len(prompts))]
    stream = prompt_stream(prompts, pieces)
    store = KeyValueStore(stream.places, room)
    ends = torch.stack([places[-1] for places in stream.places])
    segments = {"segment_lengths": stream.lengths, "segment_parents": stream.parents}
    return store, _run(model, stream.input_ids, stream.position_ids, ends, store, **segments)


def _shares(model: Any) -> bool:
    """`shares_prefixes`, found out once for a model."""
    if SHARES not in model.__dict__:
        model.__dict__[SHARES] = shares_prefixes(model)
    return model.__dict__[SHARES]


def _step(model: Any, store: Store | JoinedStores, tokens: Tensor) -> Tensor:
    """One token a row; returns the logits (B, vocabulary) after it."""
    if isinstance(store, EncodedPrompts | UnpackedAnswers):
        return store.step(tokens)
    store.begin_step()
    logits = _run(model, tokens, store.lengths, torch.arange(len(tokens)), store)
    store.end_step()
    return logits


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_tokens: int = 8192,
    progress: Progress = lambda count: None,
    each_token: Callable[[int, Sequence[int]], None] | None = None,
    sampler: Sampler | None = None,
) -> list[Answer]:
    """Greedy answers, or sampled ones, in the order of the prompts.

    Args:
        loaded: The model.
        prompts: Token ids of each prompt.
        max_new_tokens: An answer without an end by then is cut and counts as unfinished.
        batch_tokens: Prompt tokens computed at once.
        progress: Called with the number of prompts just answered.
        each_token: Called after each token with the prompt's number and all tokens of its answer so far.
        sampler: Draws the tokens of each prompt's answer; the likeliest are taken by default.
    """
    model, head = loaded.model, loaded.format.target_head
    answers: list[Answer | None] = [None] * len(prompts)
    unpacked = layout_of(model) != "packed"
    room = len(head) + max_new_tokens
    waiting = deque(batches_by_length([len(prompt) for prompt in prompts], batch_tokens, equal=unpacked))
    growing: list[_Growing] = []
    with _proposal(model, sampler) as proposal:
        while waiting or growing:
            while waiting and _fits(growing, len(waiting[0]), len(prompts[waiting[0][0]]) + room):
                batch = waiting.popleft()
                store, logits = _prefill(model, [prompts[i] for i in batch], room)
                for token in head:  # every answer of the model begins so: it is not asked
                    logits = _step(model, store, torch.full((len(batch),), token))
                growing.append(_Growing(store, batch, [[] for _ in batch], proposal(logits)))
            for batch in growing:
                finished = batch.grow(loaded, max_new_tokens, sampler, each_token)
                for number, answer in finished:
                    answers[number] = answer
                progress(len(finished))
            growing = [batch for batch in growing if batch.live]
            if growing:
                _step_all(model, growing, proposal)
    return [answer for answer in answers if answer is not None]


@dataclass
class _Growing:
    """Answers to the prompts of one batch that are not finished; all of them have the same number of tokens.

    Attributes:
        store: What is kept of the prompts and the tokens.
        live: (B,), numbers of the prompts.
        written: (B,), tokens of each answer so far.
        proposal: (B,), the next tokens; where they are sampled, their logits (B, vocabulary).
    """

    store: Store
    live: list[int]
    written: list[list[int]]
    proposal: Tensor

    def grow(
        self,
        loaded: LoadedModel,
        longest: int,
        sampler: Sampler | None,
        each_token: Callable[[int, Sequence[int]], None] | None,
    ) -> list[tuple[int, Answer]]:
        """Adds a token to each answer; those that are finished by it leave, and are returned with their numbers."""
        place = len(self.written[0]) + 1
        tokens = self.proposal if sampler is None else sampler.tokens(self.proposal, self.live, place)
        going, finished = [], []
        for row, (number, ids, token) in enumerate(zip(self.live, self.written, tokens.tolist(), strict=True)):
            ended = token in loaded.format.stop_ids
            if not ended:
                ids.append(token)
                if each_token is not None:
                    each_token(number, ids)
            if ended or place == longest:
                finished.append((number, Answer(loaded.format.text(ids), ended)))
            else:
                going.append(row)
        if finished:
            self.live, self.written = [self.live[row] for row in going], [self.written[row] for row in going]
            if going:
                self.store.select(torch.tensor(going))
        return finished


def _fits(growing: Sequence[_Growing], rows: int, capacity: int) -> bool:
    """Whether `rows` more answers, of so many places each, may grow beside these."""
    if not growing:
        return True
    stores = [batch.store for batch in growing if isinstance(batch.store, KeyValueStore)]
    if len(stores) < len(growing) or rows + sum(len(batch.live) for batch in growing) > GROWING_ROWS:
        return False
    of_token = stores[0].nbytes / (len(stores[0].lengths) * stores[0].most)
    return sum(store.nbytes for store in stores) + rows * capacity * of_token <= GROWING_BYTES


@contextlib.contextmanager
def _proposal(model: Any, sampler: Sampler | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """What becomes of the logits (B, vocabulary): the likeliest tokens (B,), or with a sampler they stay."""
    if sampler is not None:
        yield lambda logits: logits
    elif layout_of(model) == "packed" and _few_suffice(model):
        with likeliest_tokens(model) as tokens:
            yield tokens
    else:
        yield lambda logits: logits.argmax(-1)


def _few_suffice(model: Any) -> bool:
    """`few_suffice`, found out once for a model; and before it `_shares`, which compares all logits."""
    if FEW not in model.__dict__:
        if not model.config.is_encoder_decoder:
            _shares(model)
        model.__dict__[FEW] = few_suffice(model, lambda: _prefill(model, [[1, 2]], 1)[1])
    return model.__dict__[FEW]


def _step_all(model: Any, growing: Sequence[_Growing], proposal: Callable[[Tensor], Tensor]) -> None:
    """Proposes the next tokens of all answers, together."""
    stores = [batch.store for batch in growing if isinstance(batch.store, KeyValueStore)]
    store = growing[0].store if len(growing) == 1 else JoinedStores(stores)
    proposed = proposal(_step(model, store, torch.tensor([ids[-1] for batch in growing for ids in batch.written])))
    for batch, own in zip(growing, proposed.split([len(batch.live) for batch in growing]), strict=True):
        batch.proposal = own


@torch.inference_mode()
def choose(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[str]],
    *,
    batch_tokens: int = 8192,
    progress: Progress = lambda count: None,
) -> list[list[float]]:
    """Log-likelihood of each choice as the whole answer, its end token included, in nats; the highest is the answer.

    Args:
        loaded: The model.
        prompts: Token ids of each prompt.
        choices: Answers to score, for each prompt.
        batch_tokens: Prompt tokens computed at once, each choice's copy of its prompt counted.
        progress: Called with the number of prompts just scored.

    The sum, not a mean per token: it is the probability that the model answers so, which is what training raises.
    The end token tells "1" from the beginning of "10".
    """
    scores: list[list[float]] = [[] for _ in prompts]
    encoded = [[loaded.format.target_ids(choice) for choice in given] for given in choices]
    copies = [len(given) if any(len(ids) > 1 for ids in given) else 1 for given in encoded]
    unpacked = layout_of(loaded.model) != "packed"
    sizes = [len(prompt) * (1 if unpacked else count) for prompt, count in zip(prompts, copies, strict=True)]
    for batch in batches_by_length(sizes, batch_tokens, equal=unpacked):
        longest = max(len(ids) for i in batch for ids in encoded[i])
        store, logits = _prefill(loaded.model, [prompts[i] for i in batch], longest)
        first = logits.float().log_softmax(-1)
        pairs = [(place, ids) for place, i in enumerate(batch) for ids in encoded[i]]
        sums = torch.stack([first[place, ids[0]] for place, ids in pairs]).cpu()
        going = [n for n, (_, ids) in enumerate(pairs) if len(ids) > 1]
        if going:
            store.select(torch.tensor([pairs[n][0] for n in going]))
        for depth in range(1, longest):
            stay = [k for k, n in enumerate(going) if len(pairs[n][1]) > depth]
            if not stay:
                break
            if len(stay) < len(going):
                store.select(torch.tensor(stay))
                going = [going[k] for k in stay]
            after = _step(loaded.model, store, torch.tensor([pairs[n][1][depth - 1] for n in going]))
            likely = after.float().log_softmax(-1).cpu()
            for k, n in enumerate(going):
                sums[n] += likely[k, pairs[n][1][depth]]
        totals = sums.tolist()
        for i in batch:
            scores[i], totals = totals[: len(encoded[i])], totals[len(encoded[i]) :]
        progress(len(batch))
    return scores
