"""Maps of features in closed form: what a delta is held against, since nothing in them is trained.

Each takes the features of some captions ``(shots, dim)``, those of their English partners
``(shots, dim)`` and the features to move ``(captions, dim)``.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

FeatureMap = Callable[[Tensor, Tensor, Tensor], Tensor]


def ridge(texts: Tensor, partners: Tensor, features: Tensor, weight: float) -> Tensor:
    """Features moved by ``D + shift``, the ridge solution of ``texts + D(texts) = partners``.

    All are centred on the training texts; ``weight`` is in units of their mean variance.
    """
    centre, aim = texts.mean(0), partners.mean(0)
    x, residual = texts - centre, (partners - aim) - (texts - centre)
    gram = x.T @ x
    penalty = weight * gram.diagonal().mean() * torch.eye(len(gram))
    moved: Tensor = torch.linalg.solve(gram + penalty, x.T @ residual)
    return features + (aim - centre) + (features - centre) @ moved


def centred(texts: Tensor, partners: Tensor, features: Tensor) -> Tensor:
    """Features moved by the difference of both means."""
    return features + partners.mean(0) - texts.mean(0)


def centred_unlabelled(texts: Tensor, partners: Tensor, features: Tensor) -> Tensor:
    """Features moved from their own mean, that of the captions searched by, to the partners'."""
    return features + partners.mean(0) - features.mean(0)


def whitened(texts: Tensor, partners: Tensor, features: Tensor, shrink: float) -> Tensor:
    """Features taken from the texts' mean and covariance to the partners'.

    Both covariances are mixed with ``shrink`` of a sphere of the same mean variance.
    """
    to_sphere = _power(_shrunk(texts, shrink), -0.5)
    from_sphere = _power(_shrunk(partners, shrink), 0.5)
    return partners.mean(0) + (features - texts.mean(0)) @ to_sphere @ from_sphere


FEATURE_MAPS: dict[str, Callable[..., Tensor]] = {
    "ridge": ridge,
    "centre": centred,
    "centre-unlabelled": centred_unlabelled,
    "whiten": whitened,
}
"""Maps by the name that a study knows."""


def map_of(kind: str, **settings: Any) -> FeatureMap:
    """The map of that name with its settings.

    Raises:
        KeyError: There is no such map.
        TypeError: A setting is missing, or the map does not have it.
    """
    signature(FEATURE_MAPS[kind]).bind(*[None] * 3, **settings)
    return partial(FEATURE_MAPS[kind], **settings)


def _shrunk(features: Tensor, share: float) -> Tensor:
    covariance = torch.cov(features.T)
    sphere = covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.lerp(covariance, sphere, share)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = vectors @ torch.diag(values**exponent) @ vectors.T
    return power
