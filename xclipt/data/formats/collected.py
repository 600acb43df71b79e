"""What data sets read from a user's own files have in common: rows, checked as they come."""

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.formats.lines import empty_remark
from xclipt.data.formats.places import Places, plain_name
from xclipt.data.pictures import check_picture_name
from xclipt.detection import mistaken_for
from xclipt.errors import XcliptError
from xclipt.languages import name as language_name

MAX_CAPTION = 10_000
"""Characters of a caption that are kept: more is a file that was taken for a caption, and any text
tower reads less."""

_USUAL_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class CaptionRow:
    """Captions of one picture in one language, and where they were read.

    ``source`` is the file or table, ``place`` the line or row in it.
    """

    image: str
    language: str
    captions: tuple[str, ...]
    split: str | None
    source: Path | str
    place: str

    @property
    def where(self) -> str:
        """Source and place, as an error begins."""
        return f"{self.source}: {self.place}"


class CollectedDataset(Dataset):
    """Captions gathered row by row.

    A split belongs to the picture: what one row says of it holds for all languages, and rows that
    disagree are refused, since the same picture would be trained on and tested on.

    Args:
        name: As :attr:`Dataset.name`.
        folders: Where its pictures may be, the likeliest first.
        anywhere: They may lie in folders below the first, and in others that rows name.
    """

    def __init__(self, name: str, *folders: Path, anywhere: bool = False) -> None:
        super().__init__()
        self.name = name
        self._folders, self._anywhere = folders, anywhere
        self.languages = ()
        self.splits = ()
        self._captions: dict[str, dict[str, tuple[str, ...]]] = {}
        self._split_of: dict[str, tuple[str, str]] = {}
        self._empty: dict[Path | str, list[str]] = {}
        self._long: dict[Path | str, list[str]] = {}

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        return [
            CaptionedPicture(image, captions)
            for image, captions in self._captions[language].items()
            if split is None or self._split_of.get(image, ("",))[0] == split
        ]

    def picture_path(self, image: str) -> Path:
        return self._places.find(image) or self._places.expected(image)

    @cached_property
    def _places(self) -> Places:
        names = {image for pictures in self._captions.values() for image in pictures}
        return Places(self._folders, below=self._anywhere, names=names if self._anywhere else ())

    def _add(self, row: CaptionRow) -> None:
        image = plain_name(row.image, row.where) if self._anywhere else row.image
        check_picture_name(image, row.where, anywhere=self._anywhere)
        image = unicodedata.normalize("NFC", image)  # one picture, however files spell it
        if row.split:
            known, place = self._split_of.setdefault(image, (row.split, row.where))
            if known != row.split:
                raise XcliptError(
                    f"{row.where}: {image} is in split '{row.split}' here and in '{known}' "
                    f"in {place}; give it one"
                )
        whole = tuple(text for text in map(str.strip, row.captions) if text)
        kept = tuple(text[:MAX_CAPTION].rstrip() for text in whole)
        if cut := sum(len(text) > MAX_CAPTION for text in whole):
            self._long.setdefault(row.source, []).extend([row.place] * cut)
        for text in kept:
            try:
                text.encode()
            except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
                raise XcliptError(
                    f"{row.where}: the caption is not valid Unicode; correct it"
                ) from error
        if empty := len(row.captions) - len(kept):
            self._empty.setdefault(row.source, []).extend([row.place] * empty)
        pictures = self._captions.setdefault(row.language, {})
        if kept:
            pictures[image] = pictures.get(image, ()) + kept

    def _finish(self, understood: str = "", *asides: str) -> None:
        """Take stock after the last row.

        Args:
            understood: How the captions were found, for the remark on what was understood; none
                without it.
            asides: What else it says.
        """
        for source, places in self._empty.items():
            self._note(empty_remark(source, len(places), places[0]))
        for source, places in self._long.items():
            what = "caption is" if len(places) == 1 else "captions are"
            self._note(
                f"{source}: {len(places):,} {what} longer than {MAX_CAPTION:,} characters and cut "
                f"there, first {places[0]}; check whether it is one"
            )
        for language, pictures in self._captions.items():
            if not pictures:
                raise XcliptError(f"{self.name}: no caption in '{language}'; add some or remove it")
            if other := mistaken_for(language, [own[0] for own in pictures.values()]):
                self._note(
                    f"{self.name}: captions in '{language}' look like {language_name(other)}; "
                    "check what they were taken for"
                )
        self.languages = tuple(sorted(self._captions, key=lambda code: (code != "en", code)))
        used = dict.fromkeys(split for split, _ in self._split_of.values())
        usual = tuple(split for split in _USUAL_SPLITS if split in used)
        self.splits = usual + tuple(split for split in used if split not in usual)
        if understood:
            self.notes.insert(0, "; ".join([self._summary(understood), *filter(None, asides)]))

    def _summary(self, understood: str) -> str:
        count = len(set().union(*self._captions.values()))
        splits = ", ".join(self.splits)
        said = f"split{'s' if len(self.splits) > 1 else ''} {splits}" if splits else "no split"
        pictures = "1 picture" if count == 1 else f"{count:,} pictures"
        return f"{self.name}: {pictures}, {understood}, {said}"
