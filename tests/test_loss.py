"""The loss of a step: one division by the weight of the whole global batch, however it is cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families import examples, tiny
from flantune.models.packed_attention import register
from flantune.models.stream import stream_of, target_logits
from flantune.training.loss import regularized_sum, weighted_sum

REGULARIZED = regularized_sum(label_smoothing=0.1, z_loss=1e-3, vocabulary=90)


def gradient(model, rows, sizes: list[int], summed=weighted_sum) -> tuple[float, torch.Tensor]:
    """Loss and flat gradient of a step whose rows are cut into micro-batches of these sizes."""
    model.zero_grad()
    weight = sum(w * len(target) for _, target, w in rows)
    total, first = 0.0, 0
    for size in sizes:
        stream = stream_of(rows[first : first + size])
        first += size
        share = summed(target_logits(model, stream), stream.targets, stream.weights)[0] / weight
        share.backward()
        total += share.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 8),
    size=st.integers(1, 8),
    summed=st.sampled_from([weighted_sum, REGULARIZED]),
)
def test_splitting_a_step_into_micro_batches_keeps_loss_and_gradient(seed, count, size, summed):
    model, rows = MODEL, examples(seed, count)
    whole_loss, whole = gradient(model, rows, [count], summed)
    sizes = [min(size, count - at) for at in range(0, count, size)]
    loss, split = gradient(model, rows, sizes, summed)
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert split.norm().item() / whole.norm().item() == pytest.approx(1.0, abs=1e-4)
    assert torch.nn.functional.cosine_similarity(split, whole, dim=0).item() > 0.99999


MODEL = tiny("llama", register())


def test_the_last_input_token_predicts_the_first_target_token_and_nothing_crosses_a_border():
    stream = stream_of([([5, 6], [7, 8], 1.0), ([9], [10], 0.5)])
    assert stream.input_ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert stream.position_ids.tolist() == [0, 1, 2, 3, 0, 1]
    assert stream.predicting.tolist() == [1, 2, 4]
    assert stream.targets.tolist() == [7, 8, 10]
    assert stream.weights.tolist() == [1.0, 1.0, 0.5]
    assert stream.owners.tolist() == [0, 0, 1]


def test_a_token_weight_scales_its_loss_and_its_gradient_alone():
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([1, 3])
    weighted_sum(logits, targets, torch.tensor([2.0, 0.0]))[0].backward()
    other = logits.detach().clone().requires_grad_()
    (2 * torch.nn.functional.cross_entropy(other[:1], targets[:1])).backward()
    assert logits.grad is not None
    assert other.grad is not None
    assert torch.allclose(logits.grad, other.grad)


def test_a_micro_batch_without_a_target_has_no_loss_and_a_gradient_of_zero():
    logits = torch.zeros(0, 5, requires_grad=True)
    total, losses = weighted_sum(logits, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    total.backward()
    assert total.item() == 0.0
    assert losses.shape == (0,)
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 9), vocabulary=st.integers(2, 40), smoothing=st.floats(0.01, 0.9), seed=st.integers(0, 999)
)
def test_label_smoothing_is_that_of_pytorch(tokens, vocabulary, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = (4 * torch.randn(tokens, vocabulary, generator=generator)).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    weights = torch.rand(tokens, generator=generator)
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    expected = (plain * weights).sum()
    found, losses = regularized_sum(smoothing, 0.0, vocabulary)(logits, targets, weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(losses, torch.nn.functional.cross_entropy(logits, targets, reduction="none"), atol=1e-5)
    for one, other in zip(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_rows_of_the_head_beyond_the_vocabulary_get_no_share_of_a_smoothed_target():
    logits = torch.zeros(1, 6)
    logits[0, 4:] = 50.0  # were they targets, raising them would lower the loss
    found = regularized_sum(0.5, 0.0, 4)(logits, torch.tensor([1]), torch.ones(1))[0]
    assert found.item() == pytest.approx(torch.logsumexp(logits, -1).item())


def test_the_z_loss_is_the_square_of_the_logarithm_of_the_normalizer():
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets, weights = torch.tensor([1, 0, 6]), torch.tensor([1.0, 2.0, 0.0])
    without = weighted_sum(logits, targets, weights)[0]
    found = regularized_sum(0.0, 0.01, 7)(logits, targets, weights)[0]
    extra = 0.01 * (logits.exp().sum(-1).log().square() * weights).sum()
    assert found.item() == pytest.approx((without + extra).item(), rel=1e-5)


def test_a_token_without_weight_has_no_gradient_from_smoothing_or_the_z_loss():
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    regularized_sum(0.1, 0.01, 5)(logits, torch.tensor([1, 3]), torch.tensor([1.0, 0.0]))[0].backward()
    assert logits.grad is not None
    assert logits.grad[1].abs().sum() == 0


def test_without_smoothing_and_z_loss_the_loss_is_the_plain_one():
    assert regularized_sum(0.0, 0.0, 5) is weighted_sum
