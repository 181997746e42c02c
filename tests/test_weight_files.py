"""Where weights come from: safetensors inside the model's folder, pickles by consent alone, GGUF files converted."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from flantune.errors import FlantuneError
from flantune.models.convert import convert
from flantune.models.load import load_format, load_model
from flantune.models.weight_files import check_entries, check_folder
from gguf_files import write_llama, write_t5
from runs import command
from tiny import save_tiny_model, save_tiny_t5

LINES = ("How many stars did 123 reviewers give?", "  two  spaces\tand\r\n\n12", "naïve 中文 👩‍👩‍👧")


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture
def model(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))


def refused(call, *arguments, **named) -> str:
    with pytest.raises(FlantuneError) as told:
        call(*arguments, **named)
    assert "\n" not in str(told.value)
    return str(told.value)


def logits(folder: Path | str) -> torch.Tensor:
    """By the library alone."""
    ids = torch.arange(3, 60)[None]
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    given = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    with torch.no_grad():
        return kind.from_pretrained(folder, dtype=torch.float32).eval()(ids, **given).logits


# --- what an index and links may lead to --------------------------------------------------------------------


def sharded(model: Path, entry: str) -> Path:
    """The model with its weights moved to where an index's entry leads."""
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, entry)}))
    target = model / entry
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, target, metadata={"format": "pt"})
    return index


def test_an_index_that_leads_to_a_real_model_beside_the_folder_is_refused(model):
    index = sharded(model, "../elsewhere/weights.safetensors")
    assert logits(model).shape[-1] == 300, "the library itself would read it"
    told = refused(load_model, str(model))
    assert told == f"{index}: weight_map names '../elsewhere/weights.safetensors', outside the model's folder; refused"


def test_an_index_with_an_absolute_path_is_refused(model, tmp_path):
    index = sharded(model, str(tmp_path / "weights.safetensors"))
    assert refused(load_model, str(model)).startswith(f"{index}: weight_map names '/")


def test_a_link_out_of_the_folder_is_refused_by_index_or_alone(model, tmp_path):
    (model / "model.safetensors").rename(tmp_path / "secret.safetensors")
    (model / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    assert refused(load_model, str(model)) == (
        f"{model / 'model.safetensors'}: a link out of the model's folder; refused: put the file itself there"
    )
    (model / "model.safetensors").unlink()
    (model / "parts").symlink_to(tmp_path)
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "parts/secret.safetensors"}}))
    assert refused(load_model, str(model)) == (
        f"{index}: weight_map names 'parts/secret.safetensors', a link out of the model's folder; refused"
    )


def test_a_link_to_the_whole_folder_and_links_inside_it_are_read(model, tmp_path):
    (model / "model.safetensors").rename(model / "weights.bytes")
    (model / "model.safetensors").symlink_to("weights.bytes")
    (tmp_path / "link").symlink_to(model)
    check_folder(tmp_path / "link")


def test_an_index_into_a_folder_below_is_read(model):
    before = logits(model)
    sharded(model, "parts/weights.safetensors")
    check_folder(model)
    assert torch.equal(logits(model), before)


names = st.text("ab./\\:", min_size=1, max_size=12).map(lambda text: f"{text}.safetensors")


@given(entry=names)
def test_whatever_an_index_names_lies_in_the_folder_or_is_refused(entry):
    folder = Path("/somewhere/model")
    try:
        check_entries({"weight": entry}, "index")
    except FlantuneError:
        return
    assert Path(os.path.normpath(folder / entry)).is_relative_to(folder)


@pytest.mark.parametrize("said", ['{"weight_map": [1]}', '{"weight_map": {"a": 3}}', "[]", "{", "[" * 100_000])
def test_an_index_that_is_none_is_one_line(model, said):
    (model / "model.safetensors.index.json").write_text(said)
    assert refused(load_model, str(model)).startswith(f"{model / 'model.safetensors.index.json'}: ")


@pytest.mark.parametrize("named", ["adapter_model.bin", "../model.safetensors", "parts/a.safetensors.index.json", 3])
def test_weights_that_the_configuration_names_elsewhere_are_refused(model, named):
    config = json.loads((model / "config.json").read_text()) | {"transformers_weights": named}
    (model / "config.json").write_text(json.dumps(config))
    assert refused(load_model, str(model)) == (
        f"{model / 'config.json'}: transformers_weights is {named!r}; only a .safetensors file of the model's folder "
        "is read"
    )


