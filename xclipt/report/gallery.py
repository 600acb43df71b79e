"""Real retrievals to look at: where a delta won, where it lost, and where both fail."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.artifacts.directory import StoredDelta
from xclipt.data.dataset import Dataset
from xclipt.evaluation.queries import LanguageQueries, Queries
from xclipt.metrics import TIE
from xclipt.report.page import thumbnail
from xclipt.workspace import Workspace

TOP = 5
_THUMBNAIL_PIXELS = 112
_SEED = 0


@dataclass(frozen=True)
class Match:
    """Something that a query found, or should have.

    Attributes:
        picture: The thumbnail as a ``data:`` address of a JPEG; ``None`` in text mode.
        text: An English caption, or where there is none the picture's name.
        right: Whether it is what the query belongs to.
    """

    picture: str | None
    text: str
    right: bool


@dataclass(frozen=True)
class Found:
    """What one system found: its name, the first :data:`TOP` and the rank of the right one."""

    system: str
    matches: tuple[Match, ...]
    rank: int


@dataclass(frozen=True)
class Example:
    """One query. ``gloss`` is an English caption of the same picture, where there is one."""

    kind: str
    query: str
    gloss: str | None
    found: tuple[Found, ...]
    answer: Match


@dataclass(frozen=True)
class LanguageGallery:
    """Examples of one language, and how many captions there are of each kind."""

    language: str
    captions: int
    counts: dict[str, int]
    examples: tuple[Example, ...]

    @property
    def plain(self) -> bool:
        """Whether it shows the base alone."""
        return all(len(example.found) == 1 for example in self.examples)


@dataclass(frozen=True)
class TopMatches:
    """What captions find.

    Attributes:
        top: ``(captions, k)`` positions in ``queries.images``, best first.
        rank: ``(captions,)`` rank of the right one, ties counted against it.
    """

    top: Tensor
    rank: Tensor


def build_gallery(
    workspace: Workspace, dataset: Dataset, queries: Queries, examples: int = 2
) -> tuple[LanguageGallery, ...]:
    """Draw ``examples`` captions of each kind and language.

    With a delta the kinds are ``win`` (the right one is first with the delta and was not without),
    ``loss`` (the other way round) and ``failure`` (not among the first five with either); without
    one they are ``hit`` and ``failure``. They are drawn at random with a fixed seed, not chosen.
    """
    thumbnails = _Thumbnails(dataset.picture_path) if queries.mode == "image" else None
    return tuple(
        _language_gallery(workspace, language, examples, thumbnails)
        for language in queries.languages
    )


class _Thumbnails:
    def __init__(self, path_of: Callable[[str], Path]) -> None:
        self._path_of = path_of
        self._made: dict[str, str] = {}

    def __call__(self, image: str) -> str:
        if image not in self._made:
            self._made[image] = thumbnail(self._path_of(image), _THUMBNAIL_PIXELS)
        return self._made[image]


def _language_gallery(
    workspace: Workspace,
    queries: LanguageQueries,
    examples: int,
    thumbnail: _Thumbnails | None,
) -> LanguageGallery:
    results = {"base": retrieve_top(workspace, queries, k=TOP)}
    if queries.deltas:
        first = queries.deltas[0]
        results[first.manifest.reference] = retrieve_top(workspace, queries, first, k=TOP)
    of_kind = _kinds([result.rank.tolist() for result in results.values()])
    generator = random.Random(_SEED)
    return LanguageGallery(
        language=queries.language,
        captions=len(queries.captions),
        counts={kind: len(captions) for kind, captions in of_kind.items()},
        examples=tuple(
            _example(kind, caption, queries, results, thumbnail)
            for kind, captions in of_kind.items()
            for caption in generator.sample(captions, min(examples, len(captions)))
        ),
    )


def _kinds(ranks: list[list[int]]) -> dict[str, list[int]]:
    failures = [i for i, each in enumerate(zip(*ranks, strict=True)) if min(each) > TOP]
    if len(ranks) == 1:
        return {"hit": [i for i, rank in enumerate(ranks[0]) if rank == 1], "failure": failures}
    both = list(enumerate(zip(*ranks, strict=True)))
    return {
        "win": [i for i, (base, delta) in both if delta == 1 < base],
        "loss": [i for i, (base, delta) in both if base == 1 < delta],
        "failure": failures,
    }


def _example(
    kind: str,
    caption: int,
    queries: LanguageQueries,
    results: dict[str, TopMatches],
    thumbnail: _Thumbnails | None,
) -> Example:
    right = int(queries.picture_index[caption])

    def match(target: int) -> Match:
        image = queries.images[target]
        return Match(
            picture=thumbnail(image) if thumbnail else None,
            text=queries.gloss(image) or image,
            right=target == right,
        )

    return Example(
        kind=kind,
        query=queries.captions[caption],
        gloss=None if queries.language == "en" else queries.gloss(queries.images[right]),
        found=tuple(
            Found(
                system,
                tuple(match(target) for target in result.top[caption].tolist()),
                int(result.rank[caption]),
            )
            for system, result in results.items()
        ),
        answer=match(right),
    )


_BLOCK = 512


def retrieve_top(
    workspace: Workspace, queries: LanguageQueries, delta: StoredDelta | None = None, k: int = 5
) -> TopMatches:
    """The best ``k`` targets of every caption, with a delta or with the frozen base.

    Where fewer than ``k`` are ranked, ``k`` is their number. Captions' features come from the
    cache when they were measured before.

    Raises:
        XcliptError: The delta is damaged or does not fit.
    """
    targets = F.normalize(queries.targets, dim=-1)
    texts = queries.texts(delta)
    captions = workspace.encode_texts(texts.captions, delta, language=queries.language_of(texts))
    captions = F.normalize(captions, dim=-1)
    top = torch.empty(len(captions), min(k, len(targets)), dtype=torch.long)
    rank = torch.empty(len(captions), dtype=torch.long)
    for start in range(0, len(captions), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similarity = captions[rows] @ targets.T
        right = similarity.gather(1, queries.picture_index[rows, None])
        rank[rows] = len(targets) - (similarity < right - TIE).sum(1)
        top[rows] = similarity.topk(top.shape[1], dim=1).indices
    return TopMatches(top, rank)
