"""Adapters merged into their base, models between two, and the commands that write them."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from families import adapted, examples, tiny
from flantune.errors import FlantuneError
from flantune.models.interpolation import add_to_mean, interpolate, shares
from flantune.models.merging import check_merge, difference, merged, next_logits
from flantune.models.packed_attention import register
from runs import command, write_recipe

PROMPTS = [inputs for inputs, _, _ in examples(seed=1, count=64)]


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "ia3"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "t5", "umt5", "bart"])
def test_a_merged_adapter_says_what_it_says_beside_its_base(family, method):
    layers = {"target_modules": ("k", "v", "wo")} if (family, method) == ("umt5", "ia3") else {}
    model = adapted(family, method, alpha=4.0, **layers)  # large updates of random weights amplify rounding
    before, plain = next_logits(model, PROMPTS), next_logits(tiny(family, register()), PROMPTS)
    found = difference(before, next_logits(merged(model), PROMPTS))
    assert found.largest < 5e-5
    assert found.changed == 0
    check_merge(found, "fp32")
    assert difference(before, plain).largest > 1e-2


def test_an_adapter_on_a_head_that_is_tied_to_the_embeddings_is_not_merged():
    model = adapted("llama", "lora", target_modules=("lm_head",))
    before = next_logits(model, PROMPTS)
    found = difference(before, next_logits(merged(model), PROMPTS))
    with pytest.raises(FlantuneError) as told:
        check_merge(found, "bf16")
    assert found.changed > 32
    assert str(told.value) == (
        f"merging changes what the model says: of 64 prompts {found.changed} have another next token, and a logit "
        f"changes by {found.largest:.2g} of the largest; keep the adapter beside its base"
    )


def test_an_adapter_on_a_head_of_its_own_is_merged():
    model = adapted("qwen2", "lora", target_modules=("lm_head",))
    before = next_logits(model, PROMPTS)
    check_merge(difference(before, next_logits(merged(model), PROMPTS)), "fp32")


def test_an_adapter_whose_weights_are_not_finite_is_not_merged():
    model = adapted("llama", "lora")
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(torch.inf)
    with pytest.raises(FlantuneError, match=r"^the adapter cannot be merged \(.*\); keep it beside its base$"):
        merged(model)


def test_a_change_that_is_not_a_number_is_refused_too():
    with pytest.raises(FlantuneError, match=r"^merging changes what the model says"):
        check_merge(difference(torch.ones(2, 3), torch.full((2, 3), torch.nan)), "bf16")


# --- between two models -------------------------------------------------------------------------------------


def other(family: str):
    model = tiny(family, register())
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_ends_are_the_two_models_bit_for_bit_and_the_middle_is_their_mean(family):
    base, tuned, into = tiny(family, register()), other(family), tiny(family, register())
    for share in (Fraction(0), Fraction(1), Fraction(1, 2)):
        interpolate(base, tuned, share, into)
        for a, b, made in zip(base.parameters(), tuned.parameters(), into.parameters(), strict=True):
            if share in (0, 1):
                assert torch.equal(made, b if share else a)
            else:
                assert torch.allclose(made, (a + b) / 2, atol=1e-6)


def test_models_of_two_kinds_have_nothing_between_them():
    with pytest.raises(FlantuneError) as told:
        interpolate(tiny("llama", register()), tiny("qwen2", register()), Fraction(1, 2), tiny("llama", register()))
    assert str(told.value) == (
        "the two models are not of one kind: lm_head.weight is missing in one or has another shape; give a model and "
        "what was trained from it"
    )


@given(count=st.integers(1, 100))
def test_a_range_of_shares_has_both_ends_and_no_rounding(count):
    found = shares(f"0:1:{Fraction(1, count)}")
    assert found == [Fraction(i, count) for i in range(count + 1)]


def test_shares_are_read_exactly_as_written():
    assert shares("0:1:0.1")[3] == Fraction(3, 10)
    assert shares("0.5,0.3,0.5") == [Fraction(1, 2), Fraction(3, 10)]
    assert shares("1") == [1]


@pytest.mark.parametrize("text", ["", "a", "0:1", "0:1:0", "0:1:-1", "1:0:0.1", "0:2:1", "-0.1", "nan", "0:1:0.001"])
def test_shares_that_make_no_sense_are_refused(text):
    with pytest.raises(FlantuneError) as told:
        shares(text)
    assert str(told.value) == f"--alpha {text}: 1 to 101 shares from 0 to 1 are wanted, as 0:1:0.1 or 0.3,0.5"


@torch.no_grad()
def _shrink(module: torch.nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.mul_(0.3)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_models_added_one_after_another_give_the_mean_of_all(family):
    models = [tiny(family, register()), other(family), other(family).apply(_shrink)]
    mean = copy.deepcopy(models[0])
    for count, model in enumerate(models[1:], 2):
        add_to_mean(mean, model, count)
    for found, *weights in zip(mean.parameters(), *(model.parameters() for model in models), strict=True):
        assert torch.allclose(found, torch.stack(weights).mean(0), atol=1e-6)


# --- the commands -------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Trains a small recipe; takes overrides, gives the run's folder."""
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe, threads = write_recipe(tmp_path), torch.get_num_threads()
    torch.set_num_threads(1)  # tiny matrices: more threads only wait for each other

    def made(*overrides):
        code, _, error = command(
            capsys, monkeypatch, "train", recipe, "--no-compare", "training.draws=32", "training.precision=fp32",
            *overrides,
        )  # fmt: skip
        assert code == 0, error
        return tmp_path / "run"

    yield made
    torch.set_num_threads(threads)


