"""Base and tuned model asked the same thing, in any of a task's templates, token by token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.preparation import tasks_of
from flantune.preview import preview
from flantune.run_folder import read_recipe
from flantune.ui.runs import Run

if TYPE_CHECKING:
    from flantune.recipe import Recipe
    from flantune.tasks import Task

MOST_TOKENS = 1024  # of an answer
MOST_CHARACTERS = 100_000  # of a question


class Stopped(Exception):
    """Whoever asked has gone."""


@dataclass(frozen=True)
class Question:
    """What both models are asked.

    Attributes:
        text: The prompt; a `Conversation` keeps its turns.
        max_new_tokens: Longest answer.
    """

    text: str
    max_new_tokens: int


def tasks_of_run(run: Run) -> dict[str, Task]:
    """Tasks of the run's recipe, by name: trained ones first.

    Raises:
        FlantuneError: The recipe or a task's file is wrong, or not where it was.
    """
    recipe = read_recipe(run.folder)
    choices = [*(placed.choice for placed in recipe.trained()), *recipe.unseen]
    return {task.name: task for task in tasks_of(choices, recipe)}


def prompts(task: Task, *, split: str | None, row: int) -> dict[str, Any]:
    """A row in all templates, with what there is to choose.

    Raises:
        FlantuneError: No such split or row, or rows that cannot be read.
    """
    names = task.split_names()
    chosen = split or next((name for name in ("test", "validation") if name in names), names[0])
    return {
        "task": task.name,
        "split": chosen,
        "splits": names,
        "row": row,
        "rows": len(task.split(chosen)),
        "max_new_tokens": min(task.spec.max_new_tokens, MOST_TOKENS),
        "prompts": preview(task, split=chosen, rows=[row]),
    }


class Models:
    """The base and the tuned model of one run at a time: another run's take their place.

    One question is answered at a time; others wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: Path | None = None
        self._loaded: dict[str, Any] = {}

    def answers(self, run: Run, question: Question, *, stopped: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """What both models say, as it comes: `{"who", "text", "finished"}`, where `finished` is None while it goes on.

        Args:
            run: Whose models.
            question: What they are asked.
            stopped: Whether nobody waits for the answer any more.
        Raises:
            FlantuneError: The run has no trained model, or one cannot be loaded.
        """
        from flantune.evaluation.generate import generate

        with self._lock:
            recipe = read_recipe(run.folder)
            for who in ("base", "tuned"):
                if stopped():
                    return
                yield {"who": who, "text": "", "finished": None}
                loaded = self._model(run, recipe, who)
                said: SimpleQueue[dict[str, Any] | BaseException] = SimpleQueue()

                def speak(number: int, tokens: Any, *, who: str = who, loaded: Any = loaded, said: Any = said) -> None:
                    if stopped():
                        raise Stopped
                    said.put({"who": who, "text": loaded.format.text(tokens), "finished": None})

                def work(*, who: str = who, loaded: Any = loaded, said: Any = said, speak: Any = speak) -> None:
                    try:
                        ids = loaded.format.prompt_ids(question.text)
                        whole = generate(loaded, [ids], max_new_tokens=question.max_new_tokens, each_token=speak)[0]
                        said.put({"who": who, "text": whole.text, "finished": whole.finished})
                    except BaseException as error:  # handed on to who asked
                        said.put(error)

                worker = threading.Thread(target=work, daemon=True)
                worker.start()
                while True:
                    piece = said.get()
                    if isinstance(piece, Stopped):
                        return
                    if isinstance(piece, BaseException):
                        raise piece
                    yield piece
                    if piece["finished"] is not None:
                        break

    def _model(self, run: Run, recipe: Recipe, who: str) -> Any:
        from flantune.models.load import load_model

        if self._run != run.folder:
            self._loaded.clear()
            self._run = run.folder
        if who not in self._loaded:
            folder = run.folder / "model"
            if not folder.is_dir():
                raise FlantuneError("the run has no trained model yet")
            name = recipe.model.name if who == "base" else str(folder)
            self._loaded[who] = load_model(
                name, revision=recipe.model.revision, system=recipe.model.system, answering=True
            )
        return self._loaded[who]
