"""Models of runs where nothing of flantune is: the libraries that people load them with say the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flantune as api
from flantune import Recipe
from flantune.derived_models import merge
from flantune.models.load import load_model
from runs import write_recipe
from tiny import save_tiny_t5

pytestmark = pytest.mark.slow

LEARNED = [
    *("training.draws=512", "training.learning_rate=1e-2", "training.precision=fp32"),
    "training.loss.per=token",  # by task, the adapter of so small a model gives one answer to all rows
]
KINDS = ("llama full", "llama adapter", "t5 full", "t5 adapter")
ROWS = 6

# -I: neither the environment nor the current folder says where modules are. The finder refuses what is installed.
WITHOUT_FLANTUNE = """
import json, sys, warnings
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "flantune":
            raise ImportError("nothing of flantune is here")
sys.meta_path.insert(0, Refuse())
warnings.simplefilter("ignore")
import torch, transformers
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
told = json.loads(sys.argv[1])
"""

BY_TRANSFORMERS = (
    WITHOUT_FLANTUNE
    + """
import peft
def answers(model, tokenizer, prompts):
    found = []
    for prompt in prompts:
        if model.config.is_encoder_decoder:
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        else:
            turn = [{"role": "user", "content": prompt}]
            ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
            ids = ids["input_ids"]
        with torch.no_grad():
            made = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6,
                output_logits=True, return_dict_in_generate=True,
            )
        new = made.sequences[0, 1 if model.config.is_encoder_decoder else ids.shape[1]:]
        first = made.logits[0][0]
        text = tokenizer.decode(new, skip_special_tokens=True).strip()
        found.append({"ids": ids[0].tolist(), "text": text, "logits": first.tolist()})
    return found
made = {}
for name, it in told.items():
    tokenizer = transformers.AutoTokenizer.from_pretrained(it["tokenizer"])
    kind = getattr(transformers, it["kind"])
    model = kind.from_pretrained(it["model"], dtype=torch.float32)
    if it["adapter"]:
        model = peft.PeftModel.from_pretrained(model, it["adapter"])
    made[name] = answers(model.eval(), tokenizer, it["prompts"])
assert "flantune" not in sys.modules
print(json.dumps(made))
"""
)

BY_CTRANSLATE2 = (
    WITHOUT_FLANTUNE
    + """
import ctranslate2, tempfile
made = {}
for name, it in told.items():
    tokenizer = transformers.AutoTokenizer.from_pretrained(it["model"])
    with tempfile.TemporaryDirectory() as folder:
        ctranslate2.converters.TransformersConverter(it["model"]).convert(folder + "/made")
        if it["kind"].endswith("CausalLM"):
            generator = ctranslate2.Generator(folder + "/made", device="cpu")
            def answer(tokens):
                (done,) = generator.generate_batch(
                    [tokens], max_length=6, beam_size=1, include_prompt_in_result=False, end_token=it["ends"]
                )
                return done.sequences_ids[0]
        else:
            translator = ctranslate2.Translator(folder + "/made", device="cpu")
            def answer(tokens):
                (done,) = translator.translate_batch([tokens], max_decoding_length=6, beam_size=1)
                return tokenizer.convert_tokens_to_ids(done.hypotheses[0])
        made[name] = [
            tokenizer.decode(answer(tokenizer.convert_ids_to_tokens(ids)), skip_special_tokens=True).strip()
            for ids in it["ids"]
        ]
