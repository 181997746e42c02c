"""Jinja for values of a row, whatever their names are, and for words as they are."""

from __future__ import annotations

import json
import re

from flantune.tasks.jinja import check_syntax, fields_used

Path = tuple[str | int, ...]  # a field's name, then keys and list positions inside it
_RESERVED = frozenset(["self", "super", "caller", "varargs", "kwargs", "loop", "options", "answer_choices"])
_OF_DICT = frozenset(dir(dict))


def expression(path: Path) -> str:
    """The Jinja expression of a value in the row, such as `answers[0].text` or `("first name" | field)`."""
    name, *inner = path
    found = str(name) if is_plain(str(name)) else f"({json.dumps(name, ensure_ascii=False)} | field)"
    for part in inner:
        plain = isinstance(part, str) and re.fullmatch(r"[A-Za-z_]\w*", part, re.ASCII) and part not in _OF_DICT
        found += f".{part}" if plain else f"[{json.dumps(part, ensure_ascii=False)}]"
    return found


def is_plain(name: str) -> bool:
    """Whether Jinja reads a name as the field of that name."""
    text = f"{{{{ {name} }}}}"
    return name.isidentifier() and name not in _RESERVED and check_syntax(text) is None and fields_used(text) == {name}


def printed(inner: str) -> str:
    """Jinja that prints an expression."""
    whole = re.fullmatch(r'\(("(?:[^"\\]|\\.)*" \| field)\)', inner)
    return f"{{{{ {whole[1] if whole else inner} }}}}"
