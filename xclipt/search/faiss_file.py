"""Indexes of faiss: built of pictures' features, measured, described, and searched.

An index is two files: ``pictures.faiss``, and ``pictures.faiss.json`` with the ids, the backbone's
fingerprint and the first file's hash. faiss is given no file whose hash is not that.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xclipt.backbones.identity import BackboneIdentity
from xclipt.data.pictures import BrokenPicture
from xclipt.documents import parse_json, record
from xclipt.embedding.files import ROWS_AT_ONCE, file_kind
from xclipt.embedding.sources import PICTURES
from xclipt.errors import UsageError, XcliptError
from xclipt.files import file_key, read_regular, replacing, write_text
from xclipt.progress import Progress
from xclipt.search.index import Hit, PictureIndex

FORMAT = 1
_MOST_TRAINING_ROWS = 100_000
_PER_LIST = 39
"""faiss asks for so many vectors for each centre that it places."""
_PQ_CENTRES = 256
_MOST_IDS = 4 * 2**30


def _lists(rows: int) -> int:
    return max(1, min(int(4 * rows**0.5), rows // _PER_LIST))


def _parts(dim: int) -> int:
    """Into how many parts a vector is cut: of 8 numbers each, or of a few more."""
    return next(parts for parts in range(max(1, dim // 8), 0, -1) if dim % parts == 0)


@dataclass(frozen=True)
class IndexKind:
    """A kind of index.

    Attributes:
        recipe: What faiss's ``index_factory`` calls it, for so many rows of such a width.
        least: So many rows are needed to train it.
    """

    recipe: Callable[[int, int], str]
    least: int = 1


KINDS: Mapping[str, IndexKind] = {
    "flat": IndexKind(lambda rows, dim: "Flat"),
    "hnsw": IndexKind(lambda rows, dim: "HNSW32"),
    "sq8": IndexKind(lambda rows, dim: "SQ8"),
    "ivf": IndexKind(lambda rows, dim: f"IVF{_lists(rows)},Flat", _PER_LIST),
    # "np": what is trained by default beside it takes minutes, and nothing here uses it.
    "ivfpq": IndexKind(lambda rows, dim: f"IVF{_lists(rows)},PQ{_parts(dim)}np", _PQ_CENTRES),
}
"""The kinds of index, a row each."""


@dataclass(frozen=True)
class PictureFeatures:
    """What an index is built of.

    Attributes:
        ids: Of all pictures.
        dim: Width of the features.
        batches: Features ``(n, dim)``, float32, L2-normalised, from the first whenever asked for.
        fingerprint: The backbone's.
        folder: What the ids are paths within; ``None`` where they are no paths.
    """

    ids: Sequence[str]
    dim: int
    batches: Callable[[], Iterator[NDArray[np.float32]]]
    fingerprint: str
    folder: Path | None

    @classmethod
    def of_file(cls, path: Path) -> "PictureFeatures":
        """From a file that ``embed`` wrote.

        Raises:
            XcliptError: It is none, is damaged, or is of texts.
        """
        if not path.is_file():
            raise UsageError("no such file", field="features", value=path)
        file = file_kind(path, "features")(path)
        work = file.description.work
        if work.kind != PICTURES:
            raise UsageError(
                f"features of {work.kind}; an index is of pictures", field="features", value=path
            )
        file.require_sound()
        folder = Path(work.folder) if work.folder else None
        return cls(file.ids, work.dim, file.features, work.backbone_fingerprint, folder)

    @classmethod
    def of_index(cls, index: PictureIndex, fingerprint: str) -> "PictureFeatures":
        """From a folder that ``search`` has indexed."""

        def batches() -> Iterator[NDArray[np.float32]]:
            for part in torch.split(index.features, ROWS_AT_ONCE):
                yield part.numpy()

        dim = index.features.shape[1]
        return cls(index.names, dim, batches, fingerprint, index.folder.resolve())

    def require_backbone(self, backbone: BackboneIdentity) -> None:
        """Refuse features of another backbone.

        Raises:
            XcliptError: Names both fingerprints.
        """
        _require_same(backbone, self.fingerprint, "the features are")

    def rows(self, wanted: NDArray[np.intp]) -> NDArray[np.float32]:
        """Features ``(len(wanted), dim)`` of some rows, whose numbers ascend."""
        found = [np.empty((0, self.dim), np.float32)]
        start = 0
        for batch in self.batches():
            first, last = np.searchsorted(wanted, [start, start + len(batch)])
            found.append(batch[wanted[first:last] - start])
            start += len(batch)
        return np.concatenate(found)


@dataclass(frozen=True)
class IndexRecall:
    """How much of the 10 nearest by exact search an index finds.

    Attributes:
        asked_with: What the queries are: ``texts`` or ``pictures``.
        source: Where they are from.
        queries: How many.
        recall: Of the 10 nearest, the share that is found, 0 to 1.
        own_exact: Share of captions whose own picture is among the 10 of exact search; ``None``
            where the queries are no captions of these pictures.
        own_found: The same of what the index finds.
    """

    asked_with: str
    source: str
    queries: int
    recall: float
    own_exact: float | None = None
    own_found: float | None = None


@dataclass(frozen=True)
class IndexDescription:
    """What an index is, as it stands beside it.

    Attributes:
        kind: One of :data:`KINDS`.
        recipe: What faiss calls it.
        rows: How many pictures.
        dim: Width of their features.
        bytes: Size of the file.
        sha256: Of the file.
        backbone_fingerprint: Queries must be encoded by this one.
        folder: What the ids are paths within.
        recall: What was measured when it was built; empty where pictures are too few.
    """

    kind: str
    recipe: str
    rows: int
    dim: int
    bytes: int
    sha256: str
    backbone_fingerprint: str
    folder: str | None
    recall: tuple[IndexRecall, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True)
class FaissIndex:
    """An index in memory, to be searched as a :class:`PictureIndex` is.

    Attributes:
        folder: Where the pictures are.
        names: Their ids.
        description: As it stood beside the file.
    """

    folder: Path
    names: tuple[str, ...]
    description: IndexDescription
    index: Any = field(repr=False)
    encoded: int = 0
    broken: tuple[BrokenPicture, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)

    def search(
        self, queries: ArrayLike | Tensor, top: int = 5, bias: Tensor | None = None
    ) -> list[list[Hit]]:
        """As :meth:`PictureIndex.search`; cosines are those of what the index keeps.

        Args:
            queries: As there.
            top: As there.
            bias: There is none: hub correction needs the features themselves.
        """
        assert bias is None
        wanted = np.ascontiguousarray(queries, np.float32)
        if not len(wanted):
            return []
        cosines, rows = self.index.search(wanted, min(top, len(self.names)))
        return [
            [Hit(self.names[i], score) for score, i in zip(*row, strict=True) if i >= 0]
            for row in zip(cosines.tolist(), rows.tolist(), strict=True)
        ]


def build_index(features: PictureFeatures, kind: str, progress: Progress) -> Any:
    """An index of faiss with all pictures in it.

    Raises:
        UsageError: There is no such kind, or there are too few pictures for it.
        XcliptError: faiss is not installed.
    """
    if kind not in KINDS:
        raise UsageError(f"choose {', '.join(KINDS)}", field="kind", value=kind)
    faiss = load_faiss()
    count = len(features.ids)
    if count < KINDS[kind].least:
        raise UsageError(
            f"{count:,} pictures are too few, {KINDS[kind].least} are the least; flat needs none",
            field="kind",
            value=kind,
        )
    index = faiss.index_factory(
        features.dim, KINDS[kind].recipe(count, features.dim), faiss.METRIC_INNER_PRODUCT
    )
    _adjust(index)
    if not index.is_trained:
        sample = np.unique(np.linspace(0, count - 1, min(count, _MOST_TRAINING_ROWS)).astype(int))
        index.train(features.rows(sample))
    task = progress.start(f"Building {kind}", count)
    for batch in features.batches():
        index.add(np.ascontiguousarray(batch))
        task.advance(len(batch))
    task.finish()
    return index


def _adjust(index: Any) -> None:
    """How hard it is built and searched; faiss keeps it with the index."""
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction, index.hnsw.efSearch = 200, 64
    if hasattr(index, "nlist"):
        index.nprobe = max(1, min(index.nlist, 16))
    # It says on stderr that more pictures would be better, once for each part of a vector.
    for trained in (getattr(index, "cp", None), getattr(getattr(index, "pq", None), "cp", None)):
        if trained is not None:
            trained.min_points_per_centroid = 1


def write_index_file(
    path: Path,
    index: Any,
    features: PictureFeatures,
    kind: str,
    recall: Sequence[IndexRecall],
) -> IndexDescription:
    """Write an index, and what it is beside it.

    Raises:
        XcliptError: A file cannot be written.
    """
    with replacing(path) as aside:
        save_index(aside, index)
        description = IndexDescription(
            kind,
            KINDS[kind].recipe(len(features.ids), features.dim),
            len(features.ids),
            features.dim,
            aside.stat().st_size,
            file_key(aside).hex(),
            features.fingerprint,
            str(features.folder) if features.folder else None,
            tuple(recall),
        )
        head = json.dumps(asdict(description), indent=2)[:-2]
        # Within: where there is no room for it, the index does not come either.
        write_text(_beside(path), f'{head},\n  "ids": {json.dumps(list(features.ids))}\n}}\n')
    return description


def save_index(path: Path, index: Any) -> None:
    """Write an index through Python: faiss itself does not fail where the last bytes find no room.

    Raises:
        OSError: The file cannot be written.
    """
    faiss = load_faiss()
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def open_index_file(
    path: Path, backbone: BackboneIdentity, folder: Path | None = None
) -> FaissIndex:
    """Read an index.

    Args:
        path: The file.
        backbone: The one that queries are encoded by.
        folder: Where the pictures are now; ``None`` is where they were.

    Raises:
        UsageError: There is no such file.
        XcliptError: What it is does not lie beside it, it is not what was written, it is another
            backbone's, or faiss is not installed.
    """
    if not path.is_file():
        raise UsageError("no such file", field="index", value=path)
    faiss = load_faiss()
    description, ids = _described(path)
    _require_same(backbone, description.backbone_fingerprint, f"{path}: is")
    if file_key(path).hex() != description.sha256:
        raise XcliptError(f"{path}: its content is not what was written; build it again")
    index = faiss.read_index(str(path))
    if not index.ntotal == len(ids) == description.rows or index.d != description.dim:
        raise XcliptError(f"{path}: does not hold what {_beside(path).name} says; build it again")
    where = folder or (Path(description.folder) if description.folder else Path())
    return FaissIndex(where, tuple(ids), description, index)


def _described(path: Path) -> tuple[IndexDescription, list[str]]:
    beside = _beside(path)
    try:
        document = parse_json(read_regular(beside, _MOST_IDS))
        ids = [str(one) for one in document.pop("ids")]
        if document.get("format") != FORMAT:
            raise ValueError(f"format {document.get('format')}, this xclipt reads {FORMAT}")
        return record(IndexDescription, document), ids
    except FileNotFoundError:
        raise XcliptError(
            f"{path}: {beside.name} is not beside it, and no index is read that nothing describes; "
            "`xclipt index` writes both"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise XcliptError(f"{beside}: cannot read ({error}); build the index again") from None


def _require_same(backbone: BackboneIdentity, fingerprint: str, what: str) -> None:
    if fingerprint != backbone.fingerprint:
        raise XcliptError(
            f"{what} backbone {fingerprint[:12]}'s, and queries would be encoded by {backbone.id} "
            f"({backbone.fingerprint[:12]}); name its `backbone`"
        )


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def load_faiss() -> Any:
    """The library.

    Raises:
        XcliptError: It is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise XcliptError(
            "an index needs faiss: `pip install 'xclipt[index]'`; a folder is searched exactly "
            "without it"
        ) from None
    return faiss
