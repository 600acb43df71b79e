"""The file of an index, and whether it is what was written; torch is not needed to tell."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclipt.artifacts.arrays import read_array_file
from xclipt.artifacts.shards import require_finite_features
from xclipt.documents import parse_json
from xclipt.errors import XcliptError
from xclipt.files import write_with

if TYPE_CHECKING:
    import numpy as np

_HASH = "sha256"

Stamp = tuple[int, int]
"""A file's size in bytes and time of change in nanoseconds."""


@dataclass(frozen=True)
class StoredIndex:
    """What is kept of a folder.

    Attributes:
        stamps: Of its pictures, by their paths within it.
        features: Theirs ``(pictures, dim)``, float32, L2-normalised.
        broken: Stamp and reason of the files that are no pictures.
    """

    stamps: Mapping[str, Stamp]
    features: "np.ndarray[Any, Any]"
    broken: Mapping[str, tuple[Stamp, str]]


def write_index(path: Path, folder: Path, stored: StoredIndex) -> None:
    """Write the index of ``folder`` to ``path``.

    Raises:
        XcliptError: The file cannot be written.
    """
    import numpy as np
    from safetensors.numpy import save_file

    stamps = np.array(list(stored.stamps.values()), "i8").reshape(-1, 2)
    arrays = {"features": np.ascontiguousarray(stored.features), "stamps": stamps}
    metadata = {
        "folder": json.dumps(str(folder.resolve())),
        "names": json.dumps(list(stored.stamps)),
        "broken": json.dumps(stored.broken),
    }
    metadata[_HASH] = _content_hash(arrays, metadata)
    write_with(path, lambda aside: save_file(arrays, aside, metadata=metadata))


def check_index(path: Path) -> str:
    """What is wrong with an index file; empty where nothing is."""
    try:
        read_index(path)
    except XcliptError as error:
        return str(error)
    return ""


def read_index(path: Path) -> StoredIndex:
    """The index in a file. Those of earlier releases have no hash; all must be finite.

    Raises:
        XcliptError: It is not what was written, or cannot be read. Says what is wrong.
    """
    try:
        arrays, metadata = read_array_file(path)
        features, stamps = arrays["features"], arrays["stamps"]
        names: list[str] = parse_json(metadata["names"])
        broken = {n: ((s[0], s[1]), why) for n, (s, why) in parse_json(metadata["broken"]).items()}
    except (XcliptError, KeyError, ValueError, TypeError, IndexError):
        raise XcliptError("no index that can be read") from None
    if features.ndim != 2 or not len(names) == len(features) == len(stamps):
        raise XcliptError("names and features are not as many")
    if stamps.shape[1:] != (2,):
        raise XcliptError("no index that can be read")
    if metadata.get(_HASH) not in (None, _content_hash(arrays, metadata)):
        raise XcliptError("its content is not what was written")
    require_finite_features(features)
    pairs = ((size, changed) for size, changed in stamps.tolist())
    return StoredIndex(dict(zip(names, pairs, strict=True)), features, broken)


def _content_hash(arrays: "Mapping[str, np.ndarray[Any, Any]]", metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in ("names", "broken"):
        digest.update(metadata[name].encode() + b"\n")
    for name in ("stamps", "features"):
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
