"""One name to one data set: known ones, folders, tables and hub ids."""

from dataclasses import dataclass
from pathlib import Path

import xclipt.data.multi30k as multi30k
import xclipt.data.xtd as xtd
from xclipt.data.dataset import Dataset
from xclipt.data.emoji import EmojiDataset
from xclipt.data.folder import FolderDataset, caption_files
from xclipt.data.table import SEPARATORS, TableDataset, is_hub_id
from xclipt.errors import XcliptError


@dataclass(frozen=True)
class DatasetCard:
    """A known data set: what its publisher calls it, and what has to be on disk to use it."""

    name: str
    published_as: str
    languages: tuple[str, ...]
    licence: str
    needs: str


KNOWN = (
    DatasetCard(
        "emoji",
        "OpenMoji pictures with Unicode CLDR short names",
        EmojiDataset.languages,
        "pictures CC BY-SA 4.0, names Unicode License V3",
        "nothing: it comes with xclipt",
    ),
    DatasetCard(
        "multi30k",
        "Multi30K task 1 (github.com/multi30k/dataset) on Flickr30k photographs",
        multi30k.LANGUAGES,
        "photographs belong to Flickr users: non-commercial research",
        "data/task1/raw/SPLIT.LANG.gz and data/task1/image_splits/SPLIT.txt "
        f"(photographs: {multi30k.PHOTOGRAPHS}/)",
    ),
    DatasetCard(
        "xtd",
        "XTD10 (github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10) "
        "on MS-COCO 2014 photographs",
        tuple(xtd.CAPTIONS_FILES),
        "Adobe Research License: non-commercial research; photographs belong to Flickr users",
        "XTD10/*.txt, MIC/*.txt and STAIR/*.txt (photographs: images/)",
    ),
)


def open_dataset(name: str, data_dir: Path | None) -> Dataset:
    """The data set that ``name`` means.

    Tried in this order: a known name; a folder or table file at that path; the same in
    ``data_dir``; ``owner/name`` on the ``datasets`` hub. A folder may be in xclipt's layout or in
    that of a known data set.

    Raises:
        XcliptError: It is none of them, a known one is not on disk, or its files are unusable.
    """
    cards = {card.name: card for card in KNOWN}
    if name in cards:
        return _open_known(cards[name], data_dir)
    places = _places(name, data_dir)
    for path in places:
        if path.is_dir() and (dataset := _open_folder(path)):
            return dataset
        if path.is_file() and path.suffix.lower() in SEPARATORS:
            return TableDataset.from_file(path)
    if places and places[0].is_dir():
        return FolderDataset(places[0])
    if places:
        raise XcliptError(f"--dataset {name}: a file that is neither .csv nor .tsv")
    if Path(name).suffix.lower() in SEPARATORS:
        raise XcliptError(f"--dataset {name}: no such file")
    if is_hub_id(name):
        return TableDataset.from_hub(name)
    raise XcliptError(f"--dataset {name}: no such data set or folder; {_what_there_is(data_dir)}")


@dataclass(frozen=True)
class DataAtHand:
    """A data set that can be opened now, by the name that ``--dataset`` knows."""

    name: str
    languages: tuple[str, ...]


def data_at_hand(data_dir: Path | None) -> list[DataAtHand]:
    """What :func:`open_dataset` would open: the embedded set, and what lies in ``data_dir``."""
    names = [card.name for card in KNOWN]
    if data_dir is not None and data_dir.is_dir():
        folders = (entry for entry in sorted(data_dir.iterdir()) if entry.is_dir())
        names += [folder.name for folder in folders if caption_files(folder)]
    found = []
    for name in names:
        try:
            found.append(DataAtHand(name, open_dataset(name, data_dir).languages))
        except XcliptError:
            continue
    return found


def _open_known(card: DatasetCard, data_dir: Path | None) -> Dataset:
    if card.name == "emoji":
        return EmojiDataset()
    if data_dir is not None:
        if card.name == "multi30k" and (folder := multi30k.find_folder(data_dir)):
            return multi30k.Multi30kDataset(folder, multi30k.find_photographs(folder))
        if card.name == "xtd" and (folder := xtd.find_folder(data_dir)):
            return xtd.XtdDataset(folder, xtd.find_photographs(folder))
    where = data_dir / card.name if data_dir else f"DIR/{card.name} with --data-dir DIR"
    raise XcliptError(
        f"{card.name} is not on disk: it is {card.published_as}; "
        f"put {card.needs} into {where}, or add --download to fetch it"
    )


def _open_folder(path: Path) -> Dataset | None:
    if caption_files(path):
        return FolderDataset(path)
    if (path / xtd.PICTURES_FILE).is_file():
        return xtd.XtdDataset(path, xtd.find_photographs(path))
    if (path / "data/task1/raw").is_dir():
        return multi30k.Multi30kDataset(path, multi30k.find_photographs(path))
    return None


def _places(name: str, data_dir: Path | None) -> list[Path]:
    if not name.strip():
        return []
    try:
        here = Path(name).expanduser()
        return [path for path in (here, *([data_dir / name] if data_dir else [])) if path.exists()]
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a NUL
        return []


def _what_there_is(data_dir: Path | None) -> str:
    known = "known are " + ", ".join(card.name for card in KNOWN)
    if data_dir is None:
        return f"{known}, and --data-dir names where others lie"
    try:
        entries = sorted(data_dir.iterdir())
    except OSError:
        return f"{known}, and there is no readable --data-dir {data_dir}"
    usable = [
        entry.name
        for entry in entries
        if entry.suffix.lower() in SEPARATORS or (entry.is_dir() and caption_files(entry))
    ]
    return f"{known}; {data_dir} has {', '.join(usable) or 'none in xclipt layout'}"
