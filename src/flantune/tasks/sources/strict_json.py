"""JSON as its standard has it: what Python's reader lets pass beyond that would be lost, or fail later."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import Any

from flantune.errors import shortened

MOST_NESTED = 100  # lists and objects inside each other; what walks through a value later must not run out of stack


class BadJson(ValueError):
    """A text that is not JSON, or not usable.

    Args:
        message: What is wrong, the column in it, and what to do.
        line: Line of the text, from 1; None where it is not known.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(message)


def load_json(text: str, wanted: str = "JSON is wanted") -> Any:
    """The value of a JSON text.

    Args:
        text: The whole of it.
        wanted: How a message about its syntax ends.
    Raises:
        BadJson: Not JSON; NaN or Infinity; a key twice in one object; half of a character; nested too deeply; a number
            larger than can be held.
    """
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson(f"not valid JSON at column {error.colno}: {error.msg}; {wanted}", error.lineno) from None
    except _Constant:
        raise _no_number(text) from None
    except BadJson:
        raise
    except ValueError:  # what else the decoder refuses is a number of more digits than Python reads
        most = sys.get_int_max_str_digits()
        raise BadJson(f"not usable JSON: a number of more than {most:,} digits; write it as text") from None
    except RecursionError:
        raise BadJson(TOO_DEEP) from None
    if text.count("[") + text.count("{") > MOST_NESTED and nesting(value) > MOST_NESTED:
        raise BadJson(TOO_DEEP)
    if HALF_CHARACTER.search(text) and _has_half(value):
        raise BadJson(r"half of a character (an escape of \ud800 to \udfff stands alone)")
    return value


TOO_DEEP = f"not usable JSON: nested more than {MOST_NESTED} deep"
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


class _Constant(ValueError):
    pass


def _constant(_name: str) -> Any:
    raise _Constant


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadJson(f"key {json.dumps(shortened(twice), ensure_ascii=False)} stands twice in one object; keep one")
    return made


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise BadJson(f"the number {shortened(digits)} is larger than can be held; write it as text")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
STRING_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)', re.DOTALL)


def _no_number(text: str) -> BadJson:
    """The complaint about the first NaN or Infinity outside a string: Python's reader does not say where it stood."""
    found = next(match for match in STRING_OR_CONSTANT.finditer(text) if match[1])
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    return BadJson(f"not valid JSON at column {column}: {found[1]} is no JSON value; write null", line)


def nesting(value: Any) -> int:
    """How deep lists and objects stand inside each other; 0 for a value that is neither."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [item for inner in level for item in (inner.values() if isinstance(inner, dict) else inner)]
    return depth


def _has_half(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
