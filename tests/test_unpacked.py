"""Models that streams do not fit, and adapters of learned tokens: padded rows against plain calls of the library."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import torch
import transformers

from families import UNPACKED, VOCABULARY, adapted, examples, one_at_a_time, padded, same_gradients, tiny
from flantune.errors import FlantuneError
from flantune.evaluation.generate import choose, generate
from flantune.models.load import LoadedModel, load_model
from flantune.models.merging import merged
from flantune.models.prompt_format import PromptFormat
from flantune.models.save import write_model
from flantune.models.self_check import pads_exactly
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.training.compilation import compile_step
from flantune.training.loss import weighted_sum
from runs import flantune, write_recipe
from tiny import save_tiny_model, save_tiny_t5, tiny_t5_tokenizer, tiny_tokenizer

PROMPT_ADAPTERS = [
    (family, method) for family in ("llama", "gpt2", "t5", "bart") for method in ("prompt_tuning", "prefix_tuning")
]
TOKENIZER = tiny_t5_tokenizer()


def loss_of(model: Any, rows: list[Any]) -> torch.Tensor:
    stream = stream_of(rows, start_token(model))
    return weighted_sum(target_logits(model, stream), stream.targets, stream.weights)[0]


@pytest.mark.parametrize(
    ("family", "layout"),
    [*((family, "padded") for family in UNPACKED if family != "prophetnet"), ("prophetnet", "alone"), ("led", "alone")],
)
def test_loss_and_gradients_of_rows_equal_one_example_at_a_time(family, layout):
    rows, model, plain = examples(seed=3, count=9), padded(family), tiny(family, "eager")
    model.flantune_layout = layout
    loss, reference = loss_of(model, rows), one_at_a_time(plain, rows)
    loss.backward()
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    same_gradients(model, plain)


def test_the_logits_of_rows_stand_in_the_order_of_the_stream():
    rows = examples(seed=5, count=7)
    model = padded("llama")
    together = target_logits(model, stream_of(rows))
    alone = torch.cat([target_logits(model, stream_of([row])) for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_self_check_finds_padding_that_changes_what_a_row_gives():
    model = padded("llama")
    assert pads_exactly(model)
    model.register_forward_pre_hook(_without_mask, with_kwargs=True)
    assert not pads_exactly(model)


def _without_mask(model, args, kwargs):
    """Counts positions from the end, as left padding would want them: right padding then moves every token."""
    length = kwargs["input_ids"].shape[1]
    return args, kwargs | {"position_ids": (100 - length + torch.arange(length))[None] ** 2}


def formatted(family: str, *ends: int) -> LoadedModel:
    model = padded(family)
    paired = model.config.is_encoder_decoder
    return LoadedModel(model, PromptFormat(TOKENIZER, "", ends, paired=paired), family, family)


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    """By plain calls on the whole of prompt and answer, without anything kept."""
    start, answer = start_token(model), list[int]()
    for _ in range(count):
        if start is None:
            logits = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits
        else:
            read = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([[start, *answer]])}
            logits = model(**read, use_cache=False).logits
        answer.append(int(logits[0, -1].argmax()))
    return answer


@pytest.mark.parametrize("family", UNPACKED)
def test_greedy_answers_equal_plain_calls_on_the_whole_text(family):
    loaded, plain = formatted(family, VOCABULARY + 1), tiny(family, "eager")
    prompts = [ids for ids, _, _ in examples(seed=8, count=3)]
    prompts.append([VOCABULARY - token for token in prompts[0]])  # of the same length as another
    found = generate(loaded, prompts, max_new_tokens=6, batch_tokens=10_000)
    with torch.no_grad():
        expected = [loaded.format.text(greedy(plain, ids, 6)) for ids in prompts]
    assert [answer.text for answer in found] == expected


@pytest.mark.parametrize("family", ["mamba", "gptj", "longt5_transient_global"])
def test_answers_that_end_early_leave_those_of_other_prompts_alone(family):
    prompts = [
        torch.randint(1, VOCABULARY, (9,), generator=torch.Generator().manual_seed(i)).tolist() for i in (1, 2, 3)
    ]
    loaded = formatted(family, *range(3, 40))
    together = generate(loaded, prompts, max_new_tokens=8, batch_tokens=10_000)
    assert together == [generate(loaded, [ids], max_new_tokens=8)[0] for ids in prompts]


@pytest.mark.parametrize("family", ["mamba", "bloom", "longt5_local", "led"])
def test_choices_are_scored_as_in_training(family):
    model = padded(family)
    encoded = {"a": [5], "b": [6, 7, 8, 9], "c": [6, 7, 3, 1, 2, 4, 11]}
    prompts = [ids for ids, _, _ in examples(seed=9, count=3)]
    fixed: Any = _Fixed(encoded)
    scores = choose(LoadedModel(model, fixed, family, family), prompts, [list(encoded)] * len(prompts))
    with torch.no_grad():
        for ids, found in zip(prompts, scores, strict=True):
            expected = [-loss_of(model, [(ids, target, 1.0)]).item() for target in encoded.values()]
            assert found == pytest.approx(expected, abs=1e-4)


class _Fixed:
    """A prompt format whose answers have given tokens."""

    def __init__(self, encoded: dict[str, list[int]]) -> None:
        self.target_ids = encoded.__getitem__


# --- learned tokens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "method"), PROMPT_ADAPTERS)
def test_learned_tokens_get_the_gradients_of_one_example_at_a_time(family, method):
    rows = examples(seed=6, count=6)
    model, plain = (adapted(family, method, virtual_tokens=5) for _ in range(2))
    loss, reference = loss_of(model, rows), one_at_a_time(plain, rows)
    loss.backward()
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    same_gradients(model, plain)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert trained
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in trained)


@pytest.mark.parametrize(("family", "method"), PROMPT_ADAPTERS)
def test_greedy_answers_behind_learned_tokens_equal_plain_calls(family, method):
    model = adapted(family, method, virtual_tokens=5)
    form = PromptFormat(TOKENIZER, "", (VOCABULARY + 1,), paired=model.config.is_encoder_decoder)
    prompts = [ids for ids, _, _ in examples(seed=8, count=3)]
    found = generate(LoadedModel(model, form, family, family), prompts, max_new_tokens=5)
    with torch.no_grad():
        assert [answer.text for answer in found] == [form.text(greedy(model, ids, 5)) for ids in prompts]


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_a_folder_of_learned_tokens_is_loaded_with_its_base_and_cannot_be_merged(method, tmp_path):
    from flantune.models.adapters import add_adapter
    from flantune.recipe.schema import Adapter

    base = save_tiny_model(tmp_path / "base")
    loaded = load_model(str(base), precision="fp32", packed=False)
    model = add_adapter(loaded.model, Adapter(method=method, virtual_tokens=3), base_name=str(base))
    write_model(model, tiny_tokenizer(), tmp_path / "tuned")
    again = load_model(str(tmp_path / "tuned"), precision="fp32")
    rows = examples(seed=4, count=3)
    with torch.no_grad():
        assert torch.equal(loss_of(again.model, rows), loss_of(model, rows))
    with pytest.raises(FlantuneError, match="learned tokens are no change of the base's weights"):
        merged(again.model)


# --- loading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*UNPACKED, "llama"])
def test_a_folder_is_loaded_as_its_model_can_be_computed_and_it_is_said_once(family, tmp_path):
    tiny(family, "eager").save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    said: list[str] = []
    loaded = load_model(str(tmp_path), precision="fp32", report=said.append)
    rows = examples(seed=3, count=4)
    kind = transformers.AutoModelForSeq2SeqLM if loaded.format.paired else transformers.AutoModelForCausalLM
    with torch.no_grad():
        reference = one_at_a_time(kind.from_pretrained(tmp_path), rows)
        assert loss_of(loaded.model, rows).item() == pytest.approx(reference.item(), rel=1e-5)
    how = "one at a time" if family in ("prophetnet", "switch") else "rows padded to like lengths"
    expected = f"model {tmp_path} does not fit packed streams: its examples are computed {how}, with the same result"
    assert said == ([] if family == "llama" else [expected])


def test_a_model_in_rows_is_not_compiled():
    model = padded("gptj")
    before = [layer.forward for layer in model.transformer.h]
    assert compile_step(model, 64, lambda line: None) is weighted_sum
    assert [layer.forward for layer in model.transformer.h] == before


def first_and_last_losses(run) -> tuple[float, float]:
    """Means over thirds of a run's steps, whose batches differ."""
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    third = len(losses) // 3
    return sum(losses[:third]) / third, sum(losses[-third:]) / third


