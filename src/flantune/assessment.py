"""Evaluations and comparisons as files: answers of any model on a recipe's rows, and what follows from kept answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.files import write_json
from flantune.preparation import evaluation_sets, shown_solved, tasks_of, trained_tasks
from flantune.progress import Listener, Silent
from flantune.recipe import Recipe
from flantune.recipe.load import run_name
from flantune.run_folder import read_json, read_recipe
from flantune.settings import cache_folder

if TYPE_CHECKING:
    from flantune.evaluation.compare import Resampling
    from flantune.evaluation.prompts import EvaluationSet
    from flantune.evaluation.records import Side

# A number from files and the same number from comparison.json, whose resampling may have run on other hardware.
SAME = 1e-9


def evaluated(
    recipe: Recipe, model: str, out: Path, *, baseline: bool = False, listener: Listener | None = None
) -> Side:
    """Answers of one model to the recipe's evaluation rows, each with its scores, kept below `out`.

    Args:
        recipe: Names tasks, rows and seed.
        model: Embedded name, folder or hub name.
        out: Folder for `TASK.jsonl` and `settings.json`.
        baseline: Whether the model is what others are compared with, and so asked behind solved examples too, where the
            recipe says so.
        listener: Who is told how far it is.
    """
    from flantune.evaluation.compare import row_scores
    from flantune.evaluation.likelihood import measure_targets, text_records
    from flantune.evaluation.plain_text import read_plain_text
    from flantune.evaluation.predict import measure, predictions
    from flantune.evaluation.records import Side, task_answers, write_side
    from flantune.evaluation.sampling import repeated
    from flantune.evaluation.second_answers import answer_otherwise, answer_with_exemplars
    from flantune.models.load import load_model, model_digest

    listener = listener or Silent()
    trained = trained_tasks(recipe)
    drawn = recipe.evaluation.sampling

    def asked(questions: EvaluationSet) -> EvaluationSet:
        if drawn is None:
            return questions
        seed = drawn.seed if drawn.seed is not None else recipe.seed
        return repeated(questions, drawn.temperature, drawn.top_p, drawn.repeats, seed)

    chosen = evaluation_sets(recipe, trained, tasks_of(recipe.unseen, recipe))
    names = {task.name for task in trained}
    text = read_plain_text(recipe.evaluation.plain_text, recipe.place("evaluation", "plain_text"))
    choice = recipe.model
    revision = choice.revision if model == choice.name or Path(model).is_dir() else None
    loaded = load_model(
        model,
        precision=recipe.training.precision,
        revision=revision,
        system=choice.system,
        answering=True,
        report=listener.say,
    )
    identity = model_digest(loaded, revision)
    shown = shown_solved(recipe, chosen, loaded.format) if baseline and recipe.evaluation.few_shot_baseline else []
    sets, shown = list(map(asked, chosen)), list(map(asked, shown))
    rows = sum(len(each.items) for each in (*sets, *shown))
    if loaded.format.paired and text is not None:
        text = None
        if baseline:
            listener.say("plain text is not measured: an encoder-decoder knows no likelihood of a text alone")
    listener.phase(f"evaluating {Path(model).name if Path(model).is_dir() else model}", rows)
    tasks = []
    kept: dict[str, Any] = {
        "batch_tokens": recipe.evaluation.batch_tokens,
        "cache": cache_folder() / "predictions",
        "model_digest": identity,
    }
    for number, questions in enumerate(sets):

        def progress(count: int, name: str = questions.task.name) -> None:
            listener.advance(count, name)

        made = predictions(loaded, questions, progress=progress, **kept)
        if recipe.evaluation.both_scorers or questions.task.spec.both_scorers:
            answer_otherwise(loaded, questions, made, **kept)
        if shown:
            answer_with_exemplars(loaded, shown[number], made, progress=progress, **kept)
        measure_targets(loaded, questions, made, **kept)
        measure(questions, made)
        for row, scores in zip(made, row_scores(questions.metrics, made), strict=True):
            row["scores"] = scores
        tasks.append(task_answers(questions, made, trained=questions.task.name in names))
    records = None
    if text is not None:
        records = text_records(loaded, text.paragraphs, cache=kept["cache"], model_digest=identity)
    parameter = next(loaded.model.parameters())
    settings = {
        "model": model,
        "identity": identity,
        "prompt_format": loaded.format.fingerprint(),
        "system": choice.system,
        "precision": str(parameter.dtype).removeprefix("torch."),
        "device": parameter.device.type,
        "batch_tokens": recipe.evaluation.batch_tokens,
        "resamples": recipe.evaluation.resamples,
        "margin": recipe.evaluation.margin,
        "seed": recipe.seed,
        **({"plain_text": {"text": text.name, "whole": text.whole}} if text is not None else {}),
    }
    side = Side(settings, tuple(tasks), records)
    write_side(out, side)
    return side


def resampling(settings: Mapping[str, Any]) -> Resampling:
    """How an evaluation's recipe has differences judged."""
    from flantune.evaluation.compare import Resampling

    return Resampling(settings["resamples"], settings["margin"], settings["seed"])