def test_merge_writes_a_model_that_loads_anywhere_and_says_the_same(run, tmp_path, capsys, monkeypatch):
    made, out = run("adapter.method=lora", "training.learning_rate=0.02"), tmp_path / "merged"
    code, said, _ = command(capsys, monkeypatch, "merge", made, "--out", out)
    assert code == 0
    assert said.startswith(f"{out}: of 36 prompts 0 have another likeliest next token than with the adapter beside ")
    again = command(capsys, monkeypatch, "merge", made, "--out", out)
    assert again[0] == 2
    assert again[2] == f"error: {out}: the folder exists already; choose another with --out\n"
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert not hasattr(model, "peft_config")
    assert model.dtype == torch.float32
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, base.model.layers[0].mlp.up_proj.weight)


def test_a_merge_that_is_refused_leaves_nothing_behind(run, tmp_path, capsys, monkeypatch):
    made = run("adapter.method=lora", "adapter.target_modules=[lm_head]", "training.learning_rate=0.02")
    before = sorted(tmp_path.iterdir())
    code, _, error = command(capsys, monkeypatch, "merge", made, "--out", tmp_path / "merged")
    assert code == 2
    assert error.splitlines()[-1].startswith("error: merging changes what the model says: of 36 prompts ")
    assert sorted(tmp_path.iterdir()) == before


def test_interpolate_writes_a_model_for_each_share_and_scores_them(run, tmp_path, capsys, monkeypatch):
    made, out = run(), tmp_path / "between"
    code, said, _ = command(
        capsys, monkeypatch, "interpolate", tmp_path / "tiny", made, "--alpha", "0:1:0.5", "--out", out,
        "--precision", "fp32", "--recipe", made,
    )  # fmt: skip
    assert code == 0
    names = ["alpha-0", "alpha-0.5", "alpha-1"]
    assert [line for line in said.splitlines() if line.startswith(str(out))] == [str(out / name) for name in names]
    assert said.count("rouge1") == 6
    assert sorted(path.name for path in (out / "evaluation").iterdir()) == names
    found = [transformers.AutoModelForCausalLM.from_pretrained(out / name) for name in names]
    ends = [transformers.AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "tiny", made / "model")]
    for model, end in zip(found[::2], ends, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), end.parameters(), strict=True))


def test_average_writes_the_mean_of_a_run_and_its_base(run, tmp_path, capsys, monkeypatch):
    made, base, out = run("adapter.method=lora", "training.learning_rate=0.02"), tmp_path / "tiny", tmp_path / "mean"
    assert command(capsys, monkeypatch, "average", made, base, "--out", out, "--precision", "fp32")[:2] == (
        0,
        f"{out}\n",
    )
    assert command(capsys, monkeypatch, "merge", made, "--out", tmp_path / "merged")[0] == 0
    mean, tuned, start = (
        transformers.AutoModelForCausalLM.from_pretrained(path) for path in (out, tmp_path / "merged", base)
    )
    weights = [model.model.layers[0].mlp.up_proj.weight for model in (mean, tuned, start)]
    assert torch.allclose(weights[0], (weights[1] + weights[2]) / 2, atol=1e-6)
    assert not torch.equal(weights[1], weights[2])
    told = command(capsys, monkeypatch, "average", made, "--out", tmp_path / "one")
    assert told[0] == 2
    assert told[2].endswith("error: one model is its own average; give two or more\n")


def test_a_run_without_an_adapter_has_nothing_to_merge(run, tmp_path, capsys, monkeypatch):
    made = run()
    code, _, error = command(capsys, monkeypatch, "merge", made, "--out", tmp_path / "merged")
    assert code == 2
    assert error == (
        f"error: {made}: has no adapter: its model is whole already; give a trained run with adapter.method other "
        "than none\n"
    )
