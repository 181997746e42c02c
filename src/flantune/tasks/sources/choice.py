"""What a task's file says about where its rows come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from flantune.errors import nearest
from flantune.recipe.yaml_file import Strict, WrongAt
from flantune.tasks.sources.database_url import check_url
from flantune.tasks.sources.division_schema import Sample, SplitBy
from flantune.tasks.sources.transform_schema import Group, Transform

FileOrFiles = str | tuple[str, ...]
Kind = Literal[
    "jsonl", "json", "yaml", "csv", "tsv", "parquet", "arrow", "parallel", "classes", "documents", "conll", "xml",
    "huggingface", "sql",
]  # fmt: skip

TABLES = ("csv", "tsv")
NOT_FILES = ("huggingface", "sql")

# A key that means something for some kinds only; with any other kind it is a mistake.
KINDS_OF: dict[str, tuple[str, ...]] = {
    "path": ("huggingface",),
    "config": ("huggingface",),
    "revision": ("huggingface",),
    "url": ("sql",),
    "timeout": ("sql",),
    "refresh": ("sql",),
    "records": ("json", "yaml", "xml"),
    "lists": ("xml",),
    "orient": ("json",),
    "header": ("csv", "tsv", "json", "jsonl", "yaml"),
    "delimiter": TABLES,
    "quoting": TABLES,
    "columns": TABLES,
    "encoding": ("jsonl", "json", "yaml", "csv", "tsv", "parallel", "classes", "documents", "conll", "xml"),
}
# The keys that a kind cannot do without, and why.
NEEDED: dict[str, tuple[str, str]] = {
    "huggingface": ("path", "the name of the data set on the hub, or a local folder"),
    "sql": ("url", "the address of the database, such as sqlite:///rows.db"),
    "xml": ("records", "which elements are rows, such as .//item"),
}
# What a split of a kind is, where it is not a file or a list of files.
FORMS: dict[str, tuple[type, str]] = {
    "parallel": (dict, "{field: file, ...}"),
    "classes": (dict, "{label: file, ...}"),
    "documents": (dict, "{field: pattern of files, ...}"),
    "huggingface": (str, "the name of a split of the data set"),
    "sql": (str, "a query"),
}


class SourceChoice(Strict):
    """Where a task's rows come from."""

    kind: Kind
    splits: dict[str, FileOrFiles | dict[str, FileOrFiles]] = Field(
        min_length=1,
        description="Split name to a file or a list of files, for example `train.jsonl.gz`, `parts/*.csv`, "
        "`all.zip!docs/*.json`, `all.json#test`. parallel, documents: {field: file}; classes: {label: file}; "
        "huggingface: the name of a split; sql: a query.",
    )
    encoding: str | None = Field(None, description="Encoding of text files; UTF-8 by default, in XML what it declares.")
    records: str | None = Field(
        None,
        min_length=1,
        description="json, yaml: path to the rows, such as `data.*.qas`; xml: ElementPath of the rows, such as "
        "`.//item`.",
    )
    header: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="csv, tsv: column names where there is no header line; json, jsonl, yaml: of rows that are lists.",
    )
    delimiter: str | None = Field(None, description="csv, tsv: what stands between two fields.")
    quoting: Literal["none", "minimal"] | None = Field(
        None,
        description="csv, tsv: whether quotation marks around a field are no part of it: minimal (csv) or none (tsv).",
    )
    columns: int | None = Field(
        None, ge=2, description="csv, tsv: number of columns, where the last one takes the rest of the line."
    )
    orient: Literal["rows", "columns"] = Field(
        "rows", description="json: whether the file is a list of rows or {field: list of values}."
    )
    lists: tuple[str, ...] = Field(
        (), description="xml: child elements that are a list in every row, also where one stands alone."
    )
    fields: tuple[str, ...] | None = Field(
        None, min_length=1, description="Only these fields are read; parquet, arrow: only these columns are decoded."
    )
    path: str | None = Field(None, description="huggingface: name of the data set on the hub, or a local folder.")
    config: str | None = Field(None, description="huggingface: configuration of the data set.")
    revision: str | None = Field(None, description="huggingface: branch, tag or commit.")
    url: str | None = Field(
        None,
        description="sql: SQLAlchemy URL; credentials only as ${env:NAME}, such as "
        "postgresql+psycopg://${env:DB_USER}:${env:DB_PASSWORD}@host/db.",
    )
    timeout: float = Field(
        600, gt=0, description="sql: seconds that connecting and the whole answer of one split's query may take."
    )
    refresh: bool = Field(
        True,
        description="sql: false keeps the answer that was taken first; true asks the database again in every process.",
    )
    beside: dict[str, dict[str, str]] = Field(
        {}, description="Field to {split: file}: line i of that file is the field of row i."
    )
    also: tuple[SourceChoice, ...] = Field(
        (),
        description="More sources with the same splits; their rows follow before `where`, `fractions` and `sample` are "
        "applied. Each has its own transforms.",
    )
    transforms: tuple[Transform, ...] = Field((), description="Changes of each row, in order.")
    group: Group | None = Field(None, description="Makes one row of several that follow each other, after transforms.")
    where: str | None = Field(
        None, description="Jinja expression over the row; rows for which it is false are left out."
    )
    fractions: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="Divides the one split `all` by a hash of each row, for example {test: 0.2, train: 0.8}."
    )
    fractions_by: tuple[str, ...] | None = Field(
        None, min_length=1, description="Fields that are hashed for `fractions`: rows that agree in them stay together."
    )
    split_by: SplitBy | None = Field(None, description="Divides the one split `all` by what a field of each row says.")
    sample: Sample | None = None

    @field_validator("splits", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: cls._tuples(files) if isinstance(files, dict) else _tuple(files) for name, files in value.items()
            }
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        try:
            " ".encode(name or "utf-8")  # knows text encodings only, unlike codecs.lookup
        except (LookupError, UnicodeError):
            raise ValueError("unknown encoding; such as utf-8, latin-1, cp1252, utf-16, shift_jis, gb18030") from None
        return name

    @field_validator("delimiter")
    @classmethod
    def _no_line_end(cls, text: str | None) -> str | None:
        if text is not None and (not text or set(text) & set("\r\n")):
            raise ValueError("at least one character is wanted, and no line end")
        return text

    @field_validator("header")
    @classmethod
    def _different(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for number, name in enumerate(names or ()):
            if name in (names or ())[:number]:
                raise WrongAt([number], f'column "{name}" stands twice; rename one')
        return names

    @model_validator(mode="after")
    def _complete(self) -> SourceChoice:
        self._check_keys()
        self._check_splits()
        self._check_division()
        self._check_further_sources()
        return self

    def _check_keys(self) -> None:
        for key, kinds in KINDS_OF.items():
            if key in self.model_fields_set and self.kind not in kinds:
                raise WrongAt([key], f"belongs to {_kinds(kinds)}; this source is of kind: {self.kind}, so remove it")
        key, why = NEEDED.get(self.kind, ("kind", ""))
        if getattr(self, key) is None:
            raise WrongAt([key], f"is missing; kind: {self.kind} needs it: {why}")
        if self.url is not None:
            check_url(self.url)  # here, since pydantic would show the value of a field, and that may be a password
        if self.columns is not None and self.header is not None and self.columns != len(self.header):
            raise WrongAt(["columns"], f"is {self.columns}, but `header` names {len(self.header)}")
        if self.columns is not None and self.quoting == "minimal":
            raise WrongAt(["columns"], "takes the rest of the line as it is; leave `quoting: minimal` out")
        if self.delimiter is not None and self.quoted and (len(self.delimiter) > 1 or self.delimiter == '"'):
            raise WrongAt(["delimiter"], "is one character where fields may be quoted; add `quoting: none`")

    @property
    def quoted(self) -> bool:
        """csv, tsv: whether quotation marks around a field are no part of it."""
        return self.columns is None and (self.quoting or {"tsv": "none"}.get(self.kind, "minimal")) == "minimal"

    def _check_splits(self) -> None:
        form, wanted = FORMS.get(self.kind, ((str, tuple), "a file or a list of files"))
        for split, files in self.splits.items():
            given = list(files.values()) if isinstance(files, dict) else [files]
            lists = self.kind != "documents" or all(isinstance(each, str) for each in given)
            if not isinstance(files, form) or not files or not all(map(_filled, given)) or not lists:
                raise WrongAt(["splits", split], f"kind: {self.kind} wants {wanted} here")
        for field, files in self.beside.items():
            if self.kind in NOT_FILES:
                raise WrongAt(["beside"], f"belongs to files; this source is of kind: {self.kind}, so remove it")
            for split in files:
                if split not in self.splits:
                    raise WrongAt(["beside", field, split], f"no such split; {nearest(split, self.splits)}")

    def _check_division(self) -> None:
        for key in ("fractions", "split_by"):
            if getattr(self, key) is not None and set(self.splits) != {"all"}:
                raise WrongAt([key], "divides one split that is called `all`; name the one split so")
        if self.fractions is not None and abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise WrongAt(["fractions"], f"must sum to 1, not {sum(self.fractions.values()):g}")
        if self.fractions is not None and self.split_by is not None:
            raise WrongAt(["split_by"], "divides the rows too; give either this or `fractions`")
        if self.fractions_by is not None and self.fractions is None:
            raise WrongAt(["fractions_by"], "says how `fractions` divides; give these too")
        key = "rows_each" if self.sample is not None and self.sample.by is not None else "rows"
        for split in self.sample.named_splits() if self.sample is not None else ():
            if split not in split_names(self):
                raise WrongAt(["sample", key, split], f"no such split; {nearest(split, split_names(self))}")

    def _check_further_sources(self) -> None:
        for number, more in enumerate(self.also):
            if set(more.splits) != set(self.splits):
                raise WrongAt(["also", number, "splits"], f"must be the same as above ({', '.join(self.splits)})")
            for key in ("fractions", "fractions_by", "split_by", "sample", "where"):
                if getattr(more, key) is not None:
                    raise WrongAt(["also", number, key], "belongs to the first source and holds for all; move it there")


def _kinds(kinds: tuple[str, ...]) -> str:
    """As a sentence names them: `kind: csv`, `kind: csv, tsv or json`."""
    return "kind: " + " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))


def _tuple(files: Any) -> Any:
    return tuple(files) if isinstance(files, list) else files


def _filled(files: FileOrFiles) -> bool:
    return bool(files) and (isinstance(files, str) or all(files))


def split_names(source: SourceChoice) -> list[str]:
    """Names of the splits that a source offers."""
    return list(source.fractions or (source.split_by.splits if source.split_by is not None else source.splits))
