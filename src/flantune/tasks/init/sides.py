"""Which files belong together: splits of a task, its sides line by line, a file for each class, names of classes."""

from __future__ import annotations

import itertools
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flantune.errors import FlantuneError
from flantune.recipe.load import run_name
from flantune.tasks.init.columns import Column
from flantune.tasks.init.given import Given
from flantune.tasks.init.names import SPLITS, parts, split_of
from flantune.tasks.init.relations import Relation
from flantune.tasks.init.sniff import Form, form_of
from flantune.tasks.sources import Row, SourceChoice, read_split

SAMPLE = 2000  # rows
MOST_NAMES = 300
SMALL_FILE = 100  # rows; of many files this small one makes no task of each
ORDER = ("train", "validation", "test")


@dataclass(frozen=True)
class Look:
    """A file that was looked at.

    Attributes:
        file: The file.
        form: How rows lie in it.
        rows: A sample of them, in order.
        count: How many there are.
    """

    file: Given
    form: Form
    rows: tuple[Row, ...] = field(repr=False)
    count: int

    @property
    def split(self) -> str | None:
        """The split that its name states."""
        return split_of(self.file.words)

    @property
    def rest(self) -> tuple[str, ...]:
        """The words of its name without those of splits, and without numbers."""
        return tuple(word for word in self.file.words if word not in SPLITS and not word.isdigit())

    @property
    def signature(self) -> tuple[Any, ...]:
        """What files of one task share: kind, keys, columns (`summary1` and `summary` are one)."""
        names = sorted({re.sub(r"\d+$", "", name) for row in self.rows[:50] for name in row})
        keys = {name: value for name, value in self.form.keys.items() if name not in ("encoding", "lists")}
        return (self.form.kind, repr(sorted(keys.items(), key=str)), tuple(names))


def look_at(file: Given) -> Look:
    """What is in a file.

    Raises:
        FlantuneError: Not a format that is known, or rows that cannot be read.
    """
    form = form_of(file)
    if form.kind in ("names", "documents"):
        return Look(file, form, (), len(form.words))
    rows, count = sampled(_source_of(file, form))
    if form.kind == "xml" and (several := _sometimes_lists(rows)):
        form = replace(form, keys={**form.keys, "lists": several})
        rows, count = sampled(_source_of(file, form))
    return Look(file, form, rows, count)


def _source_of(file: Given, form: Form) -> dict[str, Any]:
    """The rows of one file, all of them."""
    encoding = {"encoding": form.keys["encoding"]} if "encoding" in form.keys else {}
    if form.kind == "lines":
        return {"kind": "parallel", "splits": {"all": {"text": file.text}}, **encoding}
    if form.splits:
        first = next(iter(form.splits.values()))[0]
        return {"kind": form.kind, "splits": {"all": f"{file.text}#{first}"}, **form.keys}
    return {"kind": form.kind, "splits": {"all": file.text}, **form.keys, **_records(form)}


def _records(form: Form) -> dict[str, Any]:
    return (
        {"records": form.paths[0]}
        if form.paths and form.paths[0] and not form.splits and "records" not in form.keys
        else {}
    )


def _sometimes_lists(rows: Sequence[Row]) -> list[str]:
    """Child elements that stand once in some rows and several times in others, at any depth."""
    once: set[str] = set()
    often: set[str] = set()

    def visit(value: Any) -> None:
        for name, inner in value.items():
            for each in inner if isinstance(inner, list) else [inner]:
                if isinstance(each, dict):
                    visit(each)
            (often if isinstance(inner, list) else once).add(name)

    for row in rows:
        visit(row)
    return sorted(once & often)


