"""A folder in xclipt's own layout: ``images/`` and one ``captions.LANG.jsonl`` a language."""

import json
from pathlib import Path
from typing import Any

from xclipt.data.formats.collected import CaptionRow, CollectedDataset
from xclipt.data.formats.lines import decode
from xclipt.data.formats.reading import Reading
from xclipt.errors import XcliptError
from xclipt.files import read_regular
from xclipt.languages import resolve

_LONGEST_LINK = 4096


def caption_files(folder: Path) -> list[Path]:
    """The caption files of a folder, by name; empty if it is not in xclipt's layout."""
    return sorted(path for path in folder.glob("captions.*.jsonl") if path.is_file())


def caption_languages(folder: Path) -> tuple[str, ...]:
    """The languages of a folder's caption files, English first, without reading them.

    Raises:
        XcliptError: A file is of no language.
    """
    found = {_language(file) for file in caption_files(folder)}
    return tuple(sorted(found, key=lambda code: (code != "en", code)))


class FolderDataset(CollectedDataset):
    """Captions as JSON lines: ``{"image": "a.jpg", "captions": ["...", ...], "split": "train"}``.

    ``split`` may be left out; a line for each caption of a picture has ``"caption": "..."``.
    All files are read at once, so that any bad line is named at the start, whatever language is
    asked for later.

    Raises:
        XcliptError: The folder has no caption file, or a line of one is unusable.
    """

    def __init__(self, path: Path, reading: Reading | None = None) -> None:
        (reading or Reading()).refuse(str(path), "caption_lang", "encoding", "columns")
        files = caption_files(path)
        if not files:
            raise XcliptError(
                f"{path}: no captions.LANG.jsonl in it, each line "
                '{"image": "a.jpg", "captions": ["..."]}, and no other format of captions either: '
                "a table (CSV, Excel, parquet, JSON), metadata.csv, webdataset shards, or "
                "NAME.LANG.txt beside the pictures"
            )
        super().__init__(path.resolve().name, _images_folder(path))
        self.folder = path
        read_from: dict[str, Path] = {}
        for file in files:
            language = _language(file)
            if language in read_from:
                raise XcliptError(
                    f"{file}: '{language}' again, as in {read_from[language].name}; keep one"
                )
            read_from[language] = file
            self._read(file, language)
        self._finish()

    def _read(self, file: Path, language: str) -> None:
        try:
            text = decode(read_regular(file), file)
        except OSError as error:
            raise XcliptError(f"{file}: cannot read ({error.strerror})") from error
        seen: dict[str, int] = {}
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            row, single = _row(line, language, file, number)
            if row.image in seen and not single:
                raise XcliptError(
                    f"{row.where}: {row.image} again, as in line {seen[row.image]}; "
                    "put all its captions into one line"
                )
            seen[row.image] = number
            self._add(row)
        if not seen:
            raise XcliptError(f"{file}: empty; add captions or remove the file")


def _language(file: Path) -> str:
    code = file.name.removeprefix("captions.").removesuffix(".jsonl")
    try:
        return resolve(code)
    except XcliptError as error:
        raise XcliptError(f"{file}: {error}") from error


def _row(line: str, language: str, file: Path, number: int) -> tuple[CaptionRow, bool]:
    """What a line says, and whether it is of one caption, so that the picture may come again."""
    where = f"{file}: line {number}"
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise XcliptError(f"{where} is not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise XcliptError(f'{where}: not an object with "image" and "captions"')
    image, captions, split = entry.get("image"), entry.get("captions"), entry.get("split")
    if not isinstance(image, str):
        raise XcliptError(f'{where}: "image" must be the picture\'s file name')
    single = captions is None and isinstance(entry.get("caption"), str)
    if single:
        captions = [entry["caption"]]
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise XcliptError(f'{where}: "captions" must be a list of strings')
    if split is not None and not (isinstance(split, str) and split.strip()):
        raise XcliptError(f'{where}: "split" must be a word, or left out')
    split = split.strip() if split else None
    return CaptionRow(image, language, tuple(captions), split, file, f"line {number}"), single


def _images_folder(folder: Path) -> Path:
    images = folder / "images"
    if not images.is_file():
        return images
    # A symbolic link that was unpacked where links are not kept (a zip archive, git with
    # core.symlinks off) is a small file that holds the link's target.
    try:
        target = images.read_text("utf-8").strip() if images.stat().st_size < _LONGEST_LINK else ""
    except (OSError, UnicodeDecodeError):
        target = ""
    if not target or not target.isprintable():
        raise XcliptError(f"{images}: must be a folder with the pictures, and is another file")
    resolved = (folder / target).resolve()
    if not resolved.is_relative_to(folder.resolve().parent):
        raise XcliptError(
            f"{images}: points to {target}, outside the folder that {folder.name} lies in; "
            "put a folder or a symbolic link there"
        )
    return resolved
