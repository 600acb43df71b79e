"""Captions in a table: a CSV or TSV file, or a data set on the ``datasets`` hub."""

import csv
import hashlib
import io
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from xclipt.data.formats.collected import CaptionRow, CollectedDataset
from xclipt.data.formats.lines import decode
from xclipt.errors import XcliptError
from xclipt.files import cache_dir, write_bytes
from xclipt.languages import resolve

SEPARATORS = {".csv": ",", ".tsv": "\t"}
_CAPTION_COLUMN = re.compile(r"(?:captions?[._-])?([a-z]{2,3}(?:[-_][a-z]{2,4})?)", re.IGNORECASE)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PROBE_SECONDS = 10


def is_hub_id(name: str) -> bool:
    """Whether ``name`` is spelt like ``owner/name``."""
    return _HUB_ID.fullmatch(name) is not None


class TableDataset(CollectedDataset):
    """One row a caption, or one row a picture.

    The columns are ``image``, ``caption`` and ``language``, or ``image`` and a caption column a
    language, named by its code (``de``, ``caption_de``); ``split`` may be there. Several rows of
    one picture in one language are several captions of it.
    """

    @classmethod
    def from_file(cls, path: Path) -> "TableDataset":
        """Read a CSV or TSV file; pictures are relative to its folder or to ``images/`` in it.

        Raises:
            XcliptError: The file is missing or malformed, or a column or value is unusable.
        """
        dataset = cls(path.resolve().name)
        dataset._folders = (path.parent, path.parent / "images")
        names = _header(path)
        columns = _columns(names, str(path))
        table = _read_csv(path, names)
        rows = zip(*(table[name] for name in columns.read), strict=True)
        spread = 0
        for number, values in enumerate(rows, 1):
            fields = dict(zip(columns.read, values, strict=True))
            for row in columns.rows(fields, fields[columns.image], path, f"data row {number}"):
                dataset._add(row)
                spread += any("\n" in text for text in row.captions)
        if spread:
            dataset._note(
                f"{path}: {spread} captions run over several lines; "
                "if that is not meant, a quotation mark is not closed"
            )
        dataset._finish()
        return dataset

    @classmethod
    def from_hub(cls, identifier: str) -> "TableDataset":
        """Read ``owner/name`` from the hub, or from the copy that ``datasets`` keeps of it.

        Code that comes with a data set is never run. Splits are its ``split`` column's, or the
        hub's own, where ``validation`` is called ``val``.

        Raises:
            XcliptError: There is no such data set, the hub cannot be reached, or a column or value
                is unusable.
        """
        import datasets

        dataset = cls(identifier)
        dataset._folders = (cache_dir() / "datasets" / identifier.replace("/", "--"),)
        for split, table in _load_from_hub(identifier).items():
            columns = _columns(table.column_names, identifier)
            if isinstance(table.features[columns.image], datasets.Image):
                table = table.cast_column(columns.image, datasets.Image(decode=False))
            for number, fields in enumerate(table.select_columns(list(columns.read)), 1):
                image = fields[columns.image]
                if isinstance(image, dict):
                    image = dataset._embedded(image, table, number - 1, columns.image)
                place = f"split '{split}', row {number}"
                for row in columns.rows(fields, image, identifier, place, _usual_name(split)):
                    dataset._add(row)
        if not dataset._captions:
            raise XcliptError(f"{identifier}: no rows")
        dataset._finish()
        return dataset

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._folders: tuple[Path, ...] = ()
        self._drawn_from: dict[str, tuple[Any, int, str]] = {}

    def picture_path(self, image: str) -> Path:
        paths = [folder / image for folder in self._folders]
        found = next((path for path in paths if path.is_file()), None)
        if found is None and image in self._drawn_from:
            table, index, column = self._drawn_from[image]
            write_bytes(paths[-1], _bytes_of(table[index][column]))
        return found or paths[-1]

    def _embedded(self, value: dict[str, Any], table: Any, index: int, column: str) -> str:
        # Named by its content: the paths that a table keeps need not differ between pictures.
        suffix = PurePosixPath(value.get("path") or "").suffix.lower() or ".img"
        name = hashlib.sha256(_bytes_of(value)).hexdigest()[:32] + suffix
        self._drawn_from.setdefault(name, (table, index, column))
        return name


@dataclass(frozen=True)
class _Columns:
    """Which column is what; ``captions`` holds the language of each, or ``None`` if rows say it."""

    image: str
    captions: Mapping[str, str | None]
    language: str | None
    split: str | None

    @property
    def read(self) -> tuple[str, ...]:
        named = (self.image, *self.captions, self.language, self.split)
        return tuple(name for name in named if name is not None)

    def rows(
        self,
        fields: Mapping[str, Any],
        image: Any,
        source: Path | str,
        place: str,
        split: str | None = None,
    ) -> Iterator[CaptionRow]:
        where = f"{source}: {place}"
        if not isinstance(image, str) or not image.strip():
            raise XcliptError(f"{where}: no picture in column '{self.image}'")
        if self.split is not None:
            split = _usual_name(_text(fields[self.split], self.split, where)) or None
        for column, fixed in self.captions.items():
            language = fixed
            if language is None and self.language is not None:
                language = _resolved(_text(fields[self.language], self.language, where), where)
            value = fields[column]
            texts = value if isinstance(value, list) else [value]
            captions = tuple(_text(text, column, where) for text in texts)
            yield CaptionRow(image.strip(), language or "", captions, split, source, place)


