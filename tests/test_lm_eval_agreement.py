"""flantune and lm-evaluation-harness on the same model and prompts: the same answers, likelihoods and scores."""

from __future__ import annotations

import json

import pytest

import flantune as api
from flantune import Recipe
from runs import write_recipe

pytest.importorskip("lm_eval")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # what others warn of when they are imported
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that learned to answer some rows rightly."""
    folder = tmp_path_factory.mktemp("agreement")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        write_recipe(folder)
        changes = ["training.draws=512", "training.learning_rate=1e-2", "training.precision=fp32"]
        run = api.train(Recipe.load(folder / "recipe.yaml", changes))
        api.compare(run)
    return run


def kept(run, task):
    path = run / "evaluation" / "tuned" / f"{task}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def theirs(run, rows, folder, **task):
    """lm-eval's logged samples and scores on the prompts of kept answers."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "task": "shared",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "datasets")},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "target_delimiter": "",
        **task,
    }
    model = HFLM(pretrained=str(run / "model"), device="cpu", dtype="float32", batch_size=1)
    made = simple_evaluate(model, tasks=[config], apply_chat_template=True, bootstrap_iters=0, log_samples=True)
    assert made is not None
    return sorted(made["samples"]["shared"], key=lambda sample: sample["doc_id"]), made["results"]["shared"]


def score(run, task, metric):
    entries = json.loads((run / "comparison.json").read_text())["tasks"]
    return next(entry["tuned"] for entry in entries if (entry["task"], entry["metric"]) == (task, metric))


def test_generated_answers_and_exact_match_are_those_of_lm_eval(run, tmp_path):
    rows = [{"prompt": row["prompt"], "wanted": row["references"][0]} for row in kept(run, "words")]
    samples, results = theirs(
        run,
        rows,
        tmp_path,
        output_type="generate_until",
        doc_to_target="{{wanted}}",
        generation_kwargs={"until": ["<|end|>"], "max_gen_toks": 6, "do_sample": False},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    ours = kept(run, "words")
    assert [sample["resps"][0][0].strip() for sample in samples] == [row["prediction"] for row in ours]
    assert 100 * results["exact_match,none"] == pytest.approx(score(run, "words", "exact_match"))


def test_likelihoods_of_choices_and_accuracy_are_those_of_lm_eval(run, tmp_path):
    ours = kept(run, "verdict")
    # lm-eval scores no end token of itself, so it stands in the choice here.
    rows = [
        {"prompt": row["prompt"], "wanted": row["choices"].index(row["references"][0]), "said": row["choices"]}
        for row in ours
    ]
    samples, results = theirs(
        run,
        rows,
        tmp_path,
        output_type="multiple_choice",
        doc_to_target="wanted",
        doc_to_choice="{{[said[0] ~ '<|end|>', said[1] ~ '<|end|>']}}",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    for sample, row in zip(samples, ours, strict=True):
        yes, no = (likelihood for likelihood, _ in sample["filtered_resps"])
        # Differences: lm-eval counts the line feed that ends the prompt as a part of the answer.
        assert yes - no == pytest.approx(row["choice_scores"]["yes"] - row["choice_scores"]["no"], abs=1e-4)
    assert 100 * results["acc,none"] == pytest.approx(score(run, "verdict", "accuracy"))
