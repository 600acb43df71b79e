"""Data sets of a few captions, in memory and in the layouts that they are published in."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.formats.folder import FolderDataset
from xclipt.data.sets import coco, xtd
from xclipt.data.sets.multi30k import PHOTOGRAPHS, TASK1, TASK2, Multi30kDataset, Task
from xclipt.data.sets.xtd import XtdDataset

Captions = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Captions by language and picture."""


class Given(Dataset):
    """A data set that is given as {language: {image: captions}}; every picture is there."""

    name, splits = "given", ("train",)

    def __init__(self, captions: Captions) -> None:
        super().__init__()
        self.languages = tuple(captions)
        self._captions = captions

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        return [CaptionedPicture(*entry) for entry in self._captions[language].items()]

    def picture_path(self, image: str) -> Path:
        return Path(__file__)


def many(count: int, *, backwards: bool = False) -> Given:
    """Pictures with two English and three Turkish captions each, that name picture and number."""
    numbers = range(count)[:: -1 if backwards else 1]
    return Given(
        {
            "en": {f"{k}.jpg": (f"en {k} 0", f"en {k} 1") for k in numbers},
            "tr": {f"{k}.jpg": tuple(f"tr {k} {j}" for j in range(3)) for k in numbers},
        }
    )


def write_captions(folder: Path, language: str, *rows: Any) -> Path:
    """A caption file of xclipt's layout: plain values, or lines as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"captions.{language}.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return file


def caption_row(image: str, *captions: str, **more: Any) -> dict[str, Any]:
    """What a line of a caption file says."""
    return {"image": image, "captions": list(captions), **more}


def make_folder(
    folder: Path, captions: Captions, split_of: Mapping[str, str] | None = None
) -> FolderDataset:
    """A folder in xclipt's layout, with a file (no real picture) for every captioned image."""
    (folder / "images").mkdir(parents=True)
    for language, pictures in captions.items():
        rows = []
        for image, texts in pictures.items():
            (folder / "images" / image).write_text(image)
            split = {"split": split_of[image]} if split_of else {}
            rows.append(caption_row(image, *texts, **split))
        write_captions(folder, language, *rows)
    return FolderDataset(folder)


def write_captions_of(task: Task, folder: Path, *splits: str, packed: bool = True) -> None:
    """Captions of Multi30K's layout, of two pictures a split; their lists name the pictures."""
    ending = ".gz" if packed else ""
    for number, split in enumerate(splits):
        images = folder / task.pictures_file(split)
        images.parent.mkdir(parents=True, exist_ok=True)
        images.write_text(f"{number}0.jpg\n{number}1.jpg\n")
        for language in task.languages[split]:
            for count, path in enumerate(task.captions_files(language, split), 1):
                file = folder / (path.removesuffix(".gz") + ending)
                file.parent.mkdir(parents=True, exist_ok=True)
                more = f" caption {count}" if task is TASK2 else ""
                text = f"{language} {split} 0{more}\n{language} {split}\u2028 1{more}\n".encode()
                file.write_bytes(gzip.compress(text) if packed else text)


def make_multi30k(folder: Path, task: Task = TASK1) -> Multi30kDataset:
    """Multi30K's layout with two pictures a split, without the later test splits."""
    write_captions_of(task, folder, *list(task.languages)[:3])
    return Multi30kDataset(folder, folder / PHOTOGRAPHS, task)


def make_xtd(folder: Path) -> XtdDataset:
    """XTD's layout with two pictures."""
    names = ["COCO_train2014_000000000001.jpg", "COCO_val2014_000000000002.jpg"]
    for path in (xtd.PICTURES_FILE, *xtd.CAPTIONS_FILES.values()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / xtd.PICTURES_FILE).write_text("\n".join(names) + "\n")
    for language, path in xtd.CAPTIONS_FILES.items():
        # Two endings that the published files have: CRLF and no end at all.
        (folder / path).write_bytes(f"{language} one\r\n{language} two".encode())
    return XtdDataset(folder, folder / coco.IMAGES)