@dataclass(frozen=True)
class Group:
    """Files that are one task.

    Attributes:
        name: What tells it from other groups: of its files' names what they share.
        source: `kind`, `splits` and further keys, as a task file states them, paths as they were given.
        form: How rows lie in its files.
        rows: A sample.
        count: Rows in all.
        names: Names of classes that stood in a file beside it.
        notes: How its files were put together, in plain words.
        fields: Names of the fields that rows of each split have.
    """

    name: str
    source: Mapping[str, Any]
    form: Form
    rows: tuple[Row, ...] = field(repr=False)
    count: int
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def numbered(self, name: str) -> tuple[str, ...]:
        """Fields such as `summary1`, `summary2` that some split has in place of `summary`."""
        lacking = [names for names in self.fields.values() if name not in names]
        found = dict.fromkeys(
            other for names in lacking for other in names if re.fullmatch(rf"{re.escape(name)}_?\d+", other)
        )
        return tuple(sorted(found))


def sampled(source: Mapping[str, Any], split: str = "all") -> tuple[tuple[Row, ...], int]:
    """A sample of the rows of a split, spread over all of them, in their order; and how many there are."""
    rows = read_split(SourceChoice.model_validate(dict(source)), split, Path(), {})
    chosen = range(len(rows)) if len(rows) <= SAMPLE else sorted(random.Random(17).sample(range(len(rows)), SAMPLE))
    return tuple(rows[i] for i in chosen), len(rows)


def groups(looks: Sequence[Look]) -> list[Group]:
    """The files that are tasks, each with its splits; and what stands beside them.

    Raises:
        FlantuneError: Nothing but plain lines without a partner.
    """
    lists = [look for look in looks if _is_list_of_names(look, looks)]
    names = tuple(name for look in lists for name in _names_in(look))
    lines = [look for look in looks if look.form.kind == "lines" and look not in lists]
    records = [look for look in looks if look.form.kind not in ("lines", "names", "documents")]
    found = [*_documents([look for look in looks if look.form.kind == "documents"])]
    beside = {id(look): partner for look in lines if (partner := _partner(look, records)) is not None}
    sides = [look for look in lines if id(look) not in beside]
    found += _of_lines(sides)
    for members in _of_records(records):
        labels = [(look, beside[id(look)]) for look in lines if id(look) in beside and beside[id(look)] in members]
        found.append(_group(members, labels))
    if not found:
        told = "each line is a text of its own, and nothing is asked about it; give the file of answers beside it"
        raise FlantuneError(told, str(looks[0].file))
    return [replace(group, names=names) for group in found]


# --- names of classes, labels beside ------------------------------------------------------------------------


def _is_list_of_names(look: Look, looks: Sequence[Look]) -> bool:
    """A short list of short different texts beside files of rows, which has fewer lines than they have rows."""
    if look.form.kind == "names":
        return True
    texts = [str(row.get("text", "")).strip() for row in look.rows]
    short = (
        look.form.kind == "lines"
        and 2 <= look.count <= MOST_NAMES
        and len(set(texts)) == len(texts)
        and max(map(len, texts)) <= 60
    )
    others = [other for other in looks if other is not look and other.form.kind != "names"]
    return short and bool(others) and all(other.count > look.count for other in others)


def _names_in(look: Look) -> list[str]:
    if look.form.kind == "names":
        return list(look.form.words)
    return [str(row["text"]).strip() for row in look.rows]


def _partner(look: Look, records: Sequence[Look]) -> Look | None:
    """The file of rows that a file of as many lines belongs to: of the same split, or the only one."""
    alike = [other for other in records if other.count == look.count]
    same = [other for other in alike if other.split == look.split] or alike
    return same[0] if len(same) == 1 else None


# --- sides, classes, documents ------------------------------------------------------------------------------


def _of_lines(looks: Sequence[Look]) -> list[Group]:
    """Files of plain lines: those of one split and one length are sides; of others each may be a class."""
    by_split: dict[str | None, list[Look]] = defaultdict(list)
    for look in looks:
        by_split[look.split].append(look)
    found: list[Group] = []
    for family in _families(by_split):
        sides = {split: _sides(members) for split, members in family.items()}
        alike = all(len({look.count for look in members}) == 1 for members in family.values())
        first = next(iter(family.values()))
        if len(first) < 2 or len({tuple(sorted(each)) for each in sides.values()}) > 1:
            continue
        if alike and _belong_by_line(first):
            found.append(_parallel(sides, family))
        else:
            found.append(_classes(sides, family))
    return found


