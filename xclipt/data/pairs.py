"""What a delta is trained on: a picture, a caption and the text that the caption is pulled to."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
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
    seed: int,
    english: bool,
    every_caption: bool = False,
    among: Collection[str] | None = None,
) -> list[CaptionPair]:
    """All human pairs of one language, in an order that ``seed`` and the pictures' names fix.

    The order is the same on every machine: the first 10 of 50 shots are the 10 shots.

    Args:
        dataset: Where the captions are.
        language: ISO 639-1 code of the captions.
        split: The split to train on, or ``None`` for all pictures.
        seed: Any integer.
        english: Make the English caption of the same index the partner (counted round where
            English has fewer), and leave out pictures without one.
        every_caption: All captions of every picture, not one.
        among: The pictures that may be taken, such as those whose files are there; ``None`` is all.

    Raises:
        XcliptError: There are no pictures at all, or no English captions.
    """
    items = [
        item for item in dataset.captions(language, split) if among is None or item.image in among
    ]
    partners: dict[str, tuple[str, ...]] = {}
    if english:
        partners = {item.image: item.captions for item in dataset.captions("en", split)}
        items = _with_partners(dataset, language, items, partners)
    if not items:
        raise XcliptError(f"{dataset.name}: no pictures to train on in '{language}'{of(split)}")
    pairs = []
    for item in picture_order(items, seed):
        one = _digest(seed, item.image) % len(item.captions)
        for index in range(len(item.captions)) if every_caption else [one]:
            own = partners.get(item.image)
            partner = own[index % len(own)] if own else None
            pairs.append(CaptionPair(item.image, item.captions[index], partner))
    return pairs


def picture_order(items: Iterable[CaptionedPicture], seed: int) -> list[CaptionedPicture]:
    """The items in the order that ``seed`` gives their pictures, the same on every machine."""
    return sorted(items, key=lambda item: (_digest(seed, item.image), item.image))


def of(split: str | None) -> str:
    """How a message goes on to name the split; nothing without one."""
    return f" of split '{split}'" if split else ""


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


def _digest(seed: int, image: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{image}".encode()).digest())


def pairs_sha256(pairs: Sequence[CaptionPair]) -> str:
    """A hash over pictures' names, texts and partners, in order."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{pair.image}\t{pair.text}\t{pair.partner or ''}\n".encode())
    return digest.hexdigest()
