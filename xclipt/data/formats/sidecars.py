"""Pictures with their captions in text files beside them: ``a.jpg``, ``a.fr.txt``, ``a.txt``."""

import os
from collections.abc import Iterator
from pathlib import Path

from xclipt.data.formats.collected import CaptionRow, CollectedDataset
from xclipt.data.formats.encodings import read_text
from xclipt.data.formats.reading import Reading
from xclipt.data.pictures import picture_suffixes
from xclipt.errors import XcliptError
from xclipt.languages import find


class SidecarDataset(CollectedDataset):
    """A folder, and those below it, of pictures and text files; every line is a caption.

    Raises:
        UsageError: Captions are in files that name no language, and nothing else does.
        XcliptError: Two pictures differ in their ending alone, or a file cannot be read.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path.resolve().name, path)
        reading.refuse(str(path), "columns")
        plain = named = 0
        unread: list[str] = []
        for picture, texts in _captioned(path, unread=unread):
            for text, language in texts:
                if language is None:
                    language = reading.require_language(text)
                    plain += 1
                else:
                    named += 1
                lines = tuple(filter(str.strip, read_text(text, reading.encoding).splitlines()))
                name = picture.relative_to(path).as_posix()
                self._add(CaptionRow(name, language, lines or ("",), None, text, "all of it"))
        if not plain:
            reading.refuse(f"{path}: its files name the languages and", "caption_lang")
        how = " and ".join(
            form for form, count in (("NAME.LANG.txt", named), ("NAME.txt", plain)) if count
        )
        self._finish(f"captions in {', '.join(sorted(self._captions))} ({how} beside each)")
        if unread:
            files = "file is" if len(unread) == 1 else "files are"
            self._note(
                f"{path}: {len(unread):,} text {files} not read, since no language is called so "
                f"(the first: {unread[0]})"
            )


def has_sidecars(folder: Path) -> bool:
    """Whether a folder, or one of those in it, has a picture with captions beside it."""
    return next(_captioned(folder, depth=1), None) is not None


def _captioned(
    folder: Path, depth: int | None = None, unread: list[str] | None = None
) -> Iterator[tuple[Path, list[tuple[Path, str | None]]]]:
    """Pictures, each with its text files and their languages.

    Args:
        folder: Where they are.
        depth: How many folders below it are looked into; all of them by default.
        unread: Is given the names of files that are beside a picture and of no language.
    """
    for where, folders, files in os.walk(folder):
        level = len(Path(where).relative_to(folder).parts)
        deeper = depth is None or level < depth
        folders[:] = sorted(name for name in folders if deeper and not name.startswith("."))
        pictures: dict[str, Path] = {}
        for name in sorted(files):
            path = Path(where, name)
            if path.suffix.lower() in picture_suffixes() and not name.startswith("."):
                other = pictures.setdefault(path.stem, path)
                if other != path and Path(where, f"{path.stem}.txt").is_file():
                    raise XcliptError(
                        f"{other} and {name} share the captions in {path.stem}.txt; rename one"
                    )
        texts: dict[str, list[tuple[Path, str | None]]] = {}
        for name in sorted(files):
            if not name.lower().endswith(".txt"):
                continue
            stem, language = _parted(name[:-4], pictures)
            if stem in pictures:
                texts.setdefault(stem, []).append((Path(where, name), language))
            elif unread is not None and name[:-4].rpartition(".")[0] in pictures:
                unread.append(name)
        for stem in sorted(texts):
            yield pictures[stem], texts[stem]


def _parted(name: str, pictures: dict[str, Path]) -> tuple[str, str | None]:
    """The picture's name in that of a text file, and the language; a name may hold full stops."""
    if name in pictures:
        return name, None
    stem, _, code = name.rpartition(".")
    try:
        return (stem, find(code)) if stem in pictures else ("", None)
    except XcliptError:
        return "", None
