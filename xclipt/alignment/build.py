"""The alignment set: which texts a delta is trained on, and which each one is pulled to."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from torch.nn import functional as F

from xclipt.alignment.routines import (
    TO_EN,
    check_language,
    inference_text,
    translated_direction,
)
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.data.dataset import Dataset
from xclipt.data.pairs import CaptionPair, caption_pairs, of, pairs_sha256, picture_order
from xclipt.data.pictures import require_pictures
from xclipt.data.splits import PAPER, PAPER_SEED, protocol
from xclipt.errors import UsageError, XcliptError
from xclipt.translation.dropped import dropped_error
from xclipt.translation.lookup import LookedUp, absent_error, look_up
from xclipt.translation.store import Translator
from xclipt.workspace import Workspace


@dataclass(frozen=True)
class AlignmentRequest:
    """Which pairs are wanted, for one language.

    Attributes:
        language: ISO 639-1 code.
        shots: Pictures with one caption each; ``None`` is every caption of every picture, and 0,
            which has no pairs, is for trainings on sentences that pictures validate.
        routine: 1, 2, 3 or ``None``: :mod:`xclipt.alignment.routines`.
        text: What is embedded at inference, ``target`` or ``to-en``; ``None`` is the routine's own,
            ``target`` for ``None``.
        seed: Decides which pictures are drawn.
        split: To take pairs from; ``None`` is ``train``, or everything where there are no splits;
            ``paper`` is the choice of the paper's code (:mod:`xclipt.data.splits`).
        split_seed: What ``paper`` draws with.
        allow_missing: Go on with the pictures that are there.
        translator: Engine, model or folder of the translations to take; ``None`` is the translator
            that has most of them.
        floor: Least cosine of a pair's texts in the frozen tower.
        with_pictures: Take only pictures whose files are there, as training must; otherwise texts
            alone, whether the pictures are there or not.
        up_to: Where there are fewer pictures than ``shots``, take those.

    Raises:
        XcliptError: A value is out of range, or two contradict each other.
    """

    language: str
    shots: int | None = 50
    routine: int | None = 1
    text: str | None = None
    seed: int = 1
    split: str | None = None
    split_seed: int = PAPER_SEED
    allow_missing: bool = False
    translator: str | None = None
    floor: float | None = None
    with_pictures: bool = True
    up_to: bool = False

    def __post_init__(self) -> None:
        inference_text(self.routine, self.text)
        if self.shots is not None and self.shots < 0:
            raise XcliptError("must be at least 1, or all", field="shots", value=self.shots)
        if self.floor is not None and not -1 <= self.floor <= 1:
            raise XcliptError("a cosine is between -1 and 1", field="floor", value=self.floor)
        if self.floor is not None and self.routine is None:
            raise UsageError("routine none has no pairs of texts to compare", field="floor")
        if self.translator and not translated_direction(self.routine, self.inference, ""):
            raise UsageError(
                f"routine {self.routine or 'none'} with target text takes no translations",
                field="translator",
                value=self.translator,
            )

    @property
    def inference(self) -> str:
        """What a delta of these pairs embeds: ``target`` or ``to-en``."""
        return inference_text(self.routine, self.text)

    @property
    def text_language(self) -> str:
        """What the trained texts are in."""
        return "en" if self.inference == TO_EN else self.language

    @property
    def partner_language(self) -> str:
        """What the partners are in."""
        return self.language if self.routine == 2 else "en"


@dataclass(frozen=True)
class LeftOut:
    """Pairs that came up and were not taken.

    Attributes:
        bad_translations: The guards of ``xclipt translate`` dropped the translation.
        duplicates: Both texts are those of an earlier pair.
        below_floor: Less similar than the floor.
    """

    bad_translations: int = 0
    duplicates: int = 0
    below_floor: int = 0

    def counts(self) -> dict[str, int]:
        """By reason; only those that there were."""
        return {reason: count for reason, count in asdict(self).items() if count}

    def __str__(self) -> str:
        counts = [
            f"{count:,} {what}"
            for count, what in (
                (self.bad_translations, "of dropped translations"),
                (self.duplicates, "that repeat another pair"),
                (self.below_floor, "below the floor"),
            )
            if count
        ]
        return ", ".join(counts)


@dataclass(frozen=True)
class AlignmentSet:
    """Pairs in training order, and where they came from.

    Attributes:
        dataset: Name of the data set.
        split: Its split, ``None`` for all of it.
        translator: Who translated; ``None`` where human captions are all.
        caption: The number of the caption that was taken of every picture; ``None`` for any.
    """

    request: AlignmentRequest
    dataset: str
    split: str | None
    pairs: tuple[CaptionPair, ...]
    translator: Translator | None
    left_out: LeftOut = field(default_factory=LeftOut)
    caption: int | None = None

    @property
    def sha256(self) -> str:
        """Over the pairs: :func:`pairs_sha256`."""
        return pairs_sha256(self.pairs)


def build_joint(
    workspace: Workspace, dataset: Dataset, request: AlignmentRequest, languages: Sequence[str]
) -> list[AlignmentSet]:
    """Pairs of several languages on the same pictures: row ``i`` is the same picture in all.

    A picture that one language has no usable pair of is no other's either. Of pictures with several
    captions, so many are taken as the language with fewest has.

    Raises:
        XcliptError: As :func:`build_alignment`, or the languages share no pictures.
    """
    named = request.split or ("train" if "train" in dataset.splits else None)
    view, split = protocol(dataset, named, request.shots, "train", request.split_seed)
    pictures = {code: {p.image for p in view.captions(code, split)} for code in languages}
    shared = set.intersection(*pictures.values())
    if not shared:
        raise XcliptError(
            f"{dataset.name}: {', '.join(languages)} have no pictures in common{of(named)}",
            field="joint",
        )
    listed = [picture for picture in view.captions(languages[0], split) if picture.image in shared]
    order = {picture.image: i for i, picture in enumerate(picture_order(listed, request.seed))}
    while True:
        sets = [
            build_alignment(workspace, dataset, replace(request, language=code), among=shared)
            for code in languages
        ]
        taken = [{pair.image for pair in one.pairs} for one in sets]
        # What a language passed over before it had enough.
        missing = {
            image
            for images in taken
            for image in shared - images
            if order[image] < max(order[other] for other in images)
        }
        missing &= {image for images in taken for image in images}
        if not missing:
            return _cut_to_fewest(sets)
        shared -= missing


def _cut_to_fewest(sets: Sequence[AlignmentSet]) -> list[AlignmentSet]:
    fewest: dict[str, int] = {}
    for one in sets:
        for image, count in Counter(pair.image for pair in one.pairs).items():
            fewest[image] = min(count, fewest.get(image, count))
    cut = []
    for one in sets:
        taken: Counter[str] = Counter()
        kept = []
        for pair in one.pairs:
            taken[pair.image] += 1
            if taken[pair.image] <= fewest[pair.image]:
                kept.append(pair)
        cut.append(replace(one, pairs=tuple(kept)))
    return cut


def build_alignment(
    workspace: Workspace,
    dataset: Dataset,
    request: AlignmentRequest,
    among: Collection[str] | None = None,
) -> AlignmentSet:
    """Choose the pairs of one language: what ``train-delta`` trains on, and ``align`` measures.

    Pictures are taken in the order that the seed gives them. A pair whose translation was dropped,
    that repeats an earlier one or that is below the floor gives its place to the next.

    Args:
        workspace: Where translations are, and the tower that ``floor`` is measured with.
        dataset: Where captions and pictures are.
        request: Which pairs.
        among: The pictures that may be taken; ``None`` is all.

    Raises:
        XcliptError: The data does not hold what is asked, or texts that are needed were never
            translated: the command that translates them is named.
    """
    check_language(request.routine, request.inference, request.language)
    if request.shots == 0:
        raise XcliptError("must be at least 1, or all", field="shots", value=0)
    named = request.split or ("train" if "train" in dataset.splits else None)
    view, split = protocol(dataset, named, request.shots, "train", request.split_seed)
    chosen = view.captions(request.language, split)
    if among is not None:
        chosen = [picture for picture in chosen if picture.image in among]
    if request.with_pictures:
        chosen = require_pictures(dataset, chosen, request.allow_missing)
    # The paper's split is so many pictures that are named one by one, with all their captions.
    shots = None if request.split == PAPER else request.shots
    candidates = caption_pairs(
        view,
        request.language,
        split,
        seed=request.seed,
        english=request.routine is not None,
        every_caption=shots is None,
        among={picture.image for picture in chosen},
    )
    enough = 1 if shots is None or request.up_to else shots
    if enough > len(candidates):
        raise XcliptError(
            f"{dataset.name} has {len(candidates):,} pictures in "
            f"'{request.language}'{of(named)}; give at most that, or all",
            field="shots",
            value=shots,
        )
    found = _translate(workspace.directory, candidates, request)
    left_out: Counter[str] = Counter()
    stream = _pairs(candidates, found, request.inference == TO_EN, left_out)
    kept: list[CaptionPair] = []
    absent = 0
    while part := list(
        itertools.islice(stream, None if shots is None else shots - len(kept) - absent)
    ):
        there = [pair for pair in part if pair is not None]
        high = there if request.floor is None else _above(workspace, there, request, request.floor)
        absent += len(part) - len(there)
        left_out["below_floor"] += len(there) - len(high)
        kept += high
    counted = LeftOut(**left_out)
    if absent:
        direction = translated_direction(request.routine, request.inference, request.language)
        assert direction is not None
        what = "captions" if request.inference == TO_EN else "English captions"
        total = len(kept) + absent
        raise absent_error(
            f"{absent:,} of the {total:,} {what} that are needed",
            direction,
            dataset.name,
            request.translator,
            workspace.directory,
            request.shots if request.split == PAPER else None,
        )
    if found and found.dropped and len(kept) < enough <= len(kept) + len(found.dropped):
        direction = translated_direction(request.routine, request.inference, request.language)
        assert direction is not None
        usable = f"{dataset.name} has {len(kept):,} usable pairs in '{request.language}'{of(named)}"
        assert found.translator is not None
        raise dropped_error(
            usable, direction, dataset.name, found.dropped, len(candidates), found.translator
        )
    if len(kept) < enough:
        raise XcliptError(
            f"{dataset.name} has {len(kept):,} usable pairs in "
            f"'{request.language}'{of(named)} (left out: {counted})",
            field="shots",
            value=shots or "all",
        )
    if str(counted):
        workspace.progress.note(
            f"{dataset.name}: pairs left out in '{request.language}': {counted}"
        )
    partners = [pair.partner for pair in kept if pair.partner is not None]
    workspace.note_language(request.text_language)
    workspace.note_cut(
        f"{dataset.name} in '{request.language}'",
        (([pair.text for pair in kept], None), (partners, None)),
    )
    return AlignmentSet(
        request=request,
        dataset=dataset.name,
        split=named,
        pairs=tuple(kept),
        translator=found.translator if found else None,
        left_out=counted,
        caption=dataset.caption,
    )


def _translate(
    directory: ArtifactDirectory, candidates: Sequence[CaptionPair], request: AlignmentRequest
) -> LookedUp | None:
    direction = translated_direction(request.routine, request.inference, request.language)
    if direction is None:
        return None
    sources = [
        pair.text if request.inference == TO_EN else pair.partner or "" for pair in candidates
    ]
    return look_up(directory, sources, direction, request.translator)


def _pairs(
    candidates: Sequence[CaptionPair],
    found: LookedUp | None,
    to_en: bool,
    left_out: Counter[str],
) -> Iterator[CaptionPair | None]:
    """Candidates with their translations put in; ``None`` for one that was never translated."""
    taken: set[tuple[str, str | None]] = set()
    for index, candidate in enumerate(candidates):
        pair = candidate
        if found:
            if index in found.absent:
                yield None
                continue
            text = found.texts[index]
            if text is None:
                left_out["bad_translations"] += 1
                continue
            pair = replace(pair, text=text) if to_en else replace(pair, partner=text)
        if pair.partner is not None and (pair.text, pair.partner) in taken:
            left_out["duplicates"] += 1
            continue
        taken.add((pair.text, pair.partner))
        yield pair


def _above(
    workspace: Workspace, pairs: list[CaptionPair], request: AlignmentRequest, floor: float
) -> list[CaptionPair]:
    texts = workspace.encode_texts([pair.text for pair in pairs], language=request.text_language)
    partners = workspace.encode_texts(
        [pair.partner or "" for pair in pairs], language=request.partner_language
    )
    cosines = F.cosine_similarity(texts, partners, dim=-1).tolist()
    return [pair for pair, cosine in zip(pairs, cosines, strict=True) if cosine >= floor]
