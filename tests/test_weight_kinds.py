"""Which weights decay and which Muon is for, in the models that are trained."""

from __future__ import annotations

import re

import peft
import pytest
import torch
import transformers

from families import FAMILIES, tiny
from flantune.training.weight_kinds import decaying, hidden_matrices

# A plain reference: by name, family by family.
NOT_DECAYING = re.compile(r"norm|layernorm|\.ln_|bias|embed_tokens|\.wte\.|\.wpe\.|shared|layer_norm")


def t5():
    sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))


@pytest.mark.parametrize("family", FAMILIES)
def test_matrices_decay_and_norms_biases_and_embeddings_do_not(family):
    model = tiny(family, "eager")
    names = {name for name, _ in model.named_parameters()}
    assert decaying(model) == {name for name in names if not NOT_DECAYING.search(name)}


@pytest.mark.parametrize("tied", [True, False])
def test_in_t5_relative_positions_do_not_decay_and_a_head_does_only_where_it_is_not_tied(tied):
    model = t5()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    found = decaying(model)
    assert ("lm_head.weight" in found) is not tied
    assert not any("relative_attention_bias" in name or "shared" in name for name in found)
    assert len([name for name in found if "SelfAttention" in name]) == 8


def test_a_head_is_no_hidden_matrix_even_where_it_is_not_tied():
    model = tiny("qwen2", "eager")
    assert decaying(model) - hidden_matrices(model) == {"lm_head.weight"}


def test_of_an_adapter_only_matrices_that_start_near_zero_decay():
    found = {}
    for name, config in {
        "dora": peft.LoraConfig(r=2, use_dora=True, target_modules=["q_proj"]),
        "ia3": peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    }.items():
        model = peft.get_peft_model(tiny("llama", "eager"), config)
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        found[name] = ({n.split(".")[-3] for n in trained}, {n.split(".")[-3] for n in decaying(model)})
        assert decaying(model) <= trained
    assert found["dora"][1] == {"lora_A", "lora_B"}
    assert found["ia3"][1] == set()


def test_a_vector_is_one_with_an_axis_of_length_one_beside_it():
    model = torch.nn.ParameterDict({"row": torch.zeros(1, 5), "column": torch.zeros(5, 1), "matrix": torch.zeros(2, 2)})
    assert decaying(model) == {"matrix"}
