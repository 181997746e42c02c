"""What was forgotten: the form of kept answers, and how likely plain text is, against plain references."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import flantune as api
from flantune import FlantuneError, Recipe
from flantune.assessment import compared_models, evaluated, recomputed
from flantune.evaluation.compare import Resampling
from flantune.evaluation.forgetting import FORMS, REFUSALS, forgetting
from flantune.evaluation.likelihood import text_losses
from flantune.evaluation.plain_text import MOST_CHARACTERS, PACKAGED, read_plain_text
from flantune.evaluation.records import Group, Side, TaskAnswers
from flantune.models.load import load_model
from flantune.progress import Silent
from runs import LEARNING, command, rows_of, write_recipe
from tiny import TEXT, save_tiny_model, save_tiny_t5

ROOT = Path(__file__).parent.parent
HOW = Resampling(199, None, 3)


def side(name, answers, *, group: Group = "kept", decoding="generation", plain=None, **more):
    """One model's answers to one task; a row asks what its number says."""
    rows = [
        {"row": str(i), "prompt": f"{i}?", "references": ["two words"], "template": "t", "exemplars": 0, **more}
        | {"prediction": text, "finished": finished}
        for i, (text, finished) in enumerate(answers)
    ]
    task = TaskAnswers("t", "c", group, ("rouge1",), {"evaluate_by": decoding}, rows)
    told = {"model": name, **({"plain_text": {"text": "of the package", "whole": True}} if plain is not None else {})}
    return Side(told, (task,), plain)


def paragraphs(nats, tokens=7):
    return [{"row": i, "text": f"paragraph {i}", "nats": float(n), "tokens": tokens} for i, n in enumerate(nats)]


# --- the form of answers ------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(alphabet=" \n\tab,.—狗来\u00a0\u2028’'", max_size=24), st.sampled_from([*REFUSALS, "", " ", "Yes"])
)
ANSWERS = st.lists(st.tuples(TEXTS, st.booleans()), min_size=2, max_size=12)


@given(base=ANSWERS, data=st.data())
@settings(max_examples=40, deadline=None)
def test_figures_of_drift_are_those_of_a_plain_count(base, data):
    tuned = data.draw(st.lists(st.tuples(TEXTS, st.booleans()), min_size=len(base), max_size=len(base)))
    section = forgetting(side("base", base), [side("tuned", tuned)], Resampling(99, None, 3))[0]
    assert section is not None
    found = {entry["metric"]: entry for entry in section["drift"]}
    assert list(found) == list(FORMS)

    def length(text):
        words = 0
        for part in text.split():
            run = False
            for letter in part:
                alone = letter in "狗来"
                words += alone or not run
                run = not alone
        return words

    for name, answers in (("base", base), ("tuned", tuned)):
        lengths = [length(text) for text, _ in answers]
        assert found["words"][name] == pytest.approx(np.mean(lengths))
        assert found["one_word"][name] == pytest.approx(100 * np.mean([n == 1 for n in lengths]))
        assert found["empty"][name] == pytest.approx(100 * np.mean([not text.strip() for text, _ in answers]))
        assert found["unfinished"][name] == pytest.approx(100 * np.mean([not finished for _, finished in answers]))
    assert found["words"]["references"] == 2.0


@pytest.mark.parametrize("text", ["I cannot do that.", " “I’m sorry, but I can’t.”", "AS AN AI language model, I"])
def test_an_answer_that_begins_as_refusals_do_is_counted(text):
    assert FORMS["refusals"][1]({"prediction": text}) == 100
    assert FORMS["refusals"][1]({"prediction": "scored part", "text": text}) == 100


@pytest.mark.parametrize("text", ["", "I'm sorry for your loss.", "She said: I cannot.", "Sorry for being late!"])
def test_an_apology_that_was_asked_for_is_no_refusal(text):
    assert FORMS["refusals"][1]({"prediction": text}) == 0


