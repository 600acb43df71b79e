"""The split of the paper's code (Zhang, Wang & Wang 2023), for training and evaluation alike."""

from collections.abc import Collection
from pathlib import Path

from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.one_caption import OneCaption
from xclipt.errors import XcliptError

PAPER, FULL = "paper", "full"
"""What ``split`` may be beside a data set's own splits."""


PAPER_SEED = 42


def paper_order(items: int, seed: int = PAPER_SEED) -> list[int]:
    """The order that the paper's released code draws items in: ``torch.randperm``, seed 42."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(items, generator=generator).tolist()
    return order


class PaperSplit(Dataset):
    """A view of a data set in three parts, ``train``, ``val`` and ``test``, that share no picture.

    All pictures of a data set in one piece (of any language, in published order) are drawn in
    :func:`paper_order`: the first ``shots`` train, the next ``shots`` validate, and the rest is the
    test. Where there is a split to train on, ``shots`` are drawn from it, and the published ``val``
    and ``test`` stay what they are.

    Args:
        dataset: The data set itself.
        shots: Pictures to train on.
        seed: Decides what is drawn; the paper's is 42.

    Raises:
        XcliptError: ``shots`` is no number that the data set has pictures for.
    """

    splits = ("train", "val", "test")

    def __init__(self, dataset: Dataset, shots: int | None, seed: int = PAPER_SEED) -> None:
        super().__init__()
        self.dataset = dataset
        self.name = dataset.name
        self.languages = dataset.languages
        self.caption = dataset.caption
        self.notes = dataset.notes
        self.published = "train" in dataset.splits
        source = "train" if self.published else None
        # Another language may lack the caption that is asked for; the pictures stay the same.
        whole = dataset.dataset if isinstance(dataset, OneCaption) else dataset
        images = list(
            {p.image: None for code in whole.languages for p in whole.captions(code, source)}
        )
        most = len(images) if self.published else len(images) // 2
        if shots is None or not 1 <= shots <= most:
            raise XcliptError(
                f"the paper's split of the {len(images):,} pictures of {self.name} takes a number "
                f"from 1 to {most}",
                field="shots",
                value="all" if shots is None else shots,
            )
        drawn = [images[i] for i in paper_order(len(images), seed)]
        self._parts: dict[str, tuple[str | None, Collection[str] | None]] = {
            "train": (source, frozenset(drawn[:shots])),
        }
        if self.published:
            for part in ("val", "test"):
                published = [split for split in dataset.splits if split.startswith(part)]
                if published:  # of several test splits the first: Multi30K's is that of 2016
                    self._parts[part] = (published[0], None)
        else:
            self._parts |= {
                "val": (None, frozenset(drawn[shots : 2 * shots])),
                "test": (None, frozenset(drawn[2 * shots :])),
            }

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of :attr:`splits` that there are: a published set may lack ``val`` or ``test``."""
        return tuple(self._parts)

    def captions(self, language: str, split: str | None) -> list[CaptionedPicture]:
        self._require(language, split)
        if split is None:
            return self.dataset.captions(language, None)
        if split not in self._parts:
            raise XcliptError(
                f"{self.name} has none beside the one to train on", field="split", value=split
            )
        source, images = self._parts[split]
        listed = self.dataset.captions(language, source)
        return [p for p in listed if images is None or p.image in images]

    def picture_path(self, image: str) -> Path:
        return self.dataset.picture_path(image)


def protocol(
    dataset: Dataset,
    split: str | None,
    shots: int | None,
    part: str,
    seed: int = PAPER_SEED,
) -> tuple[Dataset, str | None]:
    """Where the captions of one part lie: the data set, or a view of it, and the split within.

    Args:
        dataset: The data set.
        split: One of its own, ``paper``, ``full`` (all of a data set in one piece), or ``None``.
        shots: Training pictures of the paper's split.
        part: ``train``, ``val`` or ``test``: what to take of the paper's split.
        seed: Of the paper's split.

    Raises:
        XcliptError: The data set has too few pictures, or is not in one piece.
    """
    if split is None or split in dataset.splits:
        return dataset, split
    if split == PAPER:
        return PaperSplit(dataset, shots, seed), part
    if split == FULL:
        if len(dataset.splits) > 1:
            raise XcliptError(
                f"is for data sets in one piece; {dataset.name} has the splits "
                f"{', '.join(dataset.splits)}",
                field="split",
                value=split,
            )
        return dataset, None
    return dataset, split