def _families(by_split: Mapping[str | None, Sequence[Look]]) -> list[dict[str, list[Look]]]:
    """Splits whose files have the same sides; several in one split stand apart where their lengths do."""
    families: list[dict[str, list[Look]]] = []
    for split, looks in by_split.items():
        by_count: dict[int, list[Look]] = defaultdict(list)
        for look in looks:
            by_count[look.count].append(look)
        whole = [members for members in by_count.values() if len(members) > 1]
        for members in whole if sum(map(len, whole)) == len(looks) else [list(looks)]:
            sides = set(_sides(members))
            home = next(
                (
                    each
                    for each in families
                    if (split or "all") not in each and set(_sides(next(iter(each.values())))) == sides
                ),
                None,
            )
            if home is None:
                home = {}
                families.append(home)
            home[split or "all"] = members
    return families


def _sides(looks: Sequence[Look]) -> dict[str, Look]:
    """What each file of a split is called beside the others: the words that only its name has."""
    shared = Counter(looks[0].rest)
    for look in looks[1:]:
        shared &= Counter(look.rest)
    named: dict[str, Look] = {}
    for look in looks:
        left, own = Counter(shared), []
        for word in parts(look.file.stem.replace("/", "_")):
            if word in SPLITS:
                continue
            if left[word]:
                left[word] -= 1
            elif not (word.isdigit() and not own):
                own.append(word)
        name = "_".join(own) or "text"
        named[name if name not in named else f"{name}_{len(named)}"] = look
    return named


def _belong_by_line(looks: Sequence[Look]) -> bool:
    """Whether line i of one file has to do with line i of another: in length, or in words, or as labels of texts."""
    columns = [Column(("text",), tuple(row["text"] for row in look.rows)) for look in looks]
    natures = {column.nature for column in columns}
    if natures & {"category", "tags", "scale", "labels", "number"}:
        return True
    relation = Relation(columns[0], columns[1])
    return relation.lengths_agree > 0.25 or relation.about_it > 0.1


def _parallel(sides: Mapping[str, Mapping[str, Look]], family: Mapping[str, Sequence[Look]]) -> Group:
    """Numbered sides, such as ref0 and ref1, are one field with a list."""
    listed: dict[str, dict[str, Any]] = {}
    for split, found in sides.items():
        named = _in_stated_order(found)
        stems = Counter(re.sub(r"_?\d+$", "", name) for name in named)
        fields: dict[str, Any] = {}
        for name, look in named.items():
            stem = re.sub(r"_?\d+$", "", name)
            if stems[stem] > 1 and name != stem:
                fields.setdefault(stem, []).append(look.file.text)
            else:
                fields[name] = look.file.text
        listed[split] = fields
    some = [look for members in family.values() for look in members]
    names = ", ".join(next(iter(listed.values())))
    notes = (f"line i of each file belongs to line i of the others: {names}",)
    return _made(
        _shared_name(some),
        {"kind": "parallel", "splits": listed, **_encoding(some)},
        replace(some[0].form, named=True),
        notes,
    )


def _in_stated_order(named: Mapping[str, Look]) -> Mapping[str, Look]:
    """`x.java-cs.cs` and `x.java-cs.java`: java comes first, since the name says from which to which."""
    for first in named:
        for second in named:
            words = named[first].file.words
            stated = first != second and (first, second) in itertools.pairwise(words[:-1])
            if stated and list(named).index(first) > list(named).index(second):
                return {first: named[first], **{name: look for name, look in named.items() if name != first}}
    return named


