"""What an approximate index loses: found against exact search, with texts and with pictures.

Indexes are trained on pictures, and texts lie elsewhere in the space: what holds for the one need
not hold for the other, so both are measured.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xclipt.data.dataset import Dataset
from xclipt.embedding.numbers import NEIGHBOURS, agreement
from xclipt.errors import FallbackWarning
from xclipt.model import Model
from xclipt.search.answer import Query
from xclipt.search.faiss_file import IndexRecall, PictureFeatures

MOST_QUERIES = 500
LEAST_PICTURES = 3 * NEIGHBOURS
"""With fewer the 10 nearest are a good part of all, and are found by chance."""


@dataclass(frozen=True)
class TextQueries:
    """Texts to measure with.

    Attributes:
        source: Where they are from.
        queries: At most :data:`MOST_QUERIES`.
        pictures: The picture that each is a caption of, by its name in the data set; empty where
            they are no captions.
    """

    source: str
    queries: tuple[Query, ...]
    pictures: tuple[str, ...] = ()


def captions_of(dataset: Dataset, language: str, split: str | None = None) -> TextQueries:
    """The first caption of each of a data set's pictures, spread over all of them."""
    items = _spread(dataset.captions(language, split))
    queries = tuple(Query(item.captions[0], language) for item in items)
    source = f"captions of {dataset.name} in {language}"
    return TextQueries(source, queries, tuple(item.image for item in items))


def queries_of(name: str, queries: Sequence[Query]) -> TextQueries:
    """A user's own queries, spread over all of them."""
    return TextQueries(f"queries of {name}", tuple(_spread(queries)))


def _spread(items: Sequence[Any]) -> list[Any]:
    places = np.linspace(0, len(items) - 1, min(len(items), MOST_QUERIES)).astype(int)
    return [items[i] for i in places]


def encode_queries(model: Model, texts: TextQueries) -> NDArray[np.float32]:
    """Features of the queries ``(queries, dim)``; a language without a delta has the base's.

    Raises:
        XcliptError: A delta cannot be used.
    """
    asked = [query.text for query in texts.queries]
    languages = [query.language for query in texts.queries]
    progress = model.workspace.progress
    for code in {how.language: 0 for how in model.resolve(asked, languages) if how.fallback}:
        progress.note(f"no delta for '{code}': its texts are encoded with the frozen base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        return model.encode_text(asked, languages, fallback="base")


def measure_index(
    index: Any, pictures: PictureFeatures, texts: TextQueries, features: NDArray[np.float32]
) -> list[IndexRecall]:
    """Recall of the 10 nearest against exact search, of texts and of the index's own pictures.

    Args:
        index: Of faiss, with the pictures in it.
        pictures: What it was built of.
        texts: The queries.
        features: Theirs ``(queries, dim)``, L2-normalised.

    Returns:
        That of texts and that of pictures; nothing where there are fewer than
        :data:`LEAST_PICTURES`.
    """
    count = len(pictures.ids)
    if count < LEAST_PICTURES:
        return []
    own = np.unique(np.linspace(0, count - 1, min(count, MOST_QUERIES)).astype(int))
    asked = np.concatenate([features, pictures.rows(own)])
    # A picture's nearest is itself, which any index finds.
    itself = np.concatenate([np.full(len(features), -1), own])
    found = _found(index, asked, itself)
    best, exact, near = _exactly(pictures, asked, itself, found)
    split = len(features)
    recalls = [agreement(best[part], near[part])[0] for part in (slice(split), slice(split, None))]
    own_exact, own_found = _own(texts, pictures.ids, exact[:split], found[:split])
    return [
        IndexRecall("texts", texts.source, split, recalls[0], own_exact, own_found),
        IndexRecall("pictures", "of the index itself", len(own), recalls[1]),
    ]


def _found(index: Any, asked: NDArray[np.float32], itself: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows that the index finds ``(queries, 10)``, without the query itself; -1 is none."""
    _, rows = index.search(np.ascontiguousarray(asked), NEIGHBOURS + 1)
    order = np.argsort(rows == itself[:, None], axis=1, kind="stable")  # itself goes last
    kept: NDArray[np.intp] = np.take_along_axis(rows, order, axis=1)[:, :NEIGHBOURS]
    return kept


def _exactly(
    pictures: PictureFeatures,
    asked: NDArray[np.float32],
    itself: NDArray[np.intp],
    found: NDArray[np.intp],
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]:
    """Cosines and rows of the 10 nearest, and the cosines of what was found, all exact."""
    best = np.full((len(asked), NEIGHBOURS), -np.inf, np.float32)
    exact = np.full((len(asked), NEIGHBOURS), -1)
    near = np.full(found.shape, -np.inf, np.float32)
    start = 0
    for batch in pictures.batches():
        cosines = asked @ batch.T
        held = (found >= start) & (found < start + len(batch))
        query, place = held.nonzero()
        near[query, place] = cosines[query, found[query, place] - start]
        (query,) = ((itself >= start) & (itself < start + len(batch))).nonzero()
        cosines[query, itself[query] - start] = -np.inf
        values = np.concatenate([best, cosines], axis=1)
        rows = np.concatenate([exact, np.broadcast_to(_numbers(start, batch), cosines.shape)], 1)
        order = np.argpartition(-values, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        best, exact = (np.take_along_axis(one, order, axis=1) for one in (values, rows))
        start += len(batch)
    order = np.argsort(-best, axis=1, kind="stable")
    best, exact = (np.take_along_axis(one, order, axis=1) for one in (best, exact))
    return best, exact, near


def _numbers(start: int, batch: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.arange(start, start + len(batch))


def _own(
    texts: TextQueries,
    ids: Sequence[str],
    exact: NDArray[np.intp],
    found: NDArray[np.intp],
) -> tuple[float | None, float | None]:
    """How often a caption's own picture is among the 10, by exact search and by the index."""
    row: dict[str, int] = {}
    for number, one in enumerate(ids):  # a data set names pictures within its own folder
        row[PurePosixPath(one).name] = number if PurePosixPath(one).name not in row else -1
    row |= {one: number for number, one in enumerate(ids)}
    names = [(name, PurePosixPath(name).name) for name in texts.pictures]
    wanted = np.array([row.get(name, row.get(last, -1)) for name, last in names], int)
    known = wanted >= 0
    if not known.any():
        return None, None
    shares = [(rows[known] == wanted[known, None]).any(1).mean() for rows in (exact, found)]
    return float(shares[0]), float(shares[1])
