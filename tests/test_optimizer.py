"""Masters, clipping, rounding, the pull to the base, averages, and going on from what was saved."""

from __future__ import annotations

import math
import sys

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.training import algorithms
from flantune.training.optimizer import MasterOptimizer
from flantune.training.rounding import round_stochastically, spread_masters


class Bag(torch.nn.Module):
    """An embedding, two matrices, a bias and a norm."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.embedding = torch.nn.Embedding(3, 64, dtype=dtype)
            self.linear = torch.nn.Linear(64, 64, dtype=dtype)
            self.narrow = torch.nn.Linear(64, 2, bias=False, dtype=dtype)
            self.norm = torch.nn.LayerNorm(64, dtype=dtype)


def optimizer(model, *, decay: float = 0.0, clip: float = 1e9, **settings) -> MasterOptimizer:
    return MasterOptimizer(model, weight_decay=decay, betas=(0.9, 0.95), max_gradient_norm=clip, **settings)


def give_gradients(model, value: float) -> None:
    for number, parameter in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(number)
        parameter.grad = (value * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype)


def train(model, made: MasterOptimizer, values) -> None:
    for value in values:
        give_gradients(model, value)
        made.collect()
        made.step(1e-2)


def gradients(made: MasterOptimizer) -> list[torch.Tensor]:
    return [master.grad for master in made.masters if master.grad is not None]


def weights(model) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- precision ----------------------------------------------------------------------------------------------


def pushed_down(model, made: MasterOptimizer, learning_rate: float = 1e-4, steps: int = 1000) -> None:
    """Steps whose gradients all say down, of the learning rate each."""
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        made.collect()
        made.step(learning_rate)


def ones(dtype: torch.dtype, size: int) -> torch.nn.Linear:
    model = torch.nn.Linear(size, 1, bias=False, dtype=dtype)
    torch.nn.init.ones_(model.weight)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_of_one_reaches_nine_tenths_in_a_thousand_steps_of_1e_4(dtype):
    model = ones(dtype, 1)
    pushed_down(model, optimizer(model))
    assert model.weight.item() == pytest.approx(0.9, abs=1e-4 if dtype == torch.float32 else 2**-9)


def test_without_masters_bfloat16_weights_of_one_reach_nine_tenths_on_average():
    model = ones(torch.bfloat16, 4096)
    pushed_down(model, optimizer(model, master_weights=False))
    # One weight strays by sqrt(1000 * 1e-4 * 2**-8) = 0.02 at most, the mean of 4,096 by a 64th of that.
    assert model.weight.float().mean().item() == pytest.approx(0.9, abs=3 * 0.02 / 64)


def test_rounded_to_nearest_the_same_weight_would_not_move():
    # What the tests above protect from: bfloat16 has 8 bits, and 1 - 1e-4 rounds to 1.
    assert (torch.ones(1, dtype=torch.bfloat16) - 1e-4).item() == 1.0


@settings(max_examples=50, deadline=None)
@given(value=st.floats(-(2.0**99), 2.0**99, width=32), key=st.integers(0, 2**64 - 1))
def test_stochastic_rounding_gives_one_of_the_two_neighbours(value, key):
    exact = torch.tensor([value], dtype=torch.float32)
    down = (exact.view(torch.int32) & -(1 << 16)).view(torch.float32)
    up = (down.view(torch.int32) + (1 << 16)).view(torch.float32)
    found = round_stochastically(exact, key).float()
    assert found in (down, up)
    assert found == exact or down != exact


@pytest.mark.parametrize("value", [1.0001, -0.3001, 3e-5])
def test_stochastic_rounding_is_right_on_average(value):
    exact = torch.full((200_000,), value)
    spacing = abs(value) * 2**-7
    assert round_stochastically(exact, 5).float().mean().item() == pytest.approx(value, abs=4 * spacing / 200_000**0.5)


def test_stochastic_rounding_depends_on_its_key_and_leaves_the_random_state_alone():
    values, state = torch.randn(1000), torch.get_rng_state()
    one, same, other = (round_stochastically(values, key) for key in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_masters_of_all_bfloat16_weights_round_to_them_and_those_of_zero_are_zero():
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    values = patterns[patterns.isfinite()].repeat(20)
    masters = spread_masters(values, 3)
    assert torch.equal(masters.to(torch.bfloat16).view(torch.int16), values.view(torch.int16))
    assert torch.equal(masters == 0, values == 0)


@pytest.mark.parametrize("learning_rate", [1e-5, 1e-4, 1e-3])
def test_the_model_moves_on_average_as_its_masters_do_from_the_first_step(learning_rate):
    model = torch.nn.Linear(1000, 400, bias=False, dtype=torch.bfloat16)
    torch.nn.init.constant_(model.weight, 1.25)  # 2**-8 is half the way to the next bfloat16
    pushed_down(model, optimizer(model), learning_rate, steps=1)
    moved = 1.25 - model.weight.float().mean().item()
    spread = (learning_rate * 2**-7) ** 0.5 / model.weight.numel() ** 0.5
    assert moved == pytest.approx(learning_rate, abs=4 * spread + 1e-7)


def test_without_masters_nothing_of_float32_but_moments_is_kept_between_steps():
    model = Bag(torch.bfloat16)
    made = optimizer(model, master_weights=False)
    train(model, made, [0.1, 0.2])
    assert sum(master.untyped_storage().nbytes() for master in made.masters) == 4 * len(made.masters)
    assert {tensor.dtype for name, tensor in made.state().items() if name.startswith("master.")} == {torch.bfloat16}


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
    assert [total.item() for total in gradients(made)] == [258.0]  # in bfloat16 sums, 256 + 1 + 1 is 256


def test_float32_training_equals_plain_adamw():
    ours, theirs = Bag(), Bag()
    made = optimizer(ours)
    plain = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(5):
        for model in (ours, theirs):
            give_gradients(model, math.sin(step + 1))
        made.collect()
        made.step(1e-2)
        plain.step()
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))


# --- clipping -----------------------------------------------------------------------------------------------


def test_the_gradient_is_clipped_by_its_global_norm_and_the_norm_before_is_returned():
    model = Bag()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    count = sum(p.numel() for p in model.parameters())
    made = optimizer(model, clip=0.5)
    seen = {}
    made.optimizers[0].register_step_pre_hook(
        lambda *_: seen.update(norm=torch.cat([g.flatten() for g in gradients(made)]).norm().item())
    )
    assert made.step(0.0) == pytest.approx(math.sqrt(count))
    assert seen["norm"] == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("masters", [True, False])
def test_a_gradient_that_is_not_finite_stops_before_anything_changes(masters):
    model = Bag(torch.bfloat16)
    made, before = optimizer(model, master_weights=masters), weights(model)
    give_gradients(model, math.nan)
    made.collect()
    with pytest.raises(FlantuneError, match=r"^the gradient is not finite; lower training\.learning_rate$"):
        made.step(0.1)
    assert equal(weights(model), before)


# --- the pull to the base, and averages ---------------------------------------------------------------------


@pytest.mark.parametrize("masters", [True, False])
def test_without_a_gradient_the_pull_halves_the_distance_to_the_base_as_its_strength_says(masters):
    model = torch.nn.Linear(4, 4, dtype=torch.bfloat16)
    base = weights(model)
    made = optimizer(model, pull=5.0, master_weights=masters)
    with torch.no_grad():
        for weight in (*model.parameters(), *(made.masters if masters else ())):
            weight.add_(1.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.collect()
    made.step(0.1)
    for weight, start in zip(weights(model), base, strict=True):
        assert torch.allclose(weight.float() - start.float(), torch.tensor(0.5), atol=2e-2)


def test_a_weight_that_is_always_pushed_one_way_ends_one_over_the_pull_from_its_base():
    model = ones(torch.float32, 1)
    made = optimizer(model, pull=10.0)
    for _ in range(200):
        model.weight.grad = torch.ones_like(model.weight)
        made.step(1e-2)
    assert 1 - model.weight.item() == pytest.approx(1 / 10.0, rel=1e-3)


def test_a_pull_of_zero_changes_nothing_and_a_strong_one_keeps_weights_near_the_base():
    def moved(**settings) -> float:
        model = Bag()
        base = weights(model)
        train(model, optimizer(model, **settings), [0.1] * 20)
        return sum((w - b).norm().item() for w, b in zip(weights(model), base, strict=True))

    assert moved(pull=0.0) == moved()
    assert moved(pull=20.0) < 0.5 * moved()


@pytest.mark.parametrize("masters", [True, False])
def test_the_average_is_the_plain_mean_of_the_first_steps_and_then_forgets(masters):
    model = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    made = optimizer(model, average=0.75, master_weights=masters)
    expected, seen = None, []
    for step in range(1, 9):
        train(model, made, [0.1 * step])
        now = (made.parameters if not masters else made.masters)[0].detach().float().clone()
        seen.append(now)
        expected = torch.stack(seen).mean(0) if step <= 4 else 0.75 * expected + 0.25 * now  # type: ignore[operator]
    with made.final_weights():
        assert torch.equal(model.weight, expected.to(torch.bfloat16))  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_looking_at_the_final_weights_leaves_no_trace(dtype):
    looked, other = Bag(dtype), Bag(dtype)
    first, second = optimizer(looked, average=0.9), optimizer(other, average=0.9)
    for model, made in ((looked, first), (other, second)):
        train(model, made, [0.3, -0.2])
        if model is looked:
            before = weights(model)
            with made.final_weights():
                assert not equal(weights(model), before)
            assert equal(weights(model), before)
        train(model, made, [0.5])
    assert equal(weights(looked), weights(other))
    assert equal(first.state().values(), second.state().values())


def test_without_an_average_the_final_weights_are_those_of_the_last_step():
    model = Bag()
    made = optimizer(model)
    train(model, made, [0.3])
    before = weights(model)
    with made.final_weights():
        assert equal(weights(model), before)


# --- the optimizers -----------------------------------------------------------------------------------------


PACKAGES = {"schedule_free": "schedulefree", "adamw_8bit": "torchao"}


@pytest.mark.parametrize("masters", [True, False])
@pytest.mark.parametrize("algorithm", algorithms.ALGORITHMS)
def test_going_on_from_a_saved_state_is_bitwise_the_same_as_not_stopping(algorithm, masters):
    if algorithm == "schedule_free" and not masters:
        pytest.skip("a recipe cannot ask for it")
    if algorithm in PACKAGES:
        pytest.importorskip(PACKAGES[algorithm])
    settings = {"algorithm": algorithm, "pull": 0.1, "average": 0.9, "decay": 0.1, "master_weights": masters}
    straight, stopped, resumed = (Bag(torch.bfloat16) for _ in range(3))
    whole = optimizer(straight, **settings)
    train(straight, whole, [0.3, -0.7, 0.2, 0.9, -0.1])
    first = optimizer(stopped, **settings)
    train(stopped, first, [0.3, -0.7])
    second = optimizer(resumed, **settings)
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    train(resumed, second, [0.2, 0.9, -0.1])
    assert equal(weights(resumed), weights(straight))
    ended, other = whole.state(), second.state()
    assert ended.keys() == other.keys()
    assert all(torch.equal(ended[name], other[name]) for name in ended)
    with whole.final_weights(), second.final_weights():
        assert equal(weights(resumed), weights(straight))


@pytest.mark.parametrize(
    ("algorithm", "learning_rate"),
    [("adamw", 3e-3), ("adafactor", 3e-2), ("muon", 3e-3), ("schedule_free", 3e-3), ("adamw_8bit", 3e-3)],
)
def test_a_small_t5_in_bfloat16_learns_to_repeat_its_input_with_each_optimizer(algorithm, learning_rate):
    if algorithm in PACKAGES:
        pytest.importorskip(PACKAGES[algorithm])
    sizes = {"vocab_size": 12, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, dropout_rate=0.0))
    model.bfloat16().train()
    made = optimizer(model, algorithm=algorithm, clip=1.0)
    generator = torch.Generator().manual_seed(4)

    def loss() -> torch.Tensor:
        ids = torch.randint(2, 12, (16, 5), generator=generator)
        shifted = torch.cat([torch.zeros(16, 1, dtype=torch.long), ids[:, :-1]], 1)
        logits = model(input_ids=ids, decoder_input_ids=shifted, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten())

    before = loss().item()
    for _ in range(100):
        loss().backward()
        made.collect()
        made.step(learning_rate)
    with made.final_weights():
        assert loss().item() < 0.8 * before


def test_a_state_is_found_by_name_in_whatever_order_the_weights_are():
    class Reversed(Bag):
        def named_parameters(self, *args, **kwargs):
            return iter(list(super().named_parameters(*args, **kwargs))[::-1])

    one, other = Bag(), Reversed()
    first, second = optimizer(one), optimizer(other)
    train(one, first, [0.3])
    second.load_state(first.state())
    for model, made in ((one, first), (other, second)):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.full_like(parameter, 0.01 * len(name))
        made.step(1e-2)
    assert all(torch.equal(p, dict(other.named_parameters())[n]) for n, p in one.named_parameters())


def test_a_state_of_another_model_is_refused():
    made, state = optimizer(Bag()), optimizer(torch.nn.Linear(2, 2)).state()
    with pytest.raises(FlantuneError) as told:
        made.load_state(state)
    assert str(told.value) == ("the checkpoint does not fit the model: embedding.weight is missing or of another shape")


def test_muon_updates_matrices_inside_the_model_and_adamw_the_rest():
    made = optimizer(Bag(), algorithm="muon")
    by = {type(o).__name__: {id(w) for g in o.param_groups for w in g["params"]} for o in made.optimizers}
    named = dict(zip(made.names, made.masters, strict=True))
    assert by["Muon"] == {id(named["linear.weight"]), id(named["narrow.weight"])}
    assert by["Muon"] | by["AdamW"] == set(map(id, made.masters))


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("schedule_free", "schedulefree", "schedule-free"), ("adamw_8bit", "torchao", "quant")],
)
def test_an_optimizer_whose_package_is_missing_says_what_to_install(monkeypatch, name, package, extra):
    for module in (package, f"{package}.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(FlantuneError) as told:
        algorithms.ALGORITHMS[name]([], (0.9, 0.95))
    assert str(told.value) == (
        f"training.optimizer: {name} needs the package {package}; pip install 'flantune[{extra}]'"
    )