def _classes(sides: Mapping[str, Mapping[str, Look]], family: Mapping[str, Sequence[Look]]) -> Group:
    known = {"pos": "positive", "neg": "negative", "neu": "neutral"}
    listed = {
        split: {known.get(name, name): look.file.text for name, look in named.items()} for split, named in sides.items()
    }
    some = [look for members in family.values() for look in members]
    notes = ("each file holds the texts of one class: " + ", ".join(next(iter(listed.values()))),)
    return _made(
        _shared_name(some),
        {"kind": "classes", "splits": listed, **_encoding(some)},
        replace(some[0].form, named=True),
        notes,
    )


def _encoding(looks: Sequence[Look]) -> dict[str, Any]:
    found = {look.form.keys.get("encoding") for look in looks} - {None}
    return {"encoding": sorted(map(str, found))[0]} if found else {}


def _documents(looks: Sequence[Look]) -> list[Group]:
    """Patterns of files, one document each; those of one folder or archive are the fields of a row."""
    if not looks:
        return []
    by_split: dict[str, dict[str, str]] = defaultdict(dict)
    for look in looks:
        field_name = (look.file.suffixes[-1:] or [".text"])[0].lstrip(".*") or "text"
        by_split[look.split or "all"][field_name] = look.file.text
    notes = ("each file is a document; those with one name before the dot belong together",)
    form = replace(looks[0].form, named=True)
    return [
        _made(_shared_name(looks), {"kind": "documents", "splits": dict(by_split), **_encoding(looks)}, form, notes)
    ]


# --- splits of files of rows --------------------------------------------------------------------------------


def _of_records(looks: Sequence[Look]) -> list[list[Look]]:
    """Files with the same columns are splits of one task where their names say so."""
    by_signature: dict[Any, list[Look]] = defaultdict(list)
    for look in looks:
        by_signature[look.signature].append(look)
    return [members for alike in by_signature.values() for members in _splits_of_one_task(alike)]


