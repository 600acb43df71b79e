"""One name to one data set: known ones, folders, tables and hub ids."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xclipt.data.dataset import Dataset, KnownSet
from xclipt.data.formats.arrow import ArrowDataset, is_hub_id
from xclipt.data.formats.folder import FolderDataset, caption_files, caption_languages
from xclipt.data.formats.known import SUFFIXES, TELLING, format_of
from xclipt.data.formats.reading import Reading
from xclipt.data.one_caption import OneCaption
from xclipt.data.sets.emoji import EMOJI
from xclipt.data.sets.multi30k import MULTI30K, MULTI30K_TASK2
from xclipt.data.sets.xtd import XTD
from xclipt.errors import XcliptError

KNOWN: tuple[KnownSet, ...] = (EMOJI, MULTI30K, MULTI30K_TASK2, XTD)
"""The data sets that are known by name, a row each."""


def open_dataset(
    name: str | Path,
    data_dir: str | Path | None = None,
    *,
    download: bool = False,
    caption: int | None = None,
    caption_lang: str | None = None,
    encoding: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Dataset:
    """The data set that ``name`` means.

    Tried in this order: a known name; a folder or file at that path; the same in ``data_dir``;
    ``owner/name`` on the ``datasets`` hub. A folder may be in the layout of a known data set, and
    files and folders in any of the :data:`~xclipt.data.formats.known.FORMATS`; what was understood
    of them is the first of :attr:`Dataset.notes`.

    >>> import xclipt
    >>> emoji = xclipt.open_dataset("emoji")
    >>> emoji.captions("fr", "flags")[0]
    CaptionedPicture(image='1F1E6-1F1E8.png', captions=('drapeau île de l’ascension',))

    Args:
        name: A name in :data:`KNOWN`, a path, or a hub id.
        data_dir: The folder in which data sets lie, each in one of its own.
        download: Fetch what is missing of a known one into ``data_dir`` first.
        caption: Take the caption of this number alone of every picture, from 1; all without.
        caption_lang: The language of captions that nothing else names one for.
        encoding: The code page of text that is not Unicode.
        columns: Which column of a table is ``image``, ``caption``, ``language``, ``split``, or
            holds the captions of a language, by its code; where that cannot be told.

    Raises:
        XcliptError: It is none of them, a known one is not on disk or cannot be fetched, or its
            files are unusable.
    """
    name, root = str(name), None if data_dir is None else Path(data_dir)
    if download:
        if root is None:
            raise XcliptError("`data_dir` names the folder to fetch into", field="download")
        from xclipt.data.download import fetch

        fetch(name, root)
    dataset = _open(name, root, Reading(caption_lang, encoding, columns or {}))
    return dataset if caption is None else OneCaption(dataset, caption)


def _open(name: str, root: Path | None, reading: Reading) -> Dataset:
    for known in KNOWN:
        if known.name == name:
            reading.refuse(name, "caption_lang", "encoding", "columns")
            return _open_known(known, root)
    places = _places(name, root)
    for path in places:
        if not (path.is_file() or path.is_dir()):
            raise _refused(name, "is a device or pipe, which can be read but once; make it a file")
        if dataset := _open_path(path, reading):
            return dataset
    if places and places[0].is_dir():
        _name_what_is_below(places[0])
        return FolderDataset(places[0])
    if places:
        raise _refused(name, f"a file of another kind; it may end in {', '.join(sorted(SUFFIXES))}")
    if Path(name).suffix.lower() in SUFFIXES:
        raise _refused(name, "no such file")
    if is_hub_id(name):
        return ArrowDataset.from_hub(name, reading)
    raise _refused(name, f"no such data set or folder; {_what_there_is(root)}")


def dataset_name(name: str | Path) -> str:
    """What :attr:`Dataset.name` will be of the data set that ``name`` means, without opening it."""
    path = Path(name)
    return path.resolve().name if path.exists() else str(name)


@dataclass(frozen=True)
class DataAtHand:
    """A data set that can be opened now, by the name that :func:`open_dataset` takes."""

    name: str
    languages: tuple[str, ...]


def data_at_hand(data_dir: Path | None) -> list[DataAtHand]:
    """What :func:`open_dataset` would open: the embedded set, and what lies in ``data_dir``.

    Captions are not read: a line of a folder's may yet be at fault.
    """
    found = []
    for known in KNOWN:
        with suppress(XcliptError):
            if dataset := known.open(data_dir):
                found.append(DataAtHand(known.name, dataset.languages))
    folders = sorted(data_dir.iterdir()) if data_dir is not None and data_dir.is_dir() else ()
    for folder in folders:
        with suppress(XcliptError):
            if folder.is_dir() and (languages := caption_languages(folder)):
                found.append(DataAtHand(folder.name, languages))
    return found


def _open_known(known: KnownSet, data_dir: Path | None) -> Dataset:
    if dataset := known.open(data_dir):
        return dataset
    where = data_dir / known.name if data_dir else f"DIR/{known.name} with `data_dir=DIR`"
    raise XcliptError(
        f"{known.name} is not on disk: it is {known.published_as}; "
        f"put {known.needs} into {where}, or add `download=True` to fetch it"
    )


def _open_path(path: Path, reading: Reading) -> Dataset | None:
    if path.is_dir() and not caption_files(path):
        for known in KNOWN:
            if dataset := known.open_folder(path):
                reading.refuse(str(path), "caption_lang", "encoding", "columns")
                return dataset
    found = format_of(path)
    return found.open(path, reading) if found else None


def _name_what_is_below(folder: Path) -> None:
    """Refuse a folder that is no data set for the one that it holds, if it does."""
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.name.startswith(".") and (known := format_of(below)):
            raise XcliptError(
                f"{folder}: holds no captions itself, but {below} does ({known.name}); name that"
            )


def _refused(name: str, why: str) -> XcliptError:
    return XcliptError(why, field="dataset", value=name)


def _places(name: str, data_dir: Path | None) -> list[Path]:
    if not name.strip():
        return []
    try:
        here = Path(name).expanduser()
        return [path for path in (here, *([data_dir / name] if data_dir else [])) if path.exists()]
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a NUL
        return []


def _what_there_is(data_dir: Path | None) -> str:
    names = "known are " + ", ".join(known.name for known in KNOWN)
    if data_dir is None:
        return f"{names}, and `data_dir` names where others lie"
    try:
        entries = sorted(data_dir.iterdir())
    except OSError:
        return f"{names}, and there is no readable `data_dir={data_dir}`"
    usable = [
        entry.name
        for entry in entries
        if entry.suffix.lower() in TELLING or (entry.is_dir() and caption_files(entry))
    ]
    return f"{names}; {data_dir} has {', '.join(usable) or 'none in xclipt layout'}"
