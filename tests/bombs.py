"""Templates that would take all time or memory, and how each is refused."""

from __future__ import annotations

DEEP = "nested too deeply"
TEXT = "makes a text of more than 200,000 characters; shorten it"
FIELD = "makes a field of more than 10,000 columns; shorten it"
LIST = "makes a list of more than 200,000 items; shorten it"
WORK = "takes more work than a rendering may (64,000,000 units); shorten it"
ENDLESS = "goes too deep: a macro calls itself, or values nest, without an end"
NUMBER = "makes a number of more than 2,048 bits; shorten it"
NESTED = "nests values more than 100 deep; shorten it"


def growing(start: str, step: str, use: str) -> str:
    """A value that each of 99 turns makes anew from what it was."""
    loop = "{% for i in range(99) %}{% set ns.x = " + step + " %}{% endfor %}"
    return "{% set ns = namespace(x=" + start + ") %}" + loop + "{{ " + use + " }}"


def looping(work: str, given: str = "") -> str:
    """Ten thousand million turns."""
    return given + "{% for i in range(99999) %}{% for j in range(99999) %}" + work + "{% endfor %}{% endfor %}"


# The ones that everybody knows.
FIFTEEN = {
    "nested ranges": (looping(""), WORK),
    "a text repeated": ("{{ 'a' * 9000000000 }}", TEXT),
    "many lines indented far": ("{{ ('a\n' * 90000) | indent(10 ** 6) }}", TEXT),
    "format to a width": ("{{ '{:1000000000}'.format(1) }}", FIELD),
    "printf to a width": ("{{ '%1000000000d' % 1 }}", FIELD),
    "doubling in a loop": (growing("'a'", "ns.x ~ ns.x ~ 'b'", "ns.x | length"), WORK),
    "a power of a power": ("{{ 7 ** (7 ** 9) }}", NUMBER),
    "a macro that calls itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ENDLESS),
    "JSON of a list in itself": ("{% set x = [] %}{% if x.append(x) %}{% endif %}{{ x | tojson }}", NESTED),
    "a text in the middle of nothing": ("{{ 'a' | center(10 ** 9) }}", TEXT),
    "joined by itself": ("{% set x = 'a' * 1000 %}{{ ([x] * 1000) | join(x) }}", TEXT),
    "a huge list sorted": ("{% set x = 'a' * 99999 %}{{ ([x, x ~ 'b'] * 90000) | sort | first }}", WORK),
    "words sought by pattern": (looping("{% set _ = x | title %}", "{% set x = 'a ' * 90000 %}"), WORK),
    "a namespace that grows": (
        looping("{% set ns.l = ns.l + ['a' * 99999 ~ j] %}", "{% set ns = namespace(l=[]) %}"),
        WORK,
    ),
    "parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", DEEP),
}

