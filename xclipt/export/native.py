"""xclipt's own format: the manifest and the safetensors file that it names."""

from pathlib import Path

from safetensors.torch import save

from xclipt.artifacts.atomic import write_bytes, write_text
from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.manifest import DeltaManifest
from xclipt.export.job import ExportJob
from xclipt.export.read import MANIFEST, ReadDelta


def write_native(job: ExportJob) -> list[Path]:
    """Write the checked weights and the manifest into the folder.

    Raises:
        XcliptError: The delta is damaged, or the folder cannot be written to.
    """
    return write_delta_files(job, job.manifest)


def write_delta_files(job: ExportJob, manifest: DeltaManifest) -> list[Path]:
    """Write the checked weights and ``manifest``; the weights of an older export go.

    Raises:
        XcliptError: The delta is damaged, or the folder cannot be written to.
    """
    weights, described = job.folder / manifest.weights.file, job.folder / MANIFEST
    write_bytes(weights, save(job.delta.tensors()))
    write_text(described, manifest.to_yaml())
    for old in job.folder.glob("delta-*.safetensors"):
        if old.name != weights.name:
            old.unlink()
    return [weights, described]


def read_native(folder: Path) -> ReadDelta:
    """A delta from a folder of ``write_native`` or ``write_hub``.

    Raises:
        XcliptError: A file is missing, damaged, or not what the manifest says.
    """
    manifest = DeltaManifest.read(folder / MANIFEST)
    tensors = StoredDelta(manifest, folder, current=False).tensors()
    return ReadDelta("native", manifest, manifest.kind, manifest.setting, tensors)
