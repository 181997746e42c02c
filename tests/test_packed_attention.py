"""A stream of segments against the library's own attention, one example at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families import (
    ENCODER_DECODERS,
    FAMILIES,
    MORE_FAMILIES,
    VOCABULARY,
    examples,
    one_at_a_time,
    same_gradients,
    tiny,
)
from flantune.models import packed_attention
from flantune.models.packed_attention import register, segment_attention
from flantune.models.self_check import packs_exactly
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.training.loss import weighted_sum

ALL = [*FAMILIES, *MORE_FAMILIES, *ENCODER_DECODERS]


@pytest.mark.parametrize("family", ALL)
def test_packed_loss_and_gradients_equal_one_example_at_a_time(family):
    rows = examples(seed=3, count=5)
    packed, plain = tiny(family, register()), tiny(family, "eager")
    stream = stream_of(rows, start_token(packed))
    loss = weighted_sum(target_logits(packed, stream), stream.targets, stream.weights)[0]
    loss.backward()
    reference = one_at_a_time(plain, rows)
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    same_gradients(packed, plain)


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_changing_every_token_of_a_segment_leaves_all_others_bitwise_equal(family, dtype):
    rows = examples(seed=4, count=4)
    model = tiny(family, register(), dtype=dtype)
    with torch.no_grad():
        start = start_token(model)
        before = target_logits(model, stream_of(rows, start))
        owners = stream_of(rows).owners
        for poisoned in range(len(rows)):
            changed = list(rows)
            given_ids, target_ids, weight = rows[poisoned]
            changed[poisoned] = (
                [VOCABULARY - i for i in given_ids],
                [VOCABULARY - i for i in target_ids],
                weight,
            )
            after = target_logits(model, stream_of(changed, start))
            assert torch.equal(after[owners != poisoned], before[owners != poisoned])
            assert not torch.equal(after[owners == poisoned], before[owners == poisoned])


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    window=st.sampled_from([0, 1, 3]),
    groups=st.sampled_from([1, 2]),
    causal=st.booleans(),
    cap=st.sampled_from(["none", "softcap", "bias"]),
)
def test_segment_attention_equals_softmax_with_a_block_mask(lengths, window, groups, causal, cap):
    torch.manual_seed(sum(lengths))
    total, size, key_heads = sum(lengths), 4, 2
    query = torch.randn(key_heads * groups, total, size, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(key_heads, total, size, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = torch.randn(key_heads * groups, 2 * total - 1, dtype=torch.float64, requires_grad=True)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    distance = torch.arange(total)[:, None] - torch.arange(total)[None]
    visible = owner[:, None] == owner[None]
    if causal:
        visible &= distance >= 0
    if window:
        visible &= distance < window if causal else distance.abs() <= window
    wide_key, wide_value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    scores = query @ wide_key.transpose(1, 2) * 0.7
    if cap == "softcap":
        scores = torch.tanh(scores / 0.5) * 0.5
    if cap == "bias":
        scores = scores + bias[:, total - 1 - distance]
    reference = scores.masked_fill(~visible, float("-inf")).softmax(-1) @ wide_value
    sizes, softcap = torch.tensor(lengths), 0.5 if cap == "softcap" else 0.0
    ours = segment_attention(
        query, key, value, sizes, sizes, bias if cap == "bias" else None, 0.7, window, softcap, causal
    )
    # The softmax is taken in float32 even for float64 operands.
    assert torch.allclose(ours, reference, atol=1e-6)
    weights = torch.randn_like(reference)
    learned = (query, key, value, bias) if cap == "bias" else (query, key, value)
    expected = torch.autograd.grad((reference * weights).sum(), learned)
    found = torch.autograd.grad((ours * weights).sum(), learned)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_the_self_check_passes_a_model_whose_examples_do_not_meet(family):
    assert packs_exactly(tiny(family, register()))


def test_the_self_check_finds_examples_that_see_each_other():
    from transformers import AttentionInterface

    def leaky(module, query, key, value, mask, *, segment_lengths: torch.Tensor, segment_parents, **options):
        whole = segment_lengths.sum()[None]  # one segment: everybody sees everybody before them
        return packed_attention._interface(module, query, key, value, mask, segment_lengths=whole, **options)

    AttentionInterface.register("leaky", leaky)
    assert not packs_exactly(tiny("llama", "leaky"))


def test_the_self_check_finds_attention_that_is_not_the_library_s():
    from transformers import AttentionInterface

    def blurred(module, query, *rest, **options):
        return packed_attention._interface(module, 0.5 * query, *rest, **options)

    AttentionInterface.register("blurred", blurred)
    assert not packs_exactly(tiny("llama", "blurred"))


@pytest.mark.parametrize("family", ["llama", "t5", "t5_v1_1"])
def test_cutting_a_step_into_micro_batches_keeps_its_gradient(family):
    model = tiny(family, register())
    start = start_token(model)
    for seed in range(6):
        rows = examples(seed=20 + seed, count=8)
        whole = gradient(model, [rows], start)
        for cuts in range(1, 9):
            found = gradient(model, [rows[i::cuts] for i in range(cuts)], start)
            assert float(found.norm() / whole.norm()) == pytest.approx(1.0, abs=1e-4)
            assert float(torch.nn.functional.cosine_similarity(found, whole, dim=0)) >= 0.99999


def gradient(model: Any, batches: list[list[tuple[list[int], list[int], float]]], start: int | None) -> torch.Tensor:
    """Of the weighted mean of the token losses, summed over the micro-batches as in a step."""
    model.zero_grad()
    divisor = sum(weight * len(target_ids) for rows in batches for _, target_ids, weight in rows)
    for rows in batches:
        stream = stream_of(rows, start)
        (weighted_sum(target_logits(model, stream), stream.targets, stream.weights)[0] / divisor).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
