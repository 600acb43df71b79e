"""Multi30K task 1 in its publisher's layout: translations of one caption of each photograph."""

from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset, KnownSet, TranslatedLines
from xclipt.data.formats.lines import match_captions, match_translations, translations_folder

NAME = "multi30k"
LANGUAGES = ("en", "de", "fr", "cs")
TEST = "test_2016_flickr"
SPLITS = ("train", "val", TEST)
PHOTOGRAPHS = "flickr30k-images"
_CAPTIONS, _PICTURES = "data/task1/raw", "data/task1/image_splits"


def captions_file(language: str, split: str) -> str:
    """Where the captions lie within the data set's folder."""
    return f"{_CAPTIONS}/{split}.{language}.gz"


def pictures_file(split: str) -> str:
    """Where the list of a split's photographs lies within the data set's folder."""
    return f"{_PICTURES}/{split}.txt"


def find_folder(data_dir: Path) -> Path | None:
    """``data_dir/multi30k`` or ``data_dir`` itself, whichever has the layout."""
    return next(filter(_has_layout, (data_dir / NAME, data_dir)), None)


def find_photographs(folder: Path) -> Path:
    """The folder of the photographs inside or beside the data set's, inside if neither is there."""
    inside, beside = folder / PHOTOGRAPHS, folder.resolve().parent / PHOTOGRAPHS
    return beside if beside.is_dir() and not inside.is_dir() else inside


class Multi30kDataset(Dataset):
    """Photographs of Flickr30k with one caption each, in English and translated by people.

    Args:
        folder: What holds ``data/task1``.
        pictures: What holds the photographs; `find_photographs` finds it.
    """

    name = NAME
    languages = LANGUAGES
    splits = SPLITS

    def __init__(self, folder: Path, pictures: Path) -> None:
        super().__init__()
        self.folder = folder
        self._pictures = pictures

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        parts = _parts(split)
        self._require(language, parts[0])
        captioned: list[CaptionedPicture] = []
        for part in parts:
            matched, remark = match_captions(
                self.folder / pictures_file(part), self.folder / captions_file(language, part)
            )
            captioned += matched
            if remark:
                self._note(remark)
        return captioned

    def translations(self, source: str, target: str, split: str | None) -> list[TranslatedLines]:
        where = translations_folder(source, target)
        if where is None or source not in self.languages:
            return []
        folder, language = where
        files = {part: self.folder / folder / f"{part}.{language}.gz" for part in _parts(split)}
        return [
            match_translations(self.folder / captions_file(source, part), file)
            for part, file in files.items()
            if file.is_file()
        ]

    def picture_path(self, image: str) -> Path:
        return self._pictures / image


def _parts(split: str | None) -> tuple[str, ...]:
    return (TEST if split == "test" else split,) if split else SPLITS


def _has_layout(folder: Path) -> bool:
    return (folder / _CAPTIONS).is_dir()


def _open(data_dir: Path | None) -> Dataset | None:
    folder = find_folder(data_dir) if data_dir else None
    return Multi30kDataset(folder, find_photographs(folder)) if folder else None


def _open_folder(folder: Path) -> Dataset | None:
    return Multi30kDataset(folder, find_photographs(folder)) if _has_layout(folder) else None


MULTI30K = KnownSet(
    name=NAME,
    published_as="Multi30K task 1 (github.com/multi30k/dataset) on Flickr30k photographs",
    languages=LANGUAGES,
    licence="photographs belong to Flickr users: non-commercial research",
    needs=f"{_CAPTIONS}/SPLIT.LANG.gz and {_PICTURES}/SPLIT.txt (photographs: {PHOTOGRAPHS}/)",
    open=_open,
    open_folder=_open_folder,
)