def test_answers_that_shrink_to_one_word_are_told_in_a_sentence_and_other_models_share_one_correction():
    long = [("three words here and", True)] * 30
    base = side("base", long, plain=paragraphs(range(30, 60)))
    short = side("tuned", [("yes", True)] * 30, plain=paragraphs(range(31, 61)))
    same = side("same", long, plain=paragraphs(range(30, 60)))
    first, second = forgetting(base, [short, same], HOW)
    assert first is not None
    assert second is not None
    assert first["summary"] == (
        "Answers to t: shorter (4.0 → 1.0 words, in references 2.0), more answers of one word (0 → 100 %). "
        "Plain text: less likely, 6.357 → 6.500 nats a token (perplexity 576.6 → 665.1)."
    )
    assert first["judged"]["tests"] == second["judged"]["tests"] == 12
    alone = forgetting(base, [short], HOW)[0]
    assert alone is not None
    assert alone["plain_text"]["p_adjusted"] < first["plain_text"]["p_adjusted"]


def test_identical_models_show_no_drift_and_no_verdict():
    texts = [("some words", True), ("", False), ("one", True), ("I cannot say", True)] * 10
    base, same = (side(name, texts, plain=paragraphs(range(9, 49))) for name in ("base", "same"))
    found = forgetting(base, [same], HOW)[0]
    assert found is not None
    for entry in [*found["drift"], found["plain_text"]]:
        assert (entry["difference"], entry["ci"], entry["p"]) == (0.0, [0.0, 0.0], 1.0)
        assert entry.get("change", entry.get("verdict")) == "no difference shown"
    assert "No change in the form of answers is shown" in found["summary"]
    assert "Plain text: no difference shown" in found["summary"]


def test_rows_of_one_origin_count_as_one_observation():
    answers = [("a b", True), ("a b c", True)] * 6
    base, tuned = side("base", answers), side("tuned", [("a", True)] * 12)
    for one in (base, tuned):
        for number, row in enumerate(one.tasks[0].rows):
            row["row"] = str(number // 3)
    found = forgetting(base, [tuned], HOW)[0]
    assert found is not None
    assert [(entry["n"], entry["rows"]) for entry in found["drift"]] == [(4, 12)] * 5


def test_trained_tasks_are_corrected_apart_and_left_out_of_the_sentence():
    long, short = [("three words here", True)] * 30, [("yes", True)] * 30
    found = forgetting(side("base", long, group="trained"), [side("tuned", short, group="trained")], HOW)[0]
    assert found is not None
    assert found["drift"][0]["change"] == "fell"
    assert found["judged"]["tests"] == 0
    assert found["summary"] == ""


@pytest.mark.parametrize("how", [{"decoding": "choices"}, {"decoding": "target"}, {"choices": ["yes", "no"]}])
def test_nothing_is_told_where_no_task_is_answered_in_free_text_and_no_plain_text_was_measured(how):
    base, tuned = (side(name, [("yes", True)] * 4, **how) for name in ("base", "tuned"))
    assert forgetting(base, [tuned], HOW) == [None]


# --- plain text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [True, False])
def test_the_loss_of_plain_text_is_the_librarys_own_whatever_the_batch(tmp_path, monkeypatch, chat):
    folder = save_tiny_model(tmp_path, chat=chat)
    ours = load_model(str(folder), precision="fp32", answering=True)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    for most in (512, 60):  # of a long text, and of a batch
        monkeypatch.setattr("flantune.evaluation.likelihood.MOST_TEXT_TOKENS", most)
        for (nats, tokens), text in zip(text_losses(ours, [*TEXT, "a"]), [*TEXT, "a"], strict=True):
            ids = torch.tensor([tokenizer.encode(text)])[:, : most if chat else most + 1]
            assert tokens == ids.shape[1] - 1
            with torch.no_grad():
                wanted = float(plain(input_ids=ids, labels=ids).loss) * tokens if tokens else 0.0
            assert nats == pytest.approx(wanted, rel=1e-5)


def test_text_that_looks_like_control_tokens_stays_text(tmp_path):
    ours = load_model(str(save_tiny_model(tmp_path)), precision="fp32", answering=True)
    assert text_losses(ours, ["a<|end|>"])[0][1] > 2


def test_the_packages_text_is_sixty_paragraphs_of_plain_english():
    text = read_plain_text(True)
    assert text is not None
    assert (len(text.paragraphs), text.whole) == (60, True)
    assert len(set(text.paragraphs)) == 60
    assert all(30 <= len(each.split()) <= 60 and "\n" not in each for each in text.paragraphs)
    assert "src/flantune/starter" in str(PACKAGED)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("one line\nanother line\n", ["one line", "another line"]),
        ("a wrapped\nparagraph\n \nand one more\n\n\n\n", ["a wrapped\nparagraph", "and one more"]),
        ("word\n\ntwo words", ["two words"]),
    ],
)
def test_paragraphs_are_apart_by_blank_lines_or_else_by_lines(tmp_path, text, wanted):
    (tmp_path / "own.txt").write_text(text, encoding="utf-8")
    assert list(getattr(read_plain_text(str(tmp_path / "own.txt")), "paragraphs", ())) == wanted


