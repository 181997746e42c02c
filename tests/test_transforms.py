"""Transforms: what each makes of a row, and what it says where it cannot."""

from __future__ import annotations

import json
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flantune.errors import FlantuneError
from flantune.tasks.sources.transform_schema import Transform
from flantune.tasks.sources.transforms import TRANSFORMS, code_identity, transformer
from reading import AWKWARD, WITH_LINE_ENDS, json_lines, read, rows_of, texts, told


def change(row, *transforms, allow_code=False):
    """The rows that a row becomes."""
    chosen = [Transform.model_validate(transform) for transform in transforms]
    return list(transformer(chosen, allow_code=allow_code)(row))


names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)
rows = st.dictionaries(names, texts | st.integers() | st.none() | st.lists(texts, max_size=3), min_size=1, max_size=5)

# --- each transform -----------------------------------------------------------------------------------------


@given(row=rows, data=st.data())
def test_renaming_forth_and_back_changes_nothing(row, data):
    old = data.draw(st.sampled_from(list(row)))
    new = data.draw(names.filter(lambda name: name not in row))
    (renamed,) = change(row, {"rename": {old: new}})
    assert list(renamed) == [new if name == old else name for name in row]
    assert change(renamed, {"rename": {new: old}}) == [row]


def test_fields_may_change_their_names_with_each_other():
    assert change({"a": 1, "b": 2}, {"rename": {"a": "b", "b": "a"}}) == [{"b": 1, "a": 2}]


@pytest.mark.parametrize(
    ("value", "mapped"),
    [("0", "no"), (0, "no"), (True, "yes"), (None, "none"), (1.5, "half"), (["0", 0], ["no", "no"])],
)
def test_a_value_is_mapped_as_it_is_written(value, mapped):
    values = {"0": "no", "true": "yes", "null": "none", "1.5": "half"}
    assert change({"a": value, "b": 1}, {"map": {"field": "a", "values": values}}) == [{"a": mapped, "b": 1}]


def test_a_value_that_is_not_listed_becomes_another_or_stays():
    choice = {"field": "a", "values": {"0": "no"}}
    assert change({"a": "7"}, {"map": {**choice, "else": "yes"}}) == [{"a": "yes"}]
    assert change({"a": 7}, {"map": {**choice, "else": "keep"}}) == [{"a": 7}]


@given(text=texts, affix=texts.filter(bool))
def test_an_affix_is_taken_off_once_and_only_where_it_stands(text, affix):
    assert change({"a": text + affix}, {"strip_suffix": {"field": "a", "suffix": affix}}) == [{"a": text}]
    assert change({"a": affix + text}, {"strip_prefix": {"field": "a", "prefix": affix}}) == [{"a": text}]
    if not text.endswith(affix):
        assert change({"a": text}, {"strip_suffix": {"field": "a", "suffix": affix}}) == [{"a": text}]
    if not text.startswith(affix):
        assert change({"a": text}, {"strip_prefix": {"field": "a", "prefix": affix}}) == [{"a": text}]


@given(parts=st.lists(texts.filter(lambda text: "|" not in text and text), max_size=4))
def test_what_is_joined_is_split_into_the_same_parts(parts):
    joined = change({"a": parts}, {"join": {"fields": ["a"], "with": " | ", "into": "b"}})
    assert joined == [{"a": parts, "b": " | ".join(parts)}]
    assert change(joined[0], {"split": {"field": "b", "by": " | ", "into": "c"}})[0]["c"] == parts


def test_fields_are_joined_in_their_order_and_null_gives_nothing():
    row = {"title": "T", "tags": ["x", 2], "none": None, "ok": True, "b": {"c": "ü"}}
    fields = ["ok", "title", "none", "tags", "b"]
    assert change(row, {"join": {"fields": fields, "with": "\n", "into": "title"}}) == [
        {**row, "title": 'true\nT\nx\n2\n{"c": "ü"}'}
    ]


def test_the_first_group_of_a_pattern_is_found_or_all_it_finds_replaced():
    row = {"a": "so 3+4=7\n#### 7"}
    assert change(row, {"regex": {"field": "a", "pattern": "#### (.*)", "into": "n"}}) == [{**row, "n": "7"}]
    assert change(row, {"regex": {"field": "a", "pattern": r"(?s)(.*)\n#### .*"}}) == [{"a": "so 3+4=7"}]
    assert change(row, {"regex": {"field": "a", "pattern": r"(\d)", "replace": r"<\1>"}}) == [
        {"a": "so <3>+<4>=<7>\n#### <7>"}
    ]


