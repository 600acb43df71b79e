"""What English captions of the same pictures reach: what a language is behind, and could reach."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xclipt.evaluation.queries import LanguageQueries
from xclipt.evaluation.results import EnglishCeiling, EnglishOriginals
from xclipt.metrics import bootstrap_mean_r1, interval95, mean_r1, retrieval_ranks
from xclipt.workspace import Workspace

_MOST_CAPTIONS = 5
"""Of a picture, that are drawn one at a time: every pair of them is ranked."""


@dataclass(frozen=True)
class EnglishScore:
    """Mean R@1, per cent, and its bootstrap draws ``(draws,)``, paired with the language's."""

    mean_r1: float
    draws: NDArray[np.float64]


class EnglishMeasures:
    """The frozen base on the English captions of the very pictures that each language ranks.

    Args:
        workspace: Encodes the captions, and keeps their features.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._by_pictures: dict[frozenset[str], EnglishOriginals] = {}

    @property
    def originals(self) -> tuple[EnglishOriginals, ...]:
        """What was measured, once for every set of pictures."""
        return tuple(self._by_pictures.values())

    def measure(self, queries: LanguageQueries) -> EnglishScore | None:
        """English for one language's pictures; ``None`` where not every one has a caption."""
        if any(image not in queries.english for image in queries.images):
            return None
        captions = [queries.english[image] for image in queries.images]
        counts = torch.tensor([len(each) for each in captions])
        texts = [text for each in captions for text in each]
        features = self._workspace.encode_texts(texts, language="en")
        index = torch.arange(len(captions)).repeat_interleave(counts)
        ranks = retrieval_ranks(queries.targets, features, index)
        score = EnglishScore(mean_r1(ranks), bootstrap_mean_r1(ranks))
        pictures = frozenset(queries.images)
        if known := self._by_pictures.get(pictures):
            languages = (*known.languages, queries.language)
            self._by_pictures[pictures] = replace(known, languages=languages)
        else:
            # Row k holds the k-th caption of every picture.
            first = torch.arange(min(int(counts.min()), _MOST_CAPTIONS))[:, None]
            singly = first + counts.cumsum(0) - counts
            self._by_pictures[pictures] = EnglishOriginals(
                languages=(queries.language,),
                n=len(captions),
                captions=len(texts),
                mean_r1=score.mean_r1,
                ci95=interval95(score.draws),
                ceiling=_ceiling(queries.targets, [features[rows] for rows in singly]),
            )
        return score


def _ceiling(pictures: Tensor, singly: Sequence[Tensor]) -> EnglishCeiling | None:
    """Of one caption of each picture at a time, ``(pictures, dim)`` each."""
    if len(singly) < 2:
        return None
    own = torch.arange(len(pictures))
    alone = [retrieval_ranks(pictures, captions, own) for captions in singly]
    agreement = [
        mean_r1(retrieval_ranks(one, other, own)) for one, other in combinations(singly, 2)
    ]
    return EnglishCeiling(
        captions=len(singly),
        mean_r1=float(np.mean([mean_r1(ranks) for ranks in alone])),
        ci95=interval95(np.mean([bootstrap_mean_r1(ranks) for ranks in alone], axis=0)),
        text_to_text=float(np.mean(agreement)),
    )
