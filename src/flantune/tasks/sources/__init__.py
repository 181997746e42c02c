"""Sources: rows from files, data sets and databases, memory-mapped, each with its place."""

from flantune.tasks.sources.choice import SourceChoice, split_names
from flantune.tasks.sources.read import read_split
from flantune.tasks.sources.rows import Row, Rows, content_hash
from flantune.tasks.sources.transform_schema import expression

__all__ = ["Row", "Rows", "SourceChoice", "content_hash", "expression", "read_split", "split_names"]
