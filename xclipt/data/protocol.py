"""The paper's protocol for data sets that come without training and test splits."""

from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.paper_split import paper_split
from xclipt.errors import XcliptError

PROTOCOLS = ("paper", "full")


class ProtocolDataset(Dataset):
    """A data set that is published in one piece, split as a protocol says.

    ``full`` is all of it. ``paper`` is the test part of the split of Zhang et al. (2023): of
    ``torch.randperm(pictures)`` with seed 42 the first ``shots`` train, as many again validate,
    and the rest is the test; ``paper-train`` and ``paper-val`` are the other two parts.

    Args:
        dataset: The data set itself.
        shots: Training pictures of the paper's split.

    Raises:
        XcliptError: The data set has splits of its own, or too few pictures.
    """

    splits = ("full", "paper", "paper-train", "paper-val")

    def __init__(self, dataset: Dataset, shots: int) -> None:
        super().__init__()
        if len(dataset.splits) > 1:
            raise XcliptError(
                f"--split paper and full are for data sets in one piece; {dataset.name} has the "
                f"splits {', '.join(dataset.splits)}"
            )
        self._dataset = dataset
        self.name = dataset.name
        self.languages = dataset.languages
        self.notes = dataset.notes
        every = {
            p.image: None for language in self.languages for p in dataset.captions(language, None)
        }
        if shots < 1 or 2 * shots + 2 > len(every):
            raise XcliptError(
                f"--shots {shots}: the paper's split of the {len(every):,} pictures of "
                f"{self.name} takes 1 to {max(0, len(every) // 2 - 1)}"
            )
        images = list(every)
        train, validate, test = paper_split(len(images), shots)
        self._parts = {
            "full": frozenset(images),
            "paper": frozenset(images[i] for i in test),
            "paper-train": frozenset(images[i] for i in train),
            "paper-val": frozenset(images[i] for i in validate),
        }

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        part = self._parts[split or "full"]
        return [p for p in self._dataset.captions(language, None) if p.image in part]

    def picture_path(self, image: str) -> Path:
        return self._dataset.picture_path(image)
