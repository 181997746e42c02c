"""Follows a run while it trains: its log, what is shown of it, and whether its loss explodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flantune.learner import Learner
from flantune.live import Live
from flantune.models.flops import useful_flops
from flantune.peak import computing_type, matrix_peak
from flantune.preparation import Prepared
from flantune.progress import Listener, Silent
from flantune.run_log import RunLog, step_line
from flantune.training.distributed import Ranks
from flantune.training.divergence import STEPS, Divergence
from flantune.training.loop import StepResult, draws_named
from flantune.training.position import Position
from flantune.validation import Validations


class Watch:
    """What is made of the steps of one run, on all its ranks; the first one logs and shows.

    Args:
        run: The run's folder.
        prepared: What is trained on.
        learner: What is trained.
        ranks: Who takes part.
        start: Where the run goes on.
        validations: Of the run.
        listener: Who is told how far it is.
    Attributes:
        log: On the first rank.
    Raises:
        FlantuneError: The disk is full or cannot be written.
    """

    def __init__(
        self,
        run: Path,
        prepared: Prepared,
        learner: Learner,
        ranks: Ranks,
        start: Position,
        validations: Validations,
        listener: Listener,
    ) -> None:
        self._prepared, self._ranks, self._listener = prepared, ranks, listener
        self._order, self._training = prepared.order, prepared.recipe.training
        self._names = [member.task.name for member in prepared.members]
        self._rows = sum(len(member.rows) for member in prepared.members)
        self._flops = useful_flops(learner.model)
        self.log = (
            RunLog(
                run,
                prepared.recipe,
                steps=prepared.plan["steps"],
                start=start.step,
                validations=validations.lines,
                report=listener.say,
            )
            if ranks.first
            else None
        )
        self._divergence = ranks.of_first(_followed(self.log.lines if self.log is not None else ()))
        device = next(learner.model.parameters()).device
        measured = not isinstance(listener, Silent)
        self._live = Live(ranks.count * matrix_peak(computing_type(learner.model), device) if measured else None)
        self._reached = self._drawn(start)
        listener.phase("training", self._order.draws, round(self._reached))

    def _drawn(self, position: Position) -> float:
        """Draws done."""
        return self._order.progress(position.row, position.row) * self._order.draws

    @property
    def suspect(self) -> bool:
        """Whether the last step's loss was far above what is usual, so that its weights are not to be kept."""
        return self._training.stop_when_exploding and self._divergence.suspects > 0

    def step(self, result: StepResult) -> None:
        """Logs and shows a step.

        Raises:
            FlantuneError: The loss explodes, or the disk is full.
        """
        before, self._reached = self._reached, self._drawn(result.after)
        flops = self._flops.of(result.lengths)
        line = step_line(result, self._names, epoch=self._reached / self._rows, flops=flops)
        if self.log is not None:
            self.log.step(line)
        note = self._live.step(line)
        self._listener.detail(self._live.by_task())
        self._listener.advance(round(self._reached) - round(before), note)
        if self._divergence.exploded(line) and self._training.stop_when_exploding:
            step, row = self._divergence.since
            rows = self._order.rows(row, self._training.rows_per_step)
            raise self._ranks.told(
                f"the loss explodes from step {step} on (draws {draws_named(rows)}): for {STEPS} steps in a row it "
                "was more than three times what is usual for their tasks; start a new run with a lower "
                "training.learning_rate, or go on all the same with training.stop_when_exploding=false"
            )


def _followed(lines: Sequence[dict]) -> Divergence:
    """What the losses were before the run goes on."""
    divergence = Divergence()
    for line in lines:
        divergence.exploded(line)
    return divergence
