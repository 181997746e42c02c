"""`flantune judge`: a second opinion of another model on a run's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def judge(
    run: Annotated[Path, typer.Argument(help="A compared run's folder.")],
    url: Annotated[str, typer.Option("--url", help="An OpenAI-compatible server, up to and with /v1.")],
    model: Annotated[str, typer.Option("--model", help="The judge's name there.")],
    key_env: Annotated[
        str | None,
        typer.Option("--key-env", help="Environment variable that holds the server's key.", show_default=False),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="A task to judge; may be repeated. By default all with generated answers."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="At most so many rows a task.", show_default=False)
    ] = None,
    instruction: Annotated[
        Path | None,
        typer.Option("--instruction", help="A file with what the judge is told instead.", show_default=False),
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Whether the judge is shown the reference answer.")
    ] = True,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=64, help="Questions at a time.")] = 4,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Of a reply.")] = 256,
    json_: Annotated[bool, typer.Option("--json", help="Print the opinion as JSON.")] = False,
) -> None:
    """Ask another model which of base's and tuned's answers are better, in both orders; write second_opinion.json.

    Prompts, answers and references are sent to the server. It is asked nothing twice, also after a kill.

    Example: flantune judge runs/mine --url http://localhost:8000/v1 --model some-model
    """
    from flantune.cli.console import console
    from flantune.cli.show import print_json, print_opinion
    from flantune.errors import FlantuneError
    from flantune.second_opinion import FILE, second_opinion

    told = None
    if instruction is not None:
        try:
            told = instruction.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise FlantuneError(f"cannot be read as text ({error})", instruction) from None
    with console() as listener:
        made = second_opinion(
            run,
            url,
            model,
            key_variable=key_env,
            tasks=tasks or (),
            rows=rows,
            instruction=told,
            with_reference=reference,
            at_once=at_once,
            max_tokens=max_tokens,
            listener=listener,
        )
    if json_:
        print_json(made)
    else:
        print_opinion(made)
        print(f"numbers: {run / FILE}; flantune report {run} shows it, and puts it into the model card")
