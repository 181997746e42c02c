"""Compiled steps compute what uncompiled ones do, leave no trace before the first step, and are not needed."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import torch

from families import examples, tiny
from flantune.models.adapters import add_adapter
from flantune.models.packed_attention import compile_softmax, register
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.recipe.schema import Adapter
from flantune.training.activation_checkpointing import checkpoint_activations
from flantune.training.compilation import compile_step
from flantune.training.loss import regularized_sum, weighted_sum
from runs import write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _uncompiled_again():
    yield
    compile_softmax(False)
    torch._dynamo.reset()


@pytest.mark.parametrize("loss", [weighted_sum, regularized_sum(0.1, 1e-3, 90)], ids=["plain", "regularized"])
def test_a_compiled_step_has_the_loss_and_gradients_of_an_uncompiled_one(loss):
    plain, compiled = tiny("llama", register()), tiny("llama", register())
    stream = stream_of(examples(seed=9, count=6))
    expected = loss(target_logits(plain, stream), stream.targets, stream.weights)[0]
    expected.backward()
    told: list[str] = []
    state = torch.get_rng_state()
    summed = compile_step(compiled, 64, told.append, loss)
    assert told == []
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in compiled.parameters())
    found = summed(target_logits(compiled, stream), stream.targets, stream.weights)[0]
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["none", "dora"])
def test_a_compiled_step_whose_activations_are_computed_again_has_the_same_gradients(method):
    def model():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            made = tiny("llama", register())
            return made if method == "none" else add_adapter(made, Adapter(method=method), base_name="tiny")

    plain, compiled = model().train(), model().train()
    stream = stream_of(examples(seed=9, count=6))
    weighted_sum(target_logits(plain, stream), stream.targets, stream.weights)[0].backward()
    checkpoint_activations(compiled, "tiny")
    told: list[str] = []
    summed = compile_step(compiled, 64, told.append)
    assert told == []
    summed(target_logits(compiled, stream), stream.targets, stream.weights)[0].backward()
    for (name, ours), theirs in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        assert ours.grad is None or torch.allclose(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_no_step_is_compiled_again_for_other_numbers_of_examples_and_tokens(family):
    model = tiny(family, register()).train()
    summed = compile_step(model, 64, lambda line: None)
    counted = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    generator = random.Random(4)
    for count in (2, 1, 3, 7, 4, 5, 8, 2, 6, 1):
        rows = [([5] * generator.randint(1, 60), [7] * generator.randint(2, 9), 1.0) for _ in range(count)]
        stream = stream_of(rows, start_token(model), share_prefixes=family == "llama" and count % 2 == 0)
        summed(target_logits(model, stream), stream.targets, stream.weights)[0].backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == counted
    assert not torch._dynamo.utils.counters["unimplemented"]


def test_without_a_compiler_a_run_goes_on_uncompiled_and_says_so(tmp_path):
    recipe = write_recipe(tmp_path)
    made = subprocess.run(
        [sys.executable, "-m", "flantune", "train", str(recipe), "training.compile=true", "--no-compare"],
        env={
            **os.environ,
            "FLANTUNE_CACHE": str(tmp_path / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels"),
            "CXX": str(tmp_path / "no-compiler"),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "training uncompiled, which is slower: no working compiler (" in made.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
