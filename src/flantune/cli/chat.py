"""`flantune chat`: try a model in the terminal, beside its base."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer


def chat(
    run_or_model: Annotated[str, typer.Argument(help="A run's folder, a model folder, or an embedded or hub name.")],
    base: Annotated[bool, typer.Option("--base", help="Show the base model's answer beside it.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.", min=1)] = 200,
) -> None:
    """Talk to a tuned model. /clear forgets the conversation, /quit or Ctrl-D ends it.

    Example: flantune chat runs/quickstart --base
    """
    from flantune.chat import Chat

    talk = Chat.open(run_or_model, with_base=base, max_new_tokens=max_new_tokens)
    read = _reader()
    print("Ask something. Empty line: nothing is sent. /clear starts anew, /quit ends.", file=sys.stderr)
    while (text := read()) is not None:
        if text.strip() == "/quit":
            break
        if text.strip() == "/clear":
            talk.clear()
            continue
        if not text.strip():
            continue
        from flantune.reporting import safe

        for who, answer in talk.ask(text.strip()):
            print(f"{who}: {safe(answer)}", flush=True)


def _reader() -> Callable[[], str | None]:
    if not sys.stdin.isatty():
        return lambda: line.rstrip("\n") if (line := sys.stdin.readline()) else None
    from prompt_toolkit import PromptSession

    session: PromptSession[str] = PromptSession("you> ")

    def ask() -> str | None:
        try:
            return session.prompt()
        except (EOFError, KeyboardInterrupt):
            return None

    return ask
