"""Master weights, decay groups, clipping and the learning rate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.training.optimizer import MasterOptimizer, Schedule


class Bag(torch.nn.Module):
    """An embedding, a matrix, a bias and a norm."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(3, 4, dtype=dtype)
        self.linear = torch.nn.Linear(4, 2, dtype=dtype)
        self.norm = torch.nn.LayerNorm(4, dtype=dtype)


def optimizer(model, *, decay: float = 0.0, clip: float = 1e9) -> MasterOptimizer:
    return MasterOptimizer(model, weight_decay=decay, betas=(0.9, 0.95), max_gradient_norm=clip)


def grad_of(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


def give_gradients(model, value: float) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)


def test_a_bfloat16_weight_of_one_reaches_nine_tenths_in_a_thousand_steps_of_1e_4():
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    torch.nn.init.ones_(model.weight)
    made = optimizer(model)
    for _ in range(1000):
        give_gradients(model, 1.0)
        made.collect()
        made.step(1e-4)
    assert model.weight.item() == pytest.approx(0.9, abs=2**-9)


def test_without_masters_the_same_weight_would_not_move():
    # What the test above protects from: bfloat16 has 8 bits, and 1 - 1e-4 rounds to 1.
    assert (torch.ones(1, dtype=torch.bfloat16) - 1e-4).item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_collected_micro_batches_sum_in_float32(dtype):
    model = torch.nn.Linear(1, 1, bias=False, dtype=dtype)
    made = optimizer(model)
    for value in (256.0, 1.0, 1.0):
        # A float32 parameter is its own master: its gradients add up where autograd puts them.
        if model.weight.grad is None:
            model.weight.grad = torch.zeros_like(model.weight)
        model.weight.grad += value
        made.collect()
    total = made.masters[0].grad
    assert total is not None
    assert total.item() == 258.0  # in bfloat16 sums, 256 + 1 + 1 is 256


def test_float32_training_equals_plain_adamw():
    ours, theirs = Bag(), Bag()
    theirs.load_state_dict(ours.state_dict())
    made = optimizer(ours)
    plain = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(5):
        for model in (ours, theirs):
            give_gradients(model, math.sin(step + 1))
        made.collect()
        made.step(1e-2)
        plain.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_only_matrices_outside_embeddings_decay():
    model = Bag()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    give_gradients(model, 0.0)
    made = optimizer(model, decay=0.5)
    made.step(0.1)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"linear.weight"}


def test_the_gradient_is_clipped_by_its_global_norm_and_the_norm_before_is_returned():
    model = Bag()
    give_gradients(model, 1.0)
    count = sum(p.numel() for p in model.parameters())
    made = optimizer(model, clip=0.5)
    seen = {}
    made.adamw.register_step_pre_hook(
        lambda *_: seen.update(norm=torch.cat([grad_of(m).flatten() for m in made.masters]).norm().item())
    )
    assert made.step(0.0) == pytest.approx(math.sqrt(count))
    assert seen["norm"] == pytest.approx(0.5, rel=1e-4)


def test_a_gradient_that_is_not_finite_stops_before_anything_changes():
    model = Bag()
    before = [p.detach().clone() for p in model.parameters()]
    give_gradients(model, math.nan)
    with pytest.raises(FlantuneError, match=r"^the gradient is not finite; lower training\.learning_rate$"):
        optimizer(model).step(0.1)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_state_put_back_continues_bitwise_equal():
    one, other = Bag(torch.bfloat16), Bag(torch.bfloat16)
    first, second = optimizer(one), optimizer(other)

    def step(model, made, value):
        give_gradients(model, value)
        made.collect()
        made.step(1e-2)

    step(one, first, 0.3)
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    for model, made in ((one, first), (other, second)):
        step(model, made, -0.7)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(first.masters, second.masters, strict=True))


@given(
    kind=st.sampled_from(["linear", "cosine", "constant"]),
    steps=st.integers(1, 400),
    warmup=st.floats(0, 0.5),
)
def test_the_learning_rate_stays_within_its_peak_rises_then_never_rises_again(kind, steps, warmup):
    schedule = Schedule(kind, 3e-4, steps, round(steps * warmup))
    rates = [schedule(step) for step in range(steps)]
    assert all(0 < rate <= 3e-4 for rate in rates)
    top = round(steps * warmup)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_schedules_have_the_values_of_their_formulas():
    assert [Schedule("linear", 1.0, 4, 0)(s) for s in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [Schedule("cosine", 1.0, 2, 0)(s) for s in range(2)] == pytest.approx([1.0, 0.5])
    assert [Schedule("constant", 1.0, 4, 2)(s) for s in range(4)] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
