"""The image folder of ``datasets``: pictures beside ``metadata.csv`` or ``metadata.jsonl``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xclipt.data.formats.columns import usual_split
from xclipt.data.formats.documents import line_rows
from xclipt.data.formats.reading import Reading
from xclipt.data.formats.table import Rows, TableDataset, delimited_rows
from xclipt.errors import XcliptError

_TABLES = {"metadata.csv": delimited_rows, "metadata.jsonl": line_rows}
_SPLITS = ("train", "val", "test")


def metadata_files(folder: Path) -> list[Path]:
    """The tables of an image folder: its own, and those of the folders in it, which are splits."""
    parents = (folder, *(path for path in sorted(folder.iterdir()) if path.is_dir()))
    return [path for parent in parents for name in _TABLES if (path := parent / name).is_file()]


def open_image_folder(folder: Path, reading: Reading) -> TableDataset:
    """Captions of an image folder.

    Raises:
        XcliptError: A folder has both tables, or one of them is unusable.
    """
    return TableDataset.of(folder, list(_tables(folder, reading)), reading)


def _tables(folder: Path, reading: Reading) -> Iterator[Rows]:
    seen: set[Path] = set()
    for file in metadata_files(folder):
        if file.parent in seen:
            raise XcliptError(f"{file.parent}: has {' and '.join(_TABLES)}; keep one")
        seen.add(file.parent)
        rows = _TABLES[file.name](file, reading)
        if file.parent != folder:
            name = usual_split(file.parent.name)
            rows = replace(rows, folder=file.parent.name, split=name if name in _SPLITS else None)
        yield rows
