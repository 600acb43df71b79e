"""One caption of every picture, by its number: what the paper's code reads of Multi30K task 2."""

from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset, TranslatedLines
from xclipt.errors import UsageError


class OneCaption(Dataset):
    """A view of a data set in which every picture has its ``number``-th caption alone.

    Args:
        dataset: The data set itself.
        number: Which caption, from 1.

    Raises:
        UsageError: ``number`` is below 1. When captions are asked for: a picture has fewer.
    """

    def __init__(self, dataset: Dataset, number: int) -> None:
        super().__init__()
        if number < 1:
            raise UsageError("captions are numbered from 1", field="caption", value=number)
        self.dataset = dataset
        self.caption = self._number = number
        self.name, self.languages = dataset.name, dataset.languages
        self.splits, self.notes = dataset.splits, dataset.notes

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        number, pictures = self._number, self.dataset.captions(language, split)
        lacking = [picture for picture in pictures if len(picture.captions) < number]
        if lacking:
            least = min(lacking, key=lambda picture: len(picture.captions))
            raise UsageError(
                f"{self.name}: {len(lacking):,} of {len(pictures):,} pictures in '{language}' have "
                f"fewer captions, {least.image} has {len(least.captions)}; give at most that",
                field="caption",
                value=number,
            )
        return [CaptionedPicture(p.image, (p.captions[number - 1],)) for p in pictures]

    def picture_path(self, image: str) -> Path:
        return self.dataset.picture_path(image)

    def translations(self, source: str, target: str, split: str | None) -> list[TranslatedLines]:
        return self.dataset.translations(source, target, split)
