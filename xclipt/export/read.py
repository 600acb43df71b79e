"""A delta that was read from a folder, before it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from xclipt.artifacts.manifest import DeltaManifest
from xclipt.errors import XcliptError

MANIFEST = "manifest.yaml"
"""The delta's manifest lies in every export, so that it can be imported again."""


@dataclass(frozen=True)
class ReadDelta:
    """A delta in xclipt's terms.

    Attributes:
        format: The format that it was in.
        manifest: Its own, ``None`` where the folder has none.
        kind: As in :data:`xclipt.deltas.spec.KINDS`.
        setting: The kind's settings.
        tensors: By their names within the encoder.
    """

    format: str
    manifest: DeltaManifest | None
    kind: str
    setting: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def require(path: Path, config: Mapping[str, Any], wanted: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse a configuration that asks for what xclipt's deltas do not do.

    Args:
        wanted: The values that are taken, by key; a missing key counts as ``None``.

    Raises:
        XcliptError: Names the key, its value, and what is taken.
    """
    for key, values in wanted.items():
        if config.get(key) not in values:
            taken = " or ".join(str(value) for value in values if value is not None) or "none"
            raise XcliptError(f"{path}: {key} is {config.get(key)!r}; xclipt takes {taken}")


def own_manifest(folder: Path) -> DeltaManifest | None:
    """The manifest that xclipt puts into its exports, ``None`` where there is none.

    Raises:
        XcliptError: It is there and cannot be read.
    """
    path = folder / MANIFEST
    return DeltaManifest.read(path) if path.exists() else None
