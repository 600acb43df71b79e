"""How alike the texts of pairs are to the frozen tower, before any training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.data.dataset import Dataset
from xclipt.data.pairs import CaptionPair, picture_order
from xclipt.data.splits import PAPER
from xclipt.metrics import (
    Retrieval,
    bootstrap_mean_r1,
    interval95,
    mean_r1,
    retrieval_ranks,
    summarise,
)
from xclipt.workspace import Workspace


@dataclass(frozen=True)
class PairSimilarity:
    """How alike the two texts of pairs are to one tower.

    Attributes:
        pairs: How many.
        partners: Different partners that are ranked; equal ones count once.
        cosine: Mean cosine of text and partner.
        mse: Mean squared difference of their features before normalisation, over pairs and
            dimensions: the paper's alignment loss.
        forth: Retrieval of the partner by the text, among all partners.
        back: Retrieval of the text by the partner, among all other partners' texts.
        mean_r1: Mean of both directions' R@1, per cent.
        ci95: Bootstrap interval of ``mean_r1`` over partners.
    """

    pairs: int
    partners: int
    cosine: float
    mse: float
    forth: Retrieval
    back: Retrieval
    mean_r1: float
    ci95: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "pairs": self.pairs,
            "partners": self.partners,
            "cosine": self.cosine,
            "mse": self.mse,
            "text_to_partner": self.forth.as_json(),
            "partner_to_text": self.back.as_json(),
            "mean_R@1": self.mean_r1,
            "ci95": list(self.ci95),
        }


def pair_similarity(texts: Tensor, partners: Tensor, partner_index: Tensor) -> PairSimilarity:
    """Measure features.

    Args:
        texts: ``(pairs, dim)``, not normalised.
        partners: ``(partners, dim)``, each different text once.
        partner_index: ``(pairs,)`` index of the partner that each text belongs to.
    """
    own = partners[partner_index]
    ranks = retrieval_ranks(partners, texts, partner_index)
    return PairSimilarity(
        pairs=len(texts),
        partners=len(partners),
        cosine=float(F.cosine_similarity(texts, own, dim=-1).mean()),
        mse=float(F.mse_loss(texts, own)),
        forth=summarise(ranks.t2i),
        back=summarise(ranks.i2t),
        mean_r1=mean_r1(ranks),
        ci95=interval95(bootstrap_mean_r1(ranks)),
    )


def measure_similarity(
    workspace: Workspace,
    texts: Sequence[str],
    partners: Sequence[str],
    text_language: str = "en",
    partner_language: str = "en",
) -> PairSimilarity:
    """The similarity of texts and their partners in the frozen tower.

    Features are kept in the artifact directory.
    """
    row = {partner: i for i, partner in enumerate(dict.fromkeys(partners))}
    features = workspace.encode_texts(texts, language=text_language)
    partner_features = workspace.encode_texts(list(row), language=partner_language)
    partner_index = torch.tensor([row[partner] for partner in partners])
    return pair_similarity(features, partner_features, partner_index)


@dataclass(frozen=True)
class EnglishReference:
    """English pairs to set beside a language's.

    Attributes:
        pairs: An English caption, and another one of the same picture.
        itself: There are no others, so that each is paired with itself: cosine 1 and R@1 of about
            100 (equal captions of different pictures are one partner) by construction.
    """

    pairs: tuple[CaptionPair, ...]
    itself: bool


def caption_sides(pairs: Sequence[CaptionPair]) -> tuple[list[str], list[str]]:
    """The texts of pairs, and their partners."""
    return [pair.text for pair in pairs], [pair.partner or "" for pair in pairs]


def english_reference(
    dataset: Dataset, split: str | None, seed: int, limit: int | None
) -> EnglishReference | None:
    """English captions with others of the same pictures; ``None`` where there is no English.

    Args:
        split: As it is recorded in an alignment set.
        seed: Decides the order of the pictures.
        limit: At most so many pictures; ``None`` is all.
    """
    if "en" not in dataset.languages:
        return None
    if split == PAPER:
        split = "train" if "train" in dataset.splits else None
    pictures = picture_order(dataset.captions("en", split), seed)
    several = [p for p in pictures if len(set(p.captions)) > 1]
    pairs = [
        CaptionPair(p.image, p.captions[0], next(c for c in p.captions if c != p.captions[0]))
        for p in several
    ] or [CaptionPair(p.image, p.captions[0], p.captions[0]) for p in pictures if p.captions]
    return EnglishReference(tuple(pairs[:limit]), not several)
