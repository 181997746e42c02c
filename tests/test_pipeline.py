"""The whole story on a tiny model: every file of a run, the same result twice, and mistakes that end it early."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import flantune as api
from flantune import FlantuneError, Recipe
from runs import command, flantune, write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module", autouse=True)
def _cache(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="module")
def run(folder):
    """A run that was trained and compared through the Python interface."""
    run = api.train(Recipe.load(write_recipe(folder)))
    api.compare(run)
    return run


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_leaves_the_files_of_the_design_and_nothing_else(run):
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    assert files == [
        "comparison.json",
        "environment.json",
        "evaluation/base/_plain_text.jsonl",
        "evaluation/base/other.jsonl",
        "evaluation/base/settings.json",
        "evaluation/base/verdict.jsonl",
        "evaluation/base/words.jsonl",
        "evaluation/tuned/_plain_text.jsonl",
        "evaluation/tuned/other.jsonl",
        "evaluation/tuned/settings.json",
        "evaluation/tuned/verdict.jsonl",
        "evaluation/tuned/words.jsonl",
        "metrics.jsonl",
        "mixture.json",
        "model/README.md",
        "model/chat_template.jinja",
        "model/config.json",
        "model/generation_config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "plan.json",
        "recipe.yaml",
        "report.html",
        "trainer_state.json",
    ]


def test_the_comparison_has_one_entry_a_task_and_metric_with_the_main_metric_first(run):
    comparison = read(run / "comparison.json")
    assert [(e["task"], e["metric"], e["seen"]) for e in comparison["tasks"]] == [
        ("words", "rouge1", True),
        ("words", "exact_match", True),
        ("verdict", "accuracy", True),
        ("other", "rouge1", False),
        ("other", "exact_match", False),
    ]
    for entry in comparison["tasks"]:
        assert entry["difference"] == pytest.approx(entry["tuned"] - entry["base"])
        assert entry["ci"][0] <= entry["difference"] <= entry["ci"][1]
        assert 0 < entry["p"] <= entry["p_adjusted"] <= 1
        assert entry["n"] == 12
        assert entry["verdict"] in ("better", "worse", "no difference shown", "equivalent")
    assert comparison["average"]["seen"]["tasks"] == 2
    assert comparison["average"]["unseen"]["tasks"] == 1
    assert comparison["base"]["model"].endswith("tiny")


def test_scores_by_template_are_those_of_the_predictions_asked_so(run):
    entry = next(e for e in read(run / "comparison.json")["tasks"] if e["task"] == "verdict")
    assert sum(told["n"] for told in entry["by_template"].values()) == entry["n"]
    assert {name for name, told in entry["by_template"].items() if told["held_out"]} == {"other_words"}
    for side in ("base", "tuned"):
        lines = [json.loads(line) for line in (run / "evaluation" / side / "verdict.jsonl").read_text().splitlines()]
        for name, told in entry["by_template"].items():
            own = [line["scores"]["accuracy"] for line in lines if line["template"] == name]
            assert len(own) == told["n"]
            assert sum(own) / len(own) == pytest.approx(told[side])


def test_scores_in_the_comparison_are_those_of_the_kept_predictions(run):
    for side in ("base", "tuned"):
        rows = [json.loads(line) for line in (run / "evaluation" / side / "verdict.jsonl").read_text().splitlines()]
        right = sum(row["prediction"] == row["references"][0] for row in rows)
        entry = next(e for e in read(run / "comparison.json")["tasks"] if e["task"] == "verdict")
        assert entry[side] == pytest.approx(100 * right / len(rows))


def test_base_and_tuned_answer_the_same_prompts_in_seen_and_held_out_phrasings(run):
    for task in ("words", "verdict", "other"):
        base, tuned = (
            [json.loads(line) for line in (run / "evaluation" / side / f"{task}.jsonl").read_text().splitlines()]
            for side in ("base", "tuned")
        )
        assert [(r["row"], r["template"], r["prompt"]) for r in base] == [
            (r["row"], r["template"], r["prompt"]) for r in tuned
        ]
        assert {r["template_kind"] for r in base} == {"seen", "held_out"}


def test_plan_receipt_and_log_agree(run):
    plan, receipt = read(run / "plan.json"), read(run / "mixture.json")
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(log) == plan["steps"]
    assert [line["step"] for line in log] == list(range(plan["steps"]))
    assert sum(line["tokens"] for line in log) == plan["tokens"]
    assert sum(line["target_tokens"] for line in log) == plan["target_tokens"]
    assert receipt["draws"] == plan["draws"] == 64
    for planned, realised in zip(plan["tasks"], receipt["tasks"], strict=True):
        assert planned["task"] == realised["task"]
        assert planned["draws"] == realised["draws"] == 32


def test_the_resolved_recipe_repeats_the_run_byte_for_byte(run, folder):
    again = api.train(Recipe.load(run / "recipe.yaml", [f"output={folder / 'again'}"]))
    for name in ("model/model.safetensors", "plan.json", "mixture.json"):
        assert (again / name).read_bytes() == (run / name).read_bytes(), name


def test_comparing_again_finds_the_predictions_in_the_cache_and_tells_the_same(run):
    before = (run / "comparison.json").read_bytes()
    api.compare(run)
    assert (run / "comparison.json").read_bytes() == before


def test_a_model_compared_with_itself_gets_no_verdict(run, folder):
    copy = folder / "untrained"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "model")
    shutil.copytree(folder / "tiny", copy / "model")
    comparison = api.compare(copy)
    assert {entry["difference"] for entry in comparison["tasks"]} == {0.0}
    assert {entry["verdict"] for entry in comparison["tasks"]} == {"no difference shown"}


def test_the_tuned_model_loads_in_plain_transformers(run):
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(run / "model")
    assert model.config.use_cache
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(run / "model")
    assert tokenizer.chat_template is not None


@pytest.fixture(scope="module")
def lora(folder, run):
    return api.train(Recipe.load(folder / "recipe.yaml", [f"output={folder / 'lora'}", "adapter.method=lora"]))


def test_an_adapter_is_saved_in_the_format_of_peft_and_loads_there(lora):
    import peft

    model = peft.AutoPeftModelForCausalLM.from_pretrained(lora / "model")
    assert any("lora" in name for name, _ in model.named_parameters())
    compared = api.compare(lora)
    assert compared["tuned"]["method"] == "lora"


def test_evaluate_prints_scores_of_any_model(run, folder, capsys, monkeypatch):
    code, out, _ = command(capsys, monkeypatch, "evaluate", run, folder / "tiny", "--out", folder / "scores", "--json")
    assert code == 0
    scores = {(e["task"], e["metric"]): e["score"] for e in json.loads(out)["tasks"]}
    for entry in read(run / "comparison.json")["tasks"]:
        assert scores[entry["task"], entry["metric"]] == pytest.approx(entry["base"])


def test_report_is_written_again_from_the_files(run, capsys, monkeypatch):
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    code, out, _ = command(capsys, monkeypatch, "report", run)
    assert (code, out) == (0, f"{run / 'report.html'}\n")
    assert (run / "report.html").read_text() == before


def test_chat_answers_with_the_tuned_model_and_with_its_base_beside_it(run, folder):
    talk = flantune("chat", run, "--base", "--max-new-tokens", "4", cache=folder / "cache", input="Hello\n/quit\n")
    assert talk.returncode == 0, talk.stderr
    assert [line.split(":")[0] for line in talk.stdout.splitlines() if ":" in line][:2] == ["tuned", "base"]


# Mistakes: one line, exit code 2, nothing half-written. Those of task files and recipes are in test_bad_input.py.


def test_an_output_folder_that_exists_is_refused_with_both_ways_on(run, folder, capsys, monkeypatch):
    before = sorted(run.rglob("*"))
    code, out, err = command(capsys, monkeypatch, "train", folder / "recipe.yaml")
    assert (code, out) == (2, "")
    assert err == (
        f"error: {run}: the output folder exists already; choose another with output=..., or go on with it: "
        f"flantune train --resume {run}\n"
    )
    assert sorted(run.rglob("*")) == before


def test_a_target_longer_than_the_row_is_named_with_its_remedy(folder, run, capsys, monkeypatch):
    code, _, err = command(
        capsys, monkeypatch, "train", folder / "recipe.yaml", "mixture.capacity=16", f"output={folder / 'short'}"
    )
    assert code == 2
    assert err.splitlines()[-1] == (
        "error: nothing is left to train on: 64 x prompt and target longer than a packed row; "
        "raise mixture.capacity (now 16)"
    )
    assert not (folder / "short").exists()


def test_a_target_that_fits_no_row_is_dropped_counted_and_warned_about(folder, run):
    rows = (folder / "words-train.jsonl").read_text().splitlines()
    long = json.dumps({"text": "amber", "answer": "birch " * 200})
    (folder / "long-train.jsonl").write_text("\n".join([*rows[:9], long]) + "\n")
    task = (folder / "words.yaml").read_text().replace("name: words", "name: long").replace("words-train", "long-train")
    (folder / "long.yaml").write_text(task)
    recipe = Recipe.load(folder / "recipe.yaml", ["tasks=[long.yaml]", f"output={folder / 'dropped'}"])
    plan = api.prepare(recipe).plan
    assert plan["tasks"][0]["dropped"] > 0
    assert plan["draws"] == 64
    assert plan["tasks"][0]["draws"] + plan["tasks"][0]["dropped"] == 64
    template = plan["tasks"][0]["samples"]["dropped"][0]["template"]
    assert plan["warnings"][0] == (
        f"long: {plan['tasks'][0]['dropped']} of 64 draws have a target that is longer than a packed row and are "
        f"dropped (such as long-train.jsonl:10 in template {template}); raise mixture.capacity (of an "
        "encoder-decoder mixture.target_capacity) or leave such rows out with `where`"
    )


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            "smollm2-135m-instrct",
            "cannot load model 'smollm2-135m-instrct': ",
        ),
        (
            "./nowhere",
            "./nowhere: no such model folder; give a folder, a GGUF file, a hub name, or one of: smollm2-135m-instruct",
        ),
    ],
)
def test_an_unknown_model_is_one_line_that_names_what_there_is(folder, run, model, told):
    made = flantune(
        "train", folder / "recipe.yaml", f"model={model}", f"output={folder / 'nobody'}", cache=folder / "cache"
    )
    assert made.returncode == 2
    assert len(made.stderr.splitlines()) == 1
    assert made.stderr.startswith(f"error: {told}")
    assert "smollm2-135m-instruct" in made.stderr
    assert not (folder / "nobody").exists()


def test_a_loss_that_is_not_finite_stops_with_its_step_and_draws(folder, run, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "tiny", tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], 3e38)
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    recipe = Recipe.load(
        folder / "recipe.yaml",
        [f"model={tmp_path / 'broken'}", f"output={tmp_path / 'out'}", "training.precision=fp32"],
    )
    with pytest.raises(FlantuneError, match=r"^the loss is not finite at step 0 \(draws [\d, .]+\); lower training"):
        api.train(recipe)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 kB, real."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", place], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("this machine mounts no file systems")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("checkpoint_every", [2, 0], ids=["in a checkpoint", "in the model"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(folder, run, small_disk, checkpoint_every):
    made = flantune(
        "train",
        folder / "recipe.yaml",
        f"output={small_disk / 'run'}",
        "training.precision=fp32",
        f"training.checkpoint_every={checkpoint_every}",
        cache=folder / "cache",
    )
    assert made.returncode == 2, made.stderr
    told = [line for line in made.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    remedy = f"; then go on with: flantune train --resume {small_disk / 'run'}" if checkpoint_every else ""
    assert told[0].endswith(f": no space left on the disk; free some, or choose another folder{remedy}")
    assert "Traceback" not in made.stderr
    assert not (small_disk / "run" / "model").exists()
    assert not list((small_disk / "run").rglob(".*"))


def refused(recipe: Recipe) -> str:
    with pytest.raises(FlantuneError) as caught:
        api.train(recipe)
    return str(caught.value)


def test_a_model_that_lacks_weights_is_refused_rather_than_filled_at_random(folder, run, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "tiny", tmp_path / "partial")
    weights = load_file(tmp_path / "partial" / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "partial" / "model.safetensors", metadata={"format": "pt"})
    told = refused(Recipe.load(folder / "recipe.yaml", [f"model={tmp_path / 'partial'}", f"output={tmp_path / 'out'}"]))
    assert told == (
        f"{tmp_path / 'partial'}: the model's files lack the weights model.layers.1.mlp.up_proj.weight; fetch it again"
    )
    assert not (tmp_path / "out").exists()


def test_a_damaged_weight_file_is_one_line(folder, run, tmp_path):
    shutil.copytree(folder / "tiny", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    told = refused(Recipe.load(folder / "recipe.yaml", [f"model={tmp_path / 'cut'}", f"output={tmp_path / 'out'}"]))
    assert told.startswith(f"cannot load model '{tmp_path / 'cut'}': ")


def test_code_in_a_models_folder_is_never_run(folder, run, tmp_path):
    shutil.copytree(folder / "tiny", tmp_path / "stranger")
    for name in ("config.json", "tokenizer_config.json"):
        settings = read(tmp_path / "stranger" / name)
        settings["model_type"] = "unheard_of"
        settings["tokenizer_class"] = "Evil"
        settings["auto_map"] = {"AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        (tmp_path / "stranger" / name).write_text(json.dumps(settings))
    (tmp_path / "stranger" / "evil.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\nclass Evil: pass\n")
    made = flantune(
        "plan", folder / "recipe.yaml", f"model={tmp_path / 'stranger'}", cache=folder / "cache", input="y\ny\n"
    )
    assert made.returncode in (0, 2), made.stderr
    assert not (tmp_path / "was run").exists()


def test_a_run_on_top_of_an_adapter_is_refused_before_any_work(folder, lora, tmp_path):
    adapter = lora / "model"
    told = refused(Recipe.load(folder / "recipe.yaml", [f"model={adapter}", f"output={tmp_path / 'out'}"]))
    assert told == f"{adapter}: is an adapter; train from a whole model (merge the adapter first)"
    assert not (tmp_path / "out").exists()


def test_a_capacity_beyond_the_models_positions_is_refused(folder, run):
    told = refused(Recipe.load(folder / "recipe.yaml", ["mixture.capacity=4096", f"output={folder / 'wide'}"]))
    assert told == (f"mixture.capacity is 4096, but {folder / 'tiny'} has positions for 2048 tokens; lower it")


def test_a_split_that_no_task_has_is_refused_with_the_nearest(folder, run):
    told = refused(Recipe.load(folder / "recipe.yaml", ["evaluation.split=tset", f"output={folder / 'nothing'}"]))
    assert told == 'evaluation.split: no task has a split "tset"; did you mean "test"? (test, train)'


def test_a_metric_that_cannot_score_the_tasks_own_answers_is_told_before_training(folder, run):
    task = (folder / "words.yaml").read_text().replace("name: words", "name: stars")
    (folder / "stars.yaml").write_text(task.replace("[rouge1, exact_match]", "[mean_absolute_error]"))
    told = refused(Recipe.load(folder / "recipe.yaml", ["tasks=[stars.yaml]", f"output={folder / 'nothing'}"]))
    assert told.startswith(f"{folder / 'stars.yaml'}:10: metrics: ")
    assert told.endswith(" holds no number")


def test_a_resolved_recipe_means_the_same_from_any_folder(run, folder, tmp_path, monkeypatch):
    from flantune.run_folder import read_recipe

    before = read_recipe(run)
    (tmp_path / "small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_recipe(run) == before


def test_rows_of_one_id_are_resampled_together(folder, run, monkeypatch):
    rows = [json.loads(line) for line in (folder / "words-test.jsonl").read_text().splitlines()]
    same = [{**row, "id": f"text-{i // 6}"} for i, row in enumerate(rows)]
    (folder / "grouped-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in same))
    task = (folder / "words.yaml").read_text().replace("name: words", "name: grouped")
    (folder / "grouped.yaml").write_text(task.replace("words-test.jsonl", "grouped-test.jsonl"))
    made = api.train(Recipe.load(folder / "recipe.yaml", ["tasks=[grouped.yaml]", f"output={folder / 'grouped'}"]))
    assert {entry["n"] for entry in api.compare(made)["tasks"] if entry["task"] == "grouped"} == {2}
