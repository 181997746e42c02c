"""The head in float32, and the likeliest token by its product in bfloat16."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flantune.models.exact_head import CANDIDATES, exact_head, few_suffice, has_narrow_products, likeliest_tokens

needs_narrow_products = pytest.mark.skipif(not has_narrow_products(), reason="this processor has no bfloat16 products")


class Model(torch.nn.Module):
    """A head alone."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
        self.head.weight.data, self.widths = weight, []
        if bias is not None:
            self.head.bias.data = bias
        exact_head(self)

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    @torch.inference_mode()
    def likeliest(self, states: Tensor) -> Tensor:
        with likeliest_tokens(self) as tokens:
            logits = self.head(states[None])[0]
            self.widths.append(logits.shape[-1])
            return tokens(logits)

    @torch.inference_mode()
    def exact(self, states: Tensor) -> Tensor:
        return self.head(states[None])[0]


def normal(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def as_near(found: Tensor, logits: Tensor) -> bool:
    """Whether the tokens found are the likeliest, up to the order in which float32 sums are made."""
    chosen = logits.gather(-1, found[:, None]).squeeze(-1)
    return bool((logits.amax(-1) - chosen <= 1e-5 * logits.abs().amax(-1).clamp(min=1e-3)).all())


@needs_narrow_products
@settings(deadline=None, max_examples=60)
@given(
    vocabulary=st.sampled_from([3, CANDIDATES, CANDIDATES + 1, 200, 3000]),
    scale=st.sampled_from([1e-4, 0.03, 0.3, 3.0, 30.0]),
    seed=st.integers(0, 2**32),
    biased=st.booleans(),
)
def test_the_likeliest_token_is_that_of_the_product_in_float32(vocabulary, scale, seed, biased):
    bias = normal(vocabulary, seed=seed + 2, scale=scale) if biased else None
    model = Model(normal(vocabulary, 64, seed=seed), bias)
    states = normal(9, 64, seed=seed + 1, scale=scale)
    assert as_near(model.likeliest(states), model.exact(states))
    assert model.widths == [min(CANDIDATES, vocabulary)]


@needs_narrow_products
@pytest.mark.parametrize("alike", [2, CANDIDATES - 1, CANDIDATES, 5 * CANDIDATES])
def test_tokens_that_are_equal_in_bfloat16_are_told_apart_however_many_they_are(alike):
    weight = normal(500, 64, seed=0, scale=0.1)
    states = normal(1, 64, seed=1)
    # Of these tokens each has a little more than the one before, in a place that bfloat16 products do not show.
    weight[100 : 100 + alike] = states[0] * 0.25
    weight[100 : 100 + alike, 0] = 0
    steps = torch.arange(alike).bfloat16() * 2**-10
    weight[100 : 100 + alike, 0] = steps * states[0, 0].sign()
    model = Model(weight)
    rough = torch.nn.functional.linear(states, weight)[0]
    assert int((rough == rough.max()).sum()) > 1
    assert model.likeliest(states).tolist() == [100 + alike - 1]


@needs_narrow_products
def test_outside_all_logits_are_computed_in_float32_also_by_other_threads():
    weight, states = normal(300, 64, seed=0), normal(5, 64, seed=1)
    model = Model(weight)
    expected = torch.nn.functional.linear(states.float(), weight.float())
    with ThreadPoolExecutor(1) as other, likeliest_tokens(model), likeliest_tokens(model):
        assert torch.equal(other.submit(model.exact, states).result(), expected)
    assert torch.equal(model.exact(states), expected)


class Changed(Model):
    """A model that does something to what comes from its head."""

    def __init__(self, weight: Tensor, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(weight)
        self.change = change

    def exact(self, states: Tensor) -> Tensor:
        return self.change(super().exact(states))


@needs_narrow_products
def test_a_few_logits_suffice_only_where_the_model_treats_all_alike_and_keeps_them():
    weight, states = normal(300, 64, seed=0), normal(1, 64, seed=1)
    changes = {
        "none": lambda logits: logits,
        "scale": lambda logits: logits * 0.1,
        "softcap": lambda logits: torch.tanh(logits / 30) * 30,
        "bias": lambda logits: logits + torch.arange(300),
        "padding": lambda logits: logits[..., :290],
        "order": lambda logits: logits.flip(-1),
    }
    models = {name: Changed(weight, change) for name, change in changes.items()}
    found = {name: few_suffice(model, partial(model.exact, states)) for name, model in models.items()}
    assert found == {"none": True, "scale": True, "softcap": True, "bias": False, "padding": False, "order": False}
    wide = Model(weight.float())
    assert not few_suffice(wide, partial(wide.exact, states.float()))


def test_a_head_in_float32_keeps_its_own_product():
    model, states = Model(normal(300, 64, seed=0).float()), normal(5, 64, seed=1).float()
    assert "forward" not in vars(model.head)
    assert torch.equal(model.likeliest(states), model.exact(states).argmax(-1))
    assert model.widths == [300]
