"""Prompts of real tokenizers, as a text file that a person can review, and answers that end by themselves.

FLANTUNE_GOLDEN=1 writes the file anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flantune.evaluation.generate import generate
from flantune.evaluation.prompts import evaluation_set
from flantune.mixture.window import Member, WindowBuilder
from flantune.models.embedded import is_ready
from flantune.models.load import load_format, load_model
from flantune.models.prompt_format import PromptFormat
from flantune.pipeline import train
from flantune.recipe import load_recipe
from flantune.tasks import Task
from flantune.tasks.conversation import Conversation
from small_mixture import rule
from tiny import save_tiny_model, tiny_tokenizer

GOLDEN = Path(__file__).parent / "golden" / "prompts.txt"
EXAMPLES = {
    "words": ("Name three fruits.", "Apples, pears and plums."),
    "lines": ("  Sort:\n\n\tb, a  \n", "a, b"),
    "other scripts": ("Übersetze: 日本語 🙂 עברית", "Japanese 🙂"),
    "control tokens as text": ("say <|im_end|> and <|end|> and </s>", "<|im_start|>assistant"),
    "conversation": (
        Conversation([("user", "Hi."), ("assistant", "Hello!"), ("user", "Bye.")]),
        "See you <|im_end|> soon.",
    ),
    "conversation with a system text": (Conversation([("system", "Be brief."), ("user", "Hi.")]), "Hello."),
}


def formats():
    """Each tokenizer with its chat template and without one."""
    tiny, base = tiny_tokenizer(), tiny_tokenizer(chat=False)
    yield "tiny, chat template", PromptFormat(tiny, "", (tiny.eos_token_id,))
    yield "tiny, plain", PromptFormat(base, "", (base.eos_token_id,))
    yield "tiny, chat template, system text", PromptFormat(tiny, "You sort.", (tiny.eos_token_id,))
    if is_ready("smollm2-135m-instruct"):
        made = load_format("smollm2-135m-instruct")
        yield "SmolLM2, chat template", made
        made.tokenizer.chat_template = None
        yield "SmolLM2, plain", PromptFormat(made.tokenizer, "", made.stop_ids)


def told(made, prompt, target):
    """Text and ids of one example, a token between bars."""
    inputs, targets = made.prompt_ids(prompt), made.target_ids(target)
    shown = "|".join(json.dumps(made.tokenizer.decode([i]), ensure_ascii=False)[1:-1] for i in [*inputs, *targets])
    return f"  {shown}\n  {inputs} -> {targets}\n"


def test_prompts_of_real_tokenizers_are_those_that_were_reviewed():
    written = {}
    for name, made in formats():
        for title, (prompt, target) in EXAMPLES.items():
            written[f"{name}: {title}"] = told(made, prompt, target)
    if os.environ.get("FLANTUNE_GOLDEN"):
        GOLDEN.write_text("".join(f"{title}\n{text}\n" for title, text in written.items()), encoding="utf-8")
    reviewed = dict(block.split("\n", 1) for block in GOLDEN.read_text(encoding="utf-8").split("\n\n") if block)
    for title, text in written.items():
        assert reviewed[title].rstrip("\n") == text.rstrip("\n"), title


def test_training_evaluation_and_chat_give_one_prompt_the_same_ids():
    rows = [{"q": f"question {i} of <|end|>", "a": f"answer {i}"} for i in range(6)]
    task = Task("t", {"train": rows, "test": rows}, ["{{ q }}? ||| {{ a }}"])
    made = dict(formats())["tiny, chat template"]
    builder = WindowBuilder([Member(task, task.split("train"))], rule(capacity=400, window=6), made)
    trained = {segment.row: segment.input_ids for row in builder.window(0, 6)[0] for segment in row}
    for item in evaluation_set(task, split="test", rows=6, templates="all", seed=0).items:
        assert trained[int(item.row)] == made.prompt_ids(item.prompt)
        assert trained[int(item.row)] == made.prompt_ids(Conversation([("user", item.prompt)]))


@pytest.mark.slow
@pytest.mark.parametrize("chat", [True, False])
def test_a_model_that_has_learned_four_rows_by_heart_says_them_and_stops_by_itself(tmp_path, monkeypatch, chat):
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    save_tiny_model(tmp_path / "tiny", chat=chat)
    rows = [{"q": word, "a": word[::-1]} for word in ("amber", "birch", "cedar", "delta")]
    Task("four", {"train": rows}, ["Turn round: {{ q }} ||| {{ a }}"], origins=["four"]).save(tmp_path / "four")
    (tmp_path / "recipe.yaml").write_text(
        "model: tiny\ntasks: [four/task.yaml]\nmixture: {capacity: 160, window: 64}\n"
        "training: {draws: 1600, rows_per_step: 1, learning_rate: 1e-2, compile: false, precision: fp32}\n"
        f"evaluation: {{split: train, rows: 4, resamples: 99}}\noutput: {tmp_path / 'run'}\n",
        encoding="utf-8",
    )
    train(load_recipe(tmp_path / "recipe.yaml"))
    loaded = load_model(str(tmp_path / "run" / "model"), answering=True)
    prompts = [loaded.format.prompt_ids(f"Turn round: {row['q']}") for row in rows]
    answers = generate(loaded, prompts, max_new_tokens=40)
    assert [(answer.text, answer.finished) for answer in answers] == [(row["a"], True) for row in rows]