def test_of_a_long_file_the_first_whole_paragraphs_are_read(tmp_path):
    (tmp_path / "long.txt").write_text("some words of it\n" * (MOST_CHARACTERS // 10), encoding="utf-8")
    text = read_plain_text(str(tmp_path / "long.txt"))
    assert text is not None
    assert not text.whole
    assert len(text.paragraphs) == MOST_CHARACTERS // 17
    assert set(text.paragraphs) == {"some words of it"}


WRONG = {
    None: "no such file; name a text file, or say false for none",
    b"": "no paragraph of two words or more; name another file, or say false for none",
    b"one\n\nword\n": "no paragraph of two words or more; name another file, or say false for none",
    b"caf\xe9 au lait": "not UTF-8 text (byte 3); save it as UTF-8",
}


@pytest.mark.parametrize("content", WRONG)
def test_a_wrong_file_is_one_line_before_training(tmp_path, monkeypatch, capsys, content):
    write_recipe(tmp_path)
    if content is not None:
        (tmp_path / "own.txt").write_bytes(content)
    with (tmp_path / "recipe.yaml").open("a") as file:
        file.write("# the text\n")
    recipe = (tmp_path / "recipe.yaml").read_text().replace("resamples: 199", "resamples: 199, plain_text: own.txt")
    (tmp_path / "recipe.yaml").write_text(recipe)
    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    code, _, err = command(capsys, monkeypatch, "train", tmp_path / "recipe.yaml")
    assert code == 2
    line = 1 + recipe[: recipe.index("plain_text")].count("\n")
    text = f"evaluation.plain_text: {tmp_path / 'own.txt'}: {WRONG[content]}"
    assert err.splitlines()[-1] == f"error: {tmp_path / 'recipe.yaml'}:{line}: {text}"
    assert not (tmp_path / "run").exists()


# --- runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A compared run with a text of its own, named relative to the recipe."""
    folder = tmp_path_factory.mktemp("forgetting")
    write_recipe(folder)
    (folder / "own.txt").write_text("\n\n".join(TEXT), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        made = api.train(Recipe.load(folder / "recipe.yaml", [*LEARNING, "evaluation.plain_text=own.txt"]))
        api.compare(made)
        yield made


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_users_text_is_measured_and_kept_and_the_numbers_follow_from_the_files(run):
    comparison = json.loads((run / "comparison.json").read_text())
    told = comparison["forgetting"]["plain_text"]
    base, tuned = (rows_of(run / "evaluation" / side / "_plain_text.jsonl") for side in ("base", "tuned"))
    assert [row["text"] for row in base] == list(TEXT)
    assert (told["text"], told["n"]) == ("own.txt", len(TEXT))
    for name, rows in (("base", base), ("tuned", tuned)):
        nats = sum(row["nats"] for row in rows) / sum(row["tokens"] for row in rows)
        assert told[name] == pytest.approx(nats, rel=1e-12)
        assert told["perplexity"][name] == pytest.approx(np.exp(nats), rel=1e-12)
    assert told["difference"] > 0
    assert recomputed(run) == comparison
    script = ROOT / "scripts" / "recompute_comparison.py"
    made = subprocess.run([sys.executable, script, run], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout
    assert "same near _plain_text plain_text" in made.stdout
    assert made.stdout.count("same near other") == 2 + len(FORMS)


@pytest.mark.parametrize("path", ["plain_text.difference", "drift.0.tuned"])
def test_a_changed_number_is_found(copy, path):
    comparison = json.loads((copy / "comparison.json").read_text())
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    value = comparison["forgetting"]
    for part in above:
        value = value[part]
    value[last] += 0.01
    (copy / "comparison.json").write_text(json.dumps(comparison))
    where = "plain_text.difference" if "plain" in path else r"drift.words.words.tuned"
    with pytest.raises(FlantuneError, match=f"forgetting.{where} is "):
        recomputed(copy)


def test_a_run_that_was_compared_before_is_computed_again_and_reported_without(copy):
    comparison = json.loads((copy / "comparison.json").read_text())
    del comparison["forgetting"]
    (copy / "comparison.json").write_text(json.dumps(comparison))
    for name in ("base", "tuned"):
        settings = copy / "evaluation" / name / "settings.json"
        told = json.loads(settings.read_text())
        del told["plain_text"]
        settings.write_text(json.dumps(told))
        (copy / "evaluation" / name / "_plain_text.jsonl").unlink()
    assert "forgetting" not in recomputed(copy)
    assert 'id="forgetting"' not in api.report(copy).read_text(encoding="utf-8")


def test_other_texts_are_not_compared_and_that_is_said(run, copy, tmp_path):
    for name in ("base", "tuned"):
        path = copy / "evaluation" / name / "_plain_text.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(path)[1:]))
    made = compared_models([str(run), str(copy), str(run)], out=tmp_path / "out")
    assert [each["forgetting"]["plain_text"] is None for each in made] == [True, False]
    assert (
        "Plain text: not compared, since the two were measured on other texts or tokens."
        in (made[0]["forgetting"]["summary"])
    )


def test_models_stand_side_by_side_with_the_first(run, copy, tmp_path, capsys, monkeypatch):
    models = (run / "evaluation" / "base", run, copy)
    code, out, _ = command(capsys, monkeypatch, "compare", *models, "--out", tmp_path / "out")
    assert code == 0
    table = out[out.rindex("plain text, nats") :]
    made = json.loads((tmp_path / "out" / "comparisons.json").read_text())
    for value in (made[0]["forgetting"]["plain_text"][side] for side in ("base", "tuned")):
        assert f"{value:.3f}" in table
    assert table.count(f"{made[0]['forgetting']['plain_text']['tuned']:.3f}") == 2


def test_the_terminal_tells_it_and_false_leaves_it_out(run, tmp_path, capsys, monkeypatch):
    _, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", run)
    assert "nats a token (perplexity" in out
    _, out, _ = command(capsys, monkeypatch, "evaluate", "--recompute", run / "evaluation" / "base")
    assert "plain text" in out
    folder = run.parent
    recipe = Recipe.load(folder / "recipe.yaml", ["training.precision=fp32", "evaluation.plain_text=false"])
    assert evaluated(recipe, str(folder / "tiny"), tmp_path / "out").plain_text is None
    assert not (tmp_path / "out" / "_plain_text.jsonl").exists()


def test_of_an_encoder_decoder_no_plain_text_is_measured_and_that_is_said_once(tmp_path, monkeypatch):
    write_recipe(tmp_path)
    save_tiny_t5(tmp_path / "t5")
    said = []

    class Heard(Silent):
        def say(self, line):
            said.append(line)

    monkeypatch.setenv("FLANTUNE_CACHE", str(tmp_path / "cache"))
    recipe = Recipe.load(tmp_path / "recipe.yaml", ["model=t5", "training.precision=fp32"])
    for baseline in (True, False):
        found = evaluated(recipe, str(tmp_path / "t5"), tmp_path / "out", baseline=baseline, listener=Heard())
        assert found.plain_text is None
    assert sum("plain text is not measured" in line for line in said) == 1
