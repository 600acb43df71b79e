"""The formats of own data, a row each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xclipt.data.dataset import Dataset
from xclipt.data.formats.arrow import ArrowDataset, file_rows
from xclipt.data.formats.columns import is_column
from xclipt.data.formats.delimited import sniff
from xclipt.data.formats.documents import (
    document_rows,
    is_of_captions,
    line_rows,
    open_document,
    open_lines,
    read_objects,
)
from xclipt.data.formats.folder import FolderDataset, caption_files
from xclipt.data.formats.image_folder import metadata_files, open_image_folder
from xclipt.data.formats.reading import Reading
from xclipt.data.formats.sidecars import SidecarDataset, has_sidecars
from xclipt.data.formats.spreadsheet import READERS, open_workbook, sheet_rows
from xclipt.data.formats.table import Rows, TableDataset, delimited_rows, has_no_header
from xclipt.errors import XcliptError


def _no_folder(path: Path) -> bool:
    return False


@dataclass(frozen=True)
class Format:
    """One format of own data.

    Attributes:
        name: What it is called, for messages.
        open: Opens a file or folder that is in it.
        suffixes: Endings of its files, in lower case; none where it is a folder's.
        is_folder: Whether a folder is in it.
        rows: Reads a file's rows one by one, whatever its columns are; ``None`` where it holds more
            than a table. Those of JSON lines and parquet have their columns in the rows alone.
    """

    name: str
    open: Callable[[Path, Reading], Dataset]
    suffixes: tuple[str, ...] = ()
    is_folder: Callable[[Path], bool] = _no_folder
    rows: Callable[[Path, Reading], Rows] | None = None


_SHARDS = {".parquet": "parquet", ".tar": "webdataset"}
"""What ``datasets`` reads, and what it calls it."""


def _shards(suffix: str, builder: str) -> Format:
    def files(path: Path) -> list[Path]:
        below = (f"[!.]*{suffix}", f"[!.]*/[!.]*{suffix}")
        return [path] if path.is_file() else sorted(p for one in below for p in path.glob(one))

    return Format(
        f"{builder} files (*{suffix})",
        lambda path, reading: ArrowDataset.from_files(path, files(path), builder, reading),
        (suffix,),
        lambda path: bool(files(path)),
        file_rows if builder == "parquet" else None,
    )


def _tables(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and _is_table(path)]


def _is_table(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.name.startswith(".") or suffix not in SUFFIXES or suffix in _SHARDS:
        return False
    if suffix in TELLING:
        return True
    try:  # most files of these endings in a folder say something else
        if suffix == ".json":
            return is_of_captions(path)
        names = sniff(path, bool).names if suffix == ".txt" else line_rows(path, Reading()).names
        return has_no_header(names) or any(is_column("image", n, Reading()) for n in names)
    except XcliptError:
        return False


def _open_only_table(folder: Path, reading: Reading) -> Dataset:
    first, *more = _tables(folder)
    if more:
        raise XcliptError(
            f"{folder}: {' and '.join(path.name for path in (first, *more[:2]))} may all be its "
            "captions; name one of these files"
        )
    found = format_of(first)
    assert found is not None
    return found.open(first, reading)


FORMATS: tuple[Format, ...] = (
    Format(
        "captions.LANG.jsonl beside images/",
        FolderDataset,
        is_folder=lambda path: bool(caption_files(path)),
    ),
    Format(
        "an image folder (metadata.csv or metadata.jsonl)",
        open_image_folder,
        is_folder=lambda path: bool(metadata_files(path)),
    ),
    Format("a table beside its pictures", _open_only_table, is_folder=lambda p: bool(_tables(p))),
    Format(
        "delimited text",
        TableDataset.from_file,
        (".csv", ".tsv", ".txt", ".tab", ".psv", ".token"),
        rows=delimited_rows,
    ),
    Format("JSON (COCO's, Karpathy's, or a list)", open_document, (".json",), rows=document_rows),
    Format(
        "JSON lines",
        open_lines,
        (".jsonl", ".ndjson"),
        rows=lambda path, reading: Rows(path, (), read_objects(path, reading.encoding)),
    ),
    Format("an Excel workbook", open_workbook, tuple(READERS), rows=sheet_rows),
    *(_shards(suffix, builder) for suffix, builder in _SHARDS.items()),
    Format("NAME.LANG.txt beside the pictures", SidecarDataset, is_folder=has_sidecars),
)
"""What is known; a folder is in the first whose it is."""

SUFFIXES = frozenset(suffix for known in FORMATS for suffix in known.suffixes)
"""Endings of all files that may be data sets."""

TELLING = SUFFIXES - {".txt", ".json", ".jsonl", ".ndjson", ".tar"}
"""Those that hold tables as a rule."""


def format_of(path: Path) -> Format | None:
    """The format that a file or folder is in, ``None`` where it is in none."""
    if path.is_file():
        return next((f for f in FORMATS if path.suffix.lower() in f.suffixes), None)
    return next((known for known in FORMATS if known.is_folder(path)), None)
