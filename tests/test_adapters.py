"""Adapters: which layers get one, what is trained, packed as alone, and files that plain `peft` reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
import transformers

from families import FAMILIES, adapted, examples, tiny
from flantune.errors import FlantuneError
from flantune.models.adapters import add_adapter
from flantune.models.packed_attention import register
from flantune.models.save import write_model
from flantune.models.stream import stream_of, target_logits
from flantune.recipe.schema import Adapter
from flantune.training.activation_checkpointing import checkpoint_activations
from flantune.training.loss import weighted_sum
from tiny import tiny_tokenizer

METHODS = ["lora", "rslora", "dora", "ia3"]


def tiny_t5():
    sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, dropout_rate=0.0))


def layers(model) -> set[str]:
    """Names of the layers that have an adapter."""
    return {
        name.partition(".lora_")[0].partition(".ia3_")[0].rpartition(".")[2]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def gradients(model, rows) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    stream = stream_of(rows)
    loss = weighted_sum(target_logits(model, stream), stream.targets, stream.weights)[0]
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_training_of_an_adapter_equals_one_example_at_a_time(family, method):
    model, rows = adapted(family, method), examples(seed=4, count=4)
    loss, packed = gradients(model, rows)
    alone = [gradients(model, [row]) for row in rows]
    assert loss == pytest.approx(sum(one for one, _ in alone), rel=1e-5)
    assert packed.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, gradient in packed.items():
        summed = torch.stack([by_name[name] for _, by_name in alone]).sum(0)
        assert torch.allclose(gradient, summed, rtol=1e-4, atol=1e-4 * summed.abs().max().item())


@pytest.mark.parametrize(
    ("family", "method", "expected"),
    [
        ("llama", "lora", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("qwen2", "dora", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("gpt2", "rslora", {"c_attn", "c_proj", "c_fc"}),
        ("llama", "ia3", {"k_proj", "v_proj", "down_proj"}),
        ("smollm3", "ia3", {"k_proj", "v_proj", "down_proj"}),
        ("phi", "ia3", {"q_proj", "v_proj", "fc2"}),
    ],
)
def test_by_default_an_adapter_is_on_the_layers_that_suit_its_method_and_never_on_the_head(family, method, expected):
    assert layers(adapted(family, method)) == expected


def test_in_t5_an_adapter_is_on_both_stacks_and_says_that_it_belongs_to_an_encoder_decoder():
    for method, expected in {"lora": {"q", "k", "v", "o", "wi", "wo"}, "ia3": {"k", "v", "wo"}}.items():
        made = add_adapter(tiny_t5(), Adapter(method=method), base_name="t5")
        assert layers(made) == expected
        trained = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
        assert {name.split(".")[2] for name in trained} == {"encoder", "decoder"}
        assert made.peft_config["default"].task_type == "SEQ_2_SEQ_LM"


@pytest.mark.parametrize("method", METHODS)
def test_named_layers_alone_get_an_adapter(method):
    assert layers(adapted("llama", method, target_modules=("q_proj", "v_proj"))) == {"q_proj", "v_proj"}


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_loads_in_plain_peft_with_the_same_logits(tmp_path, method):
    model = adapted("llama", method)
    write_model(model, tiny_tokenizer(), tmp_path)
    again = peft.PeftModel.from_pretrained(tiny("llama", "eager"), str(tmp_path)).eval()
    ids = torch.arange(1, 30)
    stream = stream_of([(ids[:-9].tolist(), ids[-9:].tolist(), 1.0)])
    with torch.no_grad():
        expected = again(input_ids=ids[None], use_cache=False).logits[0, -10:-1]
        assert torch.allclose(target_logits(model, stream), expected, atol=1e-5)
        assert not torch.allclose(tiny("llama", "eager")(ids[None]).logits[0, -10:-1], expected, atol=1e-2)
    assert again.peft_config["default"].base_model_name_or_path == "tiny"


def test_a_layer_that_the_model_does_not_have_is_refused_with_the_nearest():
    with pytest.raises(FlantuneError) as told:
        adapted("llama", "lora", target_modules=("q_pro",))
    assert str(told.value) == (
        'adapter.target_modules: the model has no layer "q_pro"; did you mean "q_proj"? '
        "(down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj)"
    )


def test_ia3_asks_for_layers_where_none_has_a_name_that_it_knows():
    model = tiny("gpt2", register())
    model.config.model_type = "unheard_of"
    with pytest.raises(FlantuneError) as told:
        add_adapter(model, Adapter(method="ia3"), base_name="tiny")
    assert str(told.value) == ("adapter.target_modules: give the layers that ia3 scales; known: c_attn, c_fc, c_proj")


# --- activation checkpointing -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["none", "lora", "dora", "ia3"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral_with_window"])
def test_activations_computed_again_give_the_same_loss_and_gradients(family, method):
    rows, found = examples(seed=4, count=4), []
    for again in (False, True):
        model = tiny(family, register()) if method == "none" else adapted(family, method)
        model.train()
        calls: list[int] = []
        block = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)[0]
        next(block.children()).register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        if again:
            checkpoint_activations(model, family)
        found.append((gradients(model, rows), len(calls)))
    (plain, once), (checkpointed, twice) = found
    assert (once, twice) == (1, 2)
    assert checkpointed[0] == plain[0]
    assert checkpointed[1].keys() == plain[1].keys()
    assert all(torch.equal(checkpointed[1][name], gradient) for name, gradient in plain[1].items())


@pytest.mark.parametrize("method", ["none", "lora", "ia3"])
def test_in_t5_too_activations_computed_again_give_the_same_gradients(method):
    ids, found = torch.arange(1, 9)[None], []
    for again in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            model = tiny_t5()
            if method != "none":
                model = add_adapter(model, Adapter(method=method), base_name="t5")
        if again:
            checkpoint_activations(model, "t5")
        model.train()
        model(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits.square().mean().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    plain, checkpointed = found
    assert checkpointed.keys() == plain.keys()
    assert len(plain) >= 8
    for name, gradient in plain.items():  # of what several layers use, sums are ordered otherwise
        assert torch.allclose(checkpointed[name], gradient, rtol=1e-5, atol=1e-6 * gradient.abs().max().item()), name


def test_a_model_that_cannot_compute_activations_again_is_refused():
    with pytest.raises(FlantuneError) as told:
        checkpoint_activations(torch.nn.Linear(1, 1), "plain")
    assert str(told.value) == (
        "training.activation_checkpointing: model plain cannot compute activations again; remove it"
    )


@pytest.mark.slow
def test_what_packages_beside_peft_log_as_they_are_imported_is_not_printed():
    """bitsandbytes does so once a process, on processors that could use a kernel that it lacks."""
    pytest.importorskip("bitsandbytes")
    made = "import sys; from families import adapted; adapted('llama', 'lora'); assert 'bitsandbytes' in sys.modules"
    ended = subprocess.run(
        [sys.executable, "-c", made], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
