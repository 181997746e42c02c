"""The story of a run: recipe, tasks, order, training, evaluation, comparison, report. Effects live here."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError
from flantune.files import digest, disk_errors, write_json, write_json_lines, write_text
from flantune.memory import peak_memory
from flantune.mixture.permutation import key_of
from flantune.mixture.plan import receipt
from flantune.preparation import evaluation_sets, prepare, tasks_of, trained_tasks
from flantune.progress import Interrupted, Listener, Silent, stop_signals
from flantune.recipe import Recipe
from flantune.run_folder import (
    claim,
    environment,
    log_before,
    output_folder,
    read_json,
    read_recipe,
    save_model,
    write_recipe,
)
from flantune.settings import cache_folder


def train(recipe: Recipe, *, resume: Path | None = None, listener: Listener | None = None) -> Path:
    """Trains a model and writes the run's folder.

    Args:
        recipe: What to do.
        resume: The run to go on with, instead of a new one.
        listener: Who is told how far it is.
    Returns:
        The run's folder, with `model/`, `plan.json`, `mixture.json` and `metrics.jsonl`.
    Raises:
        FlantuneError: A mistake in recipe or data, an output folder that exists, a loss that is not finite.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was saved.
    """
    import torch

    from flantune.models.adapters import add_lora
    from flantune.models.load import load_model
    from flantune.models.stream import check_isolation
    from flantune.training.checkpoint import Checkpoints
    from flantune.training.compilation import compile_step
    from flantune.training.loop import steps_of
    from flantune.training.loop import train as training_steps
    from flantune.training.loss import weighted_sum
    from flantune.training.optimizer import MasterOptimizer, Schedule

    listener = listener or Silent()
    run = resume or output_folder(recipe)
    if resume is None:
        claim(run)
    elif (run / "model").exists():
        shutil.rmtree(run / "checkpoints", ignore_errors=True)  # killed after the model was saved
        listener.say(f"{run} is trained already")
        return run
    choice, training, lora = recipe.model, recipe.training, recipe.adapter
    prepared = prepare(recipe, listener=listener)
    order, rows_per_step = prepared.order, training.rows_per_step
    for warning in prepared.plan["warnings"]:
        listener.say(f"warning: {warning}")

    torch.manual_seed(recipe.seed)
    loaded = load_model(
        choice.name, precision=training.precision, revision=choice.revision, system=choice.system, report=listener.say
    )
    if hasattr(loaded.model, "peft_config"):
        raise FlantuneError("is an adapter; train from a whole model (merge the adapter first)", choice.name)
    check_isolation(loaded.model, choice.name)
    model = loaded.model if lora.method == "none" else add_lora(loaded.model, lora, base_name=choice.name)
    optimizer = MasterOptimizer(
        model,
        weight_decay=training.weight_decay,
        betas=training.betas,
        max_gradient_norm=training.max_gradient_norm,
    )
    total = steps_of(order, rows_per_step)
    schedule = Schedule(training.schedule, training.learning_rate, total, round(total * training.warmup))
    identity = recipe.model_copy(update={"output": None}).model_dump(mode="json")
    checkpoints = Checkpoints(run / "checkpoints", training.keep_checkpoints, digest(identity), order.key)
    summed_loss = weighted_sum
    if training.compile:
        listener.say("compiling the model, once: up to a minute on two cores")
        summed_loss = compile_step(model, prepared.rule.capacity, listener.say)
    start = checkpoints.restore(optimizer) if resume is not None else 0
    with disk_errors(run):
        run.mkdir(parents=True, exist_ok=True)
    write_json(run / "environment.json", environment())
    write_json(run / "plan.json", prepared.plan)
    write_recipe(run, recipe)  # last: a folder with a recipe can be resumed

    names = [member.task.name for member in prepared.members]
    log_before(run / "metrics.jsonl", start)
    listener.phase("training", total, start)
    with stop_signals() as stopped, disk_errors(run), (run / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        for result in training_steps(
            model,
            order,
            optimizer,
            schedule,
            rows_per_step=rows_per_step,
            rows_at_once=training.rows_at_once,
            start=start,
            summed_loss=summed_loss,
        ):
            speed = result.tokens / result.seconds
            line = {
                **dataclasses.asdict(result),
                "loss_by_task": {names[task]: loss for task, loss in result.loss_by_task.items()},
                "tokens_per_second": speed,
                "memory_gb": peak_memory() / 2**30,
            }
            metrics.write(json.dumps(line) + "\n")
            metrics.flush()
            listener.advance(1, f"loss {result.loss:.3f}, {speed:.0f} tokens/s")
            done = result.step + 1
            due = training.checkpoint_every and done % training.checkpoint_every == 0
            if done < total and (due or stopped):
                checkpoints.save(done, optimizer)
            if done < total and stopped:
                raise Interrupted(run, stopped[0])
    write_json(run / "mixture.json", receipt(prepared.members, prepared.rule, order, len(order)))
    save_model(model, loaded, run)  # last: a run with a model is done
    checkpoints.clear()
    return run


def evaluate(
    recipe: Recipe,
    model: str,
    out: Path,
    *,
    listener: Listener | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Answers of one model to the recipe's evaluation rows, written as `out/TASK.jsonl` with each row's scores.

    Args:
        recipe: Names tasks, rows and seed.
        model: Embedded name, folder or hub name.
        out: Folder for the predictions.
        listener: Who is told how far it is.
    Returns:
        Task name to its predictions.
    """
    from flantune.evaluation.compare import row_scores
    from flantune.evaluation.predict import predictions
    from flantune.models.load import load_model, model_digest

    listener = listener or Silent()
    sets = evaluation_sets(recipe, trained_tasks(recipe), tasks_of(recipe.unseen, recipe))
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
    listener.phase(f"evaluating {Path(model).name if Path(model).is_dir() else model}", sum(len(s.items) for s in sets))
    result = {}
    for questions in sets:
        made = predictions(
            loaded,
            questions,
            batch_tokens=recipe.evaluation.batch_tokens,
            cache=cache_folder() / "predictions",
            model_digest=identity,
            progress=lambda count, name=questions.task.name: listener.advance(count, name),
        )
        for row, scores in zip(made, row_scores(questions, made), strict=True):
            row["scores"] = scores
        write_json_lines(out / f"{questions.task.name}.jsonl", made)
        result[questions.task.name] = made
    return result


