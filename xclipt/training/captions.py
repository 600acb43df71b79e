"""Captions with pictures, as a training takes them: encoded, and some held out."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from xclipt.alignment.build import (
    AlignmentRequest,
    AlignmentSet,
    build_alignment,
    build_joint,
)
from xclipt.alignment.routines import TO_EN
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.artifacts.manifest import TrainingData
from xclipt.data.dataset import CaptionedPicture, Dataset
from xclipt.data.pairs import pairs_sha256, picture_order
from xclipt.data.pictures import require_pictures
from xclipt.data.splits import PAPER, PAPER_SEED, PaperSplit
from xclipt.deltas.kind import DeltaSpec
from xclipt.errors import XcliptError
from xclipt.files import picture_key
from xclipt.training.loop import ValidationSet
from xclipt.training.pairs import TrainingPairs
from xclipt.training.recipe import Recipe
from xclipt.training.request import TrainingRequest
from xclipt.translation.lookup import captions_translated
from xclipt.translation.store import Direction
from xclipt.workspace import Workspace

_MOST_VALIDATION_PICTURES = 300


@dataclass(frozen=True)
class PreparedCaptions:
    """What is trained and validated on, an entry a language, and what a manifest says of it.

    Attributes:
        pairs: None where pictures are for validation alone.
        validation: What is validated on, if anything.
        held_out: Its captions.
        data: Of all of them.
        translator: Who translated, if anybody.
    """

    pairs: tuple[TrainingPairs, ...]
    validation: tuple[ValidationSet, ...]
    held_out: tuple[str, ...]
    data: TrainingData
    translator: dict[str, str] | None


@dataclass(frozen=True)
class HeldOut:
    """Pictures with captions to validate on: never those that are trained on.

    Attributes:
        split: Where they are from: ``val``, ``paper``, or ``None`` for what is left of a data set
            without splits.
        captions: As the delta will be given them at inference: for ``to-en`` translated.
        picture_index: Index of the picture that each caption belongs to.
        language: What the captions are in.
    """

    split: str | None
    images: tuple[str, ...]
    captions: tuple[str, ...]
    picture_index: tuple[int, ...]
    language: str


def choose_pairs(
    workspace: Workspace, dataset: Dataset, request: TrainingRequest
) -> list[AlignmentSet]:
    """The pairs to train on, an entry a language; none in them where pictures only validate.

    Raises:
        XcliptError: The data does not hold what is asked.
    """
    pairs = request.alignment
    _require_split(dataset, pairs.split)
    if pairs.shots == 0:
        return [_none(dataset, replace(pairs, language=one)) for one in request.languages]
    if request.joint:
        return build_joint(workspace, dataset, pairs, request.joint)
    return [build_alignment(workspace, dataset, pairs)]


def prepare_captions(
    workspace: Workspace,
    dataset: Dataset,
    alignments: Sequence[AlignmentSet],
    request: TrainingRequest,
    *,
    spec: DeltaSpec,
    seen: Sequence[str],
) -> PreparedCaptions:
    """Choose validation pictures, and encode what stays frozen.

    Args:
        workspace: Where features are kept.
        dataset: Where captions and pictures are.
        alignments: The pairs to train on, as :func:`choose_pairs` gives them.
        request: What is to be trained; its recipe is the backbone's.
        spec: The delta.
        seen: Keys of pictures that what the training begins from has seen.

    Raises:
        XcliptError: The data does not hold what is asked.
    """
    pairs, recipe = request.alignment, request.recipe
    held = [
        hold_out(
            workspace.directory,
            dataset,
            alignment,
            request.validation_pictures,
            one_caption=request.recipe.validation_captions == "one",
        )
        for alignment in alignments
    ]
    held_images = dict.fromkeys(image for part in held for image in part.images)
    drawn = pairs.split_seed
    trained = [pair.image for pair in alignments[0].pairs]
    row = {image: i for i, image in enumerate(dict.fromkeys([*trained, *held_images]))}
    pictures = workspace.encode_pictures([dataset.picture_path(image) for image in row])
    content = {image: pictures.keys[i].hex() for image, i in row.items()}
    aligned = pairs.routine is not None and recipe.align_weight > 0
    return PreparedCaptions(
        pairs=tuple(
            _training_pairs(
                workspace,
                dataset,
                one,
                images=pictures.features[[row[image] for image in trained]],
                spec=spec,
                recipe=recipe if aligned else None,
            )
            for one in alignments
            if one.pairs
        ),
        validation=tuple(
            _validation_set(workspace, part, spec, pictures.features, row)
            for part in held
            if part.images
        ),
        held_out=tuple(caption for part in held for caption in part.captions),
        data=TrainingData(
            dataset=dataset.name,
            split=alignments[0].split,
            shots=pairs.shots,
            pairs=sum(len(alignment.pairs) for alignment in alignments),
            sha256=_data_sha256(alignments, content),
            validation_split=held[0].split,
            validation_pictures=len(held_images),
            pictures=tuple(dict.fromkeys([*map(picture_key, pictures.keys), *seen])),
            alignment_sha256=pairs_sha256([pair for one in alignments for pair in one.pairs]),
            floor=pairs.floor,
            left_out=dict(sum((Counter(one.left_out.counts()) for one in alignments), Counter())),
            caption=dataset.caption,
            split_seed=drawn if pairs.split == PAPER and drawn != PAPER_SEED else None,
        ),
        translator=_translator(alignments),
    )


def _none(dataset: Dataset, request: AlignmentRequest) -> AlignmentSet:
    """No pairs to train on, of a data set whose pictures are for validation alone."""
    split = request.split or ("train" if "train" in dataset.splits else None)
    return AlignmentSet(request, dataset.name, split, pairs=(), translator=None)


def _training_pairs(
    workspace: Workspace,
    dataset: Dataset,
    alignment: AlignmentSet,
    *,
    images: Tensor,
    spec: DeltaSpec,
    recipe: Recipe | None,
) -> TrainingPairs:
    """One language's; without a ``recipe`` there is nothing to align with."""
    tokens, languages = workspace.backbone.tokenizer, alignment.request
    texts = [spec.prompted(pair.text) for pair in alignment.pairs]
    partners = [spec.prompted(pair.partner) for pair in alignment.pairs if pair.partner is not None]
    return TrainingPairs(
        images=images,
        tokens=tokens(texts, languages.text_language),
        partner_tokens=tokens(partners, languages.partner_language) if recipe else None,
        partner_features=frozen_partners(workspace, dataset, alignment, recipe)
        if recipe and recipe.teacher == "frozen"
        else None,
    )


