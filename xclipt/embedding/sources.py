"""What is embedded: texts and pictures, each with an id, read piece by piece."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

from xclipt.data.dataset import Dataset
from xclipt.data.formats.columns import is_column
from xclipt.data.formats.encodings import open_text
from xclipt.data.formats.known import format_of
from xclipt.data.formats.reading import Reading
from xclipt.data.formats.table import Rows
from xclipt.data.pictures import check_picture_name, pictures_in, unread_remark
from xclipt.data.registry import open_dataset
from xclipt.errors import UsageError, XcliptError
from xclipt.files import file_key
from xclipt.parallel.formats.columns import code_of, is_side

TEXTS, PICTURES = "texts", "pictures"

_SAMPLE_ROWS = 200
_SAMPLE_PICTURES = 20
_ID = "id"


@dataclass(frozen=True)
class TextSource:
    """Texts with their ids.

    Attributes:
        name: What files and messages call it.
        sha256: Of the file.
        layout: How it was read, where that is not its lines: ``column caption, ids of id``.
        rows: How many texts there are.
        read: Ids and texts from the row of a number on.
    """

    name: str
    sha256: str
    layout: str
    rows: int
    read: Callable[[int], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class PictureSource:
    """Pictures with their ids.

    Attributes:
        name: What files and messages call it.
        sha256: Of the ids, sizes and times of change of all files: what they hold is not read for
            it.
        folder: What the ids are paths within; ``None`` where they are no paths.
        ids: In their order.
        path: The file of an id.
        remark: What there is to say of what was left out; empty where nothing was.
    """

    name: str
    sha256: str
    folder: Path | None
    ids: Sequence[str]
    path: Callable[[str], Path]
    remark: str = ""


def open_texts(path: Path, language: str | None, reading: Reading) -> TextSource:
    """Texts of a file: a column of a table, or every line. All of it is read once, to count them.

    Args:
        path: The file. One that ends in ``.txt`` is lines, unless columns are named.
        language: The texts'; a table's column may be called by it.
        reading: The encoding, and which column is the ``caption`` or the ``id``.

    Raises:
        UsageError: There is no such file, or no such column.
        XcliptError: It cannot be read, or a text is empty: the features would no longer be of line
            after line.
    """
    if not path.is_file():
        why = "is a folder; name a file" if path.is_dir() else "no such file"
        raise UsageError(why, field="text", value=path)
    known = format_of(path)
    plain = path.name.lower().removesuffix(".gz").endswith(".txt") and not reading.columns
    if known is None or plain:
        if reading.columns:
            raise UsageError(f"{path}: is lines and has no columns", field="columns")
        return _counted(path, "", lambda: _lines(path, reading.encoding))
    if known.rows is None:
        raise UsageError(
            f"{known.name} hold no texts alone; name a table", field="text", value=path
        )
    opened: Callable[[Path, Reading], Rows] = known.rows
    table = _table(lambda: opened(path, reading), language, reading)
    layout = f"column {table.texts}" + (f", ids of {table.ids}" if table.ids else "")
    return _counted(path, layout, table.read)


def _counted(path: Path, layout: str, read: Callable[[], Iterator[tuple[str, str]]]) -> TextSource:
    rows = sum(1 for _ in read())
    if not rows:
        raise XcliptError(f"{path}: no text in it; write one per line")
    sha256 = file_key(path).hex()
    return TextSource(path.name, sha256, layout, rows, lambda first: islice(read(), first, None))


def _lines(path: Path, encoding: str | None) -> Iterator[tuple[str, str]]:
    # Only "\n" ends a line: texts may hold what Unicode and Python call line ends.
    with open_text(path, encoding, newline="\n") as text:
        for number, line in enumerate(text, 1):
            yield str(number), _text(line, f"{path}: line {number}")


@dataclass(frozen=True)
class _Table:
    """Which columns of a table hold texts, their ids and their languages, where any does."""

    open: Callable[[], Rows]
    texts: str
    ids: str | None
    languages: str | None
    language: str | None

    def read(self) -> Iterator[tuple[str, str]]:
        table = self.open()
        for number, (place, fields) in enumerate(table.rows, 1):
            where = f"{table.source}: {place}"
            self._require_language(fields, where)
            known = number if self.ids is None else fields.get(self.ids)
            if not isinstance(known, str | int) or not str(known).strip():
                raise XcliptError(f"{where}: no id in column '{self.ids}'")
            one, value = str(known).strip(), fields.get(self.texts)
            if isinstance(value, list) and value:
                for part, text in enumerate(value, 1):
                    yield f"{one}#{part}", self._text(text, where)
            else:
                yield one, self._text(value, where)

    def _text(self, value: object, where: str) -> str:
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            raise XcliptError(f"{where}: column '{self.texts}' holds {kind}, not text")
        return _text(value or "", where)

    def _require_language(self, fields: Mapping[str, Any], where: str) -> None:
        if self.languages is None or self.language is None:
            return
        said = str(fields.get(self.languages) or "").strip()
        if said and code_of(said) != self.language:
            raise XcliptError(
                f"{where}: is in '{said}', by column {self.languages}, and not in "
                f"'{self.language}'; embed one language at a time"
            )


def _text(value: str, where: str) -> str:
    if text := value.strip():
        return text
    raise XcliptError(f"{where}: no text; take it out, so that row k stays the features of text k")


def _table(opened: Callable[[], Rows], language: str | None, reading: Reading) -> _Table:
    """A table whose columns are understood, from their names and its first rows."""
    table = opened()
    sample = islice(table.rows, _SAMPLE_ROWS)
    names = list(dict.fromkeys(chain(table.names, *(fields for _, fields in sample))))
    has = f"{table.source} has {', '.join(names) or 'no columns'}"
    for role, name in reading.columns.items():
        if role not in ("caption", _ID):
            raise UsageError(
                "of texts there are two columns: caption=NAME and id=NAME",
                field="columns",
                value=f"{role}={name}",
            )
        if name not in names:
            raise UsageError(f"no such column: {has}", field="columns", value=f"{role}={name}")
    ids = reading.columns.get(_ID) or (_ID if _ID in names else None)
    others = [name for name in names if name != ids]
    of_captions = [name for name in others if is_column("caption", name, reading)]
    of_language = [name for name in others if language and is_side(name, language)]
    found = of_captions or of_language
    if not found and len(others) == 1:
        found = others
    if len(found) != 1:
        why = f"{' and '.join(found[:3])} may all be the texts" if found else "which are the texts?"
        raise XcliptError(f"{has}: {why} `columns=caption=NAME` says which")
    languages = next((name for name in others if is_column("language", name, reading)), None)
    return _Table(opened, found[0], ids, languages, language)


def open_pictures(
    place: Path, data_dir: Path | None, reading: Reading, *, listed: bool = False
) -> PictureSource:
    """Pictures of a folder and those below it, of a list of paths, or of a data set.

    Args:
        place: A folder; a ``.txt`` file with a path a line, relative to the folder that it lies in;
            or webdataset shards, parquet and whatever else :func:`open_dataset` takes.
        data_dir: As there.
        reading: As there.
        listed: It is a list whatever it is called, and its paths are relative to the current
            folder.

    Raises:
        UsageError: There is nothing of that name.
        XcliptError: There are no pictures in it.
    """
    if listed or (place.suffix.lower() == ".txt" and place.is_file()):
        return _listed(place, Path() if listed else place.parent)
    if place.is_dir():
        files, unread = pictures_in(place)
        if files:
            below = [file.relative_to(place).as_posix() for file in files]
            remark = f"{place}: left out are {unread_remark(unread)}" if unread else ""
            return _of_files(str(place), place, below, remark)
        if format_of(place) is None:
            why = f"only {unread_remark(unread)}" if unread else "by name: .jpg, .png, .webp, ..."
            raise UsageError(f"no pictures in it ({why})", field="images", value=place)
    try:
        dataset = open_dataset(place, data_dir, **vars(reading))
    except XcliptError as error:
        if error.field != "dataset":
            raise
        raise UsageError(error.message, field="images", value=place) from error
    images = dict.fromkeys(
        picture.image
        for language in dataset.languages
        for picture in dataset.captions(language, None)
    )
    digest = hashlib.sha256("\n".join(images).encode()).hexdigest()
    ids = tuple(images)
    return PictureSource(dataset.name, digest, _folder_of(dataset, ids), ids, dataset.picture_path)


def _folder_of(dataset: Dataset, ids: Sequence[str]) -> Path | None:
    """The folder that a data set's pictures lie in by their names, if it is one."""
    folders: set[Path | None] = set()
    for one in ids[:: max(1, len(ids) // _SAMPLE_PICTURES)]:
        path = dataset.picture_path(one)
        parent = path.parents[len(PurePosixPath(one).parts) - 1]
        folders.add(parent if parent / one == path else None)
    found = folders.pop()
    return found.resolve() if found and not folders else None


def _listed(path: Path, folder: Path) -> PictureSource:
    ids = []
    with open_text(path, newline="\n") as text:
        for number, line in enumerate(text, 1):
            if name := line.strip():
                check_picture_name(name, f"{path}: line {number}", anywhere=True)
                ids.append(name)
    if not ids:
        raise XcliptError(f"{path}: no path in it; write one per line")
    return _of_files(path.name, folder, ids)


def _of_files(name: str, folder: Path, ids: Sequence[str], remark: str = "") -> PictureSource:
    digest = hashlib.sha256()
    for one in ids:
        stamp: tuple[int, ...] = ()
        with suppress(OSError, ValueError):  # missing: it is told of when it is to be encoded
            status = (folder / one).stat()
            stamp = (status.st_size, status.st_mtime_ns)
        digest.update(f"{one}\0{stamp}\n".encode("utf-8", "surrogateescape"))
    return PictureSource(
        name, digest.hexdigest(), folder.resolve(), ids, lambda one: folder / one, remark
    )
