"""The numbers that features are kept in, and what of a ranking the smaller ones lose."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xclipt.errors import UsageError

FLOAT32 = "float32"
NEIGHBOURS = 10
"""So many of the nearest are compared."""
MOST_ROWS = 10_000
_MOST_QUERIES = 500
_QUERIES_AT_ONCE = 50
_TIE = 1e-6
_INT8 = 127


@dataclass(frozen=True)
class Loss:
    """How well a row finds its nearest others in the smaller numbers, against float32.

    Attributes:
        recall: Of the 10 nearest, the share that is found, 0 to 1.
        first: How often the nearest of all comes first.
        queries: Rows that were asked with, in float32.
        rows: Rows that were asked for.
    """

    recall: float
    first: float
    queries: int
    rows: int


def _int8(features: NDArray[np.float32]) -> NDArray[np.int8]:
    # Each row has a scale of its own, which cosines do not see: nothing but the row is needed.
    scaled = features * (_INT8 / np.abs(features).max(axis=1, keepdims=True))
    kept: NDArray[np.int8] = np.rint(scaled).astype(np.int8)
    return kept


NUMBERS: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    FLOAT32: lambda features: features,
    "float16": lambda features: features.astype(np.float16),
    "int8": _int8,
}
"""From L2-normalised features ``(n, dim)`` to what is kept of them."""


def require_numbers(numbers: str) -> None:
    """Refuse what is none of :data:`NUMBERS`.

    Raises:
        UsageError: Lists them.
    """
    if numbers not in NUMBERS:
        raise UsageError(f"choose {', '.join(NUMBERS)}", field="numbers", value=numbers)


def as_features(kept: NDArray[Any]) -> NDArray[np.float32]:
    """Features ``(n, dim)``, L2-normalised, of what was kept of them."""
    features: NDArray[np.float32] = np.ascontiguousarray(kept, np.float32)
    if kept.dtype != np.float32:
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def measure_loss(features: NDArray[np.float32], numbers: str) -> Loss | None:
    """What rankings among rows lose by ``numbers``; ``None`` where they are too few to tell.

    Args:
        features: ``(n, dim)``, float32, L2-normalised.
        numbers: One of :data:`NUMBERS`.
    """
    rows = len(features)
    if rows < 3 * NEIGHBOURS:
        return None
    asked = np.linspace(0, rows - 1, min(rows, _MOST_QUERIES)).astype(int)
    small = as_features(NUMBERS[numbers](features))
    best, near = [], []
    for start in range(0, len(asked), _QUERIES_AT_ONCE):
        part = asked[start : start + _QUERIES_AT_ONCE]
        exact, found = features[part] @ features.T, features[part] @ small.T
        for cosines in (exact, found):
            cosines[np.arange(len(part)), part] = -np.inf  # whoever asks finds itself
        best.append(np.take_along_axis(exact, nearest(exact), axis=1))
        near.append(np.take_along_axis(exact, nearest(found), axis=1))
    recall, first = agreement(np.concatenate(best), np.concatenate(near))
    return Loss(recall, first, len(asked), rows)


def nearest(cosines: NDArray[np.float32]) -> NDArray[np.intp]:
    """The columns of the 10 largest, ``(queries, 10)``, the largest first."""
    found = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    order = np.argsort(-np.take_along_axis(cosines, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def agreement(best: NDArray[np.float32], near: NDArray[np.float32]) -> tuple[float, float]:
    """How much of the nearest was found: of all that were wanted, and of the very nearest.

    What is as near as the last of the nearest counts, whichever of them it is.

    Args:
        best: Exact cosines of the nearest ``(queries, k)``, the best first.
        near: Exact cosines of what was found, in the order in which it was found.
    """
    recall = (near >= best[:, -1:] - _TIE).mean()
    first = (near[:, 0] >= best[:, 0] - _TIE).mean()
    return float(recall), float(first)
