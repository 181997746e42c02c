"""What Jinja means in templates: as ever where it is plain, and stated where it differs."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flantune.errors import FlantuneError
from flantune.tasks.jinja import LONGEST_RENDERING, check_syntax, fields_used, literal, render_text

ROW = {
    "s": "Hello  wörld, it's 5 o'clock",
    "t": "a-b c_d\nline two\n\n  indented",
    "n": 7,
    "f": 3.14159,
    "xs": ["b", "a", "C", "a"],
    "ns": [3, 1, 2, 3],
    "d": {"b": 1, "A": [1, 2], "c": None},
    "rows": [{"k": "x", "v": 1}, {"k": "y", "v": 2}, {"k": "X", "v": 3}],
    "z": "",
}
EXPRESSIONS = [
    "s|capitalize",
    "s|lower",
    "s|upper",
    "s|title",
    "s|trim",
    's|trim("Hk")',
    "s|wordcount",
    "s|length",
    "s|count",
    's|replace("l","LL")',
    's|replace("l","LL",1)',
    "s|center(50)",
    "s|truncate(10)",
    "s|truncate(10, True)",
    's|truncate(10, False, "!", 0)',
    "s|truncate(25)",
    "t|indent",
    "t|indent(2, True)",
    't|indent("> ", blank=True)',
    "s|wordwrap(10)",
    "t|wordwrap(5, False)",
    's|wordwrap(7, wrapstring="|")',
    '"%s-%s"|format(s, n)',
    '"%(a)s %(b)05.1f"|format(a=s, b=f)',
    '"%d%% %5s|%-5s|%+d|%x|%o|%e|%g|%c|%r" % (n, "a", "b", 3, 255, 8, f, f, "z", "q")',
    '"%s" % s',
    '"%s" % d',
    '"%(b)s" % d',
    '"%*d|%.*f" % (5, n, 2, f)',
    '"{} {} {n} {0}".replace("{0}","") .format(s, f, n=n)',
    '"{:>10}|{:<5}|{:^7}|{:05d}|{:.2f}|{:,}|{:e}|{!r}|{!s:>4}".format("a","b","c",n,f,1234567,f,"q","w")',
    '"{a} {b}".format_map({"a":1,"b":"x"})',
    'xs|join(", ")',
    "xs|join",
    'ns|join("-")',
    'rows|join("/", attribute="k")',
    "xs|sort|join",
    "xs|sort(reverse=true)|join",
    "xs|sort(case_sensitive=true)|join",
    'rows|sort(attribute="k")|map(attribute="v")|join',
    'rows|sort(attribute="k,v", reverse=true)|map(attribute="v")|join',
    "xs|unique|join",
    "xs|unique(case_sensitive=true)|join",
    'rows|unique(attribute="k")|map(attribute="v")|join',
    "xs|first",
    "xs|last",
    "ns|first",
    "ns|min",
    "ns|max",
    "xs|max",
    'rows|max(attribute="v")',
    "ns|sum",
    "ns|sum(start=10)",
    'rows|sum(attribute="v")',
    "ns|sum / (ns|length)",
    "xs|list",
    "s|list",
    "d|list",
    "xs|reverse|join",
    "s|reverse",
    "ns|batch(3)|list",
    "ns|batch(3, 0)|list",
    "ns|slice(3)|list",
    'ns|slice(3, "x")|list',
    'rows|groupby("k")|map(attribute="grouper")|list',
    'rows|groupby("k", case_sensitive=true)|map("length")|list',
    'rows|groupby("v")|list|length',
    'rows|map(attribute="k")|list',
    'rows|map(attribute="q", default="none")|list',
    'xs|map("upper")|list',
    'xs|map("replace", "a", "b")|list',
    'xs|select("equalto", "a")|list',
    'xs|reject("in", ["a","b"])|list',
    'ns|select("odd")|list',
    'ns|select("gt", 1)|list',
    "ns|select|list",
    'rows|selectattr("v", "ge", 2)|map(attribute="k")|list',
    'rows|rejectattr("v", "even")|map(attribute="k")|list',
    'rows|selectattr("v")|list|length',
    "d|dictsort",
    "d|dictsort(true)",
    'd|dictsort(false, "key", true)',
    "d|items|list",
    "d.items()|list",
    "d.keys()|list",
    "d.values()|list",
    'd.get("b")',
    'd.get("q", 5)',
    "f|round",
    "f|round(2)",
    'f|round(2, "ceil")',
    'f|round(1, "floor")',
    "n|round(-1)",
    "f|int",
    '"42"|int',
    '"42.7"|int',
    '"x"|int',
    '"x"|int(3)',
    '"ff"|int(0, 16)',
    '"3.5"|float',
    '"x"|float',
    "n|float",
    "n|string",
    "f|string",
    "xs|string",
    "d|string",
    "(-5)|abs",
    'q|default("dflt")',
    'z|default("dflt", true)',
    'z|d("dflt")',
    "n is odd",
    "n is even",
    "n is divisibleby 7",
    "q is defined",
    "q is undefined",
    "none is none",
    "d.c is none",
    "n is number",
    "s is string",
    "xs is sequence",
    "d is mapping",
    "xs is iterable",
    "f is float",
    "n is integer",
    "true is boolean",
    '"a" is lower',
    '"A" is upper',
    "n is sameas n",
    '"a" in xs',
    '"q" not in xs',
    '"b" in d',
    "1 < n <= 7",
    "n == 7 and f > 3 or z",
    "not z",
    "s[0]",
    "s[-1]",
    "s[1:4]",
    "s[::-1]",
    "xs[1:]",
    "xs[5:]",
    'd["b"]',
    "d.b",
    'd["A"][0]',
    "rows[0].k",
    'rows[-1]["v"]',
    "s.split()",
    's.split(",")',
    's.split(" ", 1)',
    's.rsplit(" ", 1)',
    "t.splitlines()",
    's.partition(",")',
    's.rpartition(" ")',
    's.strip("H")',
    's.lstrip("H")',
    's.rstrip("k")',
    's.find("w")',
    's.rfind("l")',
    's.index("w")',
    's.count("l")',
    's.startswith("Hell")',
    's.endswith(("x", "clock"))',
    "s.upper()",
    "s.lower()",
    "s.title()",
    "s.swapcase()",
    "s.capitalize()",
    "s.casefold()",
    's.replace("l", "")',
    's.replace("l", "", 1)',
    "s.zfill(40)",
    "s.ljust(40)",
    "s.rjust(40)",
    "s.center(40)",
    '"a\\\\tb".expandtabs(4)',
    '"-".join(xs)',
    "s.isalpha()",
    '"5".isdigit()',
    's.removeprefix("Hello")',
    's.removesuffix("clock")',
    'xs.index("a")',
    'xs.count("a")',
    "(1, 2)",
    "(1, 2).index(2)",
    "[1, s, [2, none]]",
    '{"a": 1, 2: [3]}',
    "range(5)|list",
    "range(2, 10, 3)|list",
    "range(5, 0, -1)|list",
    "1 + 2 * 3 - 4 / 5",
    "7 // 2",
    "7 % 3",
    "2 ** 10",
    "-7 // 2",
    "1.5 * 2",
    '"a" * 3',
    "[1] * 3",
    'xs + ["q"]',
    '"a" + "b"',
    '"a" ~ 1 ~ f',
    "s if n else z",
    '"x" if z',
    "dict(a=1, b=[2])",
    'dict([["a", 1]])',
    "[none, true]",
    "1e100",
    "10 ** 50",
    "f",
]
STATEMENTS = [
    "{% for x in xs %}{{ loop.index }}/{{ loop.length }}{{ x }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for x in xs %}{{ loop.first }}{{ loop.revindex0 }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in ns %}{{ loop.previtem if not loop.first }}{{ x }}{{ loop.nextitem if not loop.last }};{% endfor %}",
    "{% for x in [] %}{% else %}none{% endfor %}",
    "{% for x in ns if x > 1 %}{{ loop.index0 }}{{ x }}{% endfor %}",
    "{% for k, v in d.items() if v is not none %}{{ k }}={{ v }};{% endfor %}",
    "{% for key, group in rows | groupby('v') %}{{ key }}:{{ group | length }};{% endfor %}",
    "{% for group in rows | groupby('k') %}{{ group.grouper }}:{{ group.list | length }};{% endfor %}",
    "{% for c in 'abc' %}[{{ c }}]{% endfor %}",
    "{% for x in tree recursive %}{{ x.n }}({{ loop(x.c) }}){{ loop.depth }}{% endfor %}",
    "{% set ns_ = namespace(x=1) %}{% for i in range(5) %}{% set ns_.x = ns_.x * 2 %}{% endfor %}{{ ns_.x }}",
    "{% set a, b = ns[:2] %}{{ a }}{{ b }}",
    "{% set x %}a{{ n }}{% endset %}{{ x }}{% set y | upper %}b{{ n }}c{% endset %}{{ y }}",
    "{% filter upper %}a{{ s }}{% endfilter %}",
    "{% macro f(x, y=2) %}<{{ x }}{{ y }}{{ varargs }}{{ kwargs }}>{% endmacro %}{{ f(1) }}{{ f(1, 3, 4, z=5) }}",
    "{% macro f(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) f(3) %}{{ y }}{% endcall %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}",
    "{% if z %}a{% elif n > 5 %}b{% else %}c{% endif %}",
    "{% raw %}{{ n }}{% endraw %}{# n #}{{- n -}} x\n",
    "{{ '{{' }} {% if true -%} x {%- endif %}\n\n",
]


def outcome(text, row, what="it"):
    try:
        return render_text(text, row, what)
    except FlantuneError as error:
        return f"! {error}"


@pytest.fixture(scope="module")
def jinja():
    return jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


@pytest.mark.parametrize("text", [*(f"{{{{ {expression} }}}}" for expression in EXPRESSIONS), *STATEMENTS])
def test_jinja_means_what_it_means_in_jinja(text, jinja):
    row = {**ROW, "tree": [{"n": 1, "c": [{"n": 2, "c": []}]}]}
    assert outcome(text, row) == jinja.from_string(text).render(row)


# --- where it differs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # What Jinja gives as a stream that is read once, and always true, is a list.
        ("{{ xs | map('upper') }}", "['B', 'A', 'C', 'A']"),
        ("{{ 'some' if xs | select('equalto', 'q') else 'none' }}", "none"),
        ("{{ d.items() }}", "[('b', 1), ('A', [1, 2]), ('c', None)]"),
        ("{{ xs | reverse }}", "['a', 'C', 'a', 'b']"),
        # Plain JSON in the row's order: a prompt is not HTML.
        ("{{ {'b': '<é>', 'a': none} | tojson }}", '{"b": "<é>", "a": null}'),
        ("{{ {'b': [1]} | tojson(2) }}", '{\n  "b": [\n    1\n  ]\n}'),
        # promptsource's.
        ("{{ xs | most_frequent }} {{ ns | most_frequent }} {{ [] | most_frequent }}", "['a'] [3] []"),
        ("{{ zip(xs, ns) }}", "[('b', 3), ('a', 1), ('C', 2), ('a', 3)]"),
        ("{{ xs | choice(2) }}{{ xs | choice('0') }}", "Cb"),
        ("{{ enumerate(xs, 1) }}", "[(1, 'b'), (2, 'a'), (3, 'C'), (4, 'a')]"),
        ("{{ 's' | field }}", ROW["s"]),
        ("{{ s | safe }}", ROW["s"]),
    ],
)
def test_what_differs_from_jinja_is_as_stated(text, said):
    assert outcome(text, ROW) == said


FROM_A = ": field \"a\" of the row has no value; filter such rows, or give a default: {{ a | default('', true) }}"
INSIDE = "; give a default, such as {{ x | default('', true) }}"


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ("{{ a }}", {"a": None}, f"it would write none into the text{FROM_A}"),
        ("{{ a ~ '.' }}", {"a": None}, f"it would write none into the text{FROM_A}"),
        ("{{ a | upper }}", {"a": None}, f"it would write none into the text{FROM_A}"),
        ("{{ '%s' % a }}", {"a": None}, f"it would write none into the text{FROM_A}"),
        ("{{ '{}'.format(a) }}", {"a": None}, f"it would write none into the text{FROM_A}"),
        ("{{ a.b }}", {"a": {"b": None}}, f"it would write none into the text{INSIDE}"),
        ("{{ a | join(',') }}", {"a": ["x", None]}, f"it would write none into the text{INSIDE}"),
        ("{{ none }}", {}, f"it would write none into the text{INSIDE}"),
        (
            "{{ 'b c' | field }}",
            {"b c": None},
            'it would write none into the text: field "b c" of the row has no value; filter such rows, or give a '
            "default: {{ 'b c' | field | default('', true) }}",
        ),
        (
            "{{ a }}",
            {"a": float("nan")},
            'it would write nan into the text: field "a" of the row has no value; filter such rows',
        ),
        ("{{ a | tojson }}", {"a": [float("inf")]}, f"it would write nan or an infinity into JSON{INSIDE}"),
        ("{{ a }}", {"a": b"x"}, "it would write a value of type bytes into the text"),
    ],
)
def test_what_is_no_text_is_not_written_in_silence(text, row, message):
    assert outcome(text, row) == f"! {message}"


@pytest.mark.parametrize("text", ["{{ a | default('', true) }}", "{{ a or '' }}", "{% if a %}{{ a }}{% endif %}"])
def test_a_template_that_provides_for_none_is_rendered(text):
    assert outcome(text, {"a": None}) == ""


# --- lists that a template makes ------------------------------------------------------------------------------------


def test_a_template_may_change_its_own_lists_and_mappings_and_never_the_row():
    row = {"xs": [1, [2]], "d": {"a": {"b": 1}}}
    text = (
        "{% set own = [] %}{% for x in xs %}{% if own.append(x) %}{% endif %}{% endfor %}{{ own.pop() }}{{ own }}"
        "{{ xs[1].append(3) or '' }}{{ xs }}{% set _ = d.a.update({'c': 2}) %}{{ d }}{{ xs.extend([4]) or '' }}{{ xs }}"
        "{% set _ = xs.insert(0, 9) %}{% set _ = xs.remove(1) %}{% set _ = xs.reverse() %}{{ xs }}"
        "{{ d.setdefault('q', 5) }}{{ d.pop('q') }}{% set _ = own.clear() %}{{ own }}"
        "{% set y = [3, 1] %}{% set _ = y.sort() %}{{ y }}"
    )
    assert outcome(text, row) == ("[2][1][1, [2, 3]]{'a': {'b': 1, 'c': 2}}[1, [2, 3], 4][4, [2, 3], 9]55[][1, 3]")
    assert row == {"xs": [1, [2]], "d": {"a": {"b": 1}}}


# --- an item by the row ---------------------------------------------------------------------------------------------

rows = st.dictionaries(st.text(min_size=1), st.none() | st.integers() | st.text() | st.lists(st.text()), max_size=4)


@settings(max_examples=50)
@given(row=rows, options=st.lists(st.text(), max_size=3))
def test_a_row_chooses_the_same_items_each_time_however_its_options_are_written(row, options):
    text = "{% for i in range(6) %}{{ range(100) | choice }} {{ 'abc' | random }} {% endfor %}"
    said = outcome(text, row)
    assert said == outcome(text, dict(reversed(row.items())))
    assert said == outcome(text, {**row, "options": "OPTIONS", "answer_choices": options})


def test_rows_choose_all_items_about_equally_often():
    said = [outcome("{{ range(4) | choice }}{{ range(4) | choice }}", {"number": number}) for number in range(1600)]
    counts = [said.count(f"{first}{second}") for first in range(4) for second in range(4)]
    # 1600 draws of 16 pairs: 100 each, with a standard deviation of 9.7.
    assert min(counts) > 60
    assert max(counts) < 140


def test_an_empty_list_has_nothing_to_choose():
    assert outcome("{{ [] | choice }}", {}) == "! it fails on this row: LookupError: no item to choose from"


# --- texts ----------------------------------------------------------------------------------------------------------

anything = st.text() | st.lists(
    st.sampled_from(
        ["{{", "}}", "{%", "%}", "{#", "#}", "|||", "'", '"', "\\", "\n", "\r", "{", "x", " ", "é", "\U0001f600"]
    )
).map("".join)


@settings(max_examples=300)
@given(text=anything, more=anything)
def test_a_literal_renders_to_its_text_whatever_it_says(text, more):
    assert outcome(literal(text), {}) == text
    assert outcome(literal(text) + "{{ a }}" + literal(more), {"a": "/"}) == f"{text}/{more}"


def test_a_literal_of_ordinary_words_is_those_words():
    assert literal("Is it good? (yes, no)\n") == "Is it good? (yes, no)\n"


def test_the_fields_of_a_text_are_what_it_takes_from_the_row():
    text = (
        "{% set a = b %}{{ a }}{{ 'c d' | field }}{% for e in range(f) %}{{ e ~ loop.index }}{% endfor %}{{ zip(g) }}"
    )
    assert fields_used(text) == {"b", "c d", "f", "g"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{{ f(a=1, a=2) }}", "not valid Jinja (line 1 of the text): keyword argument repeated: a"),
        ("{{ a | uper }}", "not valid Jinja (line 1 of the text): No filter named 'uper'."),
        ("{{ a is uper }}", "not valid Jinja (line 1 of the text): No test named 'uper'."),
        ("x" * 100_001, "not valid Jinja (line 1 of the text): longer than 100,000 characters"),
    ],
)
def test_what_is_no_template_is_told(text, wrong):
    assert check_syntax(text) == wrong
    assert outcome(text, {}) == f"! it is {wrong}"


def test_a_rendering_may_be_as_long_as_the_bound_and_its_parts_too():
    text = "a" * LONGEST_RENDERING
    assert outcome("{{ a | upper | lower | trim }}", {"a": text}) == text
    assert outcome("{{ a[:10] }}{{ a | length }}", {"a": text * 5}) == "a" * 10 + str(5 * LONGEST_RENDERING)