def as_on_the_hub(model: Path, cache: Path, name: str) -> Path:
    """The hub's cache after a download: files are links to blobs beside the snapshots."""
    place = cache / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / ("0" * 40)
    (place / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    for number, path in enumerate(sorted(model.iterdir())):
        shutil.copy(path, place / "blobs" / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    return snapshot


LOAD = """
import sys
from flantune.errors import FlantuneError
from flantune.models.load import load_model
for name in sys.argv[1:]:
    try:
        print("loaded", load_model(name, precision="fp32").source)
    except FlantuneError as error:
        print(error)
"""


@pytest.mark.slow
def test_models_of_the_hub_are_held_to_the_same(model, tmp_path):
    cache = tmp_path / "hub"
    snapshot = as_on_the_hub(model, cache, "some/good")
    index = model / "model.safetensors.index.json"
    (model / "model.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": {"a": "../../../../secret.safetensors"}}))
    as_on_the_hub(model, cache, "some/bad")
    made = subprocess.run(
        [sys.executable, "-c", LOAD, "some/good", str(snapshot), "some/bad"],
        env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.stdout.splitlines() == [
        "loaded some/good",
        f"loaded {snapshot}",
        "some/bad/model.safetensors.index.json: weight_map names '../../../../secret.safetensors', outside the model's "
        "folder; refused",
    ], made.stderr


# --- pickles ------------------------------------------------------------------------------------------------


def pickled(model: Path) -> Path:
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    return model


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return (Path.touch, (self.made,))


def test_pickled_weights_are_named_with_the_way_to_read_them(model, capsys, monkeypatch, tmp_path):
    pickled(model)
    assert refused(load_model, str(model)) == (
        f"{model}: its weights are pickled (pytorch_model.bin), and to read a pickle can run code; "
        f"`flantune model convert {model} OUT --allow-pickle` writes them as safetensors"
    )
    code, _, told = command(capsys, monkeypatch, "model", "convert", model, tmp_path / "out")
    assert (code, told) == (
        2,
        f"error: {model}: to read pickled weights can run code that is in them; if you trust who made them, "
        "add --allow-pickle\n",
    )
    assert not (tmp_path / "out").exists()


def test_pickles_that_may_be_read_become_safetensors_with_the_same_logits(model, capsys, monkeypatch, tmp_path):
    before, text = logits(model), (model / "tokenizer.json").read_bytes()
    pickled(model)
    (model / "modeling.py").write_text("raise SystemExit")
    out = tmp_path / "out"
    code, printed, _ = command(capsys, monkeypatch, "model", "convert", model, out, "--allow-pickle")
    assert (code, printed) == (0, f"{out}\n")
    assert torch.equal(logits(out), before)
    assert (out / "tokenizer.json").read_bytes() == text
    assert not list(out.glob("*.bin")) + list(out.glob("*.py"))
    assert load_model(str(out), precision="fp32").source == str(out)
    assert refused(convert, str(model), out, report=silent) == f"{out}: is there already; name a new folder"
    assert refused(convert, str(out), tmp_path / "again", report=silent).endswith(
        "has safetensors already; use it as it is"
    )


def test_shards_and_tied_weights_come_through(model, tmp_path):
    before = logits(model)
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]  # one storage, as a pickle can have it
    (model / "model.safetensors").unlink()
    placed = {}
    for number in (0, 1):
        file = f"pytorch_model-{number + 1:05}-of-00002.bin"
        part = {name: tensor for n, (name, tensor) in enumerate(weights.items()) if n % 2 == number}
        part |= {name: weights[name] for name in ("lm_head.weight", "model.embed_tokens.weight") if number == 0}
        torch.save(part, model / file)
        placed |= dict.fromkeys(part, file)
    (model / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": placed}))
    convert(str(model), tmp_path / "out", allow_pickle=True, report=silent)
    assert torch.equal(logits(tmp_path / "out"), before)


def test_a_pickle_with_code_is_refused_and_its_code_never_run(model, tmp_path):
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    path = model / "pytorch_model.bin"
    torch.save({**weights, "evil": Evil(tmp_path / "ran")}, path)
    told = f"{path}: the pickle asks for more than tensors, so it is not read"
    assert refused(convert, str(model), tmp_path / "out", allow_pickle=True, report=silent) == told
    path.write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=2))
    refused(convert, str(model), tmp_path / "out", allow_pickle=True, report=silent)
    path.write_bytes(path.read_bytes()[:10])
    refused(convert, str(model), tmp_path / "out", allow_pickle=True, report=silent)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_an_adapter_with_pickled_weights_is_refused_though_safetensors_lie_beside(model, tmp_path):
    import peft

    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    adapter = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapter.peft_config["default"].base_model_name_or_path = str(model)
    folder = tmp_path / "adapter"
    adapter.save_pretrained(folder)
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")
    assert "its weights are pickled (adapter_model.bin)" in refused(load_model, str(folder))
    (folder / "other.safetensors").unlink()
    convert(str(folder), tmp_path / "safe", allow_pickle=True, report=silent)
    with torch.no_grad():
        ids = torch.arange(3, 60)[None]
        again = peft.PeftModel.from_pretrained(
            transformers.AutoModelForCausalLM.from_pretrained(model), str(tmp_path / "safe")
        )
        assert torch.equal(again(ids).logits, adapter.eval()(ids).logits)
        assert not torch.equal(again(ids).logits, logits(model))


# --- GGUF ---------------------------------------------------------------------------------------------------


