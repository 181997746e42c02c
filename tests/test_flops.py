"""The count of useful arithmetic against what PyTorch counts when each example is computed alone."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from families import ENCODER_DECODERS, FAMILIES, VOCABULARY, adapted, tiny
from flantune.models.adapters import add_adapter
from flantune.models.flops import useful_flops
from flantune.models.packed_attention import register
from flantune.models.stream import start_token
from flantune.peak import computing_type, matrix_peak
from flantune.recipe.schema import Adapter

LENGTHS = [(9, 4), (30, 7), (3, 17)]


def counted(model, lengths) -> int:
    """By PyTorch: forward and backward of each example alone, in the library's own attention."""
    total = 0
    for given, wanted in lengths:
        ids = torch.arange(given + wanted) % (VOCABULARY - 1) + 1
        with FlopCounterMode(display=False) as counter:
            if model.config.is_encoder_decoder:
                start = torch.tensor([start_token(model), *ids[given:-1].tolist()])
                logits = model(input_ids=ids[None, :given], decoder_input_ids=start[None], use_cache=False).logits[0]
            else:
                keep = torch.arange(given - 1, given + wanted - 1)
                logits = model(input_ids=ids[None], use_cache=False, logits_to_keep=keep).logits[0]
            torch.nn.functional.cross_entropy(logits, ids[given:], reduction="sum").backward()
        total += counter.get_total_flops()
    return total


@pytest.mark.parametrize("family", [*FAMILIES, *ENCODER_DECODERS])
def test_useful_flops_are_those_that_pytorch_counts_for_examples_alone(family):
    # Rotary angles are a product of matrices too, of a fraction of a per mille here and less in any real model.
    assert useful_flops(tiny(family, "eager")).of(LENGTHS) == pytest.approx(
        counted(tiny(family, "eager"), LENGTHS), rel=0.01
    )


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_an_adapter_saves_the_gradients_of_frozen_weights_but_none_by_inputs(family):
    model = adapted(family, "lora")
    found = useful_flops(model).of(LENGTHS)
    whole = useful_flops(tiny(family, register())).of(LENGTHS)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained
    assert 0.5 * whole < found < whole
    unfrozen = adapted(family, "lora")
    for parameter in unfrozen.parameters():
        parameter.requires_grad_(True)
    assert useful_flops(unfrozen).of(LENGTHS) > whole > found


def test_examples_cost_the_same_however_they_are_packed():
    flops = useful_flops(tiny("llama", register()))
    assert flops.of(LENGTHS) == sum(flops.of([each]) for each in LENGTHS)
    assert flops.of([]) == 0


def test_the_peak_is_a_speed_that_a_product_of_matrices_reaches():
    measured = matrix_peak(torch.float32, torch.device("cpu"))
    assert 1e8 < measured < 1e15


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_peak_is_of_the_type_that_is_computed_in_also_where_weights_are_masters(tmp_path, dtype):
    tiny("llama", register()).save_pretrained(tmp_path)
    for model in (
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype),
        add_adapter(
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype),
            Adapter(method="lora"),
            base_name="tiny",
        ),
    ):
        for weight in model.parameters():
            weight.data = weight.data.float()  # as `flantune.training.sharding.shard` has them
        assert computing_type(model) == dtype
