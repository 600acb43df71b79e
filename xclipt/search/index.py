"""An index of a folder's pictures: their features, kept on disk and brought up to date.

What a file was when it was indexed shows in its size and time of change; a file that is new or
has changed is encoded, unless its content is among the features that the artifact directory has
already (a picture that was moved, or trained on).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from xclipt.artifacts.directory import in_numbers
from xclipt.artifacts.features import cached_features
from xclipt.data.pictures import (
    UNREAD,
    BrokenPicture,
    find_broken,
    pictures_in,
    unread_remark,
)
from xclipt.devices import dtype_name
from xclipt.errors import XcliptError
from xclipt.files import file_key
from xclipt.progress import Progress
from xclipt.search.stored import Stamp, StoredIndex, read_index, write_index
from xclipt.workspace import Workspace

_CHUNK = 256
_QUERIES_AT_ONCE = 64
_PICTURES_AT_ONCE = 65_536
"""Of a million, all cosines of 64 queries would take an eighth of the index again."""


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        name: Its path within the folder.
        score: Its cosine with the query.
        corrected: What it was ranked by where that is not the cosine: with hub correction.
    """

    name: str
    score: float
    corrected: float | None = None


@dataclass(frozen=True)
class PictureIndex:
    """Pictures of one folder with their features.

    Attributes:
        folder: Where they are.
        names: Their paths within it, sorted.
        features: ``(pictures, dim)``, L2-normalised.
        encoded: How many were new or changed since the folder was last indexed.
        broken: Files that look like pictures by name and are none.
        unread: How many pictures are of kinds that cannot be opened here, by their endings.
    """

    folder: Path
    names: tuple[str, ...]
    features: Tensor
    encoded: int
    broken: tuple[BrokenPicture, ...]
    unread: Mapping[str, int] = field(default_factory=dict)

    def search(
        self, queries: ArrayLike | Tensor, top: int = 5, bias: Tensor | None = None
    ) -> list[list[Hit]]:
        """The ``top`` pictures of every query, best first.

        One product with all features: 100,000 pictures of 512 dimensions take some 20 ms on one
        core, so there is no approximate index to build, to keep and to miss pictures.

        Args:
            queries: ``(n, dim)``, L2-normalised, as :meth:`Model.encode_text` returns them.
            top: At least 1; where there are fewer pictures, all are given.
            bias: ``(pictures,)``, taken from the cosines before they are ranked
                (:meth:`HubBank.bias`).
        """
        wanted = torch.as_tensor(queries, dtype=torch.float32)
        found: list[list[Hit]] = []
        for start in range(0, len(wanted), _QUERIES_AT_ONCE):
            best = self._best(wanted[start : start + _QUERIES_AT_ONCE], top, bias)
            found += [
                [
                    Hit(self.names[i], score, None if bias is None else value)
                    for value, i, score in zip(*row, strict=True)
                ]
                for row in zip(*(part.tolist() for part in best), strict=True)
            ]
        return found

    def _best(self, queries: Tensor, top: int, bias: Tensor | None) -> tuple[Tensor, ...]:
        """What the best are ranked by, their rows and their cosines, each ``(queries, top)``."""
        best: tuple[Tensor, ...] = ()
        for start in range(0, len(self.features), _PICTURES_AT_ONCE):
            part = slice(start, start + _PICTURES_AT_ONCE)
            cosines = _products(queries, self.features[part])
            ranked = cosines if bias is None else cosines - bias[part]
            values, rows = ranked.topk(min(top, ranked.shape[1]), dim=1)
            found: tuple[Tensor, ...] = (values, rows + start, cosines.gather(1, rows))
            if best:
                found = tuple(torch.cat(both, dim=1) for both in zip(best, found, strict=True))
                order = found[0].topk(min(top, found[0].shape[1]), dim=1).indices
                found = tuple(one.gather(1, order) for one in found)
            best = found
        return best


def _products(queries: Tensor, features: Tensor) -> Tensor:
    """``queries @ features.T``, the faster way round: on an AMD processor 2 to 3 times for a few.

    Of one query numpy's product of a matrix and a vector takes 0.6 of the time of torch's there.
    """
    if len(queries) == 1:
        return torch.from_numpy(features.numpy() @ queries[0].numpy()).unsqueeze(0)
    return (features @ queries.T).T.contiguous()


