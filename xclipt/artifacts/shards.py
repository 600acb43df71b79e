"""One file of features, and whether it is what was written; torch is not needed to tell."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclipt.artifacts.arrays import read_array_file
from xclipt.errors import XcliptError

if TYPE_CHECKING:
    import numpy as np

HASH = "sha256"
"""The entry of the metadata that holds :func:`content_hash`."""


def read_shard(path: Path) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Keys ``(n, 32)`` and features ``(n, dim)`` of one shard.

    Shards of earlier releases have no hash; they must be finite all the same.

    Raises:
        XcliptError: It is not what was written, or cannot be read. Says what is wrong.
    """
    try:
        arrays, metadata = read_array_file(path)
    except XcliptError as error:
        raise XcliptError(f"damaged ({error})") from None
    keys, features = arrays.get("keys"), arrays.get("features")
    if keys is None or features is None:
        raise XcliptError("holds no features")
    if keys.shape[1:] != (32,) or features.ndim != 2 or len(keys) != len(features):
        raise XcliptError("holds no features")
    if metadata.get(HASH) not in (None, content_hash(keys, features)):
        raise XcliptError("its content is not what was written")
    require_finite_features(features)
    return keys, features


def content_hash(keys: "np.ndarray[Any, Any]", features: "np.ndarray[Any, Any]") -> str:
    """SHA-256 over both, in hexadecimal."""
    digest = hashlib.sha256(keys.tobytes())
    digest.update(features.tobytes())
    return digest.hexdigest()


def require_finite_features(features: "np.ndarray[Any, Any]") -> None:
    """Refuse features that are not finite.

    Raises:
        XcliptError: Says so.
    """
    import numpy as np

    if not np.isfinite(features).all():
        raise XcliptError("holds features that are not finite")