def compare(run: Path, *, listener: Listener | None = None) -> dict[str, Any]:
    """Evaluates base and tuned model of a run, compares them, and writes `comparison.json`, model card and report.

    Raises:
        FlantuneError: The run has no trained model.
    """
    listener = listener or Silent()
    recipe = read_recipe(run)
    if not (run / "model").exists():
        raise FlantuneError(f"the run is not trained to its end; flantune train --resume {run}", run)
    base = evaluate(recipe, recipe.model.name, run / "evaluation" / "base", listener=listener)
    tuned = evaluate(recipe, str(run / "model"), run / "evaluation" / "tuned", listener=listener)
    ledger = (read_json(run / "plan.json") or {}).get("ledger") or {}
    flagged = ledger.get("flagged") or {}
    comparison = compared(recipe, base, tuned, tuned_name=str(run / "model"), flagged=flagged)
    write_json(run / "comparison.json", comparison)
    report(run)
    return comparison


def compared(
    recipe: Recipe,
    base: Mapping[str, list[dict[str, Any]]],
    tuned: Mapping[str, list[dict[str, Any]]],
    *,
    tuned_name: str,
    flagged: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The content of `comparison.json` from both models' predictions.

    Args:
        recipe: What was done.
        base: Task name to the base model's predictions.
        tuned: The same of the tuned model.
        tuned_name: How the tuned model is called.
        flagged: Task name to ids of evaluation rows that have text in common with training rows.
    """
    from flantune.evaluation.compare import Answered
    from flantune.evaluation.compare import compare as make_comparison

    trained, unseen = trained_tasks(recipe), tasks_of(recipe.unseen, recipe)
    names = {task.name for task in trained}
    answered = [
        Answered(
            q, q.task.name in names, base[q.task.name], tuned[q.task.name], frozenset(flagged.get(q.task.name, ()))
        )
        for q in evaluation_sets(recipe, trained, unseen)
    ]
    return make_comparison(
        answered,
        base={"model": recipe.model.name},
        tuned={"model": tuned_name, "method": recipe.adapter.method},
        resamples=recipe.evaluation.resamples,
        margin=recipe.evaluation.margin,
        seed=recipe.seed,
    )


def report(run: Path) -> Path:
    """Writes `report.html` and the model card of a compared run; returns the report's path.

    Raises:
        FlantuneError: The run has no comparison.
    """
    from flantune.models.embedded import EMBEDDED
    from flantune.reporting import model_card, write_report

    if not (run / "comparison.json").exists():
        raise FlantuneError(f"nothing to report yet; first: flantune compare {run}", run)
    recipe = read_recipe(run)
    comparison = read_json(run / "comparison.json")
    planned = read_json(run / "plan.json")
    embedded = EMBEDDED.get(recipe.model.name)
    base, license_ = (embedded.repository, embedded.license) if embedded else (recipe.model.name, None)
    if (run / "model").exists():
        card = model_card(comparison, planned, (run / "recipe.yaml").read_text(encoding="utf-8"), base, license_)
        write_text(run / "model" / "README.md", card)
    return write_report(run)


def scores(recipe: Recipe, made: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One model's score on each task and metric, with a bootstrap interval."""
    from flantune.evaluation.metrics import metric
    from flantune.evaluation.predict import row_statistics
    from flantune.evaluation.statistics import single_interval

    result = []
    for questions in evaluation_sets(recipe, trained_tasks(recipe), tasks_of(recipe.unseen, recipe)):
        for name in questions.task.spec.metrics:
            by = metric(name)
            rows = row_statistics(by, questions, [p["prediction"] for p in made[questions.task.name]])
            low, high = single_interval(
                rows, by.score, resamples=recipe.evaluation.resamples, seed=key_of(recipe.seed, "bootstrap", name)
            )
            score = float(by.score(rows.sum(axis=0)))
            result.append(
                {"task": questions.task.name, "metric": name, "n": len(rows), "score": score, "ci": [low, high]}
            )
    return result
