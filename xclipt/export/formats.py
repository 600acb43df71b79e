"""``export-delta``: copies of stored deltas in a chosen format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.artifacts.directory import StoredDelta
from xclipt.artifacts.manifest import MANIFEST
from xclipt.backbones.backbone import Backbone
from xclipt.errors import XcliptError
from xclipt.export import opendelta, peft
from xclipt.export.exchange import ExportJob
from xclipt.export.merged import write_merged
from xclipt.export.native import write_hub, write_native
from xclipt.export.onnx import write_onnx
from xclipt.export.opendelta import write_opendelta
from xclipt.export.peft import write_peft
from xclipt.files import staged, write_sums

FORMATS: dict[str, Callable[[ExportJob], list[Path]]] = {
    "native": write_native,
    "peft": write_peft,
    "opendelta": write_opendelta,
    "merged": write_merged,
    "onnx": write_onnx,
    "hub": write_hub,
}
"""Writers by the name of their format; each fills an empty folder and returns the files."""


@dataclass(frozen=True)
class Export:
    """One delta, exported. ``files`` are names within ``path``."""

    language: str
    delta: str
    format: str
    path: Path
    files: tuple[str, ...]
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "language": self.language,
            "delta": self.delta,
            "format": self.format,
            "path": str(self.path),
            "files": list(self.files),
            "bytes": self.bytes,
        }


def export_delta(
    delta: StoredDelta,
    format: str,
    out: str | Path,
    load_backbone: Callable[[], Backbone] | None = None,
) -> Export:
    """Write a delta to ``out/LANG/NAME`` and return what was written.

    Where that holds the delta in another format, ``out/LANG/NAME-FORMAT`` is taken.

    >>> import xclipt
    >>> workspace = xclipt.open_workspace("xclipt-artifacts")
    >>> delta = workspace.directory.current("fr")
    >>> xclipt.export_delta(delta, "peft", "exported").files[0]
    'adapter_model.safetensors'

    Args:
        delta: The delta.
        format: A key of :data:`FORMATS`.
        out: The folder that exports go to.
        load_backbone: Gives the delta's backbone; called only by formats that need it. By default
            it is loaded on the CPU.

    Raises:
        XcliptError: No such format, the delta cannot be put into it, or ``out`` is not writable.
    """
    if format not in FORMATS:
        raise XcliptError(f"choose {', '.join(FORMATS)}", field="format", value=format)
    out = Path(out)
    folder = out / delta.manifest.language / delta.manifest.name
    if _format_of(folder) not in (None, format):
        folder = folder.with_name(f"{folder.name}-{format}")
    if folder.resolve() == delta.folder.resolve():
        raise XcliptError(
            "that is where the delta itself is; name another folder", field="out", value=out
        )
    load = load_backbone or delta.load_backbone
    with staged(folder) as aside:
        files = FORMATS[format](ExportJob(delta, aside, load, folder.name))
        files.append(write_sums(aside, files))
        names = [path.relative_to(aside) for path in files]
    return Export(
        language=delta.manifest.language,
        delta=delta.manifest.name,
        format=format,
        path=folder,
        files=tuple(map(str, names)),
        bytes=sum((folder / name).stat().st_size for name in names),
    )


_SIGNS = {
    "peft": peft.CONFIG,
    "opendelta": opendelta.WEIGHTS,
    "onnx": "*.onnx",
    "merged": "*model*.safetensors",
    "hub": "README.md",
    "native": MANIFEST,
}
"""A file that each format has, and that none has of those that come after it."""


def _format_of(folder: Path) -> str | None:
    """The format of the export in a folder; ``None`` where there is none."""
    return next((name for name, sign in _SIGNS.items() if any(folder.glob(sign))), None)
