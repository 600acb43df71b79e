"""The pictures that a training is validated on: never those that it trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

from xclipt.alignment.alignment_set import AlignmentSet, paper_validation
from xclipt.alignment.routines import TO_EN
from xclipt.alignment.translated import translated_captions
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pairs import picture_order
from xclipt.data.pictures import require_pictures
from xclipt.errors import XcliptError

_MOST = 300


@dataclass(frozen=True)
class HeldOut:
    """Pictures with captions to validate on.

    Attributes:
        split: Where they are from: ``val``, ``paper``, or ``None`` for what is left of a data set
            without splits.
        captions: As the delta will be given them at inference: for ``to-en`` translated.
        owner: Index of the picture that each caption belongs to.
    """

    split: str | None
    images: tuple[str, ...]
    captions: tuple[str, ...]
    owner: tuple[int, ...]


def hold_out(
    directory: ArtifactDirectory, dataset: Dataset, alignment: AlignmentSet, wanted: int | None
) -> HeldOut:
    """Choose validation pictures for a training on ``alignment``.

    Args:
        wanted: At most so many of the split ``val``; of a data set without splits, so many are
            held out. ``None`` is 300, or 0 without splits.

    Raises:
        XcliptError: There are fewer, or a delta for translated text lacks their translations.
    """
    request = alignment.request
    split, pictures = _choose(dataset, alignment, wanted)
    captions: Sequence[str] = [caption for p in pictures for caption in p.captions]
    if request.text == TO_EN and captions:
        translator = alignment.translator.name if alignment.translator else request.translator
        captions, _, _ = translated_captions(
            directory, captions, request.language, dataset.name, translator
        )
    return HeldOut(
        split=split,
        images=tuple(p.image for p in pictures),
        captions=tuple(captions),
        owner=tuple(i for i, p in enumerate(pictures) for _ in p.captions),
    )


def _choose(
    dataset: Dataset, alignment: AlignmentSet, wanted: int | None
) -> tuple[str | None, list[CaptionedPicture]]:
    request = alignment.request
    if request.split == "paper":
        pictures = paper_validation(dataset, request)
        if pictures is not None:
            return "paper", require_pictures(dataset, pictures, request.allow_missing)
    if "val" in dataset.splits and alignment.split != "val":
        limit = _MOST if wanted is None else wanted
        held = dataset.captions(request.language, "val") if limit else []
        present = require_pictures(dataset, held, request.allow_missing)
        return "val", picture_order(present, seed=0)[:limit]
    if dataset.splits:
        return None, []
    everything = dataset.captions(request.language, None)
    there = require_pictures(dataset, everything, request.allow_missing)
    trained = {pair.image for pair in alignment.pairs}
    left = [p for p in picture_order(there, request.seed) if p.image not in trained]
    limit = wanted or 0
    if limit > len(left):
        raise XcliptError(
            f"--validate-on {limit}: only {len(left)} pictures of {dataset.name} are left "
            "beside those trained on"
        )
    return None, left[:limit]
