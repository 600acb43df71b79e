"""``export-delta``: copies of stored deltas in a chosen format."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
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
from xclipt.export.onnx import int8, shared
from xclipt.export.onnx.int8 import write_int8
from xclipt.export.onnx.shared import write_shared
from xclipt.export.onnx.whole import write_onnx
from xclipt.export.opendelta import write_opendelta
from xclipt.export.peft import write_peft
from xclipt.export.recall import RecallCheck, RecallLoss, read_loss
from xclipt.files import staged, write_sums

FORMATS: dict[str, Callable[[ExportJob], list[Path]]] = {
    "native": write_native,
    "peft": write_peft,
    "opendelta": write_opendelta,
    "merged": write_merged,
    "onnx": write_onnx,
    int8.NAME: write_int8,
    shared.NAME: write_shared,
    "hub": write_hub,
}
"""Writers by the name of their format; each fills an empty folder and returns the files."""


@dataclass(frozen=True)
class Export:
    """One delta, exported.

    Attributes:
        files: Names within ``path``.
        bytes: Of these.
        shared: Files elsewhere that other exports need too, and their bytes.
        loss: What it costs in recall, of a format that loses some.
    """

    language: str
    delta: str
    format: str
    path: Path
    files: tuple[str, ...]
    bytes: int
    shared: Mapping[Path, int] = field(default_factory=dict)
    loss: RecallLoss | None = None

    def as_json(self) -> dict[str, Any]:
        """Under the keys that programs rely on."""
        return {
            "language": self.language,
            "delta": self.delta,
            "format": self.format,
            "path": str(self.path),
            "files": list(self.files),
            "bytes": self.bytes,
            **({"shared": [str(path) for path in self.shared]} if self.shared else {}),
            **({"recall": asdict(self.loss)} if self.loss else {}),
        }


def export_delta(
    delta: StoredDelta,
    format: str,
    out: str | Path,
    load_backbone: Callable[[], Backbone] | None = None,
    *,
    check: RecallCheck | None = None,
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
        check: What ``onnx-int8`` is measured on; no other format takes one.

    Raises:
        FailedError: The format loses more recall than ``check`` allows.
        XcliptError: No such format, the delta cannot be put into it, or ``out`` is not writable.
    """
    if format not in FORMATS:
        raise XcliptError(f"choose {', '.join(FORMATS)}", field="format", value=format)
    if check is not None and format != int8.NAME:
        raise XcliptError(f"is for {int8.NAME} alone; leave it out", field="check")
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
        written = FORMATS[format](ExportJob(delta, aside, load, folder.name, out, check))
        files = [path for path in written if path.is_relative_to(aside)]
        files.append(write_sums(aside, files))
        # Before they are in their place, from where somebody may take them.
        return Export(
            language=delta.manifest.language,
            delta=delta.manifest.name,
            format=format,
            path=folder,
            files=tuple(str(path.relative_to(aside)) for path in files),
            bytes=sum(path.stat().st_size for path in files),
            shared={p: p.stat().st_size for p in written if not p.is_relative_to(aside)},
            loss=read_loss(aside) if check else None,
        )


_SIGNS = {
    "peft": peft.CONFIG,
    "opendelta": opendelta.WEIGHTS,
    shared.NAME: shared.DESCRIPTION,
    int8.NAME: int8.GRAPH,
    "onnx": "*.onnx",
    "merged": "*model*.safetensors",
    "hub": "README.md",
    "native": MANIFEST,
}
"""A file that each format has, and that none has of those that come after it."""


def _format_of(folder: Path) -> str | None:
    """The format of the export in a folder; ``None`` where there is none."""
    return next((name for name, sign in _SIGNS.items() if any(folder.glob(sign))), None)
