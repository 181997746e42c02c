"""The reader of XML: the records that ElementTree finds, as they come, and nothing from outside the file."""

from __future__ import annotations

import gzip
import tracemalloc
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flantune.tasks.sources.element_path import ElementPath
from reading import AWKWARD, WITH_LINE_ENDS, lines_of, parsed, read, rows_of, told

# What XML 1.0 can hold; a carriage return would come back as a newline.
writable = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from("\n\t"), max_size=8)
tags = st.sampled_from(["a", "b", "c", "item"])


@st.composite
def elements(draw, depth=3):
    element = ElementTree.Element(
        draw(tags), draw(st.dictionaries(st.sampled_from(["id", "lang"]), st.sampled_from("xy")))
    )
    element.text = draw(writable)
    if depth:
        for child in draw(st.lists(elements(depth=depth - 1), max_size=3)):
            child.tail = draw(writable)
            element.append(child)
    return element


def plain(element, *, is_record=False):
    """What an element becomes, from the tree and by the words of the description."""
    fields = {f"@{name}": value for name, value in element.items()}
    for child in element:
        value = plain(child)
        if child.tag not in fields:
            fields[child.tag] = value
        elif isinstance(fields[child.tag], list):
            fields[child.tag].append(value)
        else:
            fields[child.tag] = [fields[child.tag], value]
    own = [element.text or "", *(child.tail or "" for child in element)]
    whole = "".join(element.itertext())
    if not len(element) and not element.attrib and not is_record:
        return whole
    if any(text.strip() for text in own) or not len(element):
        fields["#text"] = whole
    return fields


def expected(root, path):
    """The outermost elements at a path, in their order, each with the attributes around it."""
    found = {id(element) for element in root.findall(path)}

    def below(element, around):
        if id(element) in found:
            yield {**around, **plain(element, is_record=True)}
            return
        inner = {**around, **{f"@{name}": value for name, value in element.items()}}
        for child in element:
            yield from below(child, inner)

    return list(below(root, {}))


PATHS = [".//item", "item", "a/item", "./a//b", ".//a/b", "*", "*/*", ".//*", ".//a[@id]", ".//item[@lang='x']/b", "."]


@given(root=elements(), path=st.sampled_from(PATHS))
def test_records_are_those_that_elementtree_finds(tmp_path_factory, root, path):
    folder = tmp_path_factory.mktemp("xml")
    content = ElementTree.tostring(root, encoding="utf-8")
    rows = expected(root, path)
    if rows:
        assert parsed(folder, content, "x.xml", records=path) == rows
    else:
        message = told(parsed, folder, content, "x.xml", records=path)
        assert message.startswith(f'{folder}/x.xml: no element at the path "{path}"; ')


@pytest.mark.parametrize("text", [text for text in AWKWARD if text.isprintable() or "\u2028" in text] + WITH_LINE_ENDS)
def test_text_stays_text(tmp_path, text):
    item = ElementTree.Element("item", {"kind": text.replace("\n", " ").replace("\t", " ")})
    ElementTree.SubElement(item, "a").text = text
    root = ElementTree.Element("root")
    root.append(item)
    content = ElementTree.tostring(root, encoding="utf-8")
    assert list(rows_of(tmp_path, content, "x.xml", records="item")) == [{"@kind": item.get("kind"), "a": text}]


WEBNLG = """<?xml version="1.0"?>
<benchmark version="3">
  <entries>
    <entry category="Airport" eid="Id1">
      <triples><triple>Aarhus | leader | Jacob</triple></triples>
      <lex comment="good">The leader is <b>Jacob</b>.</lex>
    </entry>
    <entry category="Airport"
           eid="Id2">
      <lex comment="good">One.</lex>
      <lex comment="">Two.</lex>
      <note/>
    </entry>
  </entries>
</benchmark>
"""


