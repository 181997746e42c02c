"""A run's second opinion: base and tuned answers that were kept, shown to another model; `second_opinion.json`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flantune.errors import FlantuneError
from flantune.files import write_json, write_json_lines
from flantune.progress import Listener, Silent
from flantune.settings import cache_folder

if TYPE_CHECKING:
    from flantune.evaluation.judge_server import JudgeServer
    from flantune.evaluation.records import Side

FILE = "second_opinion.json"
FOLDER = "second_opinion"


def second_opinion(
    run: Path,
    url: str,
    model: str,
    *,
    key_variable: str | None = None,
    tasks: Sequence[str] = (),
    rows: int | None = None,
    instruction: str | None = None,
    with_reference: bool = True,
    at_once: int = 4,
    max_tokens: int = 256,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Asks a judge which of base's and tuned's answers are better, each pair in both orders.

    Args:
        run: A compared run.
        url: Of an OpenAI-compatible server, up to and with /v1.
        model: The judge's name there.
        key_variable: Name of the environment variable that holds the server's key.
        tasks: Names of tasks; by default all whose answers are generated.
        rows: At most so many of each task, the first ones of the evaluation.
        instruction: What the judge is told in place of flantune's own words.
        with_reference: Whether the judge is shown the first reference.
        at_once: Questions at a time.
        max_tokens: Of a reply.
        listener: Who is told how far it is.
    Returns:
        What is written to `second_opinion.json`; a line a row stands in `second_opinion/TASK.jsonl`.
    Raises:
        FlantuneError: Nothing was compared, an unknown task, or what `JudgeServer` says.
    """
    from flantune.evaluation.judge_server import JudgeServer
    from flantune.evaluation.judging import INSTRUCTION, opinion, with_verdicts
    from flantune.evaluation.records import paired, read_side

    listener = listener or Silent()
    if not (run / "comparison.json").exists():
        raise FlantuneError(f"nothing was compared yet; first: flantune compare {run}", run)
    base = read_side(run / "evaluation" / "base")
    tuned = paired(base, read_side(run / "evaluation" / "tuned"))
    base, tuned = (_chosen(side, tasks) for side in (base, tuned))
    told = (instruction or INSTRUCTION).strip()
    judge = JudgeServer(
        url, model, key_variable=key_variable, max_tokens=max_tokens, cache=cache_folder() / "judgements"
    )
    found = []
    try:
        with ThreadPoolExecutor(at_once) as threads:
            counts = [len(it.rows[:rows]) for it in base.tasks]
            listener.phase(f"asking {model}", sum(counts))
            for ours, theirs in zip(base.tasks, tuned.tasks, strict=True):
                pairs = list(zip(ours.rows[:rows], theirs.rows[:rows], strict=True))
                asked = [threads.submit(_judged, judge, *pair, told, with_reference) for pair in pairs]
                judged = []
                try:
                    for each in asked:
                        judged.append(each.result())
                        listener.advance(1, ours.task)
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
                found.append((ours, judged))
    finally:
        judge.close()
    for of, judged in found:
        write_json_lines(run / FOLDER / f"{of.task}.jsonl", judged)
    everything = [{**row, "group": (of.task, row["group"])} for of, judged in found for row in judged]
    made = {
        "judge": {"url": judge.url, "model": model, "temperature": 0, "max_tokens": max_tokens},
        "instruction": told,
        "with_reference": with_reference,
        "of": {name: side.settings["identity"] for name, side in (("base", base), ("tuned", tuned))},
        "tasks": with_verdicts([{"task": of.task, "group": of.group, **opinion(judged)} for of, judged in found]),
        "all": opinion(everything),
    }
    write_json(run / FILE, made)
    return made


def _chosen(side: Side, tasks: Sequence[str]) -> Side:
    """The tasks that are judged."""
    if tasks:
        return side.only(tasks)
    generated = [it.task for it in side.tasks if it.decoding.get("evaluate_by") == "generation"]
    if not generated:
        raise FlantuneError("all tasks are choices, which are right or wrong; name one with --task to have it judged")
    return side.only(generated)


def _judged(
    judge: JudgeServer, base: dict[str, Any], tuned: dict[str, Any], instruction: str, with_reference: bool
) -> dict[str, Any]:
    """One row with what the judge said of it. Equal answers are a tie without being asked."""
    from flantune.evaluation.judging import ORDERS, outcome, question, said
    from flantune.evaluation.predict import answer_text

    texts = {"base": answer_text(base), "tuned": answer_text(tuned)}
    told = {
        "row": base["row"],
        "group": base["row"],
        "template": base["template"],
        "length": {side: len(text) for side, text in texts.items()},
    }
    if texts["base"] == texts["tuned"]:
        return {**told, "winner": "tie", "how": "identical", "said": [], "replies": []}
    replies = [
        judge.reply(question(base, texts[first], texts[second], instruction=instruction, with_reference=with_reference))
        for first, second in ORDERS
    ]
    words = [said(reply) for reply in replies]
    winner, how = outcome(words)
    return {**told, "winner": winner, "how": how, "said": words, "replies": replies}
