"""What a delta is trained on: a picture, a caption and the text that the caption is pulled to."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.errors import XcliptError


@dataclass(frozen=True)
class CaptionPair:
    """A picture's name, a caption of it to train on, and the partner's text if there is one."""

    image: str
    text: str
    partner: str | None


def caption_pairs(
    dataset: Dataset,
    language: str,
    split: str | None,
    *,
    shots: int | None,
    seed: int,
    routine: int | None,
    among: Collection[str] | None = None,
) -> list[CaptionPair]:
    """The training pairs of one language, in an order that ``seed`` and the pictures' names fix.

    The order is the same on every machine, and the first 10 of 50 shots are the 10 shots.

    Args:
        dataset: Where the captions are.
        language: ISO 639-1 code of the captions.
        split: The split to train on, or ``None`` for all pictures.
        shots: How many pictures, each with one of its captions; ``None`` is all captions of all.
        seed: Any integer.
        routine: 1 makes the English caption of the same index the partner (counted round where
            English has fewer); ``None`` gives no partner.
        among: The pictures that may be taken, such as those whose files are there; ``None`` is all.

    Raises:
        XcliptError: There are fewer pictures than ``shots``, none at all, or no English captions
            for routine 1.
    """
    if routine not in (1, None):
        raise XcliptError(f"--routine {routine}: caption pairs are made for 1 and none")
    if shots is not None and shots < 1:
        raise XcliptError(f"--shots {shots}: must be at least 1, or all")
    items = [
        item for item in dataset.captions(language, split) if among is None or item.image in among
    ]
    partners: dict[str, tuple[str, ...]] = {}
    if routine == 1:
        partners = {item.image: item.captions for item in dataset.captions("en", split)}
        items = _with_partners(dataset, language, items, partners)
    if not items:
        raise XcliptError(f"{dataset.name}: no pictures to train on in '{language}'{_of(split)}")
    if shots is not None and shots > len(items):
        raise XcliptError(
            f"--shots {shots}: {dataset.name} has {len(items):,} pictures in '{language}'"
            f"{_of(split)}; give at most that, or all"
        )
    pairs = []
    for item in picture_order(items, seed)[:shots]:
        one = _digest(seed, item.image) % len(item.captions)
        for index in range(len(item.captions)) if shots is None else [one]:
            english = partners.get(item.image)
            partner = english[index % len(english)] if english else None
            pairs.append(CaptionPair(item.image, item.captions[index], partner))
    return pairs


def picture_order(items: Iterable[CaptionedPicture], seed: int) -> list[CaptionedPicture]:
    """The items in the order that ``seed`` gives their pictures, the same on every machine."""
    return sorted(items, key=lambda item: (_digest(seed, item.image), item.image))


def _with_partners(
    dataset: Dataset,
    language: str,
    items: list[CaptionedPicture],
    partners: dict[str, tuple[str, ...]],
) -> list[CaptionedPicture]:
    kept = [item for item in items if partners.get(item.image)]
    if len(kept) < len(items):
        remark = (
            f"{dataset.name}: {len(items) - len(kept):,} of {len(items):,} pictures in "
            f"'{language}' have no English caption and are left out"
        )
        if remark not in dataset.notes:
            dataset.notes.append(remark)
    return kept


def _of(split: str | None) -> str:
    return f" of split '{split}'" if split else ""


def _digest(seed: int, image: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{image}".encode()).digest())
