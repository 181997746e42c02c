"""Conversations in the forms that chat data sets use become rows: the turns so far, and the turn to learn.

Messages form is `[{role, content}, ...]`, ShareGPT form `[{from, value}, ...]`. Records of other kinds need no code:
prompt and completion, or instruction, input and output, are fields of a template as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from flantune.errors import FlantuneError, nearest

Row = dict[str, Any]
Turn = tuple[str, str]  # role and text

# What data sets call the four roles of a chat template. A call of a tool is something the assistant says.
ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "customer"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt", "bing", "bard", "function_call", "tool_call"),
    "tool": ("tool", "observation", "function", "function_response", "tool_response", "ipython"),
}
ROLE_OF = {name: role for role, names in ROLES.items() for name in names}
FORMS = (("role", "content"), ("from", "value"))  # who speaks, what is said


def conversation_rows(
    row: Row,
    field: str = "messages",
    targets: Literal["last", "all"] = "last",
    *,
    system: str | None = None,
    tools: str | None = None,
) -> list[Row]:
    """The rows of one conversation: `history` is a list of [role, text], `target` the assistant's turn that follows.

    Roles become system, user, assistant or tool. A turn with `weight: 0` is shown but never a target, nor is a first
    turn, which answers nothing. A conversation without a target gives no row. Other fields stay as they are.

    Args:
        row: The record.
        field: Its field with the conversation, which is taken out.
        targets: `last`: one row, whose target is the last turn of the assistant; `all`: a row for each of its turns.
        system: A field whose text is said first, in the role system.
        tools: A field with the tools that may be called, told in the role system.
    Raises:
        FlantuneError: A field that the row lacks, a turn that is none, an unknown role.
    """
    turns, wanted = [], []
    for number, given in enumerate(_conversation(row, field), start=1):
        turn, learned = _turn(given, f"turn {number} of `{field}`")
        if learned and turns:
            wanted.append(len(turns))
        turns.append(turn)
    before = _system_turn(row, system, tools)
    rest = {name: value for name, value in row.items() if name != field}
    for name in ("history", "target"):
        if name in rest:
            raise FlantuneError(f'the row has a field "{name}" already; rename it before the conversation is read')
    return [
        {**rest, "history": [list(turn) for turn in (*before, *turns[:at])], "target": turns[at][1]}
        for at in (wanted if targets == "all" else wanted[-1:])
    ]


def _conversation(row: Row, field: str) -> Sequence[Any]:
    if field not in row:
        raise FlantuneError(f'the row has no field "{field}"; {nearest(field, row)}')
    if not isinstance(row[field], list):
        raise FlantuneError(f"`{field}` is no list of turns; name the field that holds the conversation")
    return row[field]


def _turn(given: Any, what: str) -> tuple[Turn, bool]:
    """Role and text of a turn, and whether the assistant is to learn it."""
    for speaker, said in FORMS:
        if isinstance(given, Mapping) and speaker in given:
            role = _role(given[speaker], what)
            text = _text(given, said, what)
            return (role, text), role == "assistant" and given.get("weight", 1) != 0 and bool(text.strip())
    raise FlantuneError(f"{what} is neither {{role, content}} nor {{from, value}}; map it with another transform")


def _role(name: Any, what: str) -> str:
    if not isinstance(name, str) or name.lower() not in ROLE_OF:
        shown = json.dumps(name, ensure_ascii=False)[:60]
        known = nearest(str(name)[:60], ROLE_OF, show=len(ROLE_OF))
        raise FlantuneError(f"{what} has the unknown role {shown}; {known}")
    return ROLE_OF[name.lower()]


def _text(turn: Mapping[str, Any], said: str, what: str) -> str:
    """What is said: a text or a list of parts, and after it the tools that are called, as JSON."""
    content, calls = turn.get(said), turn.get("tool_calls")
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        texts = [part.get("text") for part in content]
        content = "".join(texts) if all(isinstance(text, str) for text in texts) else content
    if isinstance(calls, list) and calls and isinstance(content, str | None):
        called = json.dumps([_call(call) for call in calls], ensure_ascii=False)
        return "\n".join(filter(None, (content, called)))
    if not isinstance(content, str):
        raise FlantuneError(f"{what} says no text in `{said}`; only text can be learned, so filter such rows")
    return content


def _call(call: Any) -> Any:
    """`{id, type: function, function: {name, arguments}}` without what the server added."""
    return call["function"] if isinstance(call, Mapping) and "function" in call else call


def _system_turn(row: Row, system: str | None, tools: str | None) -> list[Turn]:
    told = []
    for name, heading in ((system, ""), (tools, "You may call these tools:\n")):
        if name is None:
            continue
        if name not in row:
            raise FlantuneError(f'the row has no field "{name}"; {nearest(name, row)}')
        value = row[name]
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value else ""
        if text.strip():
            told.append(heading + text)
    return [("system", "\n\n".join(told))] if told else []


TRIPLE_ID = re.compile(r"([^|]*)\|([^|]*)\|(.*)\|#(\d+)", re.DOTALL)  # set, split, prompt, number of the row


def triple_row(row: Row, input: str = "input", outputs: str = "outputs", id: str = "id") -> Row:
    """A rendered example `[input, [output, ...], id]` with what its id tells.

    An id such as `anli|train_r1|claim_true_false|#17` adds `origin` (anli), `split`, `prompt`, and `origin_row`
    (`anli|train_r1|#17`), which the same row has under each of its prompts; an id of another form adds nothing. A
    single output becomes a list of one.

    Raises:
        FlantuneError: No text as input, no text among the outputs.
    """
    for name in (input, outputs):
        if name not in row:
            raise FlantuneError(f'the row has no field "{name}"; {nearest(name, row)}')
    given = [row[outputs]] if isinstance(row[outputs], str) else row[outputs]
    if not isinstance(row[input], str):
        raise FlantuneError(f"`{input}` is no text; [input, [output, ...], id] is wanted")
    if not isinstance(given, list) or not given or not all(isinstance(text, str) for text in given):
        raise FlantuneError(f"`{outputs}` is no list of texts; [input, [output, ...], id] is wanted")
    found = TRIPLE_ID.fullmatch(row[id]) if isinstance(row.get(id), str) else None
    if found is None:
        return {**row, outputs: given}
    origin, split, prompt, number = found.groups()
    told = {"origin": origin, "split": split, "prompt": prompt, "origin_row": f"{origin}|{split}|#{number}"}
    return {**told, **row, outputs: given}
