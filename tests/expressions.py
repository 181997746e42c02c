"""Templates made at random of all words that a template may use: most are nonsense, none may do harm."""

from __future__ import annotations

import itertools
import random

from flantune.tasks.jinja_filters import FILTERS, TESTS
from flantune.tasks.jinja_values import METHODS

METHOD_NAMES = sorted({name for methods in METHODS.values() for name in methods})
FILTER_NAMES = sorted(FILTERS)
TEST_NAMES = sorted(name for name in TESTS if name.isidentifier())
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", ">=", "in", "not in", "and", "or"]
KEYWORDS = ["attribute", "default", "reverse", "width", "indent", "n", "count", "start", "precision"]
ATOMS = [
    *("s", "n", "f", "xs", "ns", "d", "rows", "nul", "e", "z", "big", "missing", "deep", "loop", "range", "s.upper"),
    *("xs.append", "'a'", "','", "'%s %d'", "'{} {0}'", "'{:>9}'", "'upper'", "'k'", "'eq'", "'é' * 9", "'x' * 70000"),
    *("1", "0", "-1", "3", "2.5", "10 ** 9", "1e308 * 10", "'nan' | float", "true", "none", "[]", "{}", "()", "(1, 2)"),
    *("[1, 'a', none]", "{'a': 1}", "range(3)", "namespace(x=1)", "zip(xs, ns)", "[0] * 70000"),
]


def nested(depth: int) -> list:
    """A list in a list in a list."""
    return [nested(depth - 1)] if depth else []


ROW = {
    "s": "Hello wörld",
    "n": 7,
    "f": 2.5,
    "xs": ["b", "a", None],
    "ns": [3, 1, 2],
    "d": {"a": 1, "k": [1, {"x": 2}]},
    "rows": [{"k": "x", "v": 1}, {"k": "y"}],
    "nul": None,
    "e": [],
    "z": "",
    "big": "word " * 3000,
    "deep": nested(200),
}
AROUND = [
    "{{ IT }}",
    "{% for x in IT %}{{ loop.index }}{{ x }}{% endfor %}",
    "{% set q = IT %}{% if q %}{{ q }}{% endif %}",
    "{% macro f(x) %}{{ x }}{{ varargs }}{% endmacro %}{{ f(IT, 1) }}",
]


def templates(seed: int, count: int) -> list[str]:
    """The same for a seed on each machine."""
    chance = random.Random(seed)
    return [chance.choice(AROUND).replace("IT", _expression(chance, 0)) for _ in range(count)]


def _expression(chance: random.Random, depth: int) -> str:
    def more() -> str:
        return _expression(chance, depth + 1)

    def arguments() -> str:
        given = [more() for _ in range(chance.choice([0, 0, 1, 1, 2]))]
        named = [f"{chance.choice(KEYWORDS)}={more()}"] if chance.random() < 0.1 else []
        return ", ".join(itertools.chain(given, named))

    if depth > 3 or chance.random() < 0.25:
        return f"({chance.choice(ATOMS)})"
    kinds = [
        lambda: f"({more()} | {chance.choice(FILTER_NAMES)}({arguments()}))",
        lambda: f"{more()}.{chance.choice(METHOD_NAMES)}({arguments()})",
        lambda: f"({more()} {chance.choice(OPERATORS)} {more()})",
        lambda: f"({more()} is {chance.choice(TEST_NAMES)}({more()}))",
        lambda: f"({more()} is {chance.choice(TEST_NAMES)})",
        lambda: f"{more()}[{more()}]",
        lambda: f"{more()}[{more()}:{more()}]",
        lambda: f"[{more()}, {more()}]",
        lambda: f"({more()}, {more()})",
        lambda: f"{{{more()}: {more()}}}",
        lambda: f"({more()} if {more()} else {more()})",
        lambda: f"{chance.choice(['zip', 'enumerate', 'dict', 'range'])}({arguments()})",
    ]
    return chance.choices(kinds, weights=[6, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1])[0]()