@given(number=st.integers(), padding=st.sampled_from(["", " ", "\n"]))
def test_a_whole_number_is_cast_from_its_text_and_back(number, padding):
    (made,) = change({"a": f"{padding}{number}{padding}"}, {"cast": {"field": "a", "to": "int"}})
    assert made == {"a": number}
    assert change(made, {"cast": {"field": "a", "to": "text"}}) == [{"a": str(number)}]


@given(value=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
def test_a_number_is_cast_from_its_text(value):
    assert change({"a": repr(value)}, {"cast": {"field": "a", "to": "float"}}) == [{"a": float(value)}]


@given(value=st.recursive(texts | st.integers() | st.booleans() | st.none(), st.lists))
def test_a_value_is_cast_from_its_json(value):
    assert change({"a": json.dumps(value)}, {"cast": {"field": "a", "to": "json"}}) == [{"a": value}]


def test_casts_of_other_values():
    def cast(value, to):
        return change({"a": value}, {"cast": {"field": "a", "to": to}})[0]["a"]

    assert [cast(value, "bool") for value in ("Yes", "0", 1, False, "TRUE ")] == [True, False, True, False, True]
    assert [cast(value, "int") for value in (4.0, True, "+7", None, ["1", "2"])] == [4, 1, 7, None, [1, 2]]
    assert [cast(value, "text") for value in (1.5, True, None, ["ü"], "007")] == ["1.5", "true", None, '["ü"]', "007"]


@given(row=rows, items=st.lists(texts | st.dictionaries(names, texts, max_size=2), max_size=4))
def test_a_list_explodes_into_a_row_for_each_item(row, items):
    made = change({**row, "items": items}, {"explode": "items"})
    assert made == [{**row, **(item if isinstance(item, dict) else {"items": item})} for item in items]


def test_exploded_rows_know_the_line_of_their_record(tmp_path):
    found = rows_of(
        tmp_path, '{"a": [1, 2]}\n{"a": []}\n{"a": null}\n{"a": [3]}\n', "x.jsonl", transforms=[{"explode": "a"}]
    )
    assert [(row["a"], found.place(i)) for i, row in enumerate(found)] == [
        (1, f"{tmp_path}/x.jsonl:1"),
        (2, f"{tmp_path}/x.jsonl:1"),
        (3, f"{tmp_path}/x.jsonl:4"),
    ]


def test_newlines_and_tabs_that_are_written_out_are_read():
    assert change({"a": r"one\ntwo\tthree\r \\"}, {"unescape": "a"}) == [{"a": "one\ntwo\tthree" + r"\r \\"}]


def test_rows_are_kept_where_an_expression_holds():
    assert change({"a": "x"}, {"filter": "a != '' and a | length < 2"}) == [{"a": "x"}]
    assert change({"a": ""}, {"filter": "a != ''"}) == []


def test_turns_of_a_chat_and_rendered_examples_become_rows():
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    assert change({"c": turns, "id": 1}, {"conversation": {"field": "c"}}) == [
        {"id": 1, "history": [["user", "hi"]], "target": "hello"}
    ]
    (row,) = change({"input": "2+2", "outputs": ["4"], "id": "sums|train|plain|#3"}, {"triple": {}})
    assert (row["origin"], row["outputs"]) == ("sums", ["4"])


def test_transforms_follow_each_other_and_a_row_may_become_none_or_many():
    row = {"tags": "a,b,,c", "n": "1"}
    transforms = [
        {"split": {"field": "tags", "by": ","}},
        {"explode": "tags"},
        {"filter": "tags != ''"},
        {"cast": {"field": "n", "to": "int"}},
        {"map": {"field": "tags", "values": {"a": "A"}, "else": "keep"}},
        {"rename": {"tags": "tag"}},
    ]
    assert change(row, *transforms) == [{"tag": tag, "n": 1} for tag in ("A", "b", "c")]
    assert change(row) == [row]


@given(row=rows)
def test_a_transform_does_not_change_the_row_that_it_is_given(row):
    before = json.dumps(row)
    for name, value in row.items():
        for transform in (
            {"rename": {name: "new name"}},
            {"map": {"field": name, "values": {"x": "y"}, "else": "z"}},
            {"join": {"fields": [name], "into": "new name"}},
            {"cast": {"field": name, "to": "text"}},
            {"filter": "true"},
            *([{"explode": name}] if isinstance(value, list) else []),
            *([{"split": {"field": name, "by": "a"}}] if isinstance(value, str) else []),
        ):
            change(row, transform)
    assert json.dumps(row) == before


TEXT_TRANSFORMS = [
    {"strip_suffix": {"field": "a", "suffix": "\0"}},
    {"strip_prefix": {"field": "a", "prefix": "\0"}},
    {"regex": {"field": "a", "pattern": "(?s)(.*)"}},
    {"regex": {"field": "a", "pattern": "\0", "replace": ""}},
    {"join": {"fields": ["a"], "into": "a"}},
    {"cast": {"field": "a", "to": "text"}},
    {"map": {"field": "a", "values": {"\0": "x"}, "else": "keep"}},
]


@pytest.mark.parametrize("transform", TEXT_TRANSFORMS, ids=lambda transform: next(iter(transform)))
def test_text_that_a_transform_does_not_mean_stays_as_it_is(transform):
    for text in AWKWARD + WITH_LINE_ENDS:
        assert change({"a": text}, transform) == [{"a": text}]


def test_null_stays_null():
    for transform in (*TEXT_TRANSFORMS[:4], {"split": {"field": "a", "by": ","}}, {"unescape": "a"}):
        assert change({"a": None}, transform) == [{"a": None}]


# --- mistakes -----------------------------------------------------------------------------------------------

MISTAKES = {
    "no field": (
        {"rename": {"texxt": "b"}},
        '(rename): the row has no field "texxt"; did you mean "text"? (n, text, xs)',
    ),
    "two of a name": ({"rename": {"n": "text"}}, '(rename): two fields would be called "text"; choose another name'),
    "not listed": (
        {"map": {"field": "text", "values": {"alpha": 1, "beta": 2}}},
        '(map): field "text" is "alpa", which `values` does not list; did you mean "alpha"? (alpha, beta)',
    ),
    "no text": (
        {"strip_suffix": {"field": "n", "suffix": "x"}},
        '(strip_suffix): field "n" is a number; a text is wanted',
    ),
    "no match": (
        {"regex": {"field": "text", "pattern": "#### (.*)"}},
        '(regex): the pattern finds nothing in field "text" ("alpa"); leave such rows out with `filter` before it',
    ),
    "int": ({"cast": {"field": "text", "to": "int"}}, '(cast): field "text" is "alpa"; a whole number is wanted'),
    "int of a list": (
        {"cast": {"field": "xs", "to": "int"}},
        '(cast): field "xs" is ["a", 1.5]; a whole number is wanted',
    ),
    "float": ({"cast": {"field": "text", "to": "float"}}, '(cast): field "text" is "alpa"; a finite number is wanted'),
    "bool": (
        {"cast": {"field": "text", "to": "bool"}},
        '(cast): field "text" is "alpa"; true, yes or 1, or false, no or 0 is wanted',
    ),
    "json": (
        {"cast": {"field": "text", "to": "json"}},
        '(cast): field "text": not valid JSON at column 1: Expecting value; JSON is wanted',
    ),
    "json of a number": (
        {"cast": {"field": "n", "to": "json"}},
        '(cast): field "n" is 7; a text that holds JSON is wanted',
    ),
    "no list": ({"explode": "text"}, '(explode): field "text" is a text; a list is wanted'),
    "no such field in an expression": (
        {"filter": "texxt == 1"},
        '(filter): the expression asks for field "texxt", which the row lacks; did you mean "text"? (n, text, xs)',
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_row_that_a_transform_cannot_change_is_told_with_its_line(tmp_path, mistake):
    transform, message = MISTAKES[mistake]
    content = json_lines([{"text": "alpa", "n": 7, "xs": ["a", 1.5]}])
    source = {"transforms": [{"filter": "true"}, transform]}
    assert told(rows_of, tmp_path, content, "x.jsonl", **source) == (
        f"{tmp_path}/x.jsonl:1: source.transforms.1 {message}"
    )


@pytest.mark.parametrize("replace", [None, "x"])
def test_a_pattern_that_goes_back_and_forth_without_end_is_told(tmp_path, replace):
    content = json_lines([{"a": "a" * 60 + "b"}])
    transform = {"regex": {"field": "a", "pattern": "(a|aa)+$", "replace": replace}}
    assert told(rows_of, tmp_path, content, "x.jsonl", transforms=[transform]) == (
        f'{tmp_path}/x.jsonl:1: source.transforms.0 (regex): the pattern takes longer than 0.5 seconds on field "a" '
        "(61 characters); write it without repetitions inside repetitions"
    )


@pytest.mark.parametrize(("replace", "problem"), [(r"\2", "invalid group reference"), ("\\", "bad escape")])
def test_a_replacement_that_the_pattern_does_not_fit_is_told_before_any_row(replace, problem):
    with pytest.raises(ValidationError, match=f"not usable with this pattern: {problem}"):
        Transform.model_validate({"regex": {"field": "a", "pattern": "(x)", "replace": replace}})


def test_every_transform_of_the_schema_is_made():
    assert TRANSFORMS.keys() | {"python"} == Transform.model_fields.keys()


# --- code of one's own --------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module with transforms of someone's own."""
    name = f"transforms_of_{tmp_path.name}"
    code = """
        def doubled(row):
            return [row, {**row, "again": True}]

        def nothing(row):
            return None

        def spoiled(row):
            row["xs"].append("more")
            return row

        def broken(row):
            return row["missing"]

        def number(row):
            return 5

        def odd(row):
            return [row, {1: 2}]
    """
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_function_gives_a_row_rows_or_none_and_may_change_its_row(module):
    row = {"xs": ["a"]}
    assert change(row, {"python": f"{module}:doubled"}, allow_code=True) == [row, {**row, "again": True}]
    assert change(row, {"python": f"{module}:nothing"}, allow_code=True) == []
    assert change(row, {"python": f"{module}:spoiled"}, allow_code=True) == [{"xs": ["a", "more"]}]
    assert row == {"xs": ["a"]}


def test_code_runs_only_where_the_recipe_allows_it(module):
    (function,) = (f"{module}:doubled",)
    assert told(change, {}, {"python": function}) == (
        f"source.transforms.0 (python) runs code: say `allow_code: true` in the recipe if you trust {function}"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "fails on this row at {module}.py:13: KeyError: 'missing'"),
        ("number", "returns no row: what it returns is no dict with names of fields as keys"),
        ("odd", "returns no row: item 1 of its list is no dict with names of fields as keys"),
    ],
)
def test_what_a_function_does_wrong_is_told_with_the_row(module, name, message):
    told_message = message.format(module=module)
    assert told(change, {"xs": []}, {"python": f"{module}:{name}"}, allow_code=True) == (
        f"source.transforms.0 (python): {module}:{name} {told_message}"
    )


def test_a_function_that_is_not_there_is_told(module):
    with pytest.raises(FlantuneError) as caught:
        change({}, {"python": f"{module}:dobled"}, allow_code=True)
    assert str(caught.value) == (
        f"source.transforms.0 (python) cannot import {module}:dobled: AttributeError: "
        f"module '{module}' has no attribute 'dobled'"
    )
    assert told(change, {}, {"python": "no_such:f"}, allow_code=True) == (
        "source.transforms.0 (python) cannot import no_such:f: ModuleNotFoundError: No module named 'no_such'"
    )


def test_rows_are_made_anew_when_the_code_changes(tmp_path, module):
    transforms = [Transform.model_validate({"python": f"{module}:doubled"})]
    before = code_identity(transforms)
    assert before == code_identity(transforms) != []
    assert code_identity([Transform.model_validate({"unescape": "a"})]) == []
    file = tmp_path / f"{module}.py"
    file.write_text(file.read_text() + "# changed\n")
    assert code_identity(transforms) != before


def test_a_source_applies_its_transforms_after_what_stands_beside(tmp_path):
    (tmp_path / "labels").write_text("0\n1\n")
    (tmp_path / "x.jsonl").write_text('{"a": "x"}\n{"a": "y"}\n')
    found = read(
        tmp_path,
        kind="jsonl",
        splits={"all": "x.jsonl"},
        beside={"label": {"all": "labels"}},
        transforms=[{"map": {"field": "label", "values": {"0": "no", "1": "yes"}}}],
    )
    assert list(found) == [{"a": "x", "label": "no"}, {"a": "y", "label": "yes"}]
