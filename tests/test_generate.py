"""Greedy answers and choice scores against plain calls of the library, and against other batch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from families import FAMILIES, MORE_FAMILIES, examples, tiny
from flantune.evaluation.generate import FEW, SHARES, _prefill, _step, batches_by_length, choose, generate
from flantune.models.exact_head import exact_head, has_narrow_products
from flantune.models.load import LoadedModel, load_model
from flantune.models.packed_attention import register
from flantune.models.prompt_format import PromptFormat
from tiny import save_tiny_model, tiny_tokenizer

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


def outspoken(family: str, attention: str) -> Any:
    """A tiny model whose answers vary with the prompt; a small T5 gives few different ones as it is."""
    model = tiny(family, attention)
    if model.config.is_encoder_decoder:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(6)
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize(("family", "stops", "longest"), [("qwen3", [7], 6), ("t5_v1_1", [*range(7, 17)], 12)])
def test_500_prompts_have_the_same_text_in_batches_of_1_3_and_32_and_in_the_library(family, stops, longest):
    model, plain = outspoken(family, register()), outspoken(family, "eager")
    paired = model.config.is_encoder_decoder
    form = PromptFormat(tiny_tokenizer(), "", tuple(stops), paired=paired)
    loaded = LoadedModel(model, form, family, family)
    begin = list(range(20, 44))
    prompts = [[*begin[: i % 3 * 12], *ids] for i, (ids, _, _) in enumerate(examples(seed=3, count=500))]
    one = [generate(loaded, [ids], max_new_tokens=longest)[0] for ids in prompts]
    assert len({answer.text for answer in one}) > 50
    if paired:  # rows leave their batches at many steps
        assert len({len(form.tokenizer(answer.text).input_ids) for answer in one if answer.finished}) > 5
    order = sorted(range(500), key=lambda i: len(prompts[i]))
    for rows in (3, 32):
        for first in range(0, 500, rows):
            batch = order[first : first + rows]
            made = generate(loaded, [prompts[i] for i in batch], max_new_tokens=longest, batch_tokens=1_000_000)
            assert made == [one[i] for i in batch]
    # Batches that are read one after the other grow together, and each that is finished makes room for the next.
    assert generate(loaded, prompts, max_new_tokens=longest, batch_tokens=150) == one
    rules: dict[str, Any] = {"do_sample": False, "max_new_tokens": longest, "eos_token_id": stops, "pad_token_id": 0}
    for ids, answer in list(zip(prompts, one, strict=True))[::5]:
        given = torch.tensor([ids])
        made = plain.generate(given, attention_mask=torch.ones_like(given), **rules)[0]
        new = made[1 if paired else len(ids) :].tolist()
        assert answer.text == form.text(new[:-1] if new[-1] in stops else new)


@pytest.mark.parametrize(("room", "block"), [(0, 64), (2**30, 64), (2**30, 3)])
@pytest.mark.parametrize("family", FAMILIES | MORE_FAMILIES)
def test_what_grows_beside_an_answer_does_not_change_it(family, room, block, monkeypatch):
    model = outspoken(family, register())
    form = PromptFormat(tiny_tokenizer(), "", (7,), paired=model.config.is_encoder_decoder)
    loaded = LoadedModel(model, form, family, family)
    prompts = [ids for ids, _, _ in examples(seed=5, count=12)]
    alone = [generate(loaded, [ids], max_new_tokens=8)[0] for ids in prompts]
    monkeypatch.setattr("flantune.evaluation.generate.GROWING_BYTES", room)
    monkeypatch.setattr("flantune.evaluation.kv_store.BLOCK", block)
    steps: list[int] = []
    assert generate(loaded, prompts, max_new_tokens=8, batch_tokens=40, progress=steps.append) == alone
    assert sum(steps) == len(prompts)


@pytest.mark.skipif(not has_narrow_products(), reason="this processor has no bfloat16 products")
@pytest.mark.parametrize("family", FAMILIES | MORE_FAMILIES)
def test_answers_in_bfloat16_are_those_that_all_logits_would_give(family):
    model = outspoken(family, register()).bfloat16()
    exact_head(model)
    form = PromptFormat(tiny_tokenizer(), "", (7,), paired=model.config.is_encoder_decoder)
    loaded = LoadedModel(model, form, family, family)
    prompts = [ids for ids, _, _ in examples(seed=5, count=12)]
    found = generate(loaded, prompts, max_new_tokens=8)
    assert model.__dict__[FEW] == (not hasattr(model, "final_logits_bias"))
    model.__dict__[FEW] = False
    assert generate(loaded, prompts, max_new_tokens=8) == found


def first_logits(model: Any, prompts: list[list[int]]) -> torch.Tensor:
    """Of the answers' second tokens, which see what was kept of the prompts."""
    with torch.inference_mode():
        store, _ = _prefill(model, prompts, 2)
        return _step(model, store, torch.arange(len(prompts)) + 3)


@pytest.mark.parametrize("family", FAMILIES | MORE_FAMILIES)
def test_prompts_that_begin_alike_are_read_as_if_each_stood_alone(family):
    model = tiny(family, register())
    common = list(range(20, 44))
    prompts = [[*common, *ids] for ids, _, _ in examples(seed=4, count=3)] + [[*common[:12], 3, 4], common, [5]]
    together = first_logits(model, prompts)
    assert model.__dict__[SHARES]
    for number, prompt in enumerate(prompts):
        plain = (
            tiny(family, "eager")(input_ids=torch.tensor([[*prompt, number + 3]]), use_cache=False)
            .logits[0, -1]
            .detach()
        )
        assert torch.allclose(together[number], plain, atol=2e-4 * float(plain.abs().max()))