def _splits_of_one_task(looks: Sequence[Look]) -> list[list[Look]]:
    by_rest: dict[tuple[str, ...], list[Look]] = defaultdict(list)
    for look in looks:
        by_rest[look.rest].append(look)
    several = len({look.split for look in looks} - {None}) > 1
    all_stated = all(look.split is not None for look in looks)
    small = sorted(look.count for look in looks)[len(looks) // 2] < SMALL_FILE and len(by_rest) > 4
    if several and all_stated and (small or all(len(members) == 1 for members in by_rest.values())):
        return [list(looks)]
    whole = [members for members in by_rest.values() if len(members) > 1]
    single = [members[0] for members in by_rest.values() if len(members) == 1]
    if len(whole) == 1:
        stated = {look.split for look in whole[0]}
        late = [look for look in single if look.split is not None] if several else []
        late += (
            [look for look in single if look.split is None]
            if "train" not in stated and len(single) - len(late) == 1
            else []
        )
        whole[0] += late
        single = [look for look in single if look not in late]
    return [*whole, *([look] for look in single)]


def _group(looks: Sequence[Look], beside: Sequence[tuple[Look, Look]]) -> Group:
    splits: dict[str, list[str]] = {}
    taken: dict[str, tuple[str, ...]] = {}
    for look in looks:
        split = look.split or ("train" if len(looks) > 1 and any(other.split for other in looks) else "all")
        if (
            split in taken
            and taken[split] != look.rest
            and len({other.rest for other in looks}) <= 4
            and split != "train"
        ):
            split = run_name("_".join(look.file.words)).replace(".", "_")
        taken.setdefault(split, look.rest)
        splits.setdefault(split, []).append(look.file.text)
    form = looks[0].form
    if len(looks) == 1 and form.splits:
        splits = {split: [f"{looks[0].file.text}#{path}" for path in paths] for split, paths in form.splits.items()}
    source: dict[str, Any] = {
        "kind": form.kind,
        "splits": {split: _one_or_list(files) for split, files in splits.items()},
        **form.keys,
    }
    source |= _records(form) | _encoding(looks)
    if beside:
        names = {look.file: _beside_name(look, partner) for look, partner in beside}
        split_by_file = {file: split for split, files in splits.items() for file in files}
        for look, partner in beside:
            source.setdefault("beside", {}).setdefault(names[look.file], {})[split_by_file[partner.file.text]] = (
                look.file.text
            )
    notes = (
        [f"labels stand in a file of their own: {', '.join(str(look.file.path.name) for look, _ in beside)}"]
        if beside
        else []
    )
    return _made(_shared_name(looks), source, form, (*form.notes, *notes))


def _one_or_list(files: list[str]) -> str | list[str]:
    return files[0] if len(files) == 1 else files


def _beside_name(look: Look, partner: Look) -> str:
    own = [word for word in look.file.words if word not in SPLITS and word not in partner.file.words]
    return "_".join(own).removesuffix("s") or "label"


def _shared_name(looks: Sequence[Look]) -> str:
    """What all names begin with, words of splits left out; else the folder's name, where it says more than a split."""
    names = [_whole_words(look.file) for look in looks]
    shared = list(names[0]) if len(looks) == 1 and not set(names[0]) <= SPLITS.keys() else []
    for words in zip(*names, strict=False) if len(looks) > 1 else ():
        if len(set(words) - SPLITS.keys()) > 1:
            break
        shared += [words[0]] if len(set(words)) == 1 and words[0] not in SPLITS else []
    if not any((len(word) > 2 and not word.isdigit()) or len(looks) == 1 for word in shared):
        folders = Path(os.path.commonpath([look.file.path.absolute().parent for look in looks])).parts[::-1]
        shared = [next((part for part in folders if part.strip("/") and not set(parts(part)) <= SPLITS.keys()), "task")]
    return run_name("_".join(shared))


def _whole_words(file: Given) -> list[str]:
    """The words of a file's own name, numbers left in them: `gsm8k` is one."""
    name = Path(file.stem).name if file.member is None else file.path.stem
    return [word for word in re.split(r"[\W_]+", name.lower()) if word]


def _made(name: str, source: Mapping[str, Any], form: Form, notes: Sequence[str]) -> Group:
    """A group with its splits in order, those that training and testing need made of what there is, and a sample."""
    given = dict(source["splits"])
    notes = list(notes)
    splits = _needed({split: given[split] for split in sorted(given, key=_place)}, notes)
    made = {**source, "splits": splits}
    for field_name, files in dict(made.get("beside", {})).items():
        renamed = {new: old for new in splits for old in given if splits[new] == given[old]}
        made["beside"] = {
            **made["beside"],
            field_name: {new: files[old] for new, old in renamed.items() if old in files},
        }
    samples = {split: sampled(made, split) for split in splits}
    fields = {
        split: tuple(dict.fromkeys(name for row in rows[:100] for name in row)) for split, (rows, _) in samples.items()
    }
    rows = next(iter(samples.values()))[0]
    return Group(name, made, form, rows, sum(count for _, count in samples.values()), notes=tuple(notes), fields=fields)


def _place(split: str) -> tuple[int, str]:
    return (ORDER.index(split) if split in ORDER else len(ORDER), split)


def _needed(splits: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """`train` and `test`, made of what there is; one split alone becomes `all`, to be divided by fractions."""
    if len(splits) == 1:
        return {"all": next(iter(splits.values()))}
    if "train" not in splits:
        first = "validation" if "validation" in splits else next(split for split in splits if split != "test")
        notes.append(f"no file is for training, so {first} is trained on")
        splits = {"train" if split == first else split: files for split, files in splits.items()}
    if "test" not in splits:
        last = "validation" if "validation" in splits else next(split for split in splits if split != "train")
        notes.append(f"no file is for testing, so {last} is tested on")
        splits = {"test" if split == last else split: files for split, files in splits.items()}
    return {split: splits[split] for split in sorted(splits, key=_place)}
