"""Where the pictures of own data are, whatever their names look like."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from xclipt.data.pictures import picture_suffixes
from xclipt.errors import XcliptError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.]+://", re.IGNORECASE)
_NUMBERED = re.compile(r"(\.\w{3,4})#\d+$")
_MOST_BELOW = 40


def plain_name(name: str, where: str) -> str:
    """A picture's path as a file's author wrote it, with ``/`` in it and nothing to no purpose.

    Some publishers number the caption: ``a.jpg#0``. That is left out.

    Raises:
        XcliptError: It is an address on the web.
    """
    if _ADDRESS.match(name):
        raise XcliptError(
            f"{where}: {name} is an address; fetch the pictures and put their file names there"
        )
    path = PurePosixPath(_NUMBERED.sub(r"\1", name.strip()).replace("\\", "/"))
    return "" if path == PurePosixPath() else str(path)


class Places:
    """Folders to look for pictures in, in this order.

    A name is found as it is, or in the other of Unicode's two spellings of an accented letter
    (NFC and NFD: file systems and programs differ), or with its ending in the other case (``.JPG``
    of cameras); or else, as long as it means one file, in any case of its letters (Windows has but
    one), or without its ending. Where a path leads nowhere, as after moving the pictures or from
    another computer, its end is looked for, as long as it means one picture.

    Args:
        folders: The first are the likeliest.
        below: Look into the folders in the first one too. Where two of them have a picture of
            that name, it is refused.
        names: All the pictures' names, when they are known.
    """

    def __init__(
        self, folders: Iterable[Path], *, below: bool = False, names: Iterable[str] = ()
    ) -> None:
        self._folders = tuple(folders)
        self._below = below
        self._names = names
        self._listed: dict[Path, tuple[dict[str, Path], dict[str, Path]]] = {}

    def find(self, name: str) -> Path | None:
        """The picture's file, ``None`` where there is none.

        Raises:
            XcliptError: Two folders have one of that name.
        """
        for tail in self._tails(name):
            for folder in self._folders:
                if found := self._in(folder, tail):
                    return found
            several = [path for folder in self._below_first if (path := self._in(folder, tail))]
            if len(several) > 1:
                folders = " and ".join(path.parent.name for path in several[:2])
                raise XcliptError(
                    f"{self._folders[0]}: {folders} both have a picture {tail}; write the folder "
                    "before the name"
                )
            if several:
                return several[0]
        return None

    def expected(self, name: str) -> Path:
        """Where a picture that is nowhere would be, for messages."""
        return self._folders[-1] / PurePosixPath(name)

    def _tails(self, name: str) -> Iterator[str]:
        yield name
        for tail in _ends(name):
            if self._meant[tail] == 1:
                yield tail

    def _in(self, folder: Path, name: str) -> Path | None:
        path = folder / name
        try:
            if path.is_file():
                return path
            for part in PurePosixPath(name).parts:
                step = folder / part
                folder = step if step.exists() else self._spelt_alike(folder, part)
        except (OSError, ValueError, KeyError):  # too long, not to be read, not there
            return None
        return folder if folder.is_file() else None

    def _spelt_alike(self, folder: Path, part: str) -> Path:
        if folder not in self._listed:
            self._listed[folder] = _by_spelling(sorted(folder.iterdir()))
        spelt, alone = self._listed[folder]
        return spelt.get(_spelling(part)) or alone[_spelling(part).casefold()]

    @cached_property
    def _below_first(self) -> tuple[Path, ...]:
        first = self._folders[0]
        if not self._below or not first.is_dir():
            return ()
        folders = (path for path in sorted(first.iterdir()) if path.is_dir())
        new = (p for p in folders if p not in self._folders and not p.name.startswith("."))
        return tuple(islice(new, _MOST_BELOW))

    @cached_property
    def _meant(self) -> Counter[str]:
        """How many pictures each end of a path may mean."""
        return Counter(tail for name in self._names for tail in (name, *_ends(name)))


def _by_spelling(paths: Sequence[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Files by their names; and by what else means one of them alone."""
    loose: dict[str, set[Path]] = {}
    for path in paths:
        name = _spelling(path.name).casefold()
        stem = PurePosixPath(name).stem if path.suffix.lower() in picture_suffixes() else name
        for meaning in {name, stem}:
            loose.setdefault(meaning, set()).add(path)
    alone = {meaning: found.pop() for meaning, found in loose.items() if len(found) == 1}
    return {_spelling(path.name): path for path in paths}, alone


def _spelling(name: str) -> str:
    path = PurePosixPath(unicodedata.normalize("NFC", name))
    return path.stem + path.suffix.lower()


def _ends(name: str) -> Iterator[str]:
    parts = PurePosixPath(name).parts
    for start in range(1, len(parts)):
        yield "/".join(parts[start:])
