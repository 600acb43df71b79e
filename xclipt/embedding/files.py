"""The files that embeddings are kept in: .npy, .safetensors and .parquet.

They are written and read some rows at a time, so that memory does not grow with their number.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from xclipt.data.formats.arrow import loading_errors
from xclipt.documents import parse_json
from xclipt.embedding.described import Description, Digest
from xclipt.embedding.numbers import as_features
from xclipt.errors import UsageError, XcliptError
from xclipt.files import read_regular, replacing, require_regular

Batches = Callable[[], Iterator[tuple[Sequence[str], NDArray[Any]]]]
"""Ids and features ``(n, dim)`` as they are kept, from the first row whenever it is asked for."""

ROWS_AT_ONCE = 4096
_MOST_IDS = 4 * 2**30
_DESCRIPTION = "xclipt"
_NAMES = {"float32": "F32", "float16": "F16", "int8": "I8"}


class EmbeddingFile(ABC):
    """A file of features that says what they are.

    Raises:
        XcliptError: The file is not there, or does not say it.
    """

    suffix: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            require_regular(path)
        except OSError as error:
            raise XcliptError(f"{path}: cannot read ({error.strerror})") from None
        self.description = Description.of(self._described(), path)

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]:
        """Of all rows."""

    @abstractmethod
    def kept(self) -> Iterator[NDArray[Any]]:
        """Features as they are kept, some rows at a time."""

    @abstractmethod
    def _described(self) -> Any:
        """The description, as it stands in the file or beside it."""

    @classmethod
    @abstractmethod
    def write(cls, path: Path, description: Description, batches: Batches) -> None:
        """Write a file.

        Raises:
            XcliptError: It cannot be written.
        """

    def features(self) -> Iterator[NDArray[np.float32]]:
        """Features, float32 and L2-normalised, some rows at a time."""
        for kept in self.kept():
            yield as_features(kept)

    def require_sound(self) -> None:
        """Refuse a file that is not what was written.

        Raises:
            XcliptError: Says so.
        """
        ids, digest, done = self.ids, Digest(), 0
        work = self.description.work
        for kept in self.kept():
            if kept.dtype != np.dtype(work.numbers) or kept.shape[1:] != (work.dim,):
                break
            digest.add(ids[done : done + len(kept)], kept)
            done += len(kept)
        sound = digest.hexdigest() == self.description.sha256
        if not sound or not done == len(ids) == self.description.rows:
            raise XcliptError(f"{self.path}: its content is not what was written; embed it again")

    def _unreadable(self, why: object) -> XcliptError:
        return XcliptError(f"{self.path}: no {self.suffix} file that can be read ({why})")


class NumpyFile(EmbeddingFile):
    """Features as numpy keeps them, and a JSON file beside them with the rest."""

    suffix = ".npy"

    @cached_property
    def _document(self) -> Any:
        beside = _beside(self.path)
        try:
            return parse_json(read_regular(beside, _MOST_IDS))
        except FileNotFoundError:
            raise XcliptError(
                f"{self.path}: {beside.name} is not beside it, which says what it holds"
            ) from None
        except (OSError, ValueError) as error:
            raise XcliptError(f"{beside}: cannot read ({error})") from None

    def _described(self) -> Any:
        document = self._document
        if not isinstance(document, dict) or not isinstance(document.get("ids"), list):
            return None
        return {name: value for name, value in document.items() if name != "ids"}

    @property
    def ids(self) -> Sequence[str]:
        return list(map(str, self._document["ids"]))

    def kept(self) -> Iterator[NDArray[Any]]:
        try:
            features = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError, SyntaxError, TokenError, MemoryError) as error:
            raise self._unreadable(error) from None
        for start in range(0, len(features), ROWS_AT_ONCE):
            yield np.asarray(features[start : start + ROWS_AT_ONCE])

    @classmethod
    def write(cls, path: Path, description: Description, batches: Batches) -> None:
        work = description.work
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(work.numbers)),
            "fortran_order": False,
            "shape": (description.rows, work.dim),
        }
        with replacing(path) as aside, replacing(_beside(path)) as beside:  # both or neither
            with aside.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                _append(file, batches)
            with beside.open("wb") as file:
                file.write(description.to_json().encode()[:-2] + b',\n  "ids": [')
                _append_ids(file, batches)
                file.write(b"]\n}\n")


class SafetensorsFile(EmbeddingFile):
    """``features`` ``(rows, dim)``, and ``ids``: the bytes of a JSON list. The rest is metadata."""

    suffix = ".safetensors"

    def _described(self) -> Any:
        from xclipt.artifacts.arrays import read_metadata

        try:
            return parse_json(read_metadata(self.path)[_DESCRIPTION])
        except Exception as error:  # of several libraries
            raise self._unreadable(str(error).split("\n", 1)[0]) from None

    @property
    def ids(self) -> Sequence[str]:
        with self._opened() as file:
            return list(map(str, parse_json(file.get_tensor("ids").tobytes())))

    def kept(self) -> Iterator[NDArray[Any]]:
        with self._opened() as file:
            features = file.get_slice("features")
            rows = features.get_shape()[0]
            for start in range(0, rows, ROWS_AT_ONCE):
                yield features[start : min(start + ROWS_AT_ONCE, rows)]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "np") as file:
                yield file
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise self._unreadable(error) from None

    @classmethod
    def write(cls, path: Path, description: Description, batches: Batches) -> None:
        work = description.work
        size = description.rows * work.dim * np.dtype(work.numbers).itemsize
        length = 2 + sum(len(part) for part in _listed(batches))
        header = {
            "__metadata__": {_DESCRIPTION: description.to_json()},
            "features": {
                "dtype": _NAMES[work.numbers],
                "shape": [description.rows, work.dim],
                "data_offsets": [0, size],
            },
            "ids": {"dtype": "U8", "shape": [length], "data_offsets": [size, size + length]},
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with replacing(path) as aside, aside.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            _append(file, batches)
            file.write(b"[")
            _append_ids(file, batches)
            file.write(b"]")


class ParquetFile(EmbeddingFile):
    """Columns ``id`` and ``features``, a list of ``dim`` numbers; the rest is the schema's."""

    suffix = ".parquet"

    def _described(self) -> Any:
        from pyarrow.parquet import read_schema

        with loading_errors(str(self.path), "pyarrow"):
            metadata = read_schema(self.path).metadata or {}
        try:
            return parse_json(metadata[_DESCRIPTION.encode()])
        except (KeyError, ValueError):
            return None

    @property
    def ids(self) -> Sequence[str]:
        return [str(one) for batch in self._batches("id") for one in batch.column(0).to_pylist()]

    def kept(self) -> Iterator[NDArray[Any]]:
        for batch in self._batches("features"):
            column = batch.column(0)
            width = column.type.list_size
            yield column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)

    def _batches(self, column: str) -> Iterator[Any]:
        from pyarrow.parquet import ParquetFile as Opened

        with (
            loading_errors(str(self.path), "pyarrow"),
            Opened(self.path, pre_buffer=False) as file,
        ):
            yield from file.iter_batches(ROWS_AT_ONCE, columns=[column], use_threads=False)

    @classmethod
    def write(cls, path: Path, description: Description, batches: Batches) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        numbers = pa.from_numpy_dtype(np.dtype(description.work.numbers))
        kind = pa.list_(numbers, description.work.dim)
        schema = pa.schema(
            [pa.field("id", pa.string(), False), pa.field("features", kind, False)],
            metadata={_DESCRIPTION: description.to_json()},
        )
        with replacing(path) as aside, ParquetWriter(aside, schema, compression="zstd") as writer:
            for ids, kept in batches():
                values = pa.array(kept.reshape(-1), numbers)
                features = pa.FixedSizeListArray.from_arrays(values, type=kind)
                columns = [pa.array(ids, pa.string()), features]
                writer.write_batch(pa.record_batch(columns, schema=schema))


FILES: dict[str, type[EmbeddingFile]] = {
    kind.suffix: kind for kind in (NumpyFile, SafetensorsFile, ParquetFile)
}
"""By the endings of their names."""


def file_kind(path: Path, field: str) -> type[EmbeddingFile]:
    """The kind of a file, by its ending.

    Args:
        path: The file, there or not.
        field: The setting that named it.

    Raises:
        UsageError: The ending is none of :data:`FILES`.
    """
    kind = FILES.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"must end in {', '.join(FILES)}", field=field, value=path)
    return kind


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _append(file: BinaryIO, batches: Batches) -> None:
    for _, kept in batches():
        file.write(np.ascontiguousarray(kept).tobytes())


def _append_ids(file: BinaryIO, batches: Batches) -> None:
    for part in _listed(batches):
        file.write(part)


def _listed(batches: Batches) -> Iterable[bytes]:
    """The inside of a JSON list of all ids."""
    comma = ""
    for ids, _ in batches():
        if ids:
            yield (comma + ", ".join(map(json.dumps, ids))).encode()
            comma = ", "
