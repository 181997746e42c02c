"""Greedy answers and choice scores against plain calls of the library, and against other batch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.evaluation.generate import batches_by_length, choose, generate
from flantune.models.load import LoadedModel, load_model
from tiny import save_tiny_model

PROMPTS = [f"Rate {'very ' * (i % 7)}well number {i * 37 % 101}, from {i} to 5" for i in range(60)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> LoadedModel:
    return load_model(str(save_tiny_model(tmp_path_factory.mktemp("tiny"))), precision="fp32", answering=True)


@pytest.fixture(scope="module")
def plain(loaded) -> Any:
    """The same weights under the library's own attention."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(loaded.source, attn_implementation="eager").eval()


def answers(loaded: LoadedModel, batch_tokens: int) -> list[tuple[str, bool]]:
    prompts = [loaded.format.prompt_ids(text) for text in PROMPTS]
    return [(a.text, a.finished) for a in generate(loaded, prompts, max_new_tokens=12, batch_tokens=batch_tokens)]


def test_the_batch_size_does_not_change_the_text_in_float32(loaded):
    one = answers(loaded, 1)
    assert answers(loaded, 200) == one
    assert answers(loaded, 100_000) == one


def test_greedy_answers_equal_those_of_the_library(loaded, plain):
    for text in PROMPTS[:12]:
        ids = loaded.format.prompt_ids(text)
        made = plain.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=list(loaded.format.stop_ids),
            pad_token_id=0,
        )[0, len(ids) :].tolist()
        ended = made[-1] in loaded.format.stop_ids
        assert generate(loaded, [ids], max_new_tokens=12)[0].text == loaded.format.text(made[:-1] if ended else made)


def test_an_answer_ends_at_an_end_token_and_an_endless_one_is_counted_as_unfinished(loaded):
    ids = loaded.format.prompt_ids(PROMPTS[0])
    endless = generate(loaded, [ids], max_new_tokens=5)[0]
    assert not endless.finished
    first = loaded.format.tokenizer(endless.text, add_special_tokens=False).input_ids
    stopping = LoadedModel(loaded.model, _format_that_stops_at(loaded, first[0]), loaded.name, loaded.source)
    ended = generate(stopping, [ids], max_new_tokens=5)[0]
    assert (ended.text, ended.finished) == ("", True)


def _format_that_stops_at(loaded: LoadedModel, token: int) -> Any:
    from flantune.models.prompt_format import PromptFormat

    return PromptFormat(loaded.format.tokenizer, "", (token,))


def log_likelihood(plain: Any, prompt: list[int], answer: list[int]) -> float:
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))


def test_choice_scores_are_log_likelihoods_of_whole_answers_with_their_end(loaded, plain):
    choices = ["5", "three", "not at all good", "no", "nothing"]
    prompts = [loaded.format.prompt_ids(text) for text in PROMPTS[:9]]
    given_choices = [choices[: 2 + i % 4] for i in range(9)]
    for batch_tokens in (1, 400, 100_000):
        scores = choose(loaded, prompts, given_choices, batch_tokens=batch_tokens)
        for prompt, texts, found in zip(prompts, given_choices, scores, strict=True):
            expected = [log_likelihood(plain, prompt, loaded.format.target_ids(text)) for text in texts]
            assert found == pytest.approx(expected, abs=1e-4)


def test_logits_of_an_answering_model_are_float32_and_finer_than_bfloat16(loaded, tmp_path):
    rough = load_model(loaded.source, precision="bf16")
    exact = load_model(loaded.source, precision="bf16", answering=True)
    prompt = [loaded.format.prompt_ids(PROMPTS[0])]
    digits = [list("0123456789")]
    assert choose(exact, prompt, digits) != choose(rough, prompt, digits)
    head = exact.model.get_output_embeddings()
    hidden = torch.randn(1, 3, 32, dtype=torch.bfloat16)
    assert head(hidden).dtype == torch.float32


@given(
    lengths=st.lists(st.integers(1, 50), max_size=40),
    batch_tokens=st.integers(1, 120),
)
def test_batches_hold_every_prompt_once_within_the_tokens_allowed_longest_first(lengths, batch_tokens):
    batches = list(batches_by_length(lengths, batch_tokens))
    flat = [i for batch in batches for i in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or sum(lengths[i] for i in batch) <= batch_tokens for batch in batches)


@pytest.fixture(scope="module")
def embedded() -> Path:
    from flantune.models.embedded import embedded_model

    return embedded_model("smollm2-135m-instruct")


@pytest.mark.slow
def test_the_embedded_model_answers_alike_for_any_batch_size_in_float32(embedded):
    from flantune.tasks import find_task

    loaded = load_model(str(embedded), precision="fp32", answering=True)
    task = find_task("starter/dialogue_summary")
    rows = task.split("test")
    prompts = [
        loaded.format.prompt_ids(task.render(task.templates[i % 5], rows[i], rows.place(i))[0]) for i in range(24)
    ]
    texts = [
        [a.text for a in generate(loaded, prompts, max_new_tokens=16, batch_tokens=size)] for size in (1, 900, 10_000)
    ]
    assert texts[0] == texts[1] == texts[2]


@settings(deadline=None, max_examples=15)
@given(order=st.permutations(range(8)))
def test_answers_come_back_in_the_order_of_the_prompts(loaded, order):
    prompts = [loaded.format.prompt_ids(text) for text in PROMPTS[:8]]
    straight = [a.text for a in generate(loaded, prompts, max_new_tokens=3)]
    shuffled = [a.text for a in generate(loaded, [prompts[i] for i in order], max_new_tokens=3)]
    assert shuffled == [straight[i] for i in order]
