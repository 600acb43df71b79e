"""Multi30K in its publisher's layout: task 1, translations of one caption of each photograph, and
task 2, five captions of each that people wrote in English and in German, apart from each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset, KnownSet, TranslatedLines
from xclipt.data.formats.lines import (
    match_captions,
    match_translations,
    packed_or_not,
    translations_folder,
)
from xclipt.data.sets.coco import coco_path, find_coco
from xclipt.errors import UsageError

NAME = "multi30k"
PHOTOGRAPHS = "flickr30k-images"
LATER = ("test_2017_flickr", "test_2017_mscoco", "test_2018_flickr")
"""Test splits of task 1 that came after the data set, with photographs of their own."""


@dataclass(frozen=True)
class Task:
    """One of the tasks that captions were published for.

    Attributes:
        name: What its data set is called.
        folder: Where it lies in the publisher's ``data/``.
        languages: Which languages each split is in.
        pictures: Name of a split's list of photographs, with ``{split}`` in it.
        captions: Names of a split's files of captions, with ``{split}`` and ``{language}``: one
            file for every caption that a photograph has.
    """

    name: str
    folder: str
    languages: Mapping[str, tuple[str, ...]]
    pictures: str
    captions: tuple[str, ...]

    def pictures_file(self, split: str) -> str:
        """Where the list of a split's photographs is published."""
        return f"data/{self.folder}/image_splits/{self.pictures.format(split=split)}"

    def captions_files(self, language: str, split: str) -> tuple[str, ...]:
        """Where the captions are published, one file for each that a photograph has."""
        names = (name.format(split=split, language=language) for name in self.captions)
        return tuple(f"data/{self.folder}/raw/{name}.gz" for name in names)

    def within(self, folder: Path) -> Path | None:
        """The folder in ``folder`` that has the layout of ``data/``; ``None`` where none has."""
        there = (folder / "data", folder)
        return next((path for path in there if (path / self.folder / "raw").is_dir()), None)


_FOUR, _THREE, _TWO = ("en", "de", "fr", "cs"), ("en", "de", "fr"), ("en", "de")
TASK1 = Task(
    name=NAME,
    folder="task1",
    languages={
        **dict.fromkeys(("train", "val", "test_2016_flickr"), _FOUR),
        **dict.fromkeys(LATER[:2], _THREE),
        LATER[2]: _FOUR,
    },
    pictures="{split}.txt",
    captions=("{split}.{language}",),
)
TASK2 = Task(
    name=f"{NAME}-task2",
    folder="task2",
    languages=dict.fromkeys(("train", "val", "test_2016"), _TWO),
    pictures="{split}_images.txt",
    captions=tuple(f"{{split}}.{number}.{{language}}" for number in range(1, 6)),
)


def find_folder(data_dir: Path, task: Task) -> Path | None:
    """What of ``data_dir`` has the layout: a folder of the task's or data set's name, or itself."""
    there = (data_dir / task.name, data_dir / NAME, data_dir)
    return next((folder for folder in there if task.within(folder)), None)


def find_photographs(folder: Path) -> Path:
    """The folder of the photographs inside or beside the data set's, inside if neither is there."""
    inside, beside = folder / PHOTOGRAPHS, folder.resolve().parent / PHOTOGRAPHS
    return beside if beside.is_dir() and not inside.is_dir() else inside


class Multi30kDataset(Dataset):
    """Photographs of Flickr30k with captions of one task. Every file may be gzipped or not.

    Args:
        folder: What holds ``data/task1`` or ``data/task2``, or ``task1`` or ``task2``.
        pictures: What holds the photographs; `find_photographs` finds it. Those of a later test
            split may lie beside it, in a folder called as the split is, and COCO's where
            :func:`~xclipt.data.sets.coco.find_coco` finds them.
        task: Which of the two.
    """

    def __init__(self, folder: Path, pictures: Path, task: Task = TASK1) -> None:
        super().__init__()
        self.name = task.name
        self.languages = task.languages["train"]
        self.splits = tuple(task.languages)
        self.folder = folder
        self.task = task
        self._pictures = (pictures, *(pictures.with_name(split) for split in LATER))
        self._coco = find_coco(folder)

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        captioned: list[CaptionedPicture] = []
        for part in self._parts(language, split):
            pictures = self._file(self.task.pictures_file(part))
            of: dict[str, tuple[str, ...]] = {}
            for file in self._files(language, part):
                matched, remark = match_captions(pictures, file)
                for picture in matched:
                    of[picture.image] = of.get(picture.image, ()) + picture.captions
                if remark:
                    self._note(remark)
            captioned += [CaptionedPicture(image, captions) for image, captions in of.items()]
        return captioned

    def translations(self, source: str, target: str, split: str | None) -> list[TranslatedLines]:
        where = translations_folder(source, target)
        if where is None or source not in self.languages:
            return []
        folder, language = where
        return [
            match_translations(of, file)
            for part in self._parts(source, split)
            for of, file in zip(
                self._files(source, part), self._files(language, part, folder), strict=True
            )
            if file.is_file()
        ]

    def picture_path(self, image: str) -> Path:
        if image.startswith("COCO_"):
            return coco_path(self._coco, image)
        places = [folder / image for folder in self._pictures]
        return next((path for path in places if path.is_file()), places[0])

    def _parts(self, language: str, split: str | None) -> list[str]:
        """The splits that are meant; without one all that the language has, the later if here."""
        named = next(s for s in self.splits if s.startswith("test")) if split == "test" else split
        self._require(language, named)
        published = self.task.languages
        if named is None:
            return [
                part
                for part, languages in published.items()
                if language in languages
                and (part not in LATER or self._files(language, part)[0].is_file())
            ]
        if language not in published[named]:
            raise UsageError(
                f"{self.name}: split '{named}' has no captions in '{language}'; it has "
                f"{', '.join(published[named])}"
            )
        return [named]

    def _files(self, language: str, part: str, translated: str | None = None) -> list[Path]:
        """Files of captions, or of translations: beside the tasks, or in the task's own folder."""
        files = [self._file(path) for path in self.task.captions_files(language, part)]
        if translated is None:
            return files
        found = []
        for file in files:
            own = packed_or_not(file.parent.with_name(translated) / file.name)
            beside = packed_or_not(self.folder / translated / file.name)
            found.append(own if own.is_file() else beside)
        return found

    def _file(self, published: str) -> Path:
        root = self.task.within(self.folder) or self.folder / "data"
        return packed_or_not(root / published.removeprefix("data/"))


def _row(task: Task, published_as: str) -> KnownSet:
    def open_folder(folder: Path) -> Dataset | None:
        if task.within(folder) is None:
            return None
        return Multi30kDataset(folder, find_photographs(folder), task)

    def open_named(data_dir: Path | None) -> Dataset | None:
        folder = find_folder(data_dir, task) if data_dir else None
        return open_folder(folder) if folder else None

    (captions, *_), pictures = task.captions_files("LANG", "SPLIT"), task.pictures_file("SPLIT")
    return KnownSet(
        name=task.name,
        published_as=f"{published_as} (github.com/multi30k/dataset) on Flickr30k photographs",
        languages=task.languages["train"],
        licence="photographs belong to Flickr users: non-commercial research",
        needs=f"{captions.replace('.1.', '.N.')} and {pictures} (photographs: {PHOTOGRAPHS}/)",
        open=open_named,
        open_folder=open_folder,
    )


MULTI30K = _row(TASK1, "Multi30K task 1")
MULTI30K_TASK2 = _row(TASK2, "Multi30K task 2")
