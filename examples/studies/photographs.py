"""Parts of a data set's photographs: to learn from, and to be measured on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pairs import picture_order
from xclipt.data.registry import open_dataset


class Parts(Dataset):
    """Some of a data set's photographs, in splits of one's own.

    Args:
        whole: The data set.
        parts: Photographs by the split's name.
    """

    def __init__(self, whole: Dataset, parts: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.name, self.languages, self.splits = whole.name, whole.languages, tuple(parts)
        self._whole = whole
        self._parts = {name: frozenset(images) for name, images in parts.items()}

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        images = self._parts[split] if split else frozenset().union(*self._parts.values())
        return [p for p in self._whole.captions(language, None) if p.image in images]

    def picture_path(self, image: str) -> Path:
        return self._whole.picture_path(image)


def unseen_parts(
    whole: Dataset, data_dir: Path, splits: Sequence[str], pool: int
) -> dict[str, list[str]]:
    """``train`` and ``test`` of photographs that neither heads nor start were trained on.

    They are those of the data set's own ``train`` that Flickr8k has in ``splits``. In an order
    fixed by their names the first ``pool`` are to learn from, and the others are the test.
    """
    flickr8k = open_dataset("flickr8k", data_dir)
    unseen = {p.image for split in splits for p in flickr8k.captions("en", split)}
    listed = [p for p in whole.captions("en", "train") if p.image in unseen]
    ordered = [p.image for p in picture_order(at_hand(whole, listed), seed=0)]
    return {"train": ordered[:pool], "test": ordered[pool:]}


def first_captions(dataset: Dataset, language: str, split: str | None) -> dict[str, str]:
    """A caption of each photograph."""
    return {p.image: p.captions[0] for p in dataset.captions(language, split)}


def at_hand(whole: Dataset, pictures: Sequence[CaptionedPicture]) -> list[CaptionedPicture]:
    """Those whose files are there."""
    return [p for p in pictures if whole.picture_path(p.image).is_file()]
