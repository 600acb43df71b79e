"""Data sets that the ``datasets`` library reads: the hub's, parquet files and webdataset shards."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from xclipt.data.formats.columns import is_column, usual_split
from xclipt.data.formats.reading import Reading
from xclipt.data.formats.table import Rows, TableDataset
from xclipt.errors import XcliptError
from xclipt.files import cache_dir, write_bytes

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PROBE_SECONDS = 10
_SPLIT = re.compile(r"(train|val|valid|validation|dev|test)(?![A-Za-z])", re.IGNORECASE)
_NO_SPLIT = "unsplit"
_STRUCTURE = {"bytes", "path"}
_ROWS_AT_A_TIME = 1000
_BUFFER_BYTES = 1 << 16
_MARK = b"ARROW1"
_BYTES = ("binary", "large_binary")


@dataclass(frozen=True)
class FileRows:
    """The rows of a parquet or arrow file as dictionaries, from the first whenever asked for."""

    path: Path

    def count(self) -> int:
        """How many they are; 0 where only reading them tells."""
        from pyarrow.parquet import read_metadata

        return int(read_metadata(self.path).num_rows) if self._is_parquet else 0

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        batches = self._parquet() if self._is_parquet else self._arrow()
        for batch in batches:
            yield from batch.to_pylist()

    def _parquet(self) -> Iterator[Any]:
        from pyarrow.parquet import ParquetFile

        # As it is by default, all of a group of rows would be in memory, and that may be the file.
        with ParquetFile(self.path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield from file.iter_batches(_ROWS_AT_A_TIME, use_threads=False)

    def _arrow(self) -> Iterator[Any]:
        from pyarrow import OSFile, ipc

        with OSFile(str(self.path)) as file:
            is_file = file.read(len(_MARK)) == _MARK
            file.seek(0)
            if is_file:
                reader = ipc.open_file(file)
                yield from map(reader.get_batch, range(reader.num_record_batches))
            else:
                yield from ipc.open_stream(file)


def file_rows(path: Path, reading: Reading) -> Rows:
    """The rows of a parquet file, some at a time.

    Raises:
        XcliptError: The file is damaged; also while it is read.
    """
    reading.refuse(str(path), "encoding")

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        with loading_errors(str(path), "pyarrow"):
            for number, fields in enumerate(FileRows(path), 1):
                yield f"row {number}", fields

    return Rows(path, (), rows())


def is_hub_id(name: str) -> bool:
    """Whether ``name`` is spelt like ``owner/name``."""
    return _HUB_ID.fullmatch(name) is not None


class ArrowDataset(TableDataset):
    """Tables of ``datasets``, whose pictures may be within them.

    A column of pictures is known as one, whatever it is called. Splits are the ``split`` column's,
    or the library's own, where ``validation`` is called ``val``.
    """

    @classmethod
    def from_hub(cls, identifier: str, reading: Reading | None = None) -> "ArrowDataset":
        """Read ``owner/name`` from the hub, or from the copy that ``datasets`` keeps of it.

        Code that comes with a data set is never run.

        Raises:
            XcliptError: There is no such data set, the hub cannot be reached, or a column or value
                is unusable.
        """
        reading = reading or Reading()
        reading.refuse(identifier, "encoding")
        dataset = cls(identifier, _drawn_folder(identifier.replace("/", "--")))
        dataset._take(load_from_hub(identifier), identifier, reading)
        return dataset

    @classmethod
    def from_files(
        cls, path: Path, files: Sequence[Path], builder: str, reading: Reading
    ) -> "ArrowDataset":
        """Read files that ``datasets`` has a builder for: ``parquet`` or ``webdataset``.

        A file or folder called ``train...`` holds that split. What the library unpacks, and
        pictures that are looked at, lie in xclipt's cache.

        Args:
            path: The file, or the folder that the files are in.
            files: All of them.
            builder: The library's name for what they are.
            reading: As it was said.

        Raises:
            XcliptError: A file is damaged, or a column or value is unusable.
        """
        import datasets

        reading.refuse(str(path), "encoding")
        splits: dict[str, list[str]] = {}
        for file in files:
            splits.setdefault(_split_of(file), []).append(str(file.resolve()))
        tables = _loaded(
            str(path),
            lambda: datasets.load_dataset(
                builder, data_files=splits, cache_dir=str(cache_dir() / "datasets" / "tables")
            ),
        )
        known = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        beside = path if path.is_dir() else path.parent
        drawn = _drawn_folder(f"{path.stem}-{known}")
        dataset = cls(path.resolve().name, beside, beside / "images", drawn, anywhere=True)
        dataset._take(tables, str(path), reading)
        return dataset

    def __init__(self, name: str, *folders: Path, anywhere: bool = False) -> None:
        super().__init__(name, *folders, anywhere=anywhere)
        self._drawn_from: dict[str, tuple[Any, int, str]] = {}

    def picture_path(self, image: str) -> Path:
        if image not in self._drawn_from:
            return super().picture_path(image)
        path = self._folders[-1] / image
        if not path.is_file():
            table, index, column = self._drawn_from[image]
            write_bytes(path, _bytes_of(table[index][column]))
        return path

    def _take(self, tables: Mapping[str, Any], source: str, reading: Reading) -> None:
        self._collect(
            [self._rows(split, table, source) for split, table in tables.items() if len(table)],
            reading,
        )

    def _rows(self, split: str, table: Any, source: str) -> Rows:
        import datasets

        pictures = _picture_columns(table.features)
        for name in pictures:
            if isinstance(table.features[name], datasets.Image):
                table = table.cast_column(name, datasets.Image(decode=False))
        own = pictures[0] if len(pictures) == 1 else None
        # A structure, such as a JSON file beside a picture, is its fields.
        within = {
            n: tuple(f) for n, f in table.features.items() if type(f) is dict and n not in pictures
        }
        names = tuple(part for n in table.column_names for part in within.get(n, (n,)))

        def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
            for number, fields in enumerate(table):
                values = dict(fields)
                for name in within:
                    values |= values.pop(name) or {}
                for name in pictures:
                    if values[name] is not None:
                        values[name] = self._embedded(values[name], table, number, name)
                where = "" if split == _NO_SPLIT else f"split '{split}', "
                yield f"{where}row {number + 1}", values

        return Rows(source, names, rows(), None if split == _NO_SPLIT else usual_split(split), own)

    def _embedded(self, value: Any, table: Any, index: int, column: str) -> str | None:
        path = value.get("path") if isinstance(value, dict) else None
        if self._anywhere and isinstance(value, dict) and value.get("bytes") is None:
            return path  # the name alone, of a file beside the table
        # Named by its content: the paths that a table keeps need not differ between pictures.
        suffix = PurePosixPath(path or "").suffix.lower() or ".img"
        name = hashlib.sha256(_bytes_of(value)).hexdigest()[:32] + suffix
        self._drawn_from.setdefault(name, (table, index, column))
        return name


def _picture_columns(features: Mapping[str, Any]) -> list[str]:
    """Columns that hold pictures by their type: as the library writes them, or plain bytes.

    Bytes beside names of pictures are something else.
    """
    import datasets

    structures = [
        name
        for name, kind in features.items()
        if isinstance(kind, datasets.Image) or (type(kind) is dict and set(kind) == _STRUCTURE)
    ]
    plain = [name for name, kind in features.items() if getattr(kind, "dtype", "") in _BYTES]
    named = any(is_column("image", name, Reading()) for name in features if name not in plain)
    return structures or ([] if named else plain)


def _drawn_folder(name: str) -> Path:
    return cache_dir() / "datasets" / name


def _split_of(file: Path) -> str:
    found = _SPLIT.match(file.name) or _SPLIT.fullmatch(file.parent.name)
    return found[1].lower() if found else _NO_SPLIT


def load_from_hub(identifier: str, config: str | None = None) -> Mapping[str, Any]:
    """The tables of ``owner/name`` by split, from the hub or from the copy that was read before.

    Raises:
        XcliptError: There is no such data set, or the hub cannot be reached.
    """
    import datasets

    _reach(identifier)
    named = (config,) if config else ()
    return _loaded(identifier, lambda: datasets.load_dataset(identifier, *named))


def config_names(identifier: str) -> list[str]:
    """The configurations of ``owner/name``; raises as :func:`load_from_hub` does."""
    import datasets

    _reach(identifier)
    with loading_errors(identifier):
        return list(datasets.get_dataset_config_names(identifier))


def _reach(identifier: str) -> None:
    import datasets

    if not datasets.config.HF_HUB_OFFLINE:
        _probe(identifier, datasets.config.HF_ENDPOINT)


def _loaded(source: str, load: Callable[[], Any]) -> Mapping[str, Any]:
    """What ``datasets`` loads, by split; raises as :func:`loading_errors` does."""
    with loading_errors(source):
        found = load()
    return found if isinstance(found, Mapping) else {str(found.split or "train"): found}


@contextmanager
def loading_errors(source: str, library: str = "datasets") -> Iterator[None]:
    """Name ``source`` in whatever goes wrong while a library loads or reads it.

    Raises:
        XcliptError: It cannot be found, reached or read.
    """
    from datasets.exceptions import DatasetNotFoundError

    try:
        with _quiet():
            yield
    except XcliptError:
        raise
    except DatasetNotFoundError as error:
        raise XcliptError(
            f"{source}: no such folder here, and no data set of that name on the hub is open to you"
        ) from error
    except ConnectionError as error:
        raise XcliptError(f"{source}: {_cause(error)}") from error
    except Exception as error:  # the library has no error of its own for all that can go wrong
        raise XcliptError(f"{source}: {library} cannot read it ({_cause(error)})") from error


def _probe(identifier: str, endpoint: str) -> None:
    """Ask the hub for anything at all: the library itself retries for half a minute and logs it."""
    import urllib.error
    import urllib.request  # with all of HTTP: looking at what is on disk need not wait for it

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


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
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