def index_pictures(
    workspace: Workspace, folder: str | Path, progress: Progress | None = None
) -> PictureIndex:
    """Index all pictures in a folder and those below it; only what is new or changed is encoded.

    Links to folders and hidden names are passed by. Broken pictures are left out and listed.

    Raises:
        XcliptError: There is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise XcliptError("no such folder", field="images", value=folder)
    progress = progress or workspace.progress
    files, unread = pictures_in(folder)
    stamps = dict(_stamped(folder, files))
    if not stamps:
        why = f"only {unread_remark(unread)}" if unread else "by name: .jpg, .png, .webp, ..."
        raise XcliptError(f"no pictures in it ({why})", field="images", value=folder)
    path = _file(workspace, folder)
    old = _read(path, workspace.backbone.dim, progress)
    known = {name: i for i, name in enumerate(old.stamps) if stamps.get(name) == old.stamps[name]}
    broken = {
        name: (stamp, why)
        for name, (stamp, why) in old.broken.items()
        if stamps.get(name) == stamp and not why.startswith(UNREAD)  # tried again: it may be now
    }
    fresh = [name for name in stamps if name not in known and name not in broken]
    encoded, refused = _encode(workspace, folder, fresh, progress)
    broken |= {name: (stamps[name], why) for name, why in refused.items()}
    names = [name for name in stamps if name not in broken]
    if not names:
        raise XcliptError(
            f"not one of its {len(broken):,} files is a picture", field="images", value=folder
        )
    features = torch.from_numpy(old.features)
    if encoded or refused or list(old.stamps) != names:
        row = known | {name: len(features) + i for i, name in enumerate(encoded)}
        features = torch.cat([features, *encoded.values()])[[row[name] for name in names]]
        kept = StoredIndex({name: stamps[name] for name in names}, features.numpy(), broken)
        try:
            write_index(path, folder, kept)
        except XcliptError as error:
            progress.note(f"The index is not kept: {error}")
    return PictureIndex(
        folder,
        tuple(names),
        features,
        len(fresh) - len(refused),
        tuple(BrokenPicture(folder / name, why) for name, (_, why) in sorted(broken.items())),
        unread,
    )


def _stamped(folder: Path, files: Sequence[Path]) -> Iterator[tuple[str, Stamp]]:
    for path in files:
        try:
            status = path.stat()
        except OSError:  # a dangling link, or gone since
            continue
        yield path.relative_to(folder).as_posix(), (status.st_size, status.st_mtime_ns)


def _encode(
    workspace: Workspace, folder: Path, names: Sequence[str], progress: Progress
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Features ``(1, dim)`` by name, and why the others have none."""
    features: dict[str, Tensor] = {}
    broken: dict[str, str] = {}
    if not names:
        return features, broken
    store = workspace.features("images")
    task = progress.start(f"Indexing {folder.name}", len(names))
    for start in range(0, len(names), _CHUNK):
        part = list(names[start : start + _CHUNK])
        keys: dict[str, bytes] = {}
        for name in part:
            try:
                keys[name] = file_key(folder / name)
            except OSError as error:
                broken[name] = f"cannot read ({error.strerror})"
        while keys:
            usable = list(keys)

            def compute(rows: list[int], usable: list[str] = usable) -> Tensor:
                return workspace.backbone.encode_pictures([folder / usable[i] for i in rows])

            try:
                raw = cached_features(store, list(keys.values()), compute, progress)
                found = F.normalize(raw, dim=-1)
            except XcliptError:
                refused = find_broken(folder / name for name in usable)
                if not refused:
                    raise
                for picture in refused:
                    name = picture.path.relative_to(folder).as_posix()
                    broken[name] = picture.reason
                    del keys[name]
                continue
            features |= zip(usable, found[:, None], strict=True)
            break
        task.advance(len(part), part[-1])
    task.finish()
    return features, broken


def _file(workspace: Workspace, folder: Path) -> Path:
    where = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    fingerprint = workspace.backbone.identity.fingerprint[:12]
    name = in_numbers(f"{where}-{fingerprint}", dtype_name(workspace.backbone.dtype))
    return workspace.directory.root / "indexes" / f"{name}.safetensors"


def _read(path: Path, dim: int, progress: Progress) -> StoredIndex:
    # A damaged index is as good as none: the features of its pictures are in the cache.
    empty = StoredIndex({}, np.empty((0, dim), "f4"), {})
    if not path.exists():
        return empty
    try:
        stored = read_index(path)
    except XcliptError as error:
        progress.note(f"{path}: {error}; the folder is indexed again")
        return empty
    return stored if stored.features.shape[1] == dim else empty