def compared(run: Path) -> dict[str, Any]:
    """The content of a run's `comparison.json`, from the kept answers of base and tuned model alone.

    Raises:
        FlantuneError: An answer is missing, or the two were not asked the same.
    """
    from flantune.evaluation.compare import compare
    from flantune.evaluation.forgetting import forgetting
    from flantune.evaluation.records import read_side

    recipe = read_recipe(run)
    base, tuned = (read_side(run / "evaluation" / side) for side in ("base", "tuned"))
    ledger = (read_json(run / "plan.json") or {}).get("ledger") or {}
    by = resampling({**recipe.evaluation.model_dump(), "seed": recipe.seed})
    told = {"tuned": {"method": recipe.adapter.method}}
    made = compare(base, tuned, by, told=told, flagged=ledger.get("flagged"))
    return made | _where_found(forgetting(base, [tuned], by)[0])


def _where_found(forgotten: dict[str, Any] | None) -> dict[str, Any]:
    return {} if forgotten is None else {"forgetting": forgotten}


def recomputed(run: Path) -> dict[str, Any]:
    """`compared`, held against the run's `comparison.json`.

    Raises:
        FlantuneError: A number there is another one than the kept answers give; or see `compared`.
    """
    made = compared(run)
    kept = read_json(run / "comparison.json")
    if kept is None:
        raise FlantuneError(f"nothing was compared yet; first: flantune compare {run}", run)
    if "forgetting" not in kept:  # it was compared before this was looked at
        made.pop("forgetting", None)
    for where, ours, theirs in _differing(made, kept):
        raise FlantuneError(
            f"{where} is {theirs} there, and {ours} from the kept answers; write it again: flantune compare {run}",
            run / "comparison.json",
        )
    return made


def _differing(ours: Any, theirs: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            yield from _differing(ours.get(key), theirs.get(key), f"{where}.{key}" if where else key)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            name = f"{pair[0]['task']}.{pair[0]['metric']}" if isinstance(pair[0], dict) else str(number)
            yield from _differing(*pair, f"{where}.{name}")
    elif isinstance(ours, float) and isinstance(theirs, float):
        if not math.isclose(ours, theirs, rel_tol=SAME, abs_tol=SAME):
            yield where, ours, theirs
    elif ours != theirs:
        yield where, ours, theirs


def compared_models(
    models: Sequence[str],
    *,
    recipe: Recipe | None = None,
    tasks: Sequence[str] = (),
    out: Path,
    listener: Listener | None = None,
) -> list[dict[str, Any]]:
    """Any models against the first of them.

    Args:
        models: Each a run's folder (its tuned model), a folder of kept answers, or a model: embedded name, folder, hub
            name.
        recipe: Whose rows all answer. None takes kept answers where there are some, and has models answer the rows of
            the first run among `models`.
        tasks: Names of tasks to compare on; all by default.
        out: Where answers that are made now are kept, and `comparisons.json` is written.
        listener: Who is told how far it is.
    Returns:
        For each but the first, what `comparison.json` says of a tuned model.
    Raises:
        FlantuneError: Rows, prompts, decoding or another setting differ; or nothing says what to ask a model.
    """
    from flantune.evaluation.compare import compare_all
    from flantune.evaluation.forgetting import forgetting

    if len(models) < 2:
        raise FlantuneError("give at least two models to compare, or one run")
    runs = [Path(model) for model in models if (Path(model) / "recipe.yaml").exists()]
    asked = recipe or (read_recipe(runs[0]) if runs else None)
    sides = []
    for number, model in enumerate(models):
        kept = None if recipe else _kept(Path(model))
        if kept is None:
            if asked is None:
                raise FlantuneError(f"nothing says what to ask {model}; name a recipe with --recipe")
            folder = Path(model) / "model" if Path(model) in runs else Path(model)
            name = str(folder) if Path(model) in runs else model
            kept_in = out / f"{number + 1}-{run_name(Path(model).name)}"
            kept = evaluated(asked, name, kept_in, baseline=number == 0, listener=listener)
        sides.append(kept.only(tasks) if tasks else kept)
    by = resampling(sides[0].settings)
    found = zip(compare_all(sides[0], sides[1:], by), forgetting(sides[0], sides[1:], by), strict=True)
    made = [each | _where_found(forgotten) for each, forgotten in found]
    write_json(out / "comparisons.json", made)
    return made


def _kept(folder: Path) -> Side | None:
    """Answers that lie in a folder, or in a run for its tuned model."""
    from flantune.evaluation.records import SETTINGS, read_side

    for place in (folder, folder / "evaluation" / "tuned"):
        if (place / SETTINGS).exists():
            return read_side(place)
    return None
