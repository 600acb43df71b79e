"""Retrieval metrics as pure functions: features or ranks in, numbers out.

A rank is 1 for the best match. Ties are broken pessimistically: whatever scores the same as the
right answer is ranked before it, so a model that maps everything to one point gets no credit.
Cosines that differ by less than :data:`TIE` are the same but for rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

TIE = 1e-6
"""Two products of the same vectors, in float32 but at other places of a matrix, differ by less."""
_BLOCK_BYTES = 32 * 2**20
_BYTES_A_PAIR = 5  # a float32 similarity, and whether it is below the right answer's
_OWN_ROWS = 4096
_BOOTSTRAP_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Retrieval:
    """One direction's metrics.

    Recalls are in per cent, ``mrr`` (mean reciprocal rank) in [0, 1], ``median`` is a rank.
    """

    r1: float
    r5: float
    r10: float
    mrr: float
    median: float

    def as_json(self) -> dict[str, float]:
        """Under the keys that programs rely on."""
        return {
            "R@1": self.r1,
            "R@5": self.r5,
            "R@10": self.r10,
            "MRR": self.mrr,
            "median_rank": self.median,
        }


@dataclass(frozen=True)
class Ranks:
    """Ranks of the right answers in both directions.

    Attributes:
        t2i: ``(captions,)``, the rank of a caption's picture among all pictures.
        i2t: ``(pictures,)``, the best rank of a picture's captions among all other pictures'.
        picture_index: ``(captions,)``, the index of the picture that a caption belongs to.
    """

    t2i: NDArray[np.int64]
    i2t: NDArray[np.int64]
    picture_index: NDArray[np.int64]


@torch.no_grad()
def retrieval_ranks(
    pictures: Tensor,
    captions: Tensor,
    picture_index: Tensor,
    *,
    normalise: bool = True,
    block_bytes: int = _BLOCK_BYTES,
) -> Ranks:
    """Rank captions against pictures by cosine, both ways.

    A picture may have several captions: each is a query of its own text-to-image; image-to-text
    the first of them counts, and the picture's other captions are not rivals.

    Args:
        pictures: ``(pictures, dim)`` on the CPU.
        captions: ``(captions, dim)``.
        picture_index: ``(captions,)`` index of the picture that each caption belongs to; every
            picture has one at least.
        normalise: Whether vectors are brought to length one first; without, they are ranked by
            their inner product as they are.
        block_bytes: How much memory similarities may take at a time. The matrix is computed in
            blocks of captions and never held whole: beside the features, memory does not grow with
            it.
    """
    if normalise:
        pictures, captions = F.normalize(pictures, dim=-1), F.normalize(captions, dim=-1)
    own = torch.empty(len(captions), dtype=captions.dtype)
    for start in range(0, len(captions), _OWN_ROWS):
        rows = slice(start, start + _OWN_ROWS)
        own[rows] = (captions[rows] * pictures[picture_index[rows]]).sum(-1)
    best = torch.full((len(pictures),), -torch.inf, dtype=own.dtype).scatter_reduce(
        0, picture_index, own, "amax"
    )
    size = min(len(captions), max(1, block_bytes // (_BYTES_A_PAIR * max(1, len(pictures)))))
    # Fresh memory for every block would cost more than the product that fills it.
    products = torch.empty(size, len(pictures), dtype=captions.dtype)
    below = torch.empty(size, len(pictures), dtype=torch.bool)
    t2i = np.empty(len(captions), dtype=np.int64)
    i2t = np.full(len(pictures), 1 + len(captions), dtype=np.int64)
    for start in range(0, len(captions), size):
        rows = slice(start, min(start + size, len(captions)))
        count = rows.stop - start
        similarity = torch.mm(captions[rows], pictures.T, out=products[:count])
        itself = (torch.arange(count), picture_index[rows])
        # What is below is counted, not what is above: features that are no numbers rank last.
        worse = torch.lt(similarity, own[rows, None] - TIE, out=below[:count])
        worse[itself] = False
        t2i[rows] = len(pictures) - np.count_nonzero(worse.numpy(), axis=1)
        worse = torch.lt(similarity, best - TIE, out=below[:count])
        worse[itself] = True
        i2t -= np.count_nonzero(worse.numpy(), axis=0)
    return Ranks(t2i, i2t, picture_index.numpy())


@torch.no_grad()
def occurrences(
    pictures: Tensor, captions: Tensor, k: int = 10, *, block_bytes: int = _BLOCK_BYTES
) -> NDArray[np.int64]:
    """How many captions have each picture among the ``k`` that they find first, ``(pictures,)``.

    The k-occurrence of Radovanović, Nanopoulos and Ivanović (Hubs in Space, JMLR 11, 2010): a
    picture that many captions find is a hub, whatever it shows.

    Args:
        pictures: ``(pictures, dim)``.
        captions: ``(captions, dim)``; ranked by inner product, which is the cosine of what is
            normalised.
        k: Where there are fewer pictures, every caption finds all.
        block_bytes: How much memory similarities may take at a time.
    """
    counts = torch.zeros(len(pictures), dtype=torch.int64)
    size = max(1, block_bytes // (4 * max(1, len(pictures))))
    for part in torch.split(captions, size):
        found = (part @ pictures.T).topk(min(k, len(pictures)), dim=1).indices.flatten()
        counts += found.bincount(minlength=len(pictures))
    return counts.numpy()


def skewness(values: NDArray[np.int64]) -> float:
    """The third standardised moment of ``(n,)`` values; 0 where all are the same.

    Of :func:`occurrences` it tells how far a few pictures crowd out the rest (Radovanović et al.).
    """
    deviation = values - values.mean()
    spread = float(np.sqrt(np.mean(deviation**2)))
    return float(np.mean(deviation**3)) / spread**3 if spread else 0.0


def summarise(ranks: NDArray[np.int64]) -> Retrieval:
    """Recalls, mean reciprocal rank and median rank of ``(queries,)`` ranks."""
    return Retrieval(
        r1=float(100 * (ranks <= 1).mean()),
        r5=float(100 * (ranks <= 5).mean()),
        r10=float(100 * (ranks <= 10).mean()),
        mrr=float((1 / ranks).mean()),
        median=float(np.median(ranks)),
    )


def mean_r1(ranks: Ranks) -> float:
    """The paper's figure: the mean of both directions' R@1, per cent."""
    return (summarise(ranks.t2i).r1 + summarise(ranks.i2t).r1) / 2


def bootstrap_mean_r1(ranks: Ranks, draws: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Mean R@1 of ``draws`` bootstrap samples, ``(draws,)``, per cent.

    Pictures are drawn with all their captions, which are not independent of one another. The same
    number of pictures and seed give the same samples, so the difference of two results' draws is
    a paired bootstrap.
    """
    pictures = len(ranks.i2t)
    captions = np.bincount(ranks.picture_index, minlength=pictures)
    hits = np.bincount(ranks.picture_index, weights=ranks.t2i <= 1, minlength=pictures)
    generator = np.random.default_rng(seed)
    share = np.full(pictures, 1 / pictures)
    columns = np.stack([hits, captions, ranks.i2t <= 1], axis=1).astype(np.float64)
    # Samples of many pictures are large, so they are drawn in parts; the parts do not show.
    part = max(1, _BOOTSTRAP_BYTES // (16 * pictures))
    sums = np.concatenate(
        [
            generator.multinomial(pictures, share, size=min(part, draws - start)) @ columns
            for start in range(0, draws, part)
        ]
    )
    return np.asarray(50 * (sums[:, 0] / sums[:, 1] + sums[:, 2] / pictures))


def interval95(draws: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap ``draws`` ``(n,)``."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Disparity:
    """Disparity over a set of languages, in the metric's own unit.

    Attributes:
        sd: Population standard deviation.
        range: Largest minus smallest.
        english_gap: English minus the mean of the others; ``None`` without English or others.
        worst_language: The language with the smallest value.
        languages: The set that the figures are over.
    """

    sd: float
    range: float
    english_gap: float | None
    worst_language: str
    languages: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "sd": self.sd,
            "range": self.range,
            "english_gap": self.english_gap,
            "worst_language": self.worst_language,
            "languages": list(self.languages),
        }


def disparity(by_language: Mapping[str, float]) -> Disparity:
    """The figures over a metric by language code; there is one language at least."""
    values = np.array(list(by_language.values()))
    others = [value for language, value in by_language.items() if language != "en"]
    gap = by_language["en"] - float(np.mean(others)) if "en" in by_language and others else None
    return Disparity(
        sd=float(values.std()),
        range=float(np.ptp(values)),
        english_gap=gap,
        worst_language=min(by_language, key=by_language.__getitem__),
        languages=tuple(by_language),
    )


def gap_closed(base: float, delta: float, english: float) -> float | None:
    """The share, per cent, of the gap between ``base`` and ``english`` that ``delta`` closed.

    Above 100 the language is ahead of English; below 0 the gap has grown. ``None`` where the base
    is not behind English, so that there is no gap to close.
    """
    return 100 * (delta - base) / (english - base) if base < english else None


def gap_closed_interval(
    base: NDArray[np.float64], delta: NDArray[np.float64], english: NDArray[np.float64]
) -> tuple[float, float] | None:
    """The 95 % interval of :func:`gap_closed` from paired bootstrap draws ``(n,)`` of the three.

    ``None`` where the gap's own interval is not above zero: a share of it could be anything.
    """
    gap = english - base
    if interval95(gap)[0] <= 0:
        return None
    # In the few draws that leave no gap, the least that is left in any other.
    return interval95(100 * (delta - base) / np.maximum(gap, gap[gap > 0].min()))
