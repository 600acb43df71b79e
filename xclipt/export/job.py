"""What an export is made from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.backbones.backbone import Backbone
from xclipt.deltas.spec import DeltaSpec, spec_from
from xclipt.errors import XcliptError


@dataclass(frozen=True)
class ExportJob:
    """One delta on its way into another format.

    Attributes:
        delta: The delta.
        folder: Where the files go.
        load_backbone: The backbone that the delta stands on; formats that need no more than the
            delta do not call it.
    """

    delta: StoredDelta
    folder: Path
    load_backbone: Callable[[], Backbone]

    @property
    def manifest(self) -> DeltaManifest:
        """The delta's manifest."""
        return self.delta.manifest

    @property
    def spec(self) -> DeltaSpec:
        """The delta's kind and settings."""
        return spec_from(self.manifest.kind, self.manifest.setting)

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
        return XcliptError(f"--format {format}: {reason}; export {self.manifest.name} as {instead}")
