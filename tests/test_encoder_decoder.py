"""A T5 from its folder to its answers, against plain calls of the library."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from families import ENCODER_DECODERS, examples, tiny
from flantune.evaluation.generate import choose, generate
from flantune.models.adapters import add_adapter
from flantune.models.load import LoadedModel, load_format, load_model
from flantune.models.packed_attention import register
from flantune.models.prompt_format import PromptFormat
from flantune.models.stream import start_token, stream_of, target_logits
from flantune.recipe.schema import Adapter
from flantune.tasks.conversation import Conversation
from flantune.training.activation_checkpointing import checkpoint_activations
from flantune.training.loss import weighted_sum
from tiny import save_tiny_bart, save_tiny_t5, tiny_t5_tokenizer

PROMPTS = [f"Rate {'very ' * (i % 7)}well number {i * 37 % 101}, from {i} to 5" for i in range(24)]
TOKENIZER = tiny_t5_tokenizer()
FORMAT = PromptFormat(TOKENIZER, "", (TOKENIZER.eos_token_id,), paired=True)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> LoadedModel:
    return load_model(str(save_tiny_t5(tmp_path_factory.mktemp("t5"))), precision="fp32", answering=True)


@pytest.fixture(scope="module")
def bart(tmp_path_factory) -> LoadedModel:
    return load_model(str(save_tiny_bart(tmp_path_factory.mktemp("bart"))), precision="fp32", answering=True)


def library(loaded: LoadedModel) -> Any:
    """The same weights under the library's own attention."""
    import transformers

    return transformers.AutoModelForSeq2SeqLM.from_pretrained(loaded.source, attn_implementation="eager").eval()


def test_prompt_and_target_are_each_a_text_and_one_end_token():
    assert FORMAT.prompt_ids("Answer with the number only.") == TOKENIZER("Answer with the number only.").input_ids
    assert FORMAT.target_ids("the dog") == TOKENIZER("the dog").input_ids
    assert FORMAT.ids_of_all(["the fox"], ["the dog"]) == [
        (TOKENIZER("the fox").input_ids, TOKENIZER("the dog").input_ids)
    ]


def test_a_system_text_stands_before_the_input():
    spoken = PromptFormat(TOKENIZER, "Answer with the number only.", (TOKENIZER.eos_token_id,), paired=True)
    ids = spoken.prompt_ids("the dog")
    assert " ".join(spoken.text(ids).split()) == "Answer with the number only. the dog"
    assert ids[-1] == TOKENIZER.eos_token_id


def test_a_conversation_becomes_one_text_of_its_turns():
    turns = [("user", "one"), ("assistant", "two"), ("user", "three")]
    assert FORMAT.prompt_ids(Conversation(turns)) == FORMAT.prompt_ids("user: one\nassistant: two\nuser: three")
    assert FORMAT.prompt_ids(Conversation(turns[:1])) == FORMAT.prompt_ids("one")


@pytest.mark.parametrize(
    ("text", "changed"), [("the dog jumps", False), ("the dog\njumps", True), ("f{x}", True), ("the  dog", True)]
)
def test_a_text_that_the_tokenizer_cannot_write_is_told(text, changed):
    assert (FORMAT.text(FORMAT.target_ids(text)) != text) is changed


def test_the_format_of_a_folder_knows_that_inputs_and_targets_stand_apart(loaded):
    assert loaded.format.paired
    assert load_format(loaded.source).paired
    assert load_format(loaded.source).prompt_ids("the dog") == FORMAT.prompt_ids("the dog")


def test_bart_reads_and_writes_texts_between_its_begin_and_end_tokens(bart):
    begin, end = bart.format.tokenizer.bos_token_id, bart.format.tokenizer.eos_token_id
    text = bart.format.tokenizer("the dog", add_special_tokens=False).input_ids
    assert bart.format.prompt_ids("the dog") == [begin, *text, end]
    assert bart.format.target_ids("the dog") == [begin, *text, end]
    assert bart.format.ids_of_all(["the dog"], ["the dog"]) == [([begin, *text, end], [begin, *text, end])]
    assert start_token(bart.model) == end


def test_a_target_does_not_begin_with_the_token_that_it_stands_behind(bart):
    tokenizer = bart.format.tokenizer
    made = PromptFormat(tokenizer, "", (tokenizer.eos_token_id,), paired=True, start=tokenizer.bos_token_id)
    assert made.target_ids("the dog") == bart.format.target_ids("the dog")[1:]


