"""A person's own data files become tasks and a recipe: looked at, put together, decided, written.

`sniff` says how rows lie in a file, `sides` which files belong together, `kinds` what kind of task they are by the
evidence of `closed` and `open`, `draft` makes the task, `write` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from flantune.errors import FlantuneError
from flantune.recipe.load import run_name
from flantune.tasks.init.codes import are_codes
from flantune.tasks.init.draft import Draft, draft
from flantune.tasks.init.given import given_files
from flantune.tasks.init.kinds import Decision, Wishes, decide, left_out
from flantune.tasks.init.sides import Group, Look, groups, look_at
from flantune.tasks.init.write import recipe_text, write_all

MOST_ASKED = 10  # numbers of classes whose meaning is asked for

__all__ = ["Ask", "Draft", "Made", "Wishes", "init_tasks"]


class Ask(Protocol):
    """How a person is asked what the data does not show."""

    def choose(self, question: str, answers: Sequence[str]) -> int:
        """The number of the answer that is chosen, from 0; the first is the best guess."""
        ...

    def say(self, question: str) -> str:
        """A word or two; empty for none."""
        ...


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        tasks: The tasks, each with why it is as it is.
        files: Task files and the recipe, which is the last.
        aside: Files that no task uses, with the reason.
    """

    tasks: tuple[Draft, ...]
    files: tuple[Path, ...]
    aside: tuple[tuple[str, str], ...]


def init_tasks(
    files: Sequence[Path], out: Path, wishes: Wishes | None = None, *, name: str | None = None, ask: Ask | None = None
) -> Made:
    """Writes a task file for each task that the files hold, and `recipe.yaml`.

    Args:
        files: Data files, folders or archives.
        out: The folder to write to.
        wishes: What was said beforehand; it goes before any evidence.
        name: Of the task, or of the recipe where there are several.
        ask: Answers what the data does not show; None: the best guess is taken and told.
    Raises:
        FlantuneError: Nothing that could be a task, a file that cannot be read, a file that exists.
    """
    wishes = wishes or Wishes()
    looks, aside = _looks(files)
    made: list[Draft] = []
    found = groups(looks)
    for group in found:
        decision = decide(group, wishes)
        if decision is None:
            aside.append((group.name, "nothing in it asks for an answer"))
            continue
        try:
            made += _drafts(_asked(decision, ask), group, wishes, ask)
        except FlantuneError as error:
            if len(found) == 1:
                raise
            aside.append((group.name, error.message))
    if not made:
        raise FlantuneError(_no_task(aside), str(files[0]))
    tasks = _named(made, name)
    whole = name or (tasks[0].name if len(tasks) == 1 else "tasks")
    return Made(tuple(tasks), tuple(write_all(tasks, out, recipe_text(run_name(whole), tasks))), tuple(aside))


def _looks(files: Sequence[Path]) -> tuple[list[Look], list[tuple[str, str]]]:
    """All files that hold something; one that does not is told, and left aside where there are others."""
    looks: list[Look] = []
    aside: list[tuple[str, str]] = []
    given = given_files(files)
    for file in given:
        try:
            looks.append(look_at(file))
        except FlantuneError as error:
            if len(given) == 1:
                raise
            aside.append((str(file), error.message))
    if not looks:
        raise FlantuneError(_no_task(aside), str(files[0]))
    return looks, aside


def _no_task(aside: Sequence[tuple[str, str]]) -> str:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in aside[:3]) if len(aside) != 1 else aside[0][1]
    return f"no task found: {reasons}. Say --input and --target if there is one"


def _asked(decision: Decision, ask: Ask | None) -> Decision:
    """The decision after a person was asked which answer is wanted, where the data leaves it open."""
    if ask is None or not decision.others:
        return decision
    ways = [decision.proposal, *decision.others]
    chosen = ask.choose(
        "What should the model answer?", [f"{way.target.name} ({way.kind.replace('_', ' ')})" for way in ways]
    )
    return replace(decision, proposal=ways[chosen], others=()) if chosen else replace(decision, others=())


def _drafts(decision: Decision, group: Group, wishes: Wishes, ask: Ask | None) -> list[Draft]:
    first = draft(group, decision, wishes.instruction, _names_of_codes(decision, group, ask))
    others = [f'"{way.target.name}" could be asked for as well: --target {way.target.name}' for way in decision.others]
    unused = [
        f'"{column.name}" is left out' + (f": it {why}" if why else "")
        for column, why in left_out(decision.view, decision.proposal)
    ]
    first = replace(first, why=(*first.why, *unused), guesses=(*first.guesses, *others))
    if decision.second is None:
        return [first]
    second = draft(group, replace(decision, proposal=decision.second, second=None), wishes.instruction, {})
    return [first, replace(second, name=f"{group.name}-{second.kind}")]


def _names_of_codes(decision: Decision, group: Group, ask: Ask | None) -> dict[str, str]:
    """What the numbers of classes stand for, if a person says so."""
    target = decision.proposal.target
    if ask is None or not are_codes(decision.proposal) or group.names or len(target.counts) > MOST_ASKED:
        return {}
    said = {
        code: ask.say(f'What does {code} in "{target.name}" mean? (Enter keeps the number)')
        for code in sorted(target.counts, key=float)
    }
    return {code: word for code, word in said.items() if word} if all(said.values()) else {}


def _named(drafts: Sequence[Draft], name: str | None) -> list[Draft]:
    """Each task under a name of its own, which is that of its file too."""
    taken: set[str] = {"recipe"}
    named = []
    for each in drafts:
        wanted = run_name(name) if name and len(drafts) == 1 else each.name
        chosen = next(c for c in (wanted, *(f"{wanted}-{n}" for n in range(2, 9999))) if c not in taken)
        taken.add(chosen)
        named.append(replace(each, name=chosen, keys={**each.keys, "name": chosen}))
    return named
