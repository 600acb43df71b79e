"""The losses of translation-based alignment, as pure functions.

``L = (CE(v t^T) + CE(t v^T)) / 2 + lambda * Align(t, p)`` for image features ``v``, trained-text
features ``t`` and partner features ``p`` (Zhang, Wang & Wang, Findings of EMNLP 2023, section 3).
Where a pair has no picture, its partner stands in for it in the first part
(:func:`contrastive_to_partner`). All take features that are not normalised and return a scalar;
unless they say otherwise, of shape ``(batch, dim)``, row by row of the same pair.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SOFTMAX, SIGMOID = CONTRASTIVE = ("softmax", "sigmoid")
"""What a loss of pictures and texts can be made of: :func:`contrastive` or
:func:`sigmoid_contrastive`."""

PAPER_LOGIT_SCALE = 100.0
"""Multilingual-CLIP's and the paper's: logits are ``100 * cos``."""

_THE_SAME = 1 - 1e-5
"""Cosine from which two partners are one text, padded otherwise perhaps."""


def contrastive(a: Tensor, b: Tensor, logit_scale: float = PAPER_LOGIT_SCALE) -> Tensor:
    """Symmetric cross-entropy over cosine logits; row ``i`` of ``a`` belongs to row ``i`` of ``b``.

    ``(CE(s A B^T, diag) + CE(s B A^T, diag)) / 2`` with L2-normalised rows and scale ``s``.
    """
    logits = logit_scale * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def sigmoid_contrastive(a: Tensor, b: Tensor, logit_scale: float, logit_bias: float) -> Tensor:
    """The loss that SigLIP is trained by (Zhai et al. 2023): each pair of rows is a yes or a no.

    ``-sum_j log sigmoid(y_ij (s cos_ij + c))``, the mean over rows ``i``, with ``y`` 1 for a row's
    own and -1 for all others, scale ``s`` and bias ``c``. No row's loss depends on how many others
    are in the batch but by their sum.
    """
    logits = logit_scale * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T + logit_bias
    own = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(own * logits).sum(-1).mean()


def contrastive_in_gallery(
    text: Tensor, gallery: Tensor, own: Tensor, logit_scale: float = PAPER_LOGIT_SCALE
) -> Tensor:
    """As :func:`contrastive`, but that a text finds its picture among many, not the batch's alone.

    Pictures of a frozen tower are encoded once, so that more of them as negatives cost next to
    nothing; a picture finds its text among the batch's.

    Args:
        text: ``(batch, dim)``.
        gallery: All pictures ``(pictures, dim)``.
        own: Row of each text's picture in ``gallery``: ``(batch,)``.
        logit_scale: What cosines are multiplied by.
    """
    logits = logit_scale * F.normalize(text, dim=-1) @ F.normalize(gallery, dim=-1).T
    to_text = F.cross_entropy(logits[:, own].T, torch.arange(len(own), device=own.device))
    return (F.cross_entropy(logits, own) + to_text) / 2


def contrastive_to_partner(
    text: Tensor, partner: Tensor, logit_scale: float = PAPER_LOGIT_SCALE
) -> Tensor:
    """As :func:`contrastive`, of texts and partners without pictures, which may repeat.

    One English sentence in two languages, or in two translations, is no negative of itself: rows
    whose partners are the same leave each other out.
    """
    a, b = F.normalize(text, dim=-1), F.normalize(partner, dim=-1)
    with torch.no_grad():
        alike = (b @ b.T > _THE_SAME).fill_diagonal_(False)
    logits = (logit_scale * a @ b.T).masked_fill(alike, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def mse_alignment(
    text: Tensor, partner: Tensor, image: Tensor | None, logit_scale: float
) -> Tensor:
    """Mean squared difference of features before normalisation, as in the paper's code."""
    return F.mse_loss(text, partner)


def cosine_alignment(
    text: Tensor, partner: Tensor, image: Tensor | None, logit_scale: float
) -> Tensor:
    """``1 - cos(t, p)``, the mean over the batch."""
    return (1 - F.cosine_similarity(text, partner, dim=-1)).mean()


def contrastive_alignment(
    text: Tensor, partner: Tensor, image: Tensor | None, logit_scale: float
) -> Tensor:
    """Symmetric cross-entropy of the trained text against its partner."""
    return contrastive(text, partner, logit_scale)


def image_alignment(
    text: Tensor, partner: Tensor, image: Tensor | None, logit_scale: float
) -> Tensor:
    """Symmetric cross-entropy of the partner against the image, which there must be."""
    assert image is not None
    return contrastive(partner, image, logit_scale)


@dataclass(frozen=True)
class Alignment:
    """An alignment loss, and how it is used.

    Attributes:
        loss: ``(text, partner, image, logit_scale)`` -> scalar.
        weight: The default recipe's lambda: far above the contrastive loss for losses that compare
            features directly, equal to it for those that are of its kind.
        moves_partner_alone: It has no gradient but through the partner, and so needs a live
            teacher.
    """

    loss: Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
    weight: float
    moves_partner_alone: bool = False


ALIGNMENTS = {
    "mse": Alignment(mse_alignment, weight=1000.0),
    "cosine": Alignment(cosine_alignment, weight=1000.0),
    "contrastive": Alignment(contrastive_alignment, weight=1.0),
    "image": Alignment(image_alignment, weight=1.0, moves_partner_alone=True),
}
"""Alignment losses by name, a row each."""
