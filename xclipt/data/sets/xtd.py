"""XTD10 in its publisher's layout: 1,000 photographs of MS-COCO with captions in 11 languages."""

from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset, KnownSet, TranslatedLines
from xclipt.data.formats.lines import match_captions, match_translations, translations_folder

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
IMAGES = "images"
_COCO = ("train2014", "val2014")


def find_folder(data_dir: Path) -> Path | None:
    """``data_dir/xtd`` or ``data_dir`` itself, whichever has the layout."""
    return next(filter(_has_layout, (data_dir / NAME, data_dir)), None)


def find_photographs(folder: Path) -> Path:
    """``images/`` in the data set's folder, else what holds COCO's ``train2014/`` beside it.

    That is the parent folder, or one in it that is called after COCO. Where neither is there,
    ``images/`` is given: the place to put them.
    """
    images, beside = folder / IMAGES, folder.resolve().parent
    if images.is_dir():
        return images
    called_coco = sorted(path for path in beside.glob("*") if "coco" in path.name.lower())
    for coco in (beside, *called_coco):
        if any((coco / part).is_dir() for part in _COCO):
            return coco
    return images


class XtdDataset(Dataset):
    """A test set: one caption a photograph and language, and no training text.

    Args:
        folder: What holds ``XTD10/``, ``MIC/`` and ``STAIR/``.
        pictures: What holds the photographs themselves, or COCO's ``train2014/`` and ``val2014/``;
            `find_photographs` finds it.
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
        part = "val2014" if "_val2014_" in image else "train2014"
        in_coco = self._pictures / part / image
        return in_coco if in_coco.is_file() else self._pictures / image


def _has_layout(folder: Path) -> bool:
    return (folder / PICTURES_FILE).is_file()


def _open(data_dir: Path | None) -> Dataset | None:
    folder = find_folder(data_dir) if data_dir else None
    return XtdDataset(folder, find_photographs(folder)) if folder else None


def _open_folder(folder: Path) -> Dataset | None:
    return XtdDataset(folder, find_photographs(folder)) if _has_layout(folder) else None


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
