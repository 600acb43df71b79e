"""XTD10 in its publisher's layout: 1,000 photographs of MS-COCO with captions in 11 languages."""

from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset, KnownSet, TranslatedLines
from xclipt.data.formats.lines import match_captions, match_translations, translations_folder
from xclipt.data.sets.coco import IMAGES, coco_path, find_coco

NAME = "xtd"
PICTURES_FILE = "XTD10/test_image_names.txt"
CAPTIONS_FILES = {
    "en": "XTD10/test_1kcaptions_en.txt",
    "de": "MIC/test_1kcaptions_de.txt",
    "es": "XTD10/test_1kcaptions_es.txt",
    "fr": "MIC/test_1kcaptions_fr.txt",
    "it": "XTD10/test_1kcaptions_it.txt",
    "ja": "STAIR/test_1kcaptions_jp.txt",
    "ko": "XTD10/test_1kcaptions_ko.txt",
    "pl": "XTD10/test_1kcaptions_pl.txt",
    "ru": "XTD10/test_1kcaptions_ru.txt",
    "tr": "XTD10/test_1kcaptions_tr.txt",
    "zh": "XTD10/test_1kcaptions_zh.txt",
}


def find_folder(data_dir: Path) -> Path | None:
    """``data_dir/xtd`` or ``data_dir`` itself, whichever has the layout."""
    return next(filter(_has_layout, (data_dir / NAME, data_dir)), None)


class XtdDataset(Dataset):
    """A test set: one caption a photograph and language, and no training text.

    Args:
        folder: What holds ``XTD10/``, ``MIC/`` and ``STAIR/``.
        pictures: What holds the photographs themselves, or COCO's ``train2014/`` and ``val2014/``;
            `find_coco` finds it.
    """

    name = NAME
    languages = tuple(CAPTIONS_FILES)
    splits = ("test",)

    def __init__(self, folder: Path, pictures: Path) -> None:
        super().__init__()
        self.folder = folder
        self._pictures = pictures

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        captioned, remark = match_captions(
            self.folder / PICTURES_FILE, self.folder / CAPTIONS_FILES[language]
        )
        if remark:
            self._note(remark)
        return captioned

    def translations(self, source: str, target: str, split: str | None) -> list[TranslatedLines]:
        where = translations_folder(source, target)
        if where is None or source not in self.languages or where[1] not in self.languages:
            return []
        folder, language = where
        code = Path(CAPTIONS_FILES[language]).stem.rpartition("_")[2]
        file = self.folder / folder / f"{code}.txt"
        if not file.is_file():
            return []
        return [match_translations(self.folder / CAPTIONS_FILES[source], file)]

    def picture_path(self, image: str) -> Path:
        return coco_path(self._pictures, image)


def _has_layout(folder: Path) -> bool:
    return (folder / PICTURES_FILE).is_file()


def _open(data_dir: Path | None) -> Dataset | None:
    folder = find_folder(data_dir) if data_dir else None
    return XtdDataset(folder, find_coco(folder)) if folder else None


def _open_folder(folder: Path) -> Dataset | None:
    return XtdDataset(folder, find_coco(folder)) if _has_layout(folder) else None


XTD = KnownSet(
    name=NAME,
    published_as="XTD10 (github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10) "
    "on MS-COCO 2014 photographs",
    languages=XtdDataset.languages,
    licence="Adobe Research License: non-commercial research; photographs belong to Flickr users",
    needs=f"XTD10/*.txt, MIC/*.txt and STAIR/*.txt (photographs: {IMAGES}/)",
    open=_open,
    open_folder=_open_folder,
)
