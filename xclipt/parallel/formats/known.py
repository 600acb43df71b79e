"""The formats that parallel sentences are read from, a row each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xclipt.data.formats.reading import Reading
from xclipt.parallel.formats.arrow import open_arrow
from xclipt.parallel.formats.delimited import open_delimited
from xclipt.parallel.formats.json_lines import open_json_lines
from xclipt.parallel.formats.tmx import open_tmx
from xclipt.parallel.source import Source


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What it is called, for messages.
        open: Opens a file for a language.
        suffixes: Endings of its files, in lower case, before a ``.gz``.
        packed: Whether its files may be gzipped.
    """

    name: str
    open: Callable[[Path, str, Reading], Source]
    suffixes: tuple[str, ...]
    packed: bool = True


FORMATS: tuple[Format, ...] = (
    Format("delimited text", open_delimited, (".tsv", ".csv", ".tab", ".psv", ".txt")),
    Format("a translation memory", open_tmx, (".tmx",)),
    Format("JSON lines", open_json_lines, (".jsonl", ".ndjson")),
    Format("parquet and arrow", open_arrow, (".parquet", ".arrow"), packed=False),
)
"""What is known beside two files of lines, which are called by their languages."""


def format_of(path: Path) -> Format | None:
    """The format of a file by its ending, ``None`` where that says nothing."""
    packed = path.suffix.lower() == ".gz"
    suffix = (path.with_suffix("") if packed else path).suffix.lower()
    return next(
        (f for f in FORMATS if suffix in f.suffixes and not (packed and not f.packed)), None
    )