print(json.dumps(made))
"""
)


def isolated(code: str, told: dict[str, Any], place: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, json.dumps(told)], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run of each kind, whose model has learned something."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLANTUNE_CACHE", str(folder / "cache"))
        write_recipe(folder)
        save_tiny_t5(folder / "tiny_t5", dropout_rate=0.0)
        for kind in KINDS:
            family, how = kind.split()
            changes = [*LEARNED, f"output={folder / kind.replace(' ', '_')}"]
            changes += [f"model={folder / 'tiny_t5'}"] if family == "t5" else [f"model={folder / 'tiny'}"]
            changes += ["adapter.method=lora", "adapter.rank=8"] if how == "adapter" else []
            made[kind] = api.train(Recipe.load(folder / "recipe.yaml", changes))
            api.compare(made[kind])
            if how == "adapter":
                merge(made[kind], folder / f"{family}_merged", precision="fp32")
    shutil.rmtree(folder / "cache")
    return made


def kept(run: Path) -> list[dict[str, Any]]:
    path = run / "evaluation" / "tuned" / "words.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line][:ROWS]


def places(runs: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What another library is told: folders and prompts."""
    told = {}
    for kind, run in runs.items():
        family, how = kind.split()
        asked = {
            "kind": "AutoModelForSeq2SeqLM" if family == "t5" else "AutoModelForCausalLM",
            "prompts": [row["prompt"] for row in kept(run)],
            "adapter": None,
        }
        base, model = run.parent / ("tiny_t5" if family == "t5" else "tiny"), str(run / "model")
        if how == "full":
            told[kind] = {**asked, "model": model, "tokenizer": model}
        else:
            told[kind] = {**asked, "model": str(base), "tokenizer": model, "adapter": model}
            merged = str(run.parent / f"{family}_merged")
            told[f"{family} merged"] = {**asked, "model": merged, "tokenizer": merged}
    return told


def run_of(runs: dict[str, Path], kind: str) -> Path:
    return runs[kind.replace("merged", "adapter")]


@pytest.fixture(scope="module")
def by_transformers(runs, tmp_path_factory) -> dict[str, Any]:
    return isolated(BY_TRANSFORMERS, places(runs), tmp_path_factory.mktemp("elsewhere"))


def test_plain_libraries_give_the_answers_that_the_run_kept(runs, by_transformers):
    assert len(by_transformers) == 6
    for kind, answers in by_transformers.items():
        rows = kept(run_of(runs, kind))
        assert [answer["text"] for answer in answers] == [row["prediction"] for row in rows], kind
        assert len({answer["text"] for answer in answers}) > 1, kind


def test_plain_libraries_give_the_logits_that_flantune_computes(runs, by_transformers):
    import torch

    from flantune.models.merging import next_logits

    for kind, answers in by_transformers.items():
        loaded = load_model(str(run_of(runs, kind) / "model"), precision="fp32")
        prompts = [loaded.format.prompt_ids(row["prompt"]) for row in kept(run_of(runs, kind))]
        assert [answer["ids"] for answer in answers] == prompts, kind
        ours, theirs = next_logits(loaded.model, prompts), torch.tensor([answer["logits"] for answer in answers])
        # Sums in another order, of attention by segment or of a merged matrix.
        assert torch.allclose(ours, theirs, rtol=0, atol=2e-5 * float(theirs.abs().max())), kind


@pytest.mark.filterwarnings("ignore")  # what others warn of when they are imported
def test_ctranslate2_converts_the_models_and_generates_the_same_text(runs, by_transformers, tmp_path):
    pytest.importorskip("ctranslate2")
    told = {kind: it for kind, it in places(runs).items() if not it["adapter"]}
    for kind, it in told.items():
        it["ids"] = [answer["ids"] for answer in by_transformers[kind]]
        it["ends"] = list(load_model(it["model"], precision="fp32").format.stop_ids)
    made = isolated(BY_CTRANSLATE2, told, tmp_path)
    assert made == {kind: [answer["text"] for answer in by_transformers[kind]] for kind in told}


@pytest.mark.filterwarnings("ignore")
def test_lm_eval_runs_a_task_on_an_encoder_decoder_and_on_an_adapter(runs, by_transformers, tmp_path):
    pytest.importorskip("lm_eval")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    for kind in ("t5 full", "llama adapter"):
        it = places(runs)[kind]
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in it["prompts"]), encoding="utf-8")
        config = {
            "task": "shared",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "datasets")},
            "test_split": "test",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "",
            "output_type": "generate_until",
            "generation_kwargs": {"until": ["<|end|>", "</s>"], "max_gen_toks": 6, "do_sample": False},
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        }
        backend = "seq2seq" if kind.startswith("t5") else "causal"
        model = HFLM(it["model"], backend=backend, peft=it["adapter"], device="cpu", dtype="float32", batch_size=1)
        made = simple_evaluate(
            model, tasks=[config], apply_chat_template=backend == "causal", bootstrap_iters=0, log_samples=True
        )
        assert made is not None
        samples = sorted(made["samples"]["shared"], key=lambda sample: sample["doc_id"])
        texts = [answer["text"] for answer in by_transformers[kind]]
        assert [sample["resps"][0][0].strip() for sample in samples] == texts, kind
