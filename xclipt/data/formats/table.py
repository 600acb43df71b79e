"""Captions in tables: whatever has columns, each row a caption or a picture."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from xclipt.data.formats.collected import CollectedDataset
from xclipt.data.formats.columns import Columns, choose_columns, is_column, is_picture_name
from xclipt.data.formats.delimited import SEPARATORS, Delimited, Mend, sniff
from xclipt.data.formats.reading import Reading
from xclipt.errors import XcliptError

_SAMPLE_ROWS = 200
_WITHOUT_HEADER = ("image", "caption")
_NUMBER_AND_TEXT = re.compile(r"\s*(\d+)\s{2,}(\S.*)", re.DOTALL)


@dataclass(frozen=True)
class Rows:
    """One table.

    Attributes:
        source: The file or data set, for messages.
        names: Its columns.
        rows: Its rows, each with its place and its values by column; read once.
        split: The split of rows that name none.
        image: The column of pictures, where the table itself says which it is.
        folder: Where in the data set's folder its pictures' names start.
        said: What else is to be said of how it was understood.
    """

    source: Path | str
    names: tuple[str, ...]
    rows: Iterable[tuple[str, Mapping[str, Any]]]
    split: str | None = None
    image: str | None = None
    folder: str = ""
    said: str = ""


class TableDataset(CollectedDataset):
    """Captions of tables with a column of pictures and one or more of captions.

    Several rows of one picture in one language are several captions of it.
    """

    @classmethod
    def from_file(cls, path: Path, reading: Reading | None = None) -> "TableDataset":
        """Read a file of delimited text; pictures are relative to its folder or those in it.

        Raises:
            XcliptError: The file is missing or malformed, or a column or value is unusable.
        """
        reading = reading or Reading()
        return cls.of(path, [delimited_rows(path, reading)], reading)

    @classmethod
    def of(cls, path: Path, tables: Iterable[Rows], reading: Reading) -> "TableDataset":
        """The tables of a file or folder as one data set.

        Raises:
            XcliptError: A column or value is unusable, or there are no rows.
        """
        beside = path if path.is_dir() else path.parent
        # COCO's photographs lie beside the folder of its annotations.
        whole = beside.resolve().parent if beside.resolve().name == "annotations" else beside
        folders = dict.fromkeys((whole, beside, whole / "images"))
        dataset = cls(path.resolve().name, *folders, anywhere=True)
        dataset._collect(tables, reading)
        return dataset

    def _collect(self, tables: Iterable[Rows], reading: Reading) -> None:
        columns, table = None, None
        for table in tables:
            columns = self._read(table, reading)
        if columns is None or table is None:
            raise XcliptError(f"{self.name}: no rows")
        unread = f"not read: {', '.join(columns.unread)}" if columns.unread else ""
        self._finish(columns.described(self._captions), table.said, unread)

    def _read(self, table: Rows, reading: Reading) -> Columns:
        rows = iter(table.rows)
        first = list(islice(rows, _SAMPLE_ROWS))
        if not first:
            raise XcliptError(f"{table.source}: no data rows; add captions")
        sample = [fields for _, fields in first]
        columns = choose_columns(table.names, sample, table.source, reading, image=table.image)
        spread = 0
        for place, fields in chain(first, rows):
            image = fields.get(columns.image)
            if table.folder and isinstance(image, str) and image.strip():
                image = f"{table.folder}/{image.strip()}"
            for row in columns.rows(fields, image, table.source, place, table.split):
                self._add(row)
                spread += any("\n" in text for text in row.captions)
        if spread:
            what = "caption runs" if spread == 1 else "captions run"
            self._note(
                f"{table.source}: {spread:,} {what} over several lines; "
                "if that is not meant, a quotation mark is not closed"
            )
        return columns


def delimited_rows(path: Path, reading: Reading) -> Rows:
    """The rows of a file of delimited text, which are read as they are asked for.

    Raises:
        XcliptError: As :func:`~xclipt.data.formats.delimited.sniff` raises it, or a row does.
    """
    file = sniff(path, lambda name: _tells_of_pictures(name, reading), reading.encoding)
    said = []
    if file.separator != ",":
        said.append(f"separated by {SEPARATORS.get(file.separator, file.separator)}")
    headed = not has_no_header(file.names)
    if not headed:
        file = replace(file, names=_WITHOUT_HEADER)
        said.append("no line names the columns")
    return Rows(path, file.names, _numbered(file, reading, headed), said="; ".join(said))


def has_no_header(names: Sequence[str]) -> bool:
    """Whether a file's first row is of a picture and its caption, as in Flickr8k's token files."""
    return len(names) == len(_WITHOUT_HEADER) and is_picture_name(names[0])


def _tells_of_pictures(name: str, reading: Reading) -> bool:
    return is_column("image", name, reading) or is_picture_name(name)


def _numbered(
    file: Delimited, reading: Reading, headed: bool
) -> Iterator[tuple[str, Mapping[str, str]]]:
    for number, values in enumerate(file.rows(_mend(file, reading), headed=headed), 1):
        if any(values):  # spreadsheets end tables with rows of separators
            yield f"data row {number}", dict(zip(file.names, values, strict=True))


def _mend(file: Delimited, reading: Reading) -> Mend | None:
    """What is meant by rows of another length where captions are the last column, else nothing.

    Text that holds the separator, without quotation marks, is all of it the caption; and one row
    of the published Flickr30k has no bar between the number of a caption and the caption.
    """
    width = len(file.names)
    if width < 2 or not is_column("caption", file.names[-1], reading):
        return None

    def mend(fields: list[str]) -> list[str] | None:
        if len(fields) > width:
            return [*fields[: width - 1], file.separator.join(fields[width - 1 :])]
        missing = _NUMBER_AND_TEXT.fullmatch(fields[-1])
        if missing and len(fields) == width - 1 and width > 2:
            return [*fields[:-1], missing[1], missing[2]]
        return None

    return mend
