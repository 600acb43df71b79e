"""What crosses the border to another format: a delta on its way out, or one that was read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.manifest import MANIFEST, DeltaManifest
from xclipt.backbones.backbone import Backbone
from xclipt.backbones.registry import blueprint
from xclipt.backbones.text_tower import TextTower
from xclipt.deltas.kind import DeltaSpec
from xclipt.errors import XcliptError
from xclipt.export.recall import RecallCheck


@dataclass(frozen=True)
class ExportJob:
    """One delta on its way into another format.

    Attributes:
        delta: The delta.
        folder: Where the files are written.
        load_backbone: The backbone that the delta stands on; formats that need no more than the
            delta do not call it.
        name: What the folder will be called when it is where it belongs.
        out: The folder that all exports of one format go to, for what several of them share.
        check: What formats that lose recall are measured on.
    """

    delta: StoredDelta
    folder: Path
    load_backbone: Callable[[], Backbone]
    name: str
    out: Path
    check: RecallCheck | None = None

    @property
    def manifest(self) -> DeltaManifest:
        """The delta's manifest."""
        return self.delta.manifest

    @property
    def spec(self) -> DeltaSpec:
        """The delta's kind and settings."""
        return self.delta.spec

    @cached_property
    def outline(self) -> TextTower:
        """The backbone's text tower without its weights.

        Raises:
            XcliptError: The backbone's description cannot be had.
        """
        return blueprint(self.manifest.backbone["id"]).text_tower

    def backbone(self) -> Backbone:
        """The backbone, loaded.

        Raises:
            XcliptError: It is not the one that the delta was trained on.
        """
        backbone = self.load_backbone()
        wanted = self.manifest.backbone["fingerprint"]
        if backbone.identity.fingerprint != wanted:
            raise XcliptError(
                f"{self.delta.folder}: was trained on backbone {wanted[:12]}, not on "
                f"{backbone.identity.id} ({backbone.identity.fingerprint[:12]})"
            )
        return backbone

    def refused(self, format: str, reason: str, instead: str = "native") -> XcliptError:
        """The error for a delta that ``format`` cannot hold."""
        return XcliptError(
            f"{reason}; export {self.manifest.name} as {instead}", field="format", value=format
        )


@dataclass(frozen=True)
class ReadDelta:
    """A delta in xclipt's terms.

    Attributes:
        format: The format that it was in.
        manifest: Its own, ``None`` where the folder has none.
        kind: As in :data:`xclipt.deltas.kinds.KINDS`.
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


def within_encoder(tensors: Mapping[str, Tensor], tower: TextTower) -> dict[str, Tensor]:
    """The tensors by their names within the encoder.

    Another library may have wrapped what holds the encoder: transformers 4 has CLIP's one level
    deeper, so that every name begins with the prefix of the published checkpoint.
    """
    prefix = tower.published.encoder_prefix
    whole = all(name.startswith(prefix) for name in tensors)
    return {name.removeprefix(prefix) if whole else name: t for name, t in tensors.items()}