def _validation_set(
    workspace: Workspace,
    held: HeldOut,
    spec: DeltaSpec,
    features: Tensor,
    row: Mapping[str, int],
) -> ValidationSet:
    tokens = workspace.backbone.tokenizer
    return ValidationSet(
        images=features[[row[image] for image in held.images]],
        tokens=tokens([*map(spec.prompted, held.captions)], held.language),
        picture_index=torch.tensor(held.picture_index),
        unprompted=tokens(held.captions, held.language) if spec.hard_prompt else None,
    )


def _translator(alignments: Sequence[AlignmentSet]) -> dict[str, str] | None:
    """Who translated; of several languages all that did."""
    several = [asdict(one.translator) for one in alignments if one.translator]
    if not several:
        return None
    return {key: ", ".join(dict.fromkeys(one[key] for one in several)) for key in several[0]}


def hold_out(
    directory: ArtifactDirectory,
    dataset: Dataset,
    alignment: AlignmentSet,
    wanted: int | None,
    *,
    one_caption: bool = False,
) -> HeldOut:
    """Choose validation pictures for a training on ``alignment``.

    Args:
        wanted: At most so many of the split ``val``; of a data set without splits, so many are
            held out. ``None`` is 300, all for the paper's split, or 0 without splits.
        one_caption: Take the first caption of each alone.

    Raises:
        XcliptError: There are fewer, or a delta for translated text lacks their translations.
    """
    request = alignment.request
    split, pictures = _validation_pictures(dataset, alignment, wanted)
    if one_caption:
        pictures = [replace(picture, captions=picture.captions[:1]) for picture in pictures]
    captions: Sequence[str] = [caption for p in pictures for caption in p.captions]
    if request.inference == TO_EN and captions:
        translator = alignment.translator.name if alignment.translator else request.translator
        direction = Direction(request.language, "en")
        captions, _, _ = captions_translated(
            directory, captions, direction, dataset.name, translator
        )
    return HeldOut(
        split=split,
        images=tuple(p.image for p in pictures),
        captions=tuple(captions),
        picture_index=tuple(i for i, p in enumerate(pictures) for _ in p.captions),
        language=request.text_language,
    )


def frozen_partners(
    workspace: Workspace, dataset: Dataset, alignment: AlignmentSet, recipe: Recipe
) -> Tensor:
    """The partners' features ``(pairs, dim)`` of the frozen tower, not normalised.

    With ``recipe.partner_captions`` ``all`` each is the mean over all English captions of the
    pair's picture: people describe different things, and what they agree on is the steadier aim.
    Routine 2's partners are translations that were made for single captions, and stay as they are.
    """
    groups: list[tuple[str, ...]] = [(pair.partner or "",) for pair in alignment.pairs]
    if recipe.partner_captions == "all" and alignment.request.routine != 2:
        english = {p.image: p.captions for p in dataset.captions("en", None)}
        groups = [
            english.get(pair.image, group)
            for pair, group in zip(alignment.pairs, groups, strict=True)
        ]
    features = workspace.encode_texts(
        [caption for group in groups for caption in group],
        language=alignment.request.partner_language,
    )
    parts = torch.split(features, [len(group) for group in groups])
    return torch.stack([part.mean(0) for part in parts])


def _require_split(dataset: Dataset, split: str | None) -> None:
    # Without a split to train on, what is trained on is the user's choice to make.
    if split is None and dataset.splits and "train" not in dataset.splits:
        raise XcliptError(
            f"has no split 'train', name one of {', '.join(dataset.splits)}: `split=NAME`",
            field="dataset",
            value=dataset.name,
        )


def _validation_pictures(
    dataset: Dataset, alignment: AlignmentSet, wanted: int | None
) -> tuple[str | None, list[CaptionedPicture]]:
    request = alignment.request
    if request.split == PAPER:
        view = PaperSplit(dataset, request.shots, request.split_seed)
        if not view.published:
            drawn = view.captions(request.language, "val")
            return PAPER, require_pictures(dataset, drawn, request.allow_missing)
    if "val" in dataset.splits and alignment.split != "val":
        # The paper's code validates on all of them.
        most = None if request.split == PAPER else _MOST_VALIDATION_PICTURES
        limit = most if wanted is None else wanted
        captioned = dataset.captions(request.language, "val") if limit != 0 else []
        present = require_pictures(dataset, captioned, request.allow_missing)
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
            f"only {len(left)} pictures of {dataset.name} are left beside those trained on",
            field="validation_pictures",
            value=limit,
        )
    return None, left[:limit]


def _data_sha256(alignments: Sequence[AlignmentSet], content: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for pair in (pair for alignment in alignments for pair in alignment.pairs):
        digest.update(f"{content[pair.image]}\t{pair.text}\t{pair.partner or ''}\n".encode())
    return digest.hexdigest()