OTHERS = {
    "output of nested ranges": (looping("x"), "renders more than 200,000 characters; shorten it"),
    "a range": ("{{ range(10 ** 9) | list }}", "makes a range of more than 100,000; shorten it"),
    "a list repeated": ("{{ [1, 2] * 200000 }}", LIST),
    "a list doubled": (growing("[1]", "ns.x + ns.x", "ns.x | length"), WORK),
    "a list that extends itself": (
        "{% set x = [1] %}{% for i in range(99) %}{% set _ = x.extend(x) %}{% endfor %}",
        LIST,
    ),
    "a loop over what it appends": ("{% set x = [1] %}{% for y in x %}{% set _ = x.append(y) %}{% endfor %}", WORK),
    "a number squared": (growing("7", "ns.x * ns.x", "ns.x"), NUMBER),
    "a number in base 16": ("{{ ('f' * 99999) | int(0, 16) }}", NUMBER),
    "a tower of calls": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        WORK,
    ),
    "a loop that loops in itself": ("{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}", ENDLESS),
    "lists of the same list twice": (growing("[1]", "[ns.x, ns.x]", "ns.x"), WORK),
    "two of them compared": (
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
        "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        WORK,
    ),
    "a list in itself": ("{% set x = [] %}{% if x.append(x) %}{% endif %}{{ x }}", NESTED),
    "tuples in tuples as a key": (
        growing("(1,)", "(ns.x,)", "{ns.x: 1}"),
        "fails on this row: TypeError: a tuple within a tuple is no key",
    ),
    "tuples in tuples sought in a mapping": (
        "{% set ns = namespace(x=(1,)) %}{% for i in range(99999) %}{% set ns.x = (ns.x,) %}{% endfor %}"
        "{{ ns.x in {} }}",
        NESTED,
    ),
    "tuples in tuples made unique": (
        "{% set ns = namespace(x=(1,)) %}{% for i in range(99999) %}{% set ns.x = (ns.x,) %}{% endfor %}"
        "{{ [ns.x] | unique }}",
        NESTED,
    ),
    "a set block": ("{% set x %}{% for i in range(99999) %}" + "a" * 900 + "{% endfor %}{% endset %}{{ x }}", TEXT),
    "many set blocks": (looping("{% set x %}" + "a" * 9000 + "{{ j }}{% endset %}"), WORK),
    "a long body": (looping("{% set x = j %}" * 2000), WORK),
    "a long macro": (
        "{% macro f() %}" + "{% set x = 1 %}" * 2000 + "{% endmacro %}" + looping("{% set _ = f() %}"),
        WORK,
    ),
    "replaced by more": ("{{ ('a' * 99999) | replace('a', 'b' * 99999) }}", TEXT),
    "tabs": ("{{ ('\t' * 99999).expandtabs(10 ** 6) }}", TEXT),
    "zeros": ("{{ '1'.zfill(10 ** 9) }}", TEXT),
    "columns": ("{{ [1] | batch(10 ** 9, 1) }}", LIST),
    "slices": ("{{ [1] | slice(10 ** 9) }}", LIST),
    "one letter a line": ("{{ ('a b ' * 30000) | wordwrap(1, wrapstring='x' * 99) }}", TEXT),
    "a width by argument": ("{{ '%*d' % (10 ** 9, 1) }}", FIELD),
    "a width by field": ("{{ '{:{}}'.format(1, 10 ** 9) }}", FIELD),
    "a width in other digits": ("{{ '{:\uff11\uff10\uff10\uff10\uff10\uff10}'.format(1) }}", FIELD),
    "one long field many times": ("{{ ('{0}' * 60000).format('a' * 190000) }}", TEXT),
    "printf of it": ("{{ ('%(a)s' * 30000) % {'a': 'a' * 190000} }}", TEXT),
    "a remainder that is a format": (
        "{{ '%1000000000d' is divisibleby(3) }}",
        "fails on this row: TypeError: 'str' object is no number",
    ),
    "sought from the right": ("{{ ('a' * 199999).rfind('b' ~ 'a' * 99998) }}", WORK),
    "stripped of many letters": ("{{ ('a' * 199999).strip('b' * 99998 ~ 'a') }}", WORK),
    "a negative width that pays back": (looping("", "{% set _ = 'a' | center(0 - 10 ** 12) %}"), WORK),
    "work that is no number": (
        looping("", "{% set _ = [1] | batch('nan' | float) %}"),
        "fails on this row: TypeError: nan is no whole number",
    ),
    "JSON far to the right": (
        "{{ [[[1]]] | tojson(10 ** 9) }}",
        "fails on this row: ValueError: tojson indents by 0 to 16",
    ),
    "thirty loops in each other": (
        "{% for i in [1] %}" * 30 + "x" + "{% endfor %}" * 30,
        "is not valid Jinja (line 1 of the text): too many statically nested blocks",
    ),
    "a long text": ("x" * 100_001, "is not valid Jinja (line 1 of the text): longer than 100,000 characters"),
    "conditions in conditions": ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, DEEP),
    "a long sum": ("{{ " + "1+" * 20000 + "1 }}", DEEP),
}

BOMBS = {
    name: (text, f"is not valid Jinja (line 1 of the text): {DEEP}" if refusal == DEEP else refusal)
    for name, (text, refusal) in (FIFTEEN | OTHERS).items()
}
