"""The story of a run: recipe, tasks, order, training, evaluation, comparison, report. Effects live here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune import assessment
from flantune.errors import FlantuneError
from flantune.files import write_json, write_text
from flantune.loggers import check_loggers
from flantune.mixture.receipt import receipt
from flantune.preparation import Prepared, prepare
from flantune.progress import Interrupted, Listener, Silent, StopSignals, stop_signals
from flantune.recipe import Recipe
from flantune.run_folder import (
    begin,
    claim,
    clear_best,
    is_encoder_decoder,
    lasting_digest,
    output_folder,
    read_json,
    read_recipe,
    save_model,
)
from flantune.run_log import ended
from flantune.settings import launch

if TYPE_CHECKING:
    from flantune.training.checkpoint import Checkpoints
    from flantune.training.distributed import Ranks
    from flantune.training.optimizer import MasterOptimizer
    from flantune.training.position import Position


def train(
    recipe: Recipe,
    *,
    resume: Path | None = None,
    listener: Listener | None = None,
    workers: int | None = None,
    orders: str | None = None,
) -> Path:
    """Trains a model and writes the run's folder; on all ranks that a launcher such as torchrun started.

    Args:
        recipe: What to do.
        resume: The run to go on with, instead of a new one.
        listener: Who is told how far it is.
        workers: Processes that write the order; see `prepare`.
        orders: Where orders were prepared; see `prepare`.
    Returns:
        The run's folder, with `model/`, `plan.json`, `mixture.json` and `metrics.jsonl`.
    Raises:
        FlantuneError: A mistake in recipe or data, an output folder that exists, a loss that is not finite.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came; where a step was done, a checkpoint was saved.
        RankLost: Another rank ended.
    """
    from flantune.training.distributed import joined

    check_loggers(recipe)
    if recipe.adapter.method == "qlora":
        from flantune.models.four_bits import check_four_bits

        check_four_bits(recipe.place("adapter", "method") or "adapter.method")
    run = resume or output_folder(recipe)
    with stop_signals(run) as signals, joined() as ranks:
        listener = listener if listener is not None and ranks.first else Silent()
        if ranks.first and resume is None:
            claim(run)
        if ranks.of_first((run / "model").exists()):
            listener.say(f"{run} is trained already")
            if ranks.first:  # it may have been killed after the model was saved
                clear_best(run)
                _checkpoints(run, recipe, "", listener, ranks).clear()
        else:
            prepared = _prepared(recipe, ranks, listener, workers, orders)
            _trained(recipe, prepared, run, ranks, listener, signals)
            signals.leave()
    return run


def _prepared(recipe: Recipe, ranks: Ranks, listener: Listener, workers: int | None, orders: str | None) -> Prepared:
    """What the first rank of each machine prepares, and the others then find in its cache."""
    if ranks.local_rank == 0:
        prepared = prepare(recipe, listener=listener, workers=workers, orders=orders)
        prepared.order.write_ahead()
        ranks.wait()
    else:
        ranks.wait()
        prepared = prepare(recipe, awaited=True)
    keys = ranks.gathered(prepared.order.key)
    if len(set(keys)) > 1:
        other = next(rank for rank, key in enumerate(keys) if key != keys[0])
        raise ranks.told(
            f"rank {other} has other rows, task files or tokenizer than rank 0; copy them to where that rank runs"
        )
    for warning in prepared.plan["warnings"]:
        listener.say(f"warning: {warning}")
    return prepared


def _checkpoints(
    run: Path, recipe: Recipe, order_key: str, listener: Listener, ranks: Ranks, *, sharded: bool = False
) -> Checkpoints:
    from flantune.training.checkpoint import Checkpoints

    return Checkpoints(
        run / "checkpoints",
        keep=recipe.training.keep_checkpoints,
        recipe_digest=lasting_digest(recipe),
        order_key=order_key,
        report=listener.say,
        ranks=ranks,
        sharded=sharded,
    )


def _start(
    checkpoints: Checkpoints, optimizer: MasterOptimizer, rows_per_step: int, ranks: Ranks, listener: Listener
) -> Position:
    """Where the newest checkpoint is, or the beginning; all ranks get the weights that rank 0 has there, or parts."""
    from flantune.training.distributed import in_shards
    from flantune.training.position import START

    restored = checkpoints.restore(dict(zip(optimizer.names, optimizer.masters, strict=True)))
    start, rows_before = (restored.position, restored.rows_per_step) if restored else (START, rows_per_step)
    if in_shards(optimizer.masters[0]):
        if restored is not None:
            optimizer.load_state(restored.tensors)
    elif restored is not None or ranks.count > 1:
        tensors = restored.tensors if restored else optimizer.state()
        optimizer.load_state(ranks.state_of_first(tensors, optimizer.masters[0].device))
    if rows_before != rows_per_step:
        listener.say(
            f"training.rows_per_step is {rows_per_step} now and was {rows_before}: going on at packed row {start.row}, "
            "so none is left out and none comes twice"
        )
    return ranks.of_first(start)


def _trained(
    recipe: Recipe, prepared: Prepared, run: Path, ranks: Ranks, listener: Listener, signals: StopSignals
) -> None:
    """Trains from the newest checkpoint, or from the start, to the end of the order."""
    from flantune.learner import learner_of
    from flantune.training.distributed import in_shards
    from flantune.training.heartbeat import heartbeat
    from flantune.training.loop import train as training_steps
    from flantune.validation import Validations
    from flantune.watch import Watch

    training, order = recipe.training, prepared.order
    micro_batches = -(-training.rows_per_step // training.rows_at_once)
    if ranks.count > micro_batches:
        listener.say(
            f"warning: {ranks.count} ranks share {micro_batches} micro-batches a step, so some have nothing to do; "
            "raise training.rows_per_step"
        )
    learner = learner_of(recipe, prepared.rule.capacity, listener, ranks)
    sharded = in_shards(learner.optimizer.masters[0])
    checkpoints = _checkpoints(run, recipe, order.key, listener, ranks, sharded=sharded)
    start = _start(checkpoints, learner.optimizer, training.rows_per_step, ranks, listener)
    if ranks.first:
        begin(run, recipe, prepared.plan)
    validations = Validations(run, recipe, prepared.validated, learner, ranks, start, listener.say)
    watch = Watch(run, prepared, learner, ranks, start, validations, listener)
    stopped = signals.collect()  # until the model is saved
    with heartbeat(launch()), ended(watch.log) as log:

        def stopping() -> int:
            return max(ranks.gathered(stopped[0] if stopped else 0))

        def validate(at: Position, *, to_the_end: bool = False) -> None:
            line = validations.validate(at, lambda: bool(stopped) and not to_the_end)
            if line is not None and log is not None:
                log.validated(line)
                checkpoints.wait()
                validations.forget()

        done = start
        if validations.due(start.step):  # the run was stopped before it
            validate(start)
            if stop := stopping():
                raise Interrupted(run, stop)
        steps = training_steps(
            learner.model,
            order,
            learner.optimizer,
            learner.schedule,
            rows_per_step=training.rows_per_step,
            rows_at_once=training.rows_at_once,
            seed=recipe.seed,
            start=start,
            ranks=ranks,
            summed_loss=learner.summed_loss,
            share_prefixes=learner.share_prefixes,
        )
        for result in () if validations.stopped else steps:
            done = result.after
            watch.step(result)
            stop = stopping()
            if not stop and validations.due(done.step):
                validate(done)
                stop = stopping()
            due = training.checkpoint_every and done.step % training.checkpoint_every == 0 and not watch.suspect
            checkpoints.check()
            if due or stop:
                checkpoints.save(done, training.rows_per_step, learner.optimizer.state())
            if stop:
                checkpoints.wait()
                ranks.wait()  # a rank that left now would make the launcher end the one that writes
                raise Interrupted(run, stop)
            if validations.stopped:
                break
        validate(done, to_the_end=True)
    checkpoints.wait()
    best = validations.chosen() if ranks.first else None
    if ranks.first:
        rows = done.row if best is None else best[1]["row"]
        write_json(run / "mixture.json", receipt(prepared.members, prepared.rule, order, rows))
        if watch.log is not None:
            watch.log.write_state(done=True)
    # The model last: a run with a model is done.
    if best is not None:
        best[0].rename(run / "model")
    elif ranks.first or sharded:
        with learner.optimizer.final_weights():
            save_model(learner.model, learner.loaded, run / "model", ranks)
    if ranks.first:
        clear_best(run)
        checkpoints.clear()


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
    side = assessment.evaluated(recipe, model, out, listener=listener)
    return {it.task: list(it.rows) for it in side.tasks}


def compare(run: Path, *, listener: Listener | None = None) -> dict[str, Any]:
    """Evaluates base and tuned model of a run, compares them, and writes `comparison.json`, model card and report.

    Raises:
        FlantuneError: The run has no trained model.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 came; the answers to whole tasks are kept.
    """
    with stop_signals(run):
        return _compared(run, listener or Silent())


def _compared(run: Path, listener: Listener) -> dict[str, Any]:
    recipe = read_recipe(run)
    if not (run / "model").exists():
        raise FlantuneError(f"the run is not trained to its end; flantune train --resume {run}", run)
    base = run / "evaluation" / "base"
    assessment.evaluated(recipe, recipe.model.name, base, baseline=True, listener=listener)
    evaluate(recipe, str(run / "model"), run / "evaluation" / "tuned", listener=listener)
    comparison = assessment.compared(run)
    write_json(run / "comparison.json", comparison)
    report(run)
    return comparison


def report(run: Path) -> Path:
    """Writes `report.html` and the model card of a compared run; returns the report's path.

    Raises:
        FlantuneError: The run has no comparison.
    """
    from flantune.models.embedded import EMBEDDED
    from flantune.reporting import model_card, write_report
    from flantune.reporting.second_opinion import opinion_view

    if not (run / "comparison.json").exists():
        raise FlantuneError(f"nothing to report yet; first: flantune compare {run}", run)
    recipe = read_recipe(run)
    comparison = read_json(run / "comparison.json")
    planned = read_json(run / "plan.json")
    embedded = EMBEDDED.get(recipe.model.name)
    base, license_ = (embedded.repository, embedded.license) if embedded else (recipe.model.name, None)
    if (run / "model").exists():
        recipe_text = (run / "recipe.yaml").read_text(encoding="utf-8")
        apart = is_encoder_decoder(run / "model")
        opinion = opinion_view(lambda name: read_json(run / name))
        card = model_card(comparison, planned, recipe_text, base, license_, encoder_decoder=apart, opinion=opinion)
        write_text(run / "model" / "README.md", card)
    return write_report(run)
