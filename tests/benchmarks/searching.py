"""Search over many features against numpy and faiss, and the memory that it takes."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tests.benchmarks.measuring import (
    Figure,
    Measured,
    Row,
    Setting,
    at_least,
    at_most,
    interleaved,
)
from tests.benchmarks.memory import measured_apart
from xclipt.search.index import PictureIndex

DIM = 512
_TOP = 10
_QUERIES = (1, 64)
_BLOCK = 10_000


def searching(setting: Setting) -> Measured:
    """Ten best of random vectors, for one query and for 64."""
    count = setting.size(1_000_000, least=1000)
    index = index_of(count)
    features = index.features.numpy()
    flat = _faiss(features)
    figures = []
    for asked in _QUERIES:
        queries = _random(asked, seed=1)
        array = queries.numpy()
        plural = "query" if asked == 1 else "queries"
        own, numpy, faiss = f"{asked} {plural}", f"numpy, {asked}", f"faiss flat, {asked}"
        candidates: dict[str, Callable[[], object]] = {
            own: partial(index.search, array, _TOP),
            numpy: partial(_numpy, features, array),
        }
        if flat is not None:
            candidates[faiss] = partial(flat.search, array, _TOP)
        taken = interleaved(candidates, setting)
        figures.append(taken.times_as_fast(own, numpy, at_least(1)))
        if flat is not None:
            figures.append(taken.times_as_fast(own, faiss, at_least(1)))
        else:
            figures.append(Figure(own, faiss, remark="faiss: `pip install faiss-cpu`"))
    peak = measured_apart("search", count)
    return Measured(
        (
            *figures,
            Figure(
                f"peak memory, {max(_QUERIES)} queries",
                "the index",
                (peak["peak"] - peak["before"]) / (peak["built"] - peak["before"]),
                target=at_most(1.10),
                remark=f"{count:,} random vectors of {DIM}",
            ),
        )
    )


def index_of(count: int) -> PictureIndex:
    """So many random vectors with names."""
    names = tuple(f"{i:07}.jpg" for i in range(count))
    return PictureIndex(Path("pictures"), names, _random(count, seed=0), 0, ())


def search_all(index: PictureIndex) -> None:
    """As many queries as are ever looked for together."""
    index.search(_random(max(_QUERIES), seed=1), _TOP)


def _random(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    features = torch.empty(count, DIM)
    for start in range(0, count, _BLOCK):
        part = features[start : start + _BLOCK]
        part.copy_(F.normalize(torch.randn(part.shape, generator=generator), dim=-1))
    return features


def _numpy(
    features: NDArray[np.float32], queries: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    scores = queries @ features.T
    best = np.argpartition(scores, -_TOP, axis=1)[:, -_TOP:]
    found = np.take_along_axis(scores, best, 1)
    order = np.argsort(-found, axis=1)
    return np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)


def _faiss(features: NDArray[np.float32]) -> Any:
    if find_spec("faiss") is None:
        return None
    import faiss

    flat = faiss.IndexFlatIP(features.shape[1])
    flat.add(features)
    return flat


ROWS = (Row("search", "the best of a million pictures", searching),)
