"""JSON lines with a field a language, or a ``translation`` that has them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from xclipt.data.formats.documents import read_objects
from xclipt.data.formats.encodings import Advance
from xclipt.data.formats.reading import Reading
from xclipt.errors import XcliptError
from xclipt.parallel.formats.columns import choose_sides, flat, sides_of
from xclipt.parallel.source import RawPair, Source

_SAMPLE_LINES = 200


def open_json_lines(path: Path, language: str, reading: Reading) -> Source:
    """A file of JSON lines.

    Raises:
        UsageError: A field that was named is not there.
        XcliptError: The file cannot be read, a line is no object, or which fields are the two
            cannot be told.
    """
    sample = islice(read_objects(path, reading.encoding), _SAMPLE_LINES)
    names = dict.fromkeys(name for _, fields in sample for name in flat(fields))
    if not names:
        raise XcliptError(f"{path}: empty")
    sides = choose_sides(list(names), language, reading, path)

    def pairs(advance: Advance) -> Iterator[RawPair]:
        for place, fields in read_objects(path, reading.encoding, advance):
            yield sides_of(fields, sides, f"{path}: {place}")

    return Source.of_files((path,), sides.layout, pairs, sides.exchange(language))