# --- whole runs -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_longt5_goes_through_a_whole_run_in_padded_rows(tmp_path):
    write_recipe(tmp_path)
    shutil.rmtree(tmp_path / "tiny")
    folder = save_tiny_t5(tmp_path / "tiny")
    settings = json.loads((folder / "config.json").read_text()) | {"local_radius": 7, "model_type": "longt5"}
    config = transformers.LongT5Config(**settings, encoder_attention_type="transient-global")
    torch.manual_seed(0)
    transformers.LongT5ForConditionalGeneration(config).save_pretrained(folder)
    run, cache = tmp_path / "run", tmp_path / "cache"
    done = flantune("train", tmp_path / "recipe.yaml", "training.learning_rate=0.01", cache=cache)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("does not fit packed streams") == 1, done.stderr
    first, last = first_and_last_losses(run)
    assert last < first
    assert (run / "report.html").exists()
    said = flantune("chat", run, "--base", "--max-new-tokens", "4", cache=cache, input="amber birch\n/quit\n")
    assert [line.split(":")[0] for line in said.stdout.splitlines()] == ["tuned", "base"], said.stderr


@pytest.mark.slow
def test_learned_tokens_are_trained_and_compared(tmp_path):
    recipe = write_recipe(tmp_path)
    choices = ["adapter.method=prompt_tuning", "training.learning_rate=0.05"]
    done = flantune("train", recipe, *choices, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    first, last = first_and_last_losses(tmp_path / "run")
    assert last < first
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").exists()
    assert (tmp_path / "run" / "report.html").exists()
