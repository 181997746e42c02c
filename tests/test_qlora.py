"""QLoRA: what is refused without a GPU, and how a base in 4 bits is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flantune.errors import FlantuneError
from flantune.models.adapters import add_adapter
from flantune.models.four_bits import check_four_bits
from flantune.models.load import load_model
from flantune.models.unpacked import layout_of
from flantune.recipe.schema import Adapter
from runs import command, write_recipe
from tiny import save_tiny_model, save_tiny_t5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_in_one_line_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    recipe = write_recipe(tmp_path, extra="adapter: {method: qlora}")
    line = next(n for n, text in enumerate(recipe.read_text().splitlines(), 1) if text.startswith("adapter"))
    capsys.readouterr()
    code, _, told = command(capsys, monkeypatch, "train", recipe)
    assert (code, told) == (
        2,
        f"error: {recipe}:{line}: qlora needs a GPU; choose lora, with `training.precision: bf16`\n",
    )
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FlantuneError) as told:
        check_four_bits()
    assert str(told.value) == ("adapter.method: qlora needs the package bitsandbytes; pip install 'flantune[quant]'")


def llama(folder: Path) -> Path:
    """With rows of 64 weights and more, which share a scale."""
    import transformers

    save_tiny_model(folder)
    config = transformers.LlamaConfig.from_pretrained(folder)
    config.update({"hidden_size": 64, "intermediate_size": 128, "head_dim": 16})
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def t5(folder: Path) -> Path:
    return save_tiny_t5(folder, d_model=64, d_kv=16, d_ff=128)


@pytest.mark.parametrize("save", [llama, t5])
@pytest.mark.filterwarnings("ignore")
def test_the_matrices_inside_a_model_are_kept_in_four_bits_and_the_adapter_alone_is_trained(tmp_path, save):
    bnb = pytest.importorskip("bitsandbytes")
    folder = save(tmp_path / "tiny")
    loaded = load_model(str(folder), precision="fp32", in_four_bits=True, on_cpu=True)
    plain = load_model(str(folder), precision="fp32", on_cpu=True).model
    assert layout_of(loaded.model) == "packed"
    linear = {name for name, layer in plain.named_modules() if isinstance(layer, torch.nn.Linear)}
    # transformers keeps the layers in float32 that T5 overflows in.
    kept = {name for name in linear if name == "lm_head" or name.endswith(".wo")}
    quantized = {name: it for name, it in loaded.model.named_modules() if isinstance(it, bnb.nn.Linear4bit)}
    assert set(quantized) == linear - kept
    assert all(layer.weight.quant_type == "nf4" and layer.weight.compress_statistics for layer in quantized.values())
    model = add_adapter(loaded.model, Adapter(method="qlora", rank=4), base_name="tiny")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
