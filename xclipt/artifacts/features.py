"""Feature vectors on disk, found by the content that they were computed from."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from xclipt.artifacts.shards import HASH, content_hash, read_shard
from xclipt.errors import XcliptError
from xclipt.files import delete, write_with
from xclipt.progress import Progress


class FeatureStore:
    """Features of one space: what one tower with one delta, or none, makes of content.

    A folder of safetensors shards that are only ever added, each named by a hash of its keys, so
    that several processes can write at once. ``keys`` are ``(n, 32)`` bytes, ``features``
    ``(n, dim)`` float32; the metadata holds a hash of both. A damaged shard is as good as absent.

    Attributes:
        damaged: Shards that are not what was written, with the reason.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._row: dict[bytes, int] = {}
        self._features = torch.empty(0, dim)
        self._count = 0
        self.damaged: dict[Path, str] = {}
        read: list[tuple[list[bytes], Tensor]] = []
        for shard in sorted(folder.glob("*.safetensors")):
            try:
                keys, features = read_shard(shard)
            except XcliptError as error:
                self.damaged[shard] = str(error)
                continue
            if features.shape[1:] == (dim,):
                rows = [row.tobytes() for row in keys]
                read.append((rows, torch.from_numpy(features.copy())))
        if read:
            self._remember(
                [key for keys, _ in read for key in keys],
                torch.cat([features for _, features in read]),
            )

    def __contains__(self, key: bytes) -> bool:
        return key in self._row

    def get(self, keys: Sequence[bytes]) -> Tensor:
        """Features ``(len(keys), dim)``; every key must be there."""
        return self._features[[self._row[key] for key in keys]]

    def add(self, keys: Sequence[bytes], features: Tensor) -> None:
        """Keep ``features`` ``(len(keys), dim)`` in memory and on disk.

        Raises:
            XcliptError: The folder cannot be written to; the features are then in memory only.
        """
        self._remember(keys, features)
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:16]
        table = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, 32)
        tensors = {"keys": table, "features": features.contiguous()}
        metadata = {HASH: content_hash(table.numpy(), tensors["features"].numpy())}
        write_with(
            self.folder / f"{name}.safetensors", lambda path: save_file(tensors, path, metadata)
        )

    def _remember(self, keys: Sequence[bytes], features: Tensor) -> None:
        start, end = self._count, self._count + len(keys)
        if end > len(self._features):  # twice as much: a million rows are not copied at every add
            grown = torch.empty(max(end, 2 * len(self._features)), self.dim)
            grown[:start] = self._features[:start]
            self._features = grown
        self._features[start:end] = features
        self._row |= {key: start + i for i, key in enumerate(keys)}
        self._count = end


def cached_features(
    store: FeatureStore,
    keys: Sequence[bytes],
    compute: Callable[[list[int]], Tensor],
    progress: Progress,
    chunk: int = 2048,
) -> Tensor:
    """Features ``(len(keys), dim)`` from the store; what it lacks is computed and added.

    Args:
        compute: Features of the contents at the given positions of ``keys``.
        chunk: So many are computed before they are written, the most that a kill can lose.
    """
    missing = {key: i for i, key in enumerate(keys) if key not in store}
    positions = list(missing.values())
    if positions:
        for shard, why in store.damaged.items():
            progress.note(f"{shard}: {why}; what is needed of it is computed again")
            delete(shard)
        store.damaged.clear()
    for start in range(0, len(positions), chunk):
        part = positions[start : start + chunk]
        features = compute(part)
        try:
            store.add([keys[i] for i in part], features)
        except XcliptError as error:
            progress.note(f"Features are not kept: {error}")
    return store.get(keys)
