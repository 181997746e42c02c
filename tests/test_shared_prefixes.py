"""A beginning that prompts have in common, computed once, against each example computed by itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families import FAMILIES, VOCABULARY, tiny
from flantune.models import packed_attention
from flantune.models.packed_attention import register, segment_attention
from flantune.models.self_check import shares_prefixes
from flantune.models.shared_prefixes import LEAST_SAVED, Piece, shared_pieces
from flantune.models.stream import Example, stream_of, target_logits
from flantune.training.loss import weighted_sum

TOLERANCE = 1e-5  # as in test_packed_attention.py


def alike(seed: int) -> list[Example]:
    """Six examples: all begin alike, two pairs go on alike, one prompt is the beginning of another, two are equal."""
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    system, task, other = some(9), some(19), some(17)
    prompts = [system + task + some(5), system + other + some(8), system + task + some(3), system + other]
    prompts += [prompts[0], system + task]
    return [(prompt, some(2 + n), 1.0 + n) for n, prompt in enumerate(prompts)]


def tokens_of(pieces: Sequence[Piece], prompts: Sequence[Sequence[int]], example: int) -> list[int]:
    """The prompt of an example, put together from its pieces."""
    piece = next(p for p in pieces if p.example == example and p.stop is None)
    tokens = list(prompts[example][piece.start :])
    while piece.parent >= 0:
        piece = pieces[piece.parent]
        tokens = [*prompts[piece.example][piece.start : piece.stop], *tokens]
    return tokens


@settings(deadline=None, max_examples=200)
@given(
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=8),
    least=st.integers(1, 9),
)
def test_pieces_put_every_prompt_together_and_each_shared_one_saves_enough(prompts, least):
    pieces = shared_pieces(prompts, least)
    assert [tokens_of(pieces, prompts, n) for n in range(len(prompts))] == prompts
    for number, piece in enumerate(pieces):
        assert piece.parent < number
        if piece.stop is not None:
            users = sum(other.parent == number for other in pieces)
            assert users > 1
            assert piece.stop - piece.start > 1
    computed = sum((p.stop or len(prompts[p.example])) - p.start for p in pieces)
    saved = sum(map(len, prompts)) - computed
    assert saved >= least * sum(p.stop is not None for p in pieces)


def test_no_piece_is_shared_for_few_tokens_and_all_long_ones_are():
    short, long = [1] * (LEAST_SAVED - 1), [1] * LEAST_SAVED
    assert len(shared_pieces([[*short, 2, 3], [*short, 4, 5]])) == 2
    shared, *own = shared_pieces([[*long, 2, 3], [*long, 4, 5]])
    assert (shared.start, shared.stop, [piece.start for piece in own]) == (0, LEAST_SAVED, [LEAST_SAVED] * 2)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    data=st.data(),
    window=st.sampled_from([0, 1, 5]),
    groups=st.sampled_from([1, 2]),
    softcap=st.sampled_from([0.0, 0.5]),
)
def test_attention_along_a_tree_equals_softmax_with_its_mask(lengths, data, window, groups, softcap):
    parents = [data.draw(st.integers(-1, number - 1)) for number in range(len(lengths))]
    torch.manual_seed(sum(lengths))
    total, size, key_heads = sum(lengths), 4, 2
    query = torch.randn(key_heads * groups, total, size, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(key_heads, total, size, dtype=torch.float64, requires_grad=True) for _ in range(2))
    visible = torch.zeros(total, total, dtype=torch.bool)
    firsts, depths = [sum(lengths[:n]) for n in range(len(lengths))], []
    for number, (first, length, parent) in enumerate(zip(firsts, lengths, parents, strict=True)):
        depths.append(0 if parent < 0 else depths[parent] + lengths[parent])
        seen = []  # from the root: places in the stream of all that a token of this segment may see
        while number >= 0:
            seen = [*range(firsts[number], firsts[number] + lengths[number]), *seen]
            number = parents[number]
        for place in range(length):
            at = depths[-1] + place
            visible[first + place, seen[max(0, at - window + 1) if window else 0 : at + 1]] = True
    scores = query @ key.repeat_interleave(groups, 0).transpose(1, 2) * 0.7
    scores = torch.tanh(scores / softcap) * softcap if softcap else scores
    reference = scores.masked_fill(~visible, float("-inf")).softmax(-1) @ value.repeat_interleave(groups, 0)
    sizes = torch.tensor(lengths)
    ours = segment_attention(query, key, value, sizes, sizes, None, 0.7, window, softcap, True, torch.tensor(parents))
    assert torch.allclose(ours, reference, atol=1e-6)  # the softmax is taken in float32 even for float64 operands
    weights = torch.randn_like(reference)
    expected = torch.autograd.grad((reference * weights).sum(), (query, key, value))
    found = torch.autograd.grad((ours * weights).sum(), (query, key, value))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prefixes_leave_loss_and_gradients_as_they_are(family):
    rows = alike(seed=5)
    found = []
    for share in (True, False):
        model = tiny(family, register())
        stream = stream_of(rows, share_prefixes=share)
        loss, losses = weighted_sum(target_logits(model, stream), stream.targets, stream.weights)
        loss.backward()
        found.append((model, loss.item(), losses, len(stream.input_ids)))
    (shared, loss, losses, computed), (apart, expected, expected_losses, tokens) = found
    assert computed < 0.7 * tokens
    assert loss == pytest.approx(expected, rel=TOLERANCE)
    assert torch.allclose(losses, expected_losses, atol=1e-4, rtol=TOLERANCE)
    for (name, ours), theirs in zip(shared.named_parameters(), apart.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None, name
            continue
        scale = float(theirs.grad.abs().max())
        assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=2 * TOLERANCE * max(scale, 1e-3)), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_changing_an_examples_own_tokens_leaves_those_it_shares_a_prefix_with_bitwise_equal(family, dtype):
    rows = alike(seed=6)
    model = tiny(family, register(), dtype=dtype)
    pieces = shared_pieces([prompt for prompt, _, _ in rows])
    own = {piece.example: piece.start for piece in pieces if piece.stop is None}
    with torch.no_grad():
        stream = stream_of(rows, share_prefixes=True)
        before = target_logits(model, stream)
        for poisoned, (prompt, target, weight) in enumerate(rows):
            changed = list(rows)
            # Tokens 0 to 2 are in no prompt, so what comes in their place is shared with none.
            changed[poisoned] = ([*prompt[: own[poisoned]], *([1] * (len(prompt) - own[poisoned]))], target, weight)
            other = stream_of(changed, share_prefixes=True)
            assert torch.equal(other.lengths, stream.lengths)
            after = target_logits(model, other)
            assert torch.equal(after[stream.owners != poisoned], before[stream.owners != poisoned])
            assert not torch.equal(after[stream.owners == poisoned], before[stream.owners == poisoned])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_check_finds_that_a_decoder_may_share_prefixes(family):
    model = tiny(family, register()).eval()
    state = torch.get_rng_state()
    assert shares_prefixes(model)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_the_self_check_finds_who_may_not_share_prefixes():
    from transformers import AttentionInterface

    def forgetful(*inputs, segment_parents: torch.Tensor | None, **options):
        return packed_attention._interface(*inputs, segment_parents=None, **options)

    AttentionInterface.register("forgetful", forgetful)
    assert not shares_prefixes(tiny("llama", "forgetful"))
    assert not shares_prefixes(tiny("t5", register()))
    with_dropout = tiny("gpt2", register())
    with_dropout.transformer.h[0].mlp.dropout.p = 0.1
    assert not shares_prefixes(with_dropout)