def t5(folder: Path) -> Path:
    return save_tiny_t5(folder)


def gated_t5(folder: Path) -> Path:
    return save_tiny_t5(folder, feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=2)


@pytest.mark.parametrize(
    ("save", "write"),
    [(save_tiny_model, write_llama), (t5, write_t5), (gated_t5, write_t5)],
    ids=["llama", "t5", "gated t5"],
)
def test_a_gguf_file_is_the_model_that_it_was_made_of(tmp_path, save, write):
    original = save(tmp_path / "original")
    file = write(original, tmp_path / "model.gguf")
    loaded = load_model(str(file), precision="fp32")
    assert torch.equal(logits(loaded.source), logits(original))
    ours, theirs = loaded.format, load_format(str(original))
    for line in LINES:
        assert ours.tokenizer(line)["input_ids"] == theirs.tokenizer(line)["input_ids"]
        assert ours.prompt_ids(line) == theirs.prompt_ids(line)
    assert (ours.stop_ids, ours.target_head, ours.paired) == (theirs.stop_ids, theirs.target_head, theirs.paired)
    assert ours.tokenizer.chat_template == theirs.tokenizer.chat_template
    assert ours.tokenizer.pad_token_id == theirs.tokenizer.pad_token_id


def test_quantized_weights_are_written_out_without_rounding(tiny, tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_0
    file = write_llama(tiny, tmp_path / "model.gguf", quantized=kind)
    found = load_file(Path(load_model(str(file)).source) / "model.safetensors")
    for name, weight in load_file(tiny / "model.safetensors").items():
        expected, got = weight.numpy(), found[name].numpy()
        if expected.ndim == 2:
            expected = gguf.dequantize(gguf.quantize(expected, kind), kind)
        assert np.array_equal(got, expected), name  # a block lies within a row, so their order changes nothing


def test_a_gguf_file_is_converted_once_and_again_when_it_changes(tiny, tmp_path):
    file = write_llama(tiny, tmp_path / "model.gguf")
    said: list[str] = []
    folders = [load_model(str(file), report=said.append).source for _ in range(2)]
    assert folders[0] == folders[1]
    assert said == ["converting model.gguf to safetensors (once)"]
    write_llama(tiny, file, quantized=gguf.GGMLQuantizationType.Q8_0)
    assert load_model(str(file)).source != folders[0]


def test_digits_are_cut_apart_where_the_file_says_so_and_an_unknown_rule_is_told(tiny, tmp_path):
    said: list[str] = []
    file = write_llama(tiny, tmp_path / "digits.gguf", pre="smollm")
    tokenizer = load_format(str(file), report=said.append).tokenizer
    assert tokenizer.tokenize("a  12") == ["a", "Ġ", "Ġ", "1", "2"]
    assert len(said) == 1
    file = write_llama(tiny, tmp_path / "other.gguf", pre="unheard-of")
    load_format(str(file), report=said.append)
    assert said[2:] == [
        "other.gguf: its tokenizer's rule for words and numbers is not one that transformers knows; GPT-2's is used, "
        "which may cut some text otherwise than in its training"
    ]


def test_a_file_that_is_no_gguf_and_one_of_an_unknown_kind_are_one_line(tiny, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"PK\x03\x04 and so on")
    assert refused(load_model, str(file)) == f"{file}: not a GGUF file"
    writer = gguf.GGUFWriter(file, "unheard-of")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    told = refused(load_model, str(file))
    assert told.startswith(f"{file}: cannot read this GGUF file: ")
    assert told.endswith("; fetch it again, or take the model's safetensors")
    file.unlink()
    assert refused(load_model, str(file)).startswith(f"{file}: no such model folder; give a folder, a GGUF file")


def test_a_folder_of_gguf_files_says_to_name_the_file(tiny, tmp_path):
    write_llama(tiny, tmp_path / "some.Q8_0.gguf")
    assert refused(load_model, str(tmp_path)) == (
        f"{tmp_path}: no model in this folder: config.json is missing; name the file itself: "
        f"{tmp_path / 'some.Q8_0.gguf'}"
    )


@pytest.mark.slow
def test_a_damaged_gguf_file_is_one_line_or_a_whole_model(tiny, tmp_path):
    whole = write_llama(tiny, tmp_path / "whole.gguf").read_bytes()
    dice = np.random.default_rng(0)
    file = tmp_path / "damaged.gguf"
    for trial in range(60):
        spoiled = bytearray(whole)
        if trial % 3 == 0:
            del spoiled[int(dice.integers(4, len(whole))) :]
        else:
            for place in dice.integers(4, 12_000, size=2):
                spoiled[place] ^= 1 << int(dice.integers(8))
        file.write_bytes(bytes(spoiled))
        try:
            convert(str(file), tmp_path / f"out{trial}", report=silent)
        except FlantuneError:
            assert not (tmp_path / f"out{trial}").exists()
        else:
            check_folder(tmp_path / f"out{trial}")