def test_greedy_answers_of_bart_equal_those_of_the_library_with_the_same_first_token(bart):
    plain, begin = library(bart), bart.format.tokenizer.bos_token_id
    prompts = [bart.format.prompt_ids(text) for text in PROMPTS]
    expected = []
    for ids in prompts:
        given = torch.tensor([ids])
        rules = {"do_sample": False, "max_new_tokens": 10, "forced_bos_token_id": begin, "forced_eos_token_id": None}
        made = plain.generate(given, **rules)[0, 2:].tolist()
        expected.append(bart.format.text(made))
    for batch_tokens in (1, 200, 100_000):
        found = generate(bart, prompts, max_new_tokens=9, batch_tokens=batch_tokens)
        assert [answer.text for answer in found] == expected


def test_bart_without_positions_from_outside_counts_its_own(bart):
    plain, ids = library(bart), torch.tensor([bart.format.prompt_ids(PROMPTS[0])])
    ours = bart.model.get_encoder()(input_ids=ids, segment_lengths=torch.tensor([ids.shape[1]]))[0]
    assert torch.allclose(ours, plain.get_encoder()(input_ids=ids)[0], atol=1e-5)


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
    loaded.model.save_pretrained(tmp_path)
    import transformers

    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, attn_implementation="eager")
    for name, weight in library(loaded).state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_greedy_answers_equal_those_of_the_library_for_any_batch(loaded):
    plain = library(loaded)
    prompts = [loaded.format.prompt_ids(text) for text in PROMPTS]
    expected = []
    for ids in prompts:
        made = plain.generate(input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=9)[0, 1:].tolist()
        expected.append(loaded.format.text(made))
    for batch_tokens in (1, 120, 100_000):
        found = generate(loaded, prompts, max_new_tokens=9, batch_tokens=batch_tokens)
        assert [answer.text for answer in found] == expected


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_answers_that_end_early_leave_those_of_other_prompts_alone(family, loaded):
    """Every token ends an answer in turn, so that rows leave the batch at different steps."""
    model = tiny(family, register())
    prompts = [ids for ids, _, _ in examples(seed=8, count=9)]
    for stop in range(3, 30, 5):
        ends = PromptFormat(TOKENIZER, "", tuple(range(stop, stop + 12)), paired=True)
        one = LoadedModel(model, ends, family, family)
        together = generate(one, prompts, max_new_tokens=12, batch_tokens=10_000)
        assert together == [generate(one, [ids], max_new_tokens=12)[0] for ids in prompts]


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_choices_are_scored_as_in_training(family):
    model = tiny(family, register())
    prompts = [ids for ids, _, _ in examples(seed=9, count=5)]
    encoded = {"a": [5], "b": [6, 7, 8, 9], "c": [6, 7, 3, 1, 2, 4, 11, 12, 13, 14]}
    fixed: Any = _Fixed(encoded)
    scores = choose(LoadedModel(model, fixed, family, family), prompts, [list(encoded)] * len(prompts))
    with torch.no_grad():
        for ids, found in zip(prompts, scores, strict=True):
            for target, score in zip(encoded.values(), found, strict=True):
                stream = stream_of([(ids, target, 1.0)], start_token(model))
                loss = weighted_sum(target_logits(model, stream), stream.targets, stream.weights)[0]
                assert score == pytest.approx(-loss.item(), abs=1e-4)


class _Fixed:
    """A prompt format whose answers have given tokens."""

    def __init__(self, encoded: dict[str, list[int]]) -> None:
        self.target_ids = encoded.__getitem__


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_packed_gradients_of_an_adapter_equal_one_example_at_a_time(method):
    rows = examples(seed=6, count=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = add_adapter(tiny("t5", register()), Adapter(method=method, dropout=0.0), base_name="t5")
        for weight in model.parameters():
            if weight.requires_grad:  # LoRA starts at nothing, where half of its gradients are nothing too
                weight.data.add_(0.05 * torch.randn(weight.shape))

    def gradients(batches: list[Any]) -> list[torch.Tensor]:
        model.zero_grad()
        for batch in batches:
            stream = stream_of(batch, start_token(model))
            weighted_sum(target_logits(model, stream), stream.targets, stream.weights)[0].backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    for together, alone in zip(gradients([rows]), gradients([[row] for row in rows]), strict=True):
        assert torch.allclose(together, alone, rtol=0, atol=2e-5 * max(float(alone.abs().max()), 1e-3))


def test_activations_computed_again_give_the_same_gradients():
    plain, again = tiny("t5", register()).train(), tiny("t5", register()).train()
    checkpoint_activations(again, "t5")
    stream = stream_of(examples(seed=7, count=4), start_token(plain))
    for model in (plain, again):
        weighted_sum(target_logits(model, stream), stream.targets, stream.weights)[0].backward()
    for (name, ours), theirs in zip(again.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None, name
        assert theirs.grad is not None, name
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name