def _columns(names: Sequence[str], source: str) -> _Columns:
    known = {name.strip().lower(): name for name in names}
    image, caption, language = (known.get(key) for key in ("image", "caption", "language"))
    split = known.get("split")
    if image and caption and language:
        return _Columns(image, {caption: None}, language, split)
    captions: dict[str, str | None] = {}
    for name in names:
        match = _CAPTION_COLUMN.fullmatch(name.strip())
        # Two-letter words alone are column names of other kinds too: "id" is nearly always a key.
        bare = match is not None and match[0] == match[1]
        if match is None or name.strip().lower() == "id" or (bare and len(match[1]) == 3):
            continue
        try:
            code = resolve(match[1])
        except XcliptError:
            continue
        if code in captions.values():
            raise XcliptError(f"{source}: two columns of captions in '{code}'; keep one")
        captions[name] = code
    if not image or not captions:
        raise XcliptError(
            f"{source}: needs the columns image, caption and language (or image and a column "
            f"named by its code for each language); it has {', '.join(names)}"
        )
    return _Columns(image, captions, None, split)


def _resolved(code: str, where: str) -> str:
    if not code.strip():
        raise XcliptError(f"{where}: no language; give its code")
    try:
        return resolve(code)
    except XcliptError as error:
        raise XcliptError(f"{where}: {error}") from error


def _text(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise XcliptError(f"{where}: column '{column}' holds {type(value).__name__}, not text")
    return value.strip()


def _usual_name(split: str) -> str:
    return "val" if split in ("validation", "valid", "dev") else split


def _header(path: Path) -> list[str]:
    """The columns' names, once every row is known to have a field for each and no more."""
    try:
        text = decode(path.read_bytes(), path)
    except OSError as error:
        raise XcliptError(f"{path}: cannot read ({error.strerror})") from error
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=SEPARATORS[path.suffix.lower()], strict=True
    )
    names: list[str] = []
    rows = 0
    try:
        for fields in filter(None, reader):
            if not names:
                # A column of row numbers that pandas wrote has no name.
                names = [name.strip() or f"unnamed {index}" for index, name in enumerate(fields)]
                continue
            rows += 1
            if len(fields) != len(names):
                raise XcliptError(
                    f"{path}: line {reader.line_num} has {len(fields)} fields for "
                    f"{len(names)} columns; put quotation marks round text that holds a separator"
                )
    except csv.Error as error:
        raise XcliptError(
            f"{path}: line {reader.line_num}: {error}; is a quotation mark not closed or doubled?"
        ) from error
    if not names:
        raise XcliptError(f"{path}: empty; its first line must name the columns")
    if len(set(names)) != len(names):
        raise XcliptError(f"{path}: two columns have the same name: {', '.join(names)}")
    if not rows:
        raise XcliptError(f"{path}: no data rows; add captions")
    return names


def _read_csv(path: Path, names: list[str]) -> dict[str, list[str | None]]:
    import datasets

    try:
        # The library keeps a copy of all that it reads; this one lives as long as the call.
        with _quiet(), tempfile.TemporaryDirectory() as aside:
            table = datasets.load_dataset(
                "csv",
                data_files=str(path.resolve()),
                split="train",
                sep=SEPARATORS[path.suffix.lower()],
                header=0,
                column_names=names,
                # Without these "null" would be no caption, and 12 a number.
                features=datasets.Features({name: datasets.Value("string") for name in names}),
                keep_default_na=False,
                encoding="utf-8-sig",
                cache_dir=aside,
                keep_in_memory=True,
            )
            return {name: table[name][:] for name in names}
    except Exception as error:  # whatever pandas, Arrow and the library itself raise
        raise XcliptError(f"{path}: not a table ({_cause(error)})") from error


def _load_from_hub(identifier: str) -> Mapping[str, Any]:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    if not datasets.config.HF_HUB_OFFLINE:
        _probe(identifier, datasets.config.HF_ENDPOINT)
    try:
        with _quiet():
            loaded = datasets.load_dataset(identifier)
    except DatasetNotFoundError as error:
        raise XcliptError(
            f"{identifier}: no such folder here, and no data set of that name on the hub is open "
            "to you"
        ) from error
    except ConnectionError as error:
        raise XcliptError(f"{identifier}: {_cause(error)}") from error
    except Exception as error:  # the library has no error of its own for all that can go wrong
        raise XcliptError(f"{identifier}: datasets cannot read it ({_cause(error)})") from error
    return loaded if isinstance(loaded, Mapping) else {str(loaded.split or "train"): loaded}


def _probe(identifier: str, endpoint: str) -> None:
    """Ask the hub for anything at all: the library itself retries for half a minute and logs it."""
    request = urllib.request.Request(endpoint, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise XcliptError(
            f"{identifier}: no such folder here, and {endpoint} cannot be reached ({reason}); "
            "set HF_HUB_OFFLINE=1 to use a copy that was read before"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    import datasets

    level = datasets.logging.get_verbosity()
    bars = not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def _bytes_of(value: dict[str, Any]) -> bytes:
    data, path = value.get("bytes"), value.get("path")
    if isinstance(data, bytes):
        return data
    try:
        return Path(path or "").read_bytes()
    except OSError as error:
        raise XcliptError(f"{path}: cannot read the picture ({error.strerror})") from error


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