def test_attributes_children_text_and_what_stands_around_become_fields(tmp_path):
    found = rows_of(tmp_path, WEBNLG, "x.xml", records="entries/entry")
    assert list(found) == [
        {
            "@version": "3",
            "@category": "Airport",
            "@eid": "Id1",
            "triples": {"triple": "Aarhus | leader | Jacob"},
            "lex": {"@comment": "good", "b": "Jacob", "#text": "The leader is Jacob."},
        },
        {
            "@version": "3",
            "@category": "Airport",
            "@eid": "Id2",
            "lex": [{"@comment": "good", "#text": "One."}, {"@comment": "", "#text": "Two."}],
            "note": "",
        },
    ]
    assert lines_of(found) == ["4", "8"]


def test_children_that_are_named_are_a_list_also_where_one_stands_alone(tmp_path):
    first, second = rows_of(tmp_path, WEBNLG, "x.xml", records=".//entry", lists=["lex", "triple"])
    assert (len(first["lex"]), len(second["lex"])) == (1, 2)
    assert first["triples"] == {"triple": ["Aarhus | leader | Jacob"]}


def test_names_are_without_their_namespaces(tmp_path):
    content = '<r xmlns="urn:x" xmlns:y="urn:y"><item y:id="1" xml:lang="en"><y:a>x</y:a></item></r>'
    found = rows_of(tmp_path, content, "x.xml", records="item[@lang='en']")
    assert list(found) == [{"@id": "1", "@lang": "en", "a": "x"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "cp1252"])
def test_the_encoding_is_the_one_that_the_file_declares(tmp_path, encoding):
    content = f'<?xml version="1.0" encoding="{encoding}"?><r><a>größer</a></r>'.encode(encoding)
    assert list(rows_of(tmp_path, content, "x.xml", records="a")) == [{"#text": "größer"}]


@pytest.mark.parametrize("declared", ["shift_jis", "utf-8"])
def test_an_encoding_that_the_source_names_goes_before_it(tmp_path, declared):
    content = f'<?xml version="1.0" encoding="{declared}"?><r><a>日本</a></r>'.encode("shift_jis")
    assert list(rows_of(tmp_path, content, "x.xml", records="a", encoding="shift_jis")) == [{"#text": "日本"}]
    if declared == "shift_jis":
        assert told(rows_of, tmp_path, content, "x.xml", records="a") == (
            f"{tmp_path}/x.xml: not readable XML: multi-byte encodings are not supported; "
            "name its encoding in `encoding`"
        )


def test_a_document_type_without_entities_is_read(tmp_path):
    content = '<!DOCTYPE r SYSTEM "nowhere.dtd" [<!ELEMENT r (a*)>]>\n<r><a>x &lt;&amp;&#233;</a></r>'
    assert list(rows_of(tmp_path, content, "x.xml", records="a")) == [{"#text": "x <&é"}]


def test_a_compressed_file_and_several_files_are_read(tmp_path):
    (tmp_path / "x1.xml").write_text("<r><a>1</a></r>")
    (tmp_path / "x2.xml.gz").write_bytes(gzip.compress(b"<r><a>2</a></r>"))
    found = read(tmp_path, kind="xml", records="a", splits={"all": ["x2.xml.gz", "x1.xml"]})
    assert [row["#text"] for row in found] == ["2", "1"]


def test_a_large_file_is_read_in_the_memory_of_few_records(tmp_path):
    from flantune.tasks.sources import SourceChoice, xml
    from flantune.tasks.sources.files import located, open_files

    item = "<skipped>" + "x" * 500 + "</skipped><item><text>" + "word " * 100 + "</text></item>"
    (tmp_path / "x.xml").write_text("<r>" + item * 5_000 + "</r>")
    source = SourceChoice.model_validate({"kind": "xml", "records": "item", "splits": {"all": "x.xml"}})
    (file,) = open_files(located("x.xml", tmp_path, {})[0], None, "item")
    tracemalloc.start()
    try:
        assert sum(1 for _ in xml.xml_records(file, source)) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 2**20  # the file has 5 MiB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "path", ["/r/item", "item[1]", "item[text()='x']", "..", "a/../b", "item/@id", "", "a b", "a/"]
)
def test_a_path_that_cannot_be_followed_is_told(path):
    message = told(ElementPath, path, "x.xml")
    assert message.startswith(f"x.xml: the path {path!r} cannot be read from ")
    assert message.endswith(
        "; it goes down from the root element, such as entries/entry, .//item or .//item[@lang='en']"
    )
