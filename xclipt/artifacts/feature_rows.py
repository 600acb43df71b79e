"""Features of texts that are known by their numbers: as many as there is disk for, few in memory.

A million of 512 numbers are 2 GB. They lie in files of 128 rows that are mapped into memory, and a
file is made when the first of its rows is asked for. What it holds does not depend on what was
asked for, so that a training which is taken up sees the numbers of one that was never cut off.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xclipt.errors import XcliptError
from xclipt.files import content_hash, delete, require_regular, sweep, write_with
from xclipt.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 128

_OPEN_CHUNKS = 256
_HASH_DIGITS = 16


class FeatureRows:
    """Features ``(rows, dim)``, float32, computed where they are first needed and kept on disk.

    ``000012-HASH.npy`` holds rows 1,536 to 1,663, and is named by a hash of what is in it: one that
    is damaged is computed again.

    Args:
        folder: Of this set of texts alone.
        rows: How many texts there are.
        dim: Width of the features.
        compute: Features ``(len(range), dim)`` of the texts of these numbers.
        progress: Told where features cannot be kept.
    """

    def __init__(
        self,
        folder: Path,
        rows: int,
        dim: int,
        compute: "Callable[[range], Tensor]",
        progress: Progress,
    ) -> None:
        self._folder, self._rows, self._dim = folder, rows, dim
        self._compute, self._progress = compute, progress
        self._sound: set[Path] = set()
        self._kept = True
        # Each open chunk is an open file, of which a process may have a thousand.
        self._chunk = lru_cache(_OPEN_CHUNKS)(self._find_or_make)
        if folder.is_dir():
            sweep(folder)

    def __getitem__(self, rows: Sequence[int]) -> "Tensor":
        """Features ``(len(rows), dim)`` of the rows of these numbers."""
        import torch  # verify reads chunks without it

        taken = [self._chunk(row // CHUNK)[row % CHUNK] for row in rows]
        return torch.from_numpy(np.stack(taken))

    def _find_or_make(self, number: int) -> NDArray[np.float32]:
        for path in self._folder.glob(f"{number:06}-*.npy"):
            array = read_chunk(path, hashed=path not in self._sound)
            if array is not None and array.shape == (len(self._range(number)), self._dim):
                self._sound.add(path)
                return array
            delete(path)
        return self._made(number)

    def _made(self, number: int) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self._compute(self._range(number)).numpy()
        path = self._folder / f"{number:06}-{_hash(array)}.npy"
        if not self._kept:
            return array
        try:
            write_with(path, lambda aside: save_array(aside, array), swept=True)
        except XcliptError as error:
            self._kept = False
            self._progress.note(f"Features are not kept: {error}")
            return array
        stored = read_chunk(path, hashed=False)
        return array if stored is None else stored

    def _range(self, number: int) -> range:
        return range(number * CHUNK, min((number + 1) * CHUNK, self._rows))


def read_chunk(path: Path, *, hashed: bool = True) -> NDArray[np.float32] | None:
    """What a file holds, mapped into memory; ``None`` if that is not what was written.

    Args:
        path: The file.
        hashed: Whether its hash is checked, for which all of it is read.
    """
    try:
        require_regular(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError, SyntaxError, TokenError, MemoryError):
        return None
    sound = array.dtype == np.float32
    if hashed:
        sound = sound and path.stem.partition("-")[2] == _hash(array)
    return array if sound else None


def save_array(path: Path, array: NDArray[np.float32]) -> None:
    """Write what ``numpy.save`` would, which does not notice when the last bytes find no room.

    Raises:
        OSError: The file cannot be written.
    """
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def _hash(array: NDArray[np.float32]) -> str:
    return content_hash(np.ascontiguousarray(array).tobytes())[:_HASH_DIGITS]
