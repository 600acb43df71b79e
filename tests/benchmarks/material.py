"""What benchmarks run on: the builtin backbone, and captions and photographs of people.

Without a folder of public data sets the embedded emoji and their names stand in.
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain, cycle, islice
from pathlib import Path

import torch
from PIL import Image

from tests.benchmarks.measuring import Setting
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.builtin import load_builtin
from xclipt.data.dataset import Dataset
from xclipt.data.one_caption import OneCaption
from xclipt.data.registry import open_dataset
from xclipt.data.sets.xtd import CAPTIONS_FILES

FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
LANGUAGES = tuple(CAPTIONS_FILES)
"""The eleven of XTD, English first."""


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` and the like."""
    return str(dtype).removeprefix("torch.")


@cache
def builtin(device: torch.device, dtype: torch.dtype = FLOAT32) -> Backbone:
    """The builtin backbone, loaded once."""
    return load_builtin(device, dtype)


def training_set(setting: Setting) -> Dataset:
    """Photographs with one Chinese and one English caption each, and a split to validate on."""
    if setting.data:
        return OneCaption(open_dataset("flickr8k", setting.data), 1)
    return OneCaption(open_dataset("emoji"), 1)


def evaluation_set(setting: Setting) -> Dataset:
    """A caption in each of :data:`LANGUAGES` of up to 1,000 photographs, whose files are not there.

    With the embedded emoji their pictures are.
    """
    return open_dataset("xtd", setting.data) if setting.data else open_dataset("emoji")


def captions(setting: Setting, count: int) -> list[str]:
    """So many in eleven languages in turn; they repeat where there are fewer."""
    dataset = evaluation_set(setting)
    each = [
        [caption for picture in dataset.captions(language, "test") for caption in picture.captions]
        for language in LANGUAGES
        if language in dataset.languages
    ]
    mixed = chain.from_iterable(zip(*each, strict=False))
    return list(islice(cycle(mixed), count))


def source(setting: Setting) -> str:
    """A remark on what captions and photographs are, where they are not photographs."""
    return "" if setting.data else "emoji and their names: no XCLIPT_DATA"


def photographs(setting: Setting, count: int) -> list[Path]:
    """JPEG files of 224 x 224; the same again where there are fewer."""
    if setting.data:
        folder = setting.data / "flickr30k-images"
        images = [p.image for p in open_dataset("flickr8k", setting.data).captions("en", None)]
        return list(islice(cycle([folder / image for image in images]), count))
    emoji = open_dataset("emoji")
    there = [emoji.picture_path(p.image) for p in emoji.captions("en", "test")[:count]]
    return list(islice(cycle(as_jpeg(there, setting.folder / "jpeg", (224, 224))), count))


def as_jpeg(paths: Sequence[Path], folder: Path, size: tuple[int, int]) -> list[Path]:
    """The pictures anew as JPEG files of another size."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, path in enumerate(paths):
        made.append(folder / f"{number}.jpg")
        with Image.open(path) as picture:
            picture.convert("RGB").resize(size).save(made[-1], quality=90)
    return made
