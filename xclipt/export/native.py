"""xclipt's own format: the manifest and the safetensors file that it names."""

from pathlib import Path

from safetensors.torch import save

from xclipt.artifacts.atomic import write_bytes, write_text
from xclipt.artifacts.directory import StoredDelta


def write_native(delta: StoredDelta, folder: Path) -> list[Path]:
    """Write the checked weights and the manifest into ``folder``.

    Raises:
        XcliptError: The delta is damaged, or the folder cannot be written to.
    """
    weights = folder / delta.manifest.weights.file
    manifest = folder / "manifest.yaml"
    write_bytes(weights, save(delta.tensors()))
    write_text(manifest, delta.manifest.to_yaml())
    return [weights, manifest]
