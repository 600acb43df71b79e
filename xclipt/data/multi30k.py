"""Multi30K task 1 in its publisher's layout: translations of one caption of each photograph."""

from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset, TranslatedLines
from xclipt.data.parallel import match_captions, match_translations, translations_folder

LANGUAGES = ("en", "de", "fr", "cs")
SPLITS = ("train", "val", "test_2016_flickr")
PHOTOGRAPHS = "flickr30k-images"


def captions_file(language: str, split: str) -> str:
    """Where the captions lie within the data set's folder."""
    return f"data/task1/raw/{split}.{language}.gz"


def pictures_file(split: str) -> str:
    """Where the list of a split's photographs lies within the data set's folder."""
    return f"data/task1/image_splits/{split}.txt"


def find_folder(data_dir: Path) -> Path | None:
    """``data_dir/multi30k`` or ``data_dir`` itself, whichever has the layout."""
    folders = (data_dir / "multi30k", data_dir)
    return next((folder for folder in folders if (folder / "data/task1/raw").is_dir()), None)


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

    name = "multi30k"
    languages = LANGUAGES
    splits = SPLITS

    def __init__(self, folder: Path, pictures: Path) -> None:
        super().__init__()
        self.folder = folder
        self._pictures = pictures

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        split = "test_2016_flickr" if split == "test" else split
        self._require(language, split)
        captioned: list[CaptionedPicture] = []
        for part in [split] if split else SPLITS:
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
        split = "test_2016_flickr" if split == "test" else split
        files = {
            part: self.folder / folder / f"{part}.{language}.gz"
            for part in ([split] if split else SPLITS)
        }
        return [
            match_translations(self.folder / captions_file(source, part), file)
            for part, file in files.items()
            if file.is_file()
        ]

    def picture_path(self, image: str) -> Path:
        return self._pictures / image
