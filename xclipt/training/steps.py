"""One step of a training: which pairs it takes, and what their loss is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from xclipt.backbones.backbone import Backbone
from xclipt.devices import to_device
from xclipt.training.losses import (
    ALIGNMENTS,
    contrastive,
    contrastive_to_partner,
    sigmoid_contrastive,
)
from xclipt.training.pairs import Joined, Pairs, rows_by_size, rows_of_epochs
from xclipt.training.recipe import Recipe


@dataclass(frozen=True)
class Losses:
    """What a step's loss is made of, the means over what was trained on in it.

    Attributes:
        total: What is minimised.
        contrastive: Of pictures and texts, or of partners and texts, without its weights.
        alignment: Of texts and partners, likewise; ``None`` without.
        cosine: Mean cosine of texts and partners; ``None`` without.
    """

    total: Tensor
    contrastive: Tensor | None
    alignment: Tensor | None
    cosine: Tensor | None


def largest(pairs: Sequence[Pairs], sentences: Sequence[Pairs]) -> int:
    """How many pairs decide the number of steps, and are an epoch."""
    return max([len(part) for part in pairs[:1]] + [sum(map(len, sentences))])


@dataclass(frozen=True)
class Part:
    """What one term of a step's loss is made of.

    Attributes:
        pairs: A language's, or several languages' joined.
        rows: Which of them.
        weight: Of their loss.
    """

    pairs: Pairs
    rows: Sequence[int]
    weight: float


def steps(
    pairs: Sequence[Pairs], sentences: Sequence[Pairs], recipe: Recipe, seed: int
) -> Iterator[Sequence[Part]]:
    """The parts of every step's loss, without end."""
    captions = _caption_parts(pairs, recipe, seed) if pairs else None
    texts = _sentence_parts(sentences, recipe, seed) if sentences else None
    while True:
        shown, read = next(captions) if captions else [], next(texts) if texts else None
        if read and shown:
            read = replace(read, weight=recipe.sentence_weight)
        yield [*shown, *([read] if read else [])]


def _caption_parts(pairs: Sequence[Pairs], recipe: Recipe, seed: int) -> Iterator[list[Part]]:
    size, weights = min(recipe.batch_size, len(pairs[0])), recipe.language_weights(len(pairs))
    for rows in rows_of_epochs(len(pairs[0]), size, seed, filled=recipe.last_batch == "filled"):
        yield [Part(one, rows, weight) for one, weight in zip(pairs, weights, strict=True)]


def _sentence_parts(sentences: Sequence[Pairs], recipe: Recipe, seed: int) -> Iterator[Part]:
    joined = Joined(sentences)
    size = min(recipe.batch_size, len(joined))
    for rows in rows_by_size(joined.sizes, size, recipe.temperature, seed):
        yield Part(joined, rows, weight=1.0)


def losses_of(backbone: Backbone, parts: Sequence[Part], recipe: Recipe) -> Losses:
    """The loss of a step.

    Args:
        backbone: With the delta in its text tower.
        parts: What the step takes.
        recipe: Its scale is known (:meth:`Recipe.on`).
    """
    batches = [part.pairs.batch(part.rows) for part in parts]
    texts = [batch.tokens for batch in batches]
    aligned = recipe.align_weight > 0 and batches[0].partner_tokens is not None
    live = aligned and recipe.teacher == "live"
    if live:
        texts += [batch.partner_tokens for batch in batches if batch.partner_tokens is not None]
    features = _embedded(backbone, texts, recipe)
    terms = []
    for i, batch in enumerate(batches):
        partner = batch.partner_features
        if live:
            partner = features[len(parts) + i]
        elif partner is not None:
            partner = to_device(partner, backbone.device)
        images = None if batch.images is None else to_device(batch.images, backbone.device)
        terms.append(_pair_losses(features[i], images, partner if aligned else None, recipe))
    total = torch.zeros((), device=backbone.device)
    for part, one in zip(parts, terms, strict=True):
        total = total + part.weight * one.total
    return Losses(
        total=total,
        contrastive=_mean([one.contrastive for one in terms if one.contrastive is not None]),
        alignment=_mean([one.alignment for one in terms if one.alignment is not None]),
        cosine=_mean([one.cosine for one in terms if one.cosine is not None]),
    )


def _pair_losses(
    text: Tensor, images: Tensor | None, partner: Tensor | None, recipe: Recipe
) -> Losses:
    """The losses of one batch; the partner stands in for a picture where there is none."""
    assert recipe.logit_scale is not None  # Recipe.on
    scale = recipe.logit_scale
    if images is None:
        assert partner is not None
        contrast = contrastive_to_partner(text, partner, scale)
    elif recipe.logit_bias is None:
        contrast = contrastive(images, text, scale)
    else:
        contrast = sigmoid_contrastive(images, text, scale, recipe.logit_bias)
    if partner is None:
        return Losses(contrast, contrast, None, None)
    alignment = ALIGNMENTS[recipe.align_loss].loss(text, partner, images, scale)
    with torch.no_grad():
        cosine = F.cosine_similarity(text, partner, dim=-1).mean()
    return Losses(contrast + recipe.align_weight * alignment, contrast, alignment, cosine)


def _mean(numbers: Sequence[Tensor]) -> Tensor | None:
    return torch.stack([number.detach() for number in numbers]).mean() if numbers else None


def _embedded(
    backbone: Backbone, texts: Sequence[Sequence[list[int]]], recipe: Recipe
) -> Sequence[Tensor]:
    """Features ``(batch, dim)`` of each of ``texts``."""
    if recipe.dropout:  # as the paper's code does it: the rows of one text in one pass
        return [backbone.embed_together(rows) for rows in texts]
    together = backbone.embed_tokens([row for rows in texts for row in rows])
    ends = torch.tensor([len(rows) for rows in texts]).cumsum(0)
    return torch.tensor_split(together, ends[:-1])
