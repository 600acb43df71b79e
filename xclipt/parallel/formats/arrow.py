"""Arrow's tables: parquet and arrow files, and data sets of the hub."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.data.formats.arrow import FileRows, config_names, load_from_hub, loading_errors
from xclipt.data.formats.encodings import Advance
from xclipt.data.formats.reading import Reading
from xclipt.errors import XcliptError
from xclipt.languages import name as language_name
from xclipt.parallel.formats.columns import choose_sides, code_of, flat, sides_of
from xclipt.parallel.source import RawPair, Source

_ROWS_AT_A_TIME = 1000
_LIBRARY = "pyarrow"


def open_arrow(path: Path, language: str, reading: Reading) -> Source:
    """A parquet or arrow file, read some rows at a time.

    Raises:
        UsageError: A column that was named is not there.
        XcliptError: The file is damaged, or which columns are the two cannot be told.
    """
    reading.refuse(str(path), "encoding")
    rows, size = FileRows(path), path.stat().st_size
    with loading_errors(str(path), _LIBRARY):
        count = rows.count()
    table = _Table(str(path), rows, count, size, _LIBRARY)
    return Source.of_files((path,), *table.understood(language, reading))


def open_hub(identifier: str, language: str, reading: Reading) -> Source:
    """A data set of the hub: of its configurations that of the two languages, its training split.

    Raises:
        UsageError: A column that was named is not there.
        XcliptError: There is no such data set, the hub cannot be reached, or it has not the two
            languages.
    """
    import datasets

    reading.refuse(identifier, "encoding")
    config = choose_config(config_names(identifier), language, identifier)
    tables = load_from_hub(identifier, config)
    taken = [tables["train"]] if "train" in tables else list(tables.values())
    table = datasets.concatenate_datasets(taken)
    size = int(table.data.nbytes)
    rows = _Table(identifier, table, len(table), size, "datasets")
    layout, read, exchanged = rows.understood(language, reading)
    name = identifier if config is None else f"{identifier}/{config}"
    digest = "+".join(str(part._fingerprint) for part in taken)
    return Source(name, layout, read, (), size, digest, exchanged)


def choose_config(names: Sequence[str], language: str, where: str) -> str | None:
    """The configuration of a data set that has English and the language; ``None`` if it has one.

    They are called ``en-te``, ``eng_Latn-tel_Telu`` or ``te``.

    Raises:
        XcliptError: There are several, and none or more than one has them.
    """
    if len(names) < 2:
        return None
    found = [name for name in names if _languages(name) == {"en", language}]
    found = found or [name for name in names if code_of(name) == language]
    if len(found) != 1:
        has = " and ".join(found[:3]) or f"{', '.join(names[:8])} and others"
        raise XcliptError(
            f"{where}: has {has}; which of them holds English and {language_name(language)} cannot "
            "be told: fetch its files and name one"
        )
    return found[0]


def _languages(name: str) -> set[str | None]:
    for separator in ("-", "_"):
        parts = name.split(separator)
        if len(parts) == 2:
            return set(map(code_of, parts))
    return set()


@dataclass(frozen=True)
class _Table:
    """Rows of whatever has columns.

    Attributes:
        where: What it is, for messages.
        rows: Its rows, from the first whenever they are iterated over.
        count: How many; 0 where that is not known before.
        size: Its bytes.
        package: What reads it.
    """

    where: str
    rows: Iterable[Mapping[str, Any]]
    count: int
    size: int
    package: str

    def understood(
        self, language: str, reading: Reading
    ) -> tuple[str, Callable[[Advance], Iterator[RawPair]], str]:
        """Layout, pairs and the remedy of exchanged sides, as :class:`Source` has them."""
        first = next(self._read(), None)
        if first is None:
            raise XcliptError(f"{self.where}: empty")
        sides = choose_sides(list(flat(first)), language, reading, self.where)

        def pairs(advance: Advance) -> Iterator[RawPair]:
            for number, fields in enumerate(self._read(), 1):
                yield sides_of(fields, sides, f"{self.where}: row {number}")
                if self.count and number % _ROWS_AT_A_TIME == 0:
                    advance(self.size * _ROWS_AT_A_TIME // self.count)

        return sides.layout, pairs, sides.exchange(language)

    def _read(self) -> Iterator[Mapping[str, Any]]:
        with loading_errors(self.where, self.package):
            yield from self.rows
