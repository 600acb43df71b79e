"""A source of parallel sentences, whatever format it is in."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xclipt.data.formats.encodings import Advance
from xclipt.errors import XcliptError
from xclipt.files import file_key

RawPair = tuple[str, str] | None
"""English and the other language as they stand there; ``None`` is a row that is not as the rest."""


@dataclass(frozen=True)
class Source:
    """Opened and understood; what is in it is read each time anew, in constant memory.

    Attributes:
        name: What manifests call it: ``en-te.tsv``, ``corpus.en+corpus.te``.
        layout: How it was understood: ``columns 1 and 2``. With the content it decides the pairs.
        read: The pairs, in its order. Told of the bytes that were read, of :attr:`size`.
        files: What it consists of.
        size: Bytes, for progress.
        digest: What its content is known by where that is not that of :attr:`files`.
        exchanged: The remedy where English and the other language are the wrong way round.
    """

    name: str
    layout: str
    read: Callable[[Advance], Iterator[RawPair]]
    files: tuple[Path, ...]
    size: int
    digest: str = ""
    exchanged: str = ""

    @classmethod
    def of_files(
        cls,
        files: tuple[Path, ...],
        layout: str,
        read: Callable[[Advance], Iterator[RawPair]],
        exchanged: str = "",
    ) -> "Source":
        """A source that consists of files.

        Raises:
            XcliptError: One cannot be looked at.
        """
        try:
            size = sum(path.stat().st_size for path in files)
        except OSError as error:
            raise XcliptError(f"{error.filename}: cannot read ({error.strerror})") from error
        name = "+".join(path.name for path in files)
        return cls(name, layout, read, files, size, exchanged=exchanged)

    def content(self) -> str:
        """What its content is known by, wherever it lies.

        Raises:
            XcliptError: A file cannot be read.
        """
        if self.digest:
            return self.digest
        try:
            return hashlib.sha256(b"".join(map(file_key, self.files))).hexdigest()
        except OSError as error:
            raise XcliptError(f"{error.filename}: cannot read ({error.strerror})") from error
