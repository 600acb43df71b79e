"""``export-delta``: copies of stored deltas in a chosen format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclipt.artifacts.directory import StoredDelta
from xclipt.errors import XcliptError
from xclipt.export.native import write_native
from xclipt.export.peft import write_peft

FORMATS: dict[str, Callable[[StoredDelta, Path], list[Path]]] = {
    "native": write_native,
    "peft": write_peft,
}
"""Writers by the name that ``--format`` knows: a delta and a folder in, the files written out."""


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


def export_delta(delta: StoredDelta, format: str, out: Path) -> Export:
    """Write a delta to ``out/LANG/NAME`` and return what was written.

    Raises:
        XcliptError: No such format, the delta cannot be put into it, or ``out`` is not writable.
    """
    if format not in FORMATS:
        raise XcliptError(f"--format {format}: choose {', '.join(FORMATS)}")
    folder = out / delta.manifest.language / delta.manifest.name
    if folder.resolve() == delta.folder.resolve():
        raise XcliptError(f"--out {out}: that is where the delta itself is; name another folder")
    files = FORMATS[format](delta, folder)
    return Export(
        language=delta.manifest.language,
        delta=delta.manifest.name,
        format=format,
        path=folder,
        files=tuple(path.name for path in files),
        bytes=sum(path.stat().st_size for path in files),
    )
