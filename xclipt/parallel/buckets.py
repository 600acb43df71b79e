"""Sorting more lines than fit into memory."""

from collections.abc import Iterator
from pathlib import Path

_COUNT = 256
_MOST_IN_MEMORY = 8 << 20


class Buckets:
    """Lines with keys, by the first byte of the key: on disk where they are many.

    Memory is that of one bucket while it is sorted, a 256th of all where keys are hashes, and a
    few megabytes.

    Args:
        folder: Where files may be put; what is put there is removed again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting = [bytearray() for _ in range(_COUNT)]
        self._size = 0

    def add(self, key: bytes, line: bytes) -> None:
        """Put in a line.

        Args:
            key: What it is sorted by; all are of one length.
            line: Without a line end in it.
        """
        entry = key.hex().encode() + line + b"\n"
        self._waiting[key[0]] += entry
        self._size += len(entry)
        if self._size > _MOST_IN_MEMORY:
            self._put_away()

    def sorted(self, key_size: int) -> Iterator[bytes]:
        """The lines by their keys, each with its ``\\n``; they are there once."""
        for number, waiting in enumerate(self._waiting):
            path = self._path(number)
            data = b""
            if path.exists():
                data = path.read_bytes()
                path.unlink()
            entries = sorted((data + waiting).split(b"\n")[:-1])
            waiting.clear()
            for entry in entries:
                yield entry[2 * key_size :] + b"\n"

    def _put_away(self) -> None:
        for number, waiting in enumerate(self._waiting):
            if waiting:
                with self._path(number).open("ab") as file:
                    file.write(waiting)
                waiting.clear()
        self._size = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"bucket-{number:02x}"
