"""Parallel sentences as they were kept, and whether they are what was written."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, overload

from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.documents import read_yaml
from xclipt.errors import XcliptError
from xclipt.files import file_key
from xclipt.parallel.pairs import SentencePair

FORMAT = 1
CARD = "pairs.yaml"
CARDS = f"parallel/*/[!.]*/{CARD}"
"""Where those of whole folders are in an artifact directory."""
PAIRS, OFFSETS = "pairs.tsv", "offsets.npy"
_REMEDY = "delete the folder, and its sources are read again"


class StoredPairs(Sequence[SentencePair]):
    """Pairs on disk: ``parallel/LANG/KEY/``. A row is read when it is asked for.

    ``pairs.tsv`` has English, a tab and the other language on every line, ``offsets.npy`` where
    each begins, and ``pairs.yaml`` says what they are. A slice is such a sequence again.

    Attributes:
        language: ISO 639-1 code of the language that is not English.
        source: What they were read from, as manifests call it.
        left_out: How many pairs of the source are not here, by
            :data:`~xclipt.parallel.screening.REASONS`.
        folder: Where they are.
    """

    def __init__(
        self,
        folder: Path,
        language: str,
        source: str,
        left_out: Mapping[str, int],
        rows: range,
        sha256: str | None = None,
    ) -> None:
        self.folder, self.language, self.source = folder, language, source
        self.left_out = left_out
        self._rows, self._sha256 = rows, sha256
        self._path = folder / PAIRS
        import numpy as np  # only where there are any: `status` need not wait for it

        self._offsets = np.load(folder / OFFSETS, mmap_mode="r", allow_pickle=False)

    @property
    def sha256(self) -> str:
        """SHA-256 over the lines of all pairs that are here, in order."""
        if self._sha256 is None:
            digest = hashlib.sha256()
            for line in self._lines():
                digest.update(line)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> SentencePair: ...

    @overload
    def __getitem__(self, index: slice) -> "StoredPairs": ...

    def __getitem__(self, index: int | slice) -> "SentencePair | StoredPairs":
        rows = self._rows[index]
        if isinstance(rows, range):
            sha256 = self._sha256 if rows == self._rows else None
            return StoredPairs(self.folder, self.language, self.source, self.left_out, rows, sha256)
        with _reading(self._path), self._path.open("rb", buffering=0) as file:
            return _pair(self._line(file, rows))

    def __iter__(self) -> Iterator[SentencePair]:
        return map(_pair, self._lines())

    def _lines(self) -> Iterator[bytes]:
        with _reading(self._path), self._path.open("rb") as file:
            if self._rows.step == 1:
                file.seek(int(self._offsets[self._rows.start]))
                for _, line in zip(self._rows, file):  # noqa: B905
                    yield line
            else:
                for row in self._rows:
                    yield self._line(file, row)

    def _line(self, file: Any, row: int) -> bytes:
        start, end = map(int, self._offsets[row : row + 2])
        file.seek(start)
        line: bytes = file.read(end - start)
        return line


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Somebody may take away what was there when it was opened."""
    try:
        yield
    except OSError as error:
        raise XcliptError(f"{path}: cannot read ({error.strerror})") from error


def _pair(line: bytes) -> SentencePair:
    english, _, text = line.decode().rstrip("\n").partition("\t")
    return SentencePair(english, text)


def kept_pairs(directory: ArtifactDirectory) -> list[StoredPairs]:
    """All pairs that were kept, by language; what is damaged is left to ``verify``."""
    found = []
    for card in sorted(directory.root.glob(CARDS)):
        with suppress(XcliptError, OSError, ValueError):
            found.append(open_pairs(card.parent))
    return found


def check_pairs(folder: Path) -> str:
    """What is wrong with stored pairs, and the remedy; empty where nothing is."""
    try:
        card = read_card(folder)
        for file, known in ((PAIRS, card["sha256"]), (OFFSETS, card["offsets"])):
            if file_key(folder / file).hex() != known:
                return f"{file} is not what was written; {_REMEDY}"
    except (XcliptError, OSError) as error:
        return f"cannot be read ({error}); {_REMEDY}"
    return ""


def open_pairs(folder: Path, source: str | None = None) -> StoredPairs:
    """The pairs of a folder, called by the source that is named now.

    Raises:
        XcliptError: Its card cannot be read.
    """
    card = read_card(folder)
    return StoredPairs(
        folder,
        card["language"],
        source or card["source"],
        card["left_out"],
        range(card["pairs"]),
        card["sha256"],
    )


def read_card(folder: Path) -> dict[str, Any]:
    """What a folder says of its pairs.

    Raises:
        XcliptError: It cannot be read.
    """
    path = folder / CARD
    try:
        card: dict[str, Any] = read_yaml(path)
        made_by, _ = card["format"], (card["language"] + card["source"] + card["sha256"])
        _ = (card["offsets"], card["pairs"] + 0, dict(card["left_out"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise XcliptError(f"{path}: cannot read ({str(error).splitlines()[0]})") from None
    if made_by != FORMAT:
        raise XcliptError(f"{path}: format {made_by}, this xclipt reads {FORMAT}: upgrade it")
    return card
