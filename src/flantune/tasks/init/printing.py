"""How a column's value is printed in a prompt: texts as they are, lists, facts and turns as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flantune.tasks.init.columns import Column, said
from flantune.tasks.init.expressions import Path, expression, printed
from flantune.tasks.jinja import literal

Names = Mapping[str, str]  # a made-up name of a column to the one that is written


def path_in(column: Column, names: Names) -> Path:
    """A column's path with the name that is written."""
    first, *inner = column.path
    return (names.get(str(first), first), *inner)


def value(column: Column, names: Names) -> str:
    """The Jinja expression of a column's value."""
    return expression(path_in(column, names))


def shown(column: Column, names: Names) -> str:
    """Jinja that prints a column's value."""
    inner = value(column, names)
    if column.nature == "turns":
        return shown_turns(column, inner)
    if column.items:
        return _shown_list(column, inner)
    if any(isinstance(each, dict) for each in column.filled):
        return f"{{% for name, value in {inner}.items() %}}{{{{ name }}}}: {{{{ value }}}}\n{{% endfor %}}"
    if any(isinstance(each, bool) for each in column.filled):
        return f"{{{{ 'yes' if {inner} else 'no' }}}}"
    if _is_whole(column):
        return f"{{{{ {inner} | int }}}}"
    return printed(inner)


def _is_whole(column: Column) -> bool:
    """Numbers that JSON writes with a point but are whole: 51.0 is printed 51."""
    floats = [each for each in column.filled if isinstance(each, float)]
    return bool(floats) and all(isinstance(each, int | float) and float(each).is_integer() for each in column.filled)


def _shown_list(column: Column, inner: str) -> str:
    items = [item for each in column.items for item in each]
    if all(isinstance(item, list) for item in items):
        return f"{{% for fact in {inner} %}}{{{{ fact | join(' | ') }}}}\n{{% endfor %}}"
    if any(isinstance(item, dict) for item in items):
        return f"{{{{ {inner} | tojson }}}}"
    if column.nature == "tokens":
        return f"{{{{ {inner} | join(' ') }}}}"
    long = any(len(str(item)) > 40 for item in items[:500])
    return f"{{{{ {inner} | join('\\n') }}}}" if long else f"{{{{ {inner} | join(', ') }}}}"


def shown_turns(column: Column, inner: str) -> str:
    """Who says what, a line a turn."""
    keys = said([item for each in column.items for item in each])
    assert keys is not None, "turns have a role and a text"
    return f"{{% for turn in {inner} %}}{{{{ turn[{keys[0]!r}] }}}}: {{{{ turn[{keys[1]!r}] }}}}\n{{% endfor %}}"


def together(columns: Sequence[Column], names: Names) -> str:
    """Several columns as one text: texts below each other, short facts as `name: value` lines."""
    if len(columns) == 1:
        return shown(columns[0], names)
    return "\n".join(
        shown(column, names) if column.nature in ("text", "code", "turns") else labelled(column, names)
        for column in columns
    )


def labelled(column: Column, names: Names) -> str:
    """`name: value`."""
    called = str(path_in(column, names)[0] if len(column.path) == 1 else column.name)
    return f"{literal(' '.join(called.replace('_', ' ').replace('@', '').split()))}: {shown(column, names)}"
